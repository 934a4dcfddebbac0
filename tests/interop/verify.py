#!/usr/bin/env python3
"""Verifies what a Counterfoil log hands out, without Counterfoil.

    verify.py receipt FILE        TRUST [--payload FILE]      a .tlog-proof file, and what was recorded
    verify.py head FILE           TRUST                       a checkpoint
    verify.py consistency OLD NEW TRUST [--proof FILE]        that checkpoint NEW continues checkpoint OLD
    verify.py evidence FILE       TRUST                       that an .evidence file holds
    verify.py log URL             TRUST [--since CHECKPOINT]  a whole log, read over HTTP as C2SP tiles
    verify.py selftest DIRECTORY                              this program, on the golden vectors below DIRECTORY

TRUST is whom you trust, and nothing in any file adds to it: `--key VKEY` (the log's key, or @FILE with it in the first
line; may be given again for further keys of the same log) or `--policy FILE` (a C2SP tlog-policy: logs, witnesses and a
quorum). A proof is a file with one hash a line, in hex or base64; without one, only the same tree is consistent with itself.

    verify.py receipt run-42.tlog-proof --key @log.vkey --payload run.json

Exit code 0: all of it was verified, and standard output says what that proves. 1: it does not hold, and standard error
says why: do not trust it. 2: nothing was judged, because of the command line, a file that can't be read, an unusable key
or policy, or a log that can't be reached.

Written from docs/PROTOCOL.md ("section N" below) and the public specifications that it names, sharing no code with the
product: Python 3.9 or later, standard library only. It is slow where the product is fast (BLAKE3: some 150 kB/s), and
whatever it does not know it refuses.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import http.client
import json
import os
import re
import struct
import sys
import unicodedata
import urllib.error
import urllib.request
import zlib
from collections import namedtuple
from datetime import datetime, timezone
from pathlib import Path


class Refused(Exception):
    """What was presented does not hold. Exit code 1."""


class Unusable(Exception):
    """What the verifier was given to judge with, or to read, is of no use. Exit code 2."""


def require(condition, why):
    if not condition:
        raise Refused(why)


# ---------------------------------------------------------------- numbers and base64: one spelling each

MAX_TREE_SIZE = 2**63 - 1


def parse_decimal(text, largest, what):
    require(re.fullmatch("0|[1-9][0-9]{0,19}", text), f"{what} is no decimal number without leading zero: {text[:40]!r}")
    require(int(text) <= largest, f"{what} is above {largest}")
    return int(text)


def parse_base64(text, what, length=None):
    """Strictly: padding is required, and the unused bits at the end are zero."""
    try:
        decoded = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise Refused(f"{what} is no base64") from None
    require(base64.b64encode(decoded).decode() == text, f"{what} is not in base64's one spelling")
    require(length in (None, len(decoded)), f"{what} is of {len(decoded)} bytes, not {length}")
    return decoded


def decode_utf8(raw, what):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{what} is not UTF-8") from None


# ---------------------------------------------------------------- BLAKE3, from its specification

BLAKE3_IV = (0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19)
BLAKE3_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
BLAKE3_LANES = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),  # columns
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),  # diagonals
)  # fmt: skip
CHUNK_START, CHUNK_END, PARENT, ROOT, DERIVE_KEY_CONTEXT, DERIVE_KEY_MATERIAL = 1, 2, 4, 8, 32, 64
BLAKE3_BLOCK, BLAKE3_CHUNK = 64, 1024


def blake3_schedule():
    """Which message words each of the seven rounds mixes in."""
    rounds = [tuple(range(16))]
    while len(rounds) < 7:
        rounds.append(tuple(rounds[-1][i] for i in BLAKE3_PERMUTATION))
    return tuple(rounds)


BLAKE3_SCHEDULE = blake3_schedule()


def blake3_compress(chaining_value, block, counter, length, flags):
    """The compression function, as far as 32 bytes of output need it: eight words."""
    mask = 0xFFFFFFFF
    v = [*chaining_value, *BLAKE3_IV[:4], counter & mask, counter >> 32, length, flags]
    words = struct.unpack("<16I", block.ljust(BLAKE3_BLOCK, b"\0"))
    for order in BLAKE3_SCHEDULE:
        for lane, (ia, ib, ic, id_) in enumerate(BLAKE3_LANES):
            a, b, c, d = v[ia], v[ib], v[ic], v[id_]
            a = (a + b + words[order[2 * lane]]) & mask
            d ^= a
            d = (d >> 16 | d << 16) & mask
            c = (c + d) & mask
            b ^= c
            b = (b >> 12 | b << 20) & mask
            a = (a + b + words[order[2 * lane + 1]]) & mask
            d ^= a
            d = (d >> 8 | d << 24) & mask
            c = (c + d) & mask
            b ^= c
            b = (b >> 7 | b << 25) & mask
            v[ia], v[ib], v[ic], v[id_] = a, b, c, d
    return tuple(v[i] ^ v[i + 8] for i in range(8))


def blake3_node(data, first_chunk, key, flags):
    """The last compression of a subtree, not yet done: the root's takes one flag more."""
    if len(data) <= BLAKE3_CHUNK:
        value, start = key, CHUNK_START
        while len(data) > BLAKE3_BLOCK:
            value = blake3_compress(value, data[:BLAKE3_BLOCK], first_chunk, BLAKE3_BLOCK, flags | start)
            data, start = data[BLAKE3_BLOCK:], 0
        return value, data, first_chunk, len(data), flags | start | CHUNK_END
    chunks = (len(data) + BLAKE3_CHUNK - 1) // BLAKE3_CHUNK
    left = 1 << (chunks - 1).bit_length() - 1
    cut = left * BLAKE3_CHUNK
    children = (
        *blake3_compress(*blake3_node(data[:cut], first_chunk, key, flags)),
        *blake3_compress(*blake3_node(data[cut:], first_chunk + left, key, flags)),
    )
    return key, struct.pack("<16I", *children), 0, BLAKE3_BLOCK, flags | PARENT


def blake3_root(data, key, flags):
    *node, node_flags = blake3_node(data, 0, key, flags)
    return struct.pack("<8I", *blake3_compress(*node, node_flags | ROOT))


def blake3(data):
    return blake3_root(data, BLAKE3_IV, 0)


def blake3_derive_key(context):
    """A function of the data alone; the context is hashed once."""
    key = struct.unpack("<8I", blake3_root(context.encode(), BLAKE3_IV, DERIVE_KEY_CONTEXT))
    return lambda data: blake3_root(data, key, DERIVE_KEY_MATERIAL)


# ---------------------------------------------------------------- hash suites (section 1)


def le64(number):
    return struct.pack("<Q", number)


class Blake3Suite:
    name = "blake3"
    leaf = staticmethod(blake3_derive_key("counterfoil 2026-11-22 leaf"))
    _node = staticmethod(blake3_derive_key("counterfoil 2026-11-22 node"))
    _commitment = staticmethod(blake3_derive_key("counterfoil 2026-11-22 commitment"))
    empty_root = blake3_derive_key("counterfoil 2026-11-22 empty")(b"")

    def node(self, left, right):
        return self._node(left + right)

    def commitment(self, salt, data):
        return self._commitment(salt + le64(len(data)) + data)


class Sha256Suite:
    name = "sha256"
    empty_root = hashlib.sha256(b"").digest()

    def leaf(self, entry):
        return hashlib.sha256(b"\0" + entry).digest()

    def node(self, left, right):
        return hashlib.sha256(b"\1" + left + right).digest()

    def commitment(self, salt, data):
        return hmac.new(salt, le64(len(data)) + data, hashlib.sha256).digest()


BLAKE3_SUITE, SHA256_SUITE = Blake3Suite(), Sha256Suite()

# ---------------------------------------------------------------- the tree and its proofs (sections 2 and 3)


def tree_root(suite, leaves):
    """The root over leaf hashes, by one pass over the tree's levels: a lone right node is promoted."""
    if not leaves:
        return suite.empty_root
    level = list(leaves)
    while len(level) > 1:
        pairs = [suite.node(level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2 :]
    return level[0]


def verify_inclusion(suite, leaf, index, size, root, proof):
    require(index < size, f"index {index} is not below the tree's size {size}")
    inner = (index ^ (size - 1)).bit_length()
    border = bin(index >> inner).count("1")
    require(len(proof) == inner + border, f"the inclusion proof has {len(proof)} hashes, not {inner + border}")
    computed = leaf
    for i, sibling in enumerate(proof):
        left = i >= inner or index >> i & 1
        computed = suite.node(sibling, computed) if left else suite.node(computed, sibling)
    require(computed == root, f"the inclusion proof does not lead from the leaf at index {index} to the signed root")


def consistency_shape(old_size, new_size):
    """Levels below the seed, and how many hashes after it are inside and beyond the old tree's right edge."""
    last = old_size - 1
    shift = (old_size & -old_size).bit_length() - 1
    inner = (last ^ (new_size - 1)).bit_length() - shift
    border = bin(last >> shift >> inner).count("1")
    return shift, inner, border


def consistency_roots(suite, old_size, new_size, seed, proof):
    """Steps 4 and 5: the old and the new root that the hashes lead to."""
    shift, inner, border = consistency_shape(old_size, new_size)
    require(
        len(proof) == inner + border,
        f"the consistency proof has {len(proof)} hashes after its seed, not {inner + border}",
    )
    old = new = seed
    for i, sibling in enumerate(proof):
        if i >= inner or (old_size - 1) >> shift >> i & 1:
            old, new = suite.node(sibling, old), suite.node(sibling, new)
        else:
            new = suite.node(new, sibling)
    return old, new


def verify_consistency(suite, old_size, old_root, new_size, new_root, proof):
    require(old_size <= new_size, f"the tree shrank from {old_size} to {new_size}")
    require(old_size > 0, "a tree of size 0 proves nothing: every tree continues it")
    if old_size == new_size:
        require(not proof, "two trees of one size take no proof")
        require(old_root == new_root, f"two different trees of size {old_size} were signed")
        return
    seed, rest = old_root, proof
    if old_size & (old_size - 1):
        require(proof, "the consistency proof is empty")
        seed, rest = proof[0], proof[1:]
    old, new = consistency_roots(suite, old_size, new_size, seed, rest)
    require(old == old_root, "the consistency proof does not lead to the old root")
    require(new == new_root, "the consistency proof does not lead to the new root")


# ---------------------------------------------------------------- Ed25519 (RFC 8032), strict (section 8)

FIELD = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
CURVE_D = -121665 * pow(121666, FIELD - 2, FIELD) % FIELD
SQRT_MINUS_ONE = pow(2, (FIELD - 1) // 4, FIELD)
IDENTITY = (0, 1, 1, 0)  # extended coordinates X, Y, Z, T: x = X/Z, y = Y/Z, xy = T/Z


def point_add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % FIELD
    b = (p[1] + p[0]) * (q[1] + q[0]) % FIELD
    c = 2 * p[3] * q[3] * CURVE_D % FIELD
    d = 2 * p[2] * q[2] % FIELD
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % FIELD, g * h % FIELD, f * g % FIELD, e * h % FIELD


def point_multiply(scalar, point):
    product = IDENTITY
    while scalar:
        if scalar & 1:
            product = point_add(product, point)
        point = point_add(point, point)
        scalar >>= 1
    return product


def point_equal(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % FIELD == 0 and (p[1] * q[2] - q[1] * p[2]) % FIELD == 0


def point_decode(encoded):
    """RFC 8032, section 5.1.3. None for what is no point, or no point in its one encoding."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= FIELD:
        return None
    x_squared = (y * y - 1) * pow(CURVE_D * y * y + 1, FIELD - 2, FIELD) % FIELD
    x = pow(x_squared, (FIELD + 3) // 8, FIELD)
    if (x * x - x_squared) % FIELD:
        x = x * SQRT_MINUS_ONE % FIELD
    if (x * x - x_squared) % FIELD or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = FIELD - x
    return x, y, 1, x * y % FIELD


def has_small_order(point):
    return point_equal(point_multiply(8, point), IDENTITY)


BASE_POINT = point_decode(bytes([0x58]) + bytes([0x66]) * 31)


def ed25519_verifies(public_key, message, signature):
    if len(signature) != 64:
        return False
    key, r = point_decode(public_key), point_decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if key is None or r is None or s >= ORDER or has_small_order(key) or has_small_order(r):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % ORDER
    # Cofactorless: the equation itself, not eight times it.
    return point_equal(point_multiply(s, BASE_POINT), point_add(r, point_multiply(k, key)))


# ---------------------------------------------------------------- keys (section 7)

MAX_VKEY_BYTES = 2048
MAX_NAME_BYTES = 255
RESERVED_NAMES = ("cosignature/v1", "counterfoil/timestamped-head/v1")
TIMESTAMPED_HEAD = b"\xffcounterfoil/timestamped-head/v1/"

# kind: "plain", "timestamped" or "cosigner"; suite: None for a cosigner
Key = namedtuple("Key", "name id kind suite public_key")

KINDS = (
    (b"\x01", "plain", SHA256_SUITE),
    (b"\x04", "cosigner", None),
    (TIMESTAMPED_HEAD + b"blake3", "timestamped", BLAKE3_SUITE),
    (TIMESTAMPED_HEAD + b"sha256", "timestamped", SHA256_SUITE),
)


def is_name(name):
    """Anyone's: no Unicode White_Space, no plus. str.isspace() covers White_Space and beyond it only what no note may hold."""
    return name != "" and not any(character.isspace() or character == "+" for character in name)


def is_key_name(name):
    """In a vkey: of bounded length too, and no control character (Cc)."""
    has_control = any(unicodedata.category(character) == "Cc" for character in name)
    return is_name(name) and len(name.encode()) <= MAX_NAME_BYTES and not has_control


def parse_vkey(text):
    require(len(text.encode()) <= MAX_VKEY_BYTES, f"the vkey is longer than {MAX_VKEY_BYTES} bytes")
    parts = text.split("+", 2)
    require(len(parts) == 3, "a vkey is <name>+<key id>+<base64>")
    name, key_id, encoded = parts
    require(is_key_name(name) and not name.startswith(RESERVED_NAMES), "the vkey's name is not allowed")
    require(re.fullmatch("[0-9a-f]{8}", key_id), "the vkey's id is not of eight lower-case hex digits")
    typed = parse_base64(encoded, "the vkey's key")
    for prefix, kind, suite in KINDS:
        if typed.startswith(prefix):
            break
    else:
        raise Refused(f"the vkey is of a kind that is not known here: {typed[:1].hex() or 'none'}")
    public_key = typed[len(prefix) :]
    require(len(public_key) == 32, f"the vkey's public key is of {len(public_key)} bytes, not 32")
    point = point_decode(public_key)
    require(point is not None, "the vkey's public key is no point in its one encoding")
    require(not has_small_order(point), "the vkey's public key is of small order: anyone can sign for it")
    digest = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    require(digest.hex() == key_id, f"the vkey's id is {key_id}, but its name and key make {digest.hex()}")
    return Key(name, digest, kind, suite, public_key)


def parse_log_key(text):
    key = parse_vkey(text)
    require(key.kind != "cosigner", "this is a witness's key, not a log's")
    return key


def parse_cosigner_key(text):
    key = parse_vkey(text)
    require(key.kind == "cosigner", "this is a log's key, not a witness's")
    return key


# ---------------------------------------------------------------- signed notes and heads (section 8)

MAX_NOTE_BYTES = 65_536
MAX_SIGNATURES = 64

Note = namedtuple("Note", "text signatures")  # signatures: (name, id) -> payload
Head = namedtuple("Head", "origin suite size root unix_ms cosignatures")  # unix_ms: None if no signed time
Cosignature = namedtuple("Cosignature", "key unix_s")


def parse_note(raw):
    require(len(raw) <= MAX_NOTE_BYTES, f"the note is longer than {MAX_NOTE_BYTES} bytes")
    note = decode_utf8(raw, "the note")
    require(not re.search("[\x00-\x09\x0b-\x1f]", note), "the note has a control character")
    require(note.endswith("\n"), "the note does not end in a newline")
    cut = note.rfind("\n\n")
    require(cut >= 0, "the note has no empty line between text and signatures")
    lines = note[cut + 2 : -1].split("\n")
    require(len(lines) <= MAX_SIGNATURES, f"the note has more than {MAX_SIGNATURES} signatures")
    signatures = {}
    for line in lines:
        require(line.startswith("\u2014 "), "a line after the note's text is no signature line")
        name, space, encoded = line[2:].partition(" ")
        require(space and is_name(name), "a signature line bears no allowed name")
        signature = parse_base64(encoded, f"the signature by {name[:255]!r}")
        require(len(signature) >= 5, f"the signature by {name[:255]!r} is too short")
        signatures.setdefault((name, signature[:4]), signature[4:])
    return Note(note[: cut + 1], signatures)


def parse_checkpoint(text):
    lines = text[:-1].split("\n")
    require(len(lines) >= 3 and all(lines), "a checkpoint has three lines at least, and no empty one")
    size = parse_decimal(lines[1], MAX_TREE_SIZE, "the checkpoint's size")
    return lines[0], size, parse_base64(lines[2], "the checkpoint's root", 32)


def verify_log_signature(key, text, payload):
    """The signed time in ms, or None for a plain key."""
    broken = f"the signature by {key.name} (key {key.id.hex()}) does not verify"
    if key.kind == "plain":
        require(ed25519_verifies(key.public_key, text.encode(), payload), broken)
        return None
    require(len(payload) == 8 + 64, broken)
    unix_ms = int.from_bytes(payload[:8], "big")
    prefix = f"counterfoil/timestamped-head/v1\nsuite {key.suite.name}\ntime {unix_ms}\n"
    require(ed25519_verifies(key.public_key, (prefix + text).encode(), payload[8:]), broken)
    return unix_ms


def verify_head(raw, trust, convicts=False):
    """A checkpoint under whom the verifier trusts. A line by a trusted key that fails refuses it, unless it is to convict a log."""
    note = parse_note(raw)
    origin, size, root = parse_checkpoint(note.text)
    keys = [key for key in trust.log_keys if key.name == origin]
    require(keys, f"the head is of {origin[:255]!r}, which is no log that you trust")
    signers, unix_ms = [], None
    for key in keys:
        payload = note.signatures.get((key.name, key.id))
        if payload is not None:
            try:
                signed_ms = verify_log_signature(key, note.text, payload)
            except Refused:
                if convicts:
                    continue
                raise
            signers.append(key)
            unix_ms = signed_ms if unix_ms is None else unix_ms
    require(signers, f"the head is not signed by a key of {origin} that you trust")
    suite = signers[0].suite
    require(all(key.suite is suite for key in signers), "the head is signed under two hash suites")
    require(size > 0 or root == suite.empty_root, "the head of an empty tree bears another root")
    cosignatures = verify_cosignatures(note, trust.witnesses)
    trust.require_quorum(cosignatures)
    return Head(origin, suite, size, root, unix_ms, cosignatures)


# ---------------------------------------------------------------- cosignatures and trust policies (section 13)


def verify_cosignatures(note, witnesses):
    cosignatures = []
    for key in witnesses.values():
        payload = note.signatures.get((key.name, key.id))
        if payload is None:
            continue
        broken = f"the cosignature by {key.name} (key {key.id.hex()}) does not verify"
        require(len(payload) == 8 + 64, broken)
        unix_s = int.from_bytes(payload[:8], "big")
        require(1 <= unix_s < 2**63, broken)
        message = f"cosignature/v1\ntime {unix_s}\n{note.text}"
        require(ed25519_verifies(key.public_key, message.encode(), payload[8:]), broken)
        cosignatures.append(Cosignature(key, unix_s))
    return cosignatures


class Trust:
    """Keys of logs, keys of witnesses by their names in the policy, and which witnesses make a quorum."""

    def __init__(self, log_keys=()):
        self.log_keys = list(log_keys)
        self.witnesses = {}  # name -> key
        self.groups = {}  # name -> (how many, members)
        self.quorum = None  # a name; None asks for no cosignature

    def require_quorum(self, cosignatures):
        keys = [cosignature.key for cosignature in cosignatures]
        require(
            self.quorum is None or self._stands(self.quorum, keys),
            f"the head is cosigned by {len(keys)} of the policy's witnesses, and they are no quorum",
        )

    def _stands(self, name, keys):
        if name in self.witnesses:
            return self.witnesses[name] in keys
        threshold, members = self.groups[name]
        return sum(self._stands(member, keys) for member in members) >= threshold


MAX_POLICY_BYTES = 262_144
MAX_POLICY_LOGS, MAX_POLICY_WITNESSES, MAX_POLICY_GROUPS = 64, 48, 64
MAX_POLICY_NAME_BYTES = 255


class PolicyReader:
    """Reads a policy line by line. Names are opaque bytes and refer backwards only."""

    def __init__(self):
        self.trust, self.has_quorum = Trust(), False
        self.public_keys, self.signers, self.members = set(), set(), set()

    def read_line(self, line):
        words = re.findall(b"[^ \t]+", line)
        if not words or words[0].startswith(b"#"):
            return
        readers = {b"log": self.read_log, b"witness": self.read_witness, b"group": self.read_group, b"quorum": self.read_quorum}
        require(words[0] in readers, f"{words[0][:40]!r} is no line of a policy")
        readers[words[0]](*words[1:])

    def read_log(self, *words):
        require(len(words) in (1, 2), "a log line is: log <vkey> [<url>]")
        key = self.new_key(parse_log_key, words[0])
        others = [other for other in self.trust.log_keys if other.name == key.name]
        require(all(other.suite is key.suite for other in others), f"the log {key.name} has keys of two hash suites")
        self.trust.log_keys.append(key)
        require(len(self.trust.log_keys) <= MAX_POLICY_LOGS, f"more than {MAX_POLICY_LOGS} logs")

    def read_witness(self, *words):
        require(len(words) in (2, 3), "a witness line is: witness <name> <vkey> [<url>]")
        key = self.new_key(parse_cosigner_key, words[1])
        self.trust.witnesses[self.new_name(words[0])] = key
        require(len(self.trust.witnesses) <= MAX_POLICY_WITNESSES, f"more than {MAX_POLICY_WITNESSES} witnesses")

    def read_group(self, *words):
        require(len(words) >= 3, "a group line is: group <name> all|any|<k> <member>...")
        name, threshold, *members = words
        for member in members:
            require(self.is_known(member), f"{member[:40]!r} is not defined above")
            require(member not in self.members, f"{member[:40]!r} is a member twice")
            self.members.add(member)
        words_for = {b"all": len(members), b"any": 1}
        needed = words_for.get(threshold) or parse_decimal(decode_utf8(threshold, "a threshold"), len(members), "a threshold")
        require(needed >= 1, "a threshold is 0")
        self.trust.groups[self.new_name(name)] = (needed, members)
        require(len(self.trust.groups) <= MAX_POLICY_GROUPS, f"more than {MAX_POLICY_GROUPS} groups")

    def read_quorum(self, *words):
        require(len(words) == 1, "a quorum line is: quorum <name>|none")
        require(not self.has_quorum, "a second quorum")
        self.has_quorum = True
        if words[0] != b"none":
            require(self.is_known(words[0]), f"{words[0][:40]!r} is not defined above")
            self.trust.quorum = words[0]

    def new_key(self, parse, vkey):
        key = parse(decode_utf8(vkey, "a vkey"))
        require(key.public_key not in self.public_keys, f"the key {key.id.hex()} is listed twice")
        require((key.name, key.id) not in self.signers, f"two keys are named {key.name} and have the id {key.id.hex()}")
        self.public_keys.add(key.public_key)
        self.signers.add((key.name, key.id))
        return key

    def new_name(self, name):
        require(len(name) <= MAX_POLICY_NAME_BYTES, f"a name is longer than {MAX_POLICY_NAME_BYTES} bytes")
        require(name != b"none" and not self.is_known(name), f"the name {name[:40]!r} is taken")
        return name

    def is_known(self, name):
        return name in self.trust.witnesses or name in self.trust.groups


def parse_policy(raw):
    require(len(raw) <= MAX_POLICY_BYTES, f"the policy is longer than {MAX_POLICY_BYTES} bytes")
    require(raw.endswith(b"\n"), "the policy does not end in a newline")
    reader = PolicyReader()
    for number, line in enumerate(raw[:-1].split(b"\n"), 1):
        try:
            require(not re.search(b"[\0-\x08\x0b-\x1f\x7f]", line), "a control character")
            reader.read_line(line)
        except Refused as refused:
            raise Refused(f"line {number}: {refused}") from None
    require(reader.has_quorum, "the policy has no quorum line")
    return reader.trust


# ---------------------------------------------------------------- entries (section 5)

MAX_ENTRY_BYTES = 65_535
MAX_PAYLOAD_BYTES = 26_214_400

Entry = namedtuple(
    "Entry",
    "time_ns source_id event_type media_type payload_length payload_commitment attributes_commitment"
    " authentication retention_class annotations_commitment",
)

VARINT, FIXED64, BYTES = 0, 1, 2
ENTRY_FIELDS = {tag: BYTES for tag in range(1, 12)} | {1: VARINT, 2: FIXED64, 6: VARINT, 9: VARINT}
TOKEN = b"[!#$%&'*+.^_`|~0-9A-Za-z-]+"


class MaybeLater(Refused):
    """Refused here; an entry of a later version of the format may look like this."""


def read_varint(raw, at):
    value = shift = 0
    while True:
        require(at < len(raw) and shift < 70, "the entry has a varint that does not end")
        byte = raw[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    require(value < 2**64, "the entry has a varint of more than 64 bits")
    return value, at


def encode_varint(value):
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def encode_field(tag, wire_type, value):
    """A field as canonical protobuf has it: nothing for a default."""
    if not value:
        return b""
    key = encode_varint(tag << 3 | wire_type)
    if wire_type == VARINT:
        return key + encode_varint(value)
    if wire_type == FIXED64:
        return key + le64(value)
    return key + encode_varint(len(value)) + value


def read_fields(raw, wire_types):
    fields, at, last = {}, 0, 0
    while at < len(raw):
        key, at = read_varint(raw, at)
        tag, wire_type = key >> 3, key & 7
        require(wire_types.get(tag) == wire_type, f"the entry has an unknown field {tag} of wire type {wire_type}")
        require(tag > last, "the entry's fields are not in ascending order, each once")
        last = tag
        if wire_type == VARINT:
            fields[tag], at = read_varint(raw, at)
            continue
        length, at = (8, at) if wire_type == FIXED64 else read_varint(raw, at)
        require(length <= len(raw) - at, "the entry ends within a field")
        value, at = raw[at : at + length], at + length
        fields[tag] = int.from_bytes(value, "little") if wire_type == FIXED64 else value
    encoded = b"".join(encode_field(tag, wire_type, fields.get(tag, 0)) for tag, wire_type in wire_types.items())
    require(encoded == raw, "the entry is not in its one encoding")
    return fields


def is_int32(varint):
    """An enum is an int32 to protobuf; a negative one is extended to 64 bits."""
    return varint < 2**31 or varint >= 2**64 - 2**31


def read_entry(raw):
    require(len(raw) <= MAX_ENTRY_BYTES, f"the entry is longer than {MAX_ENTRY_BYTES} bytes")
    if raw[:1] == b"\x08" and read_varint(raw, 1)[0] >= 2:
        raise MaybeLater("the entry is of a later version")
    fields = read_fields(raw, ENTRY_FIELDS)
    entry = Entry(*(fields.get(tag, b"" if ENTRY_FIELDS[tag] == BYTES else 0) for tag in range(2, 12)))
    require(fields.get(1) == 1, "the entry has no version")
    require(entry.time_ns > 0, "the entry has no time")
    names = (entry.source_id, entry.retention_class)
    require(all(re.fullmatch(b"[a-z0-9._-]{1,64}", name) for name in names), "a name in the entry is not allowed")
    require(re.fullmatch(b"[!-~]{1,128}", entry.event_type), "the entry's event type is not allowed")
    media_type = TOKEN + b"/" + TOKEN + b"( *;[ -~]*)?"
    require(
        len(entry.media_type) <= 128 and re.fullmatch(media_type, entry.media_type), "the entry's media type is not allowed"
    )
    commitments = (entry.payload_commitment, entry.attributes_commitment)
    require(all(len(commitment) == 32 for commitment in commitments), "a commitment in the entry is not of 32 bytes")
    require(len(entry.annotations_commitment) in (0, 32), "a commitment in the entry is not of 32 bytes")
    require(is_int32(entry.authentication), "the entry's authentication is no number of 32 bits")
    if not 1 <= entry.authentication <= 7:
        raise MaybeLater(f"the entry says authentication {entry.authentication}, which is not known here")
    return entry


def verify_payload(suite, entry, salt, payload):
    require(len(payload) == entry.payload_length, f"the payload has {len(payload)} bytes; recorded were {entry.payload_length}")
    require(suite.commitment(salt, payload) == entry.payload_commitment, "the entry does not commit to this payload")


# ---------------------------------------------------------------- receipts (section 9)

MAX_RECEIPT_BYTES = 131_072
MAX_PROOF_HASHES = 63
RECEIPT_HEADERS = {"counterfoil/tlog-proof@v1": BLAKE3_SUITE, "c2sp.org/tlog-proof@v1": SHA256_SUITE}

Receipt = namedtuple("Receipt", "suite salt entry index proof checkpoint")


def after(line, name, what):
    require(line.startswith(name + " "), f"{what} has {line[:40]!r} where {name!r} belongs")
    return line[len(name) + 1 :]


def parse_receipt(raw):
    require(len(raw) <= MAX_RECEIPT_BYTES, f"the receipt is longer than {MAX_RECEIPT_BYTES} bytes")
    head, empty_line, checkpoint = raw.partition(b"\n\n")
    require(empty_line, "the receipt has no empty line")
    lines = decode_utf8(head, "the receipt").split("\n")
    require(len(lines) >= 3, "the receipt ends early")
    require(lines[0] in RECEIPT_HEADERS, f"the receipt begins with the unknown header {lines[0][:40]!r}")
    extra = parse_base64(after(lines[1], "extra", "the receipt"), "the receipt's extra line")
    require(extra[:1] == b"\x01", "the receipt's extra line is of an unknown format")
    require(len(extra) >= 33, "the receipt's extra line has no salt")
    index = parse_decimal(after(lines[2], "index", "the receipt"), MAX_TREE_SIZE - 1, "the receipt's index")
    require(len(lines) - 3 <= MAX_PROOF_HASHES, f"the receipt has more than {MAX_PROOF_HASHES} hashes")
    proof = [parse_base64(line, "a hash in the receipt", 32) for line in lines[3:]]
    return Receipt(RECEIPT_HEADERS[lines[0]], extra[1:33], extra[33:], index, proof, checkpoint)


def verify_receipt(raw, trust):
    """The receipt, its head and its entry. That the entry stands for a payload is another question."""
    receipt = parse_receipt(raw)
    head = verify_head(receipt.checkpoint, trust)
    require(receipt.suite is head.suite, f"this is a receipt of a {receipt.suite.name} log, and the log's suite is {head.suite.name}")
    leaf = head.suite.leaf(receipt.entry)
    verify_inclusion(head.suite, leaf, receipt.index, head.size, head.root, receipt.proof)
    return receipt, head, read_entry(receipt.entry)


# ---------------------------------------------------------------- evidence (section 14)

MAX_EVIDENCE_BYTES = 524_288
MAX_INVALID_ENTRY_BYTES = 262_144
LOG_SIGNATURES, OBSERVERS_WORD = "log_signatures", "observers_word"


class Fields:
    """The lines of an evidence file, taken from the front."""

    def __init__(self, lines):
        self.lines = lines

    def take(self, name):
        require(self.lines, f"the evidence ends where {name!r} belongs")
        return after(self.lines.pop(0), name, "the evidence")

    def head(self, trust):
        return verify_head(parse_base64(self.take("head"), "a head in the evidence"), trust, convicts=True)

    def index(self):
        return parse_decimal(self.take("index"), MAX_TREE_SIZE - 1, "an index in the evidence")

    def entry(self, limit=MAX_ENTRY_BYTES):
        entry = parse_base64(self.take("entry"), "an entry in the evidence")
        require(len(entry) <= limit, f"an entry in the evidence is longer than {limit} bytes")
        return entry

    def hash(self, name):
        return parse_base64(self.take(name), f"a {name} in the evidence", 32)

    def proof(self):
        hashes = []
        while self.lines and self.lines[0].startswith("hash "):
            require(len(hashes) < MAX_PROOF_HASHES, f"a proof in the evidence has more than {MAX_PROOF_HASHES} hashes")
            hashes.append(self.hash("hash"))
        return hashes


def same_log(first, second):
    require(first.origin == second.origin and first.suite is second.suite, "the heads are not of one log")


def check_fork(fields, trust):
    first, second = fields.head(trust), fields.head(trust)
    same_log(first, second)
    require(first.size == second.size, "the heads are of different sizes: that is no fork")
    require(first.root != second.root, "both heads are of the same tree")
    return first


def check_inconsistency(fields, trust):
    smaller, larger = fields.head(trust), fields.head(trust)
    seed, proof = fields.hash("seed"), fields.proof()
    same_log(smaller, larger)
    require(1 <= smaller.size < larger.size, "the first head is not of a smaller tree that has a leaf")
    old, new = consistency_roots(smaller.suite, smaller.size, larger.size, seed, proof)
    require(new == larger.root, "the hashes do not lead to the larger root: they prove nothing")
    require(old != smaller.root, "the larger tree continues the smaller")
    return larger


def check_rollback(fields, trust):
    larger, smaller = fields.head(trust), fields.head(trust)
    same_log(larger, smaller)
    require(larger.size > smaller.size, "the first head is not of the larger tree")
    require(None not in (larger.unix_ms, smaller.unix_ms), "a head bears no signed time")
    require(smaller.unix_ms > larger.unix_ms, "the smaller tree was not signed later")
    return larger


def check_rewritten_entry(fields, trust):
    index = fields.index()
    observed = []
    for _ in range(2):
        head, leaf, proof = fields.head(trust), fields.hash("leaf"), fields.proof()
        verify_inclusion(head.suite, leaf, index, head.size, head.root, proof)
        observed.append((head, leaf))
    (first, first_leaf), (second, second_leaf) = observed
    same_log(first, second)
    require(first_leaf != second_leaf, "both trees have the same leaf there")
    return first


def check_invalid_entry(fields, trust):
    head, index, entry, proof = fields.head(trust), fields.index(), fields.entry(MAX_INVALID_ENTRY_BYTES), fields.proof()
    verify_inclusion(head.suite, head.suite.leaf(entry), index, head.size, head.root, proof)
    try:
        read_entry(entry)
    except MaybeLater as later:
        raise Refused(f"it may be valid in a later version: {later}") from None
    except Refused:
        return head
    raise Refused("it is a valid entry")


def check_decreasing_time(fields, trust):
    head = fields.head(trust)
    places = []
    for _ in range(2):
        index, entry, proof = fields.index(), fields.entry(), fields.proof()
        verify_inclusion(head.suite, head.suite.leaf(entry), index, head.size, head.root, proof)
        places.append((index, read_entry(entry).time_ns))
    (first, first_ns), (second, second_ns) = places
    require(first < second and first_ns > second_ns, "the later entry does not bear the earlier time")
    return head


def check_entry_mismatch(fields, trust):
    index, entry, head = fields.index(), fields.entry(), fields.head(trust)
    leaf, proof = fields.hash("leaf"), fields.proof()
    verify_inclusion(head.suite, leaf, index, head.size, head.root, proof)
    require(head.suite.leaf(entry) != leaf, "the entry is the one that the tree has there")
    return head


FACTS = {
    "fork": (check_fork, LOG_SIGNATURES),
    "inconsistency": (check_inconsistency, LOG_SIGNATURES),
    "rollback": (check_rollback, LOG_SIGNATURES),
    "rewritten_entry": (check_rewritten_entry, LOG_SIGNATURES),
    "invalid_entry": (check_invalid_entry, LOG_SIGNATURES),
    "decreasing_time": (check_decreasing_time, LOG_SIGNATURES),
    "entry_mismatch": (check_entry_mismatch, OBSERVERS_WORD),
}


def verify_evidence(raw, trust):
    """The fact that holds, its basis, and the (larger) head that shows it. Cosignatures are no question here."""
    require(len(raw) <= MAX_EVIDENCE_BYTES, f"the evidence is longer than {MAX_EVIDENCE_BYTES} bytes")
    text = decode_utf8(raw, "the evidence")
    require(text.endswith("\n"), "the evidence does not end in a newline")
    fields = Fields(text[:-1].split("\n"))
    require(fields.lines.pop(0) == "counterfoil/evidence@v1", "this is no evidence of a known version")
    fact = fields.take("fact")
    require(fact in FACTS, f"the fact {fact[:40]!r} is not known here")
    parse_decimal(fields.take("observed"), 2**64 - 1, "the time of observation")
    check, basis = FACTS[fact]
    try:
        head = check(fields, Trust(trust.log_keys))
    except MaybeLater as later:
        raise Refused(str(later)) from None
    require(not fields.lines, "the evidence has lines that do not belong to it")
    return fact, basis, head


# ---------------------------------------------------------------- a log over HTTP (section 12)

TILE_WIDTH = 256
HTTP_SECONDS = 30


def fetch(url, limit):
    """The body, uncompressed. None for 404, which says that there is no such thing."""
    try:
        request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip, identity"})
        with urllib.request.urlopen(request, timeout=HTTP_SECONDS) as response:
            body = response.read(limit + 1)
            if response.headers.get("Content-Encoding") == "gzip":
                body = zlib.decompressobj(wbits=31).decompress(body, limit + 1)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise Unusable(f"{url} answered {error.code}") from None
    except (OSError, ValueError, http.client.HTTPException, zlib.error) as error:
        raise Unusable(f"can't read {url}: {error}") from None
    require(len(body) <= limit, f"{url} is longer than the {limit} bytes that it can have")
    return body


def tiles_of(count):
    """(number, width) of each tile over `count` hashes; the last may be partial, and none is empty. A head may claim 2^63 of them."""
    full, rest = divmod(count, TILE_WIDTH)
    for number in range(full):
        yield number, TILE_WIDTH
    if rest:
        yield full, rest


def tile_path(number):
    groups = [f"{number % 1000:03}"]
    while number >= 1000:
        number //= 1000
        groups.insert(0, f"x{number % 1000:03}")
    return "/".join(groups)


def fetch_tile(url, number, width, width_limit):
    """A tile or bundle, and its width: that asked for, or 256 where a partial one has given way to the full one."""
    path = f"{url}/{tile_path(number)}"
    if width < TILE_WIDTH:
        partial = fetch(f"{path}.p/{width}", width * width_limit)
        if partial is not None:
            return partial, width
    full = fetch(path, TILE_WIDTH * width_limit)
    require(full is not None, f"the log withholds {path} (width {width}), which its head covers")
    return full, TILE_WIDTH


def split_bundle(bundle, width):
    entries, at = [], 0
    for _ in range(width):
        start = at + 2
        at = start + int.from_bytes(bundle[at:start], "big")
        require(at <= len(bundle), "an entry bundle ends early")
        entries.append(bundle[start:at])
    require(at == len(bundle), "an entry bundle has bytes after its last entry")
    return entries


def read_leaves(url, suite, size):
    """All leaf hashes. Each entry is valid, the first is the genesis, and time never decreases."""
    leaves, last_ns = [], 0
    for number, width in tiles_of(size):
        bundle = fetch_tile(f"{url}/tile/entries", number, width, 2 + MAX_ENTRY_BYTES)
        for raw in split_bundle(*bundle)[:width]:
            where = f"entry {len(leaves)}"
            try:
                entry = read_entry(raw)
            except Refused as refused:
                raise type(refused)(f"{where}: {refused}") from None
            genesis = (entry.source_id, entry.event_type, entry.authentication) == (b"log", b"log.created", 2)
            require(leaves or genesis, "entry 0 is no genesis")
            require(entry.time_ns >= last_ns, f"{where} bears an earlier time than the entry before it")
            last_ns = entry.time_ns
            leaves.append(suite.leaf(raw))
    return leaves


def check_tiles(url, suite, leaves):
    """Every tile that the tree has, at every level, is what the entries hash to."""
    hashes, level, count = leaves, 0, 0
    while hashes:
        for number, width in tiles_of(len(hashes)):
            tile, found_width = fetch_tile(f"{url}/tile/{level}", number, width, 32)
            expected = b"".join(hashes[number * TILE_WIDTH :][:width])
            is_right = len(tile) == found_width * 32 and tile.startswith(expected)
            require(is_right, f"tile {number} of level {level} is not of the tree")
            count += 1
        full = len(hashes) // TILE_WIDTH
        hashes = [tree_root(suite, hashes[i * TILE_WIDTH :][:TILE_WIDTH]) for i in range(full)]
        level += 1
    return count


def verify_log(url, trust, since):
    """Reads a log as a whole: its newest head, how many tiles were compared, and the older head that it continues."""
    if not url.startswith(("http://", "https://")):
        raise Unusable(f"{url} is no http or https URL")
    url = url.rstrip("/")
    checkpoint = fetch(f"{url}/checkpoint", MAX_NOTE_BYTES)
    if checkpoint is None:
        raise Unusable(f"there is no log at {url}")
    head = verify_head(checkpoint, trust)
    if since:
        require_later(since, head)
    leaves = read_leaves(url, head.suite, head.size)
    require(tree_root(head.suite, leaves) == head.root, "the entries do not hash to the root that the log signed")
    if since:
        continued = tree_root(head.suite, leaves[: since.size]) == since.root
        require(continued, f"the first {since.size} entries do not hash to the root that the log signed for them before")
    return head, check_tiles(url, head.suite, leaves)


def require_later(old, new):
    """What two heads of a log say of each other before any proof (section 8)."""
    same_log(old, new)
    require(old.size <= new.size, f"the tree shrank from {old.size} to {new.size}")
    if old.size < new.size and None not in (old.unix_ms, new.unix_ms):
        require(old.unix_ms <= new.unix_ms, "the larger tree bears the earlier time")


# ---------------------------------------------------------------- self-test


class SelfTest:
    """Counts expectations, and names those that fail."""

    def __init__(self):
        self.checked, self.failed = 0, []

    def equal(self, what, found, expected):
        self.checked += 1
        if found != expected:
            self.failed.append(f"{what}: {found!r} where {expected!r} belongs")

    def verdict(self, what, expected, function, *arguments):
        """That `function` accepts (True) or refuses (False). What it returned, if it returned."""
        self.checked += 1
        try:
            result = function(*arguments)
        except Refused as refused:
            if expected:
                self.failed.append(f"{what}: refused: {refused}")
            return None
        if not expected:
            self.failed.append(f"{what}: accepted")
        return result


SUITES = {suite.name: suite for suite in (BLAKE3_SUITE, SHA256_SUITE)}

# RFC 8032, section 7.1, tests 1 to 3: public key, message, R, S.
RFC_8032 = """
d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a -
e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b
3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c 72
92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00
fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025 af82
6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a
"""
# Of BLAKE3's test_vectors.json: input length, hash, derive_key. The input is 0, 1, … 250, 0, 1, …
BLAKE3_CONTEXT = "BLAKE3 2019-12-27 16:29:52 test vectors context"
BLAKE3_VECTORS = """
0 af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262 2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d
1 2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213 b3e2e340a117a499c6cf2398a19ee0d29cca2bb7404c73063382693bf66cb06c
1024 42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7 7356cd7720d5b66b6d0697eb3177d9f8d73a4a5c5e968896eb6a689684302706
1025 d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444 effaa245f065fbf82ac186839a249707c3bddf6d3fdda22d1b95a3c970379bcb
2049 5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030 2ea477c5515cc3dd606512ee72bb3e0e758cfae7232826f35fb98ca1bcbdf273
4097 9b4052b38f1c5fc8b1f9ff7ac7b27cd242487b3d890d15c96a1c25b8aa0fb995 aca51029626b55fda7117b42a7c211f8c6e9ba4fe5b7a8ca922f34299500ead8
"""


def test_published_vectors(test):
    words = iter(RFC_8032.split())
    for key, message, signature in zip(words, words, words):
        key, message, signature = (bytes.fromhex(word.strip("-")) for word in (key, message, signature))
        test.equal("an RFC 8032 signature", ed25519_verifies(key, message, signature), True)
        test.equal("an RFC 8032 signature of more", ed25519_verifies(key, message + b"\0", signature), False)
        test.equal("an RFC 8032 signature and more", ed25519_verifies(key, message, signature + b"\0"), False)
    derive = blake3_derive_key(BLAKE3_CONTEXT)
    for line in BLAKE3_VECTORS.split("\n")[1:-1]:
        length, digest, derived = line.split()
        data = bytes(i % 251 for i in range(int(length)))
        test.equal(f"BLAKE3 of {length} bytes", blake3(data).hex(), digest)
        test.equal(f"BLAKE3 derive_key of {length} bytes", derive(data).hex(), derived)


def hashes_of(texts):
    return [bytes.fromhex(text) for text in texts]


def damaged(proof):
    """A proof with a hash altered, one missing, one too many, and two that changed places."""
    yield [*proof, bytes(32)]
    yield [bytes(32), *proof]
    if proof:
        yield proof[:-1]
        yield proof[1:]
        yield [*proof[:-1], bytes([proof[-1][0] ^ 1]) + proof[-1][1:]]
    if len(proof) > 1:
        yield [proof[1], proof[0], *proof[2:]]


def test_trees(test, vectors):
    entries = hashes_of(vectors["entries"])
    for vector in vectors["suites"]:
        suite = SUITES[vector["suite"]]
        leaves, roots = hashes_of(vector["leaf_hashes"]), hashes_of(vector["roots"])
        test.equal("leaf hashes", [suite.leaf(entry) for entry in entries], leaves)
        test.equal("roots", [tree_root(suite, leaves[:size]) for size in range(len(roots))], roots)
        for case in vector["inclusion_proofs"]:
            index, size, proof = case["index"], case["size"], hashes_of(case["proof"])
            what, root = f"{suite.name} inclusion of {index} in {size}", roots[size]
            test.verdict(what, True, verify_inclusion, suite, leaves[index], index, size, root, proof)
            for bad in damaged(proof):
                test.verdict(what + ", damaged", False, verify_inclusion, suite, leaves[index], index, size, root, bad)
            for bad_index in (index ^ 1, index + 1, size):
                test.verdict(what + ", moved", False, verify_inclusion, suite, leaves[index], bad_index, size, root, proof)
        # A root does not commit to its size: with a hash too few, the last of three leaves would also be the last of four.
        proof = [suite.node(leaves[0], leaves[1])]
        test.verdict("inclusion of 2 in 3", True, verify_inclusion, suite, leaves[2], 2, 3, roots[3], proof)
        test.verdict("the same of 3 in 4", False, verify_inclusion, suite, leaves[2], 3, 4, roots[3], proof)
        for case in vector["consistency_proofs"]:
            first, second, proof = case["first"], case["second"], hashes_of(case["proof"])
            what, old, new = f"{suite.name} consistency of {first} and {second}", roots[first], roots[second]
            test.verdict(what, True, verify_consistency, suite, first, old, second, new, proof)
            for bad in damaged(proof):
                test.verdict(what + ", damaged", False, verify_consistency, suite, first, old, second, new, bad)
            test.verdict(what + ", no old root", False, verify_consistency, suite, first, bytes(32), second, new, proof)
            test.verdict(what + ", no new root", False, verify_consistency, suite, first, old, second, bytes(32), proof)
            test.verdict(what + ", from 0", False, verify_consistency, suite, 0, roots[0], second, new, proof)
        for case in vector["commitments"]:
            salt, data, expected = hashes_of((case["salt"], case["bytes"], case["commitment"]))
            test.equal(f"{suite.name} commitment", suite.commitment(salt, data), expected)


def test_notes(test, vectors):
    for case in vectors["keys"]:
        key = test.verdict(f"vkey {case['vkey']}", True, parse_log_key, case["vkey"])
        kind = key.kind.replace("plain", "ed25519").replace("timestamped", f"timestamped-head/{key.suite.name}")
        found = (key.name, kind, key.public_key.hex(), key.id.hex())
        test.equal(f"vkey {case['vkey']}", found, (case["name"], case["kind"], case["public_key"], case["key_id"]))
    for case in vectors["bad_vkeys"]:
        test.verdict(f"vkey with {case['why']}", False, parse_log_key, case["vkey"])
    for case in vectors["heads"]:
        trust = Trust([parse_log_key(case["vkey"])])
        head = test.verdict(f"head {case['why']}", True, verify_head, case["note"].encode(), trust)
        found = (head.suite.name, str(head.size), head.root.hex(), None if head.unix_ms is None else str(head.unix_ms))
        test.equal(f"head {case['why']}", found, (case["suite"], case["size"], case["root"], case["time"]))
    for case in vectors["bad_heads"]:
        trust = Trust([parse_log_key(case["vkey"])])
        test.verdict(f"head with {case['why']}", False, verify_head, case["note"].encode(), trust)


def test_cosignatures(test, vectors):
    for case in vectors["keys"]:
        key = test.verdict(f"vkey {case['vkey']}", True, parse_cosigner_key, case["vkey"])
        test.equal(f"vkey {case['vkey']}", (key.name, key.id.hex()), (case["name"], case["key_id"]))
        test.verdict(f"vkey {case['vkey']} for a log", False, parse_log_key, case["vkey"])
    for case in vectors["heads"]:
        what = f"cosigned head: {case['why']}"
        trust = test.verdict(what, True, parse_policy, case["policy"].encode())
        head = test.verdict(what, case["error"] is None, verify_head, case["note"].encode(), trust)
        found = head and [{"name": found.key.name, "time": str(found.unix_s)} for found in head.cosignatures]
        test.equal(what, found, case["cosignatures"])
    for case in vectors["bad_policies"]:
        test.verdict(f"policy with {case['why']}", False, parse_policy, case["policy"].encode())


def encode_attributes(event):
    """The canonical Attributes message (section 4)."""
    texts = [event[name].encode() for name in ("id", "source", "type", "subject", "time")]
    texts.append(event["data_content_type"].encode() or b"application/octet-stream")
    encoded = b"".join(encode_field(tag, BYTES, text) for tag, text in enumerate(texts, 1))
    for name, value in sorted((name.encode(), value.encode()) for name, value in event["extensions"].items()):
        encoded += encode_field(7, BYTES, encode_field(1, BYTES, name) + encode_field(2, BYTES, value))
    return encoded


def encode_annotations(annotations):
    fields = [annotations[name].encode() for name in ("adapter", "normalised", "evidence")]
    return b"".join(encode_field(tag, BYTES, field) for tag, field in enumerate(fields, 1))


def test_entries(test, vectors):
    event_key = blake3_derive_key("counterfoil 2026-11-22 event key")
    for case in vectors:
        suite, event, what = SUITES[case["suite"]], case["event"], f"{case['suite']} entry {case['name']}"
        raw, salt, data = hashes_of((case["entry_hex"], case["salt_hex"], event["data_hex"]))
        entry = test.verdict(what, True, read_entry, raw)
        test.verdict(what + ", payload", True, verify_payload, suite, entry, salt, data)
        test.verdict(what + ", other payload", False, verify_payload, suite, entry, salt, data + b"\0")
        test.verdict(what + ", other salt", False, verify_payload, suite, entry, salt[::-1], data)
        misstated = entry._replace(payload_length=entry.payload_length + 1)
        test.verdict(what + ", another length", False, verify_payload, suite, misstated, salt, data)
        attributes = encode_attributes(event)
        test.equal(what + ", attributes", attributes.hex(), case["attributes_hex"])
        test.equal(what + ", their commitment", suite.commitment(salt, attributes), entry.attributes_commitment)
        annotations = encode_annotations(case["annotations"])
        test.equal(what + ", annotations", annotations.hex(), case["annotations_hex"])
        added = suite.commitment(salt, annotations) if annotations else b""
        test.equal(what + ", their commitment", added, entry.annotations_commitment)
        test.equal(what + ", leaf hash", suite.leaf(raw).hex(), case["leaf_hash_hex"])
        test.equal(what + ", time", str(entry.time_ns), case["time_unix_ns"])
        source = event["source"].encode()
        key = event_key(le64(len(source)) + source + event["id"].encode())
        test.equal(what + ", event key", key.hex(), case["event_key_hex"])
        for bad in (raw[:-1], raw + b"\0", raw[2:], raw + b"\x58\x01", b"\x08\x02" + raw[2:], b"\x08\x81\0" + raw[2:]):
            test.verdict(what + ", damaged", False, read_entry, bad)


def test_receipts(test, vectors):
    for case in vectors:
        raw, what = case["receipt"].encode(), f"receipt {case['name']}"
        event = case["event"]
        for vkey in case["vkeys"]:
            receipt, head, entry = test.verdict(what, True, verify_receipt, raw, Trust([parse_log_key(vkey)]))
            found = (receipt.index, head.size, head.root.hex(), receipt.entry.hex(), receipt.salt.hex())
            names = ("leaf_index", "tree_size", "root_hash_hex", "entry_hex", "salt_hex")
            test.equal(what, found, tuple(case[name] for name in names))
            data = bytes.fromhex(event["data_hex"])
            test.verdict(what + ", payload", True, verify_payload, head.suite, entry, receipt.salt, data)
            test.verdict(what + ", other payload", False, verify_payload, head.suite, entry, receipt.salt, data + b"\0")
        trust = Trust([parse_log_key(case["vkeys"][0])])
        for bad in (raw[:-1], raw + b"\n", raw.replace(b"\nindex ", b"\nindex 1"), raw.replace(b"\nextra A", b"\nextra B")):
            test.verdict(what + ", damaged", False, verify_receipt, bad, trust)
        swapped = raw.replace(b"counterfoil/tlog", b"c2sp.org/tlog") if head.suite is BLAKE3_SUITE else b"counterfoil" + raw[8:]
        test.verdict(what + ", other header", False, verify_receipt, swapped, trust)


def test_evidence(test, vectors):
    for case in vectors:
        trust = Trust([parse_log_key(vkey) for vkey in case["vkeys"]])
        what, basis = f"evidence {case['name']}", case["basis"]
        found = test.verdict(what, basis is not None, verify_evidence, case["evidence"].encode(), trust)
        test.equal(what + ", basis", found and found[1], basis)


GOLDEN_VECTORS = {
    "trees.json": test_trees,
    "note.json": test_notes,
    "cosignatures.json": test_cosignatures,
    "entries.json": test_entries,
    "receipts.json": test_receipts,
    "evidence.json": test_evidence,
}


def self_test(directory):
    """How many expectations were met. A file that is missing, or one that is not known here, fails."""
    found = {path.name: path for path in Path(directory).rglob("vectors/*.json")}
    unknown = sorted(found.keys() ^ GOLDEN_VECTORS.keys())
    if unknown:
        raise Unusable(f"below {directory}, not there or not known here: {', '.join(unknown)}")
    test = SelfTest()
    test_published_vectors(test)
    for name, run in GOLDEN_VECTORS.items():
        run(test, json.loads(found[name].read_text()))
    require(not test.failed, f"{len(test.failed)} of {test.checked} checks fail:\n  " + "\n  ".join(test.failed))
    return test.checked


# ---------------------------------------------------------------- command line


def read_file(path, limit):
    """All of a file. One that is too long is not judged by how it begins, and not swallowed."""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise Unusable(f"can't read {path}: {error.strerror}") from None
    if len(content) > limit:
        raise Unusable(f"{path} is longer than the {limit} bytes that are read")
    return content


def read_trust(arguments):
    """What the verifier judges with. Of no use is another thing than what was judged: exit code 2."""
    try:
        if arguments.policy is not None:
            trust = parse_policy(read_file(arguments.policy, MAX_POLICY_BYTES))
            require(trust.log_keys, "it names no log, and accepts nothing")
            return trust
        return Trust(parse_log_key(read_vkey(key)) for key in arguments.key)
    except Refused as refused:
        raise Unusable(f"{'the key' if arguments.policy is None else arguments.policy}: {refused}") from None


def read_vkey(argument):
    if not argument.startswith("@"):
        return decode_utf8(os.fsencode(argument), "the vkey")
    # A file as `counterfoild init` prints it may go on with a second key.
    return decode_utf8(read_file(argument[1:], MAX_NOTE_BYTES), "the vkey").split("\n")[0]


def utc(unix_ms):
    if unix_ms is None:
        return "at no signed time"
    try:
        time = datetime.fromtimestamp(unix_ms // 1000, timezone.utc)
        return f"signed {time:%Y-%m-%dT%H:%M:%S}.{unix_ms % 1000:03}Z"
    except (OverflowError, OSError, ValueError):
        return f"signed {unix_ms} ms after 1970"


def describe(head):
    yield f"log       {head.origin} ({head.suite.name})"
    yield f"tree      size {head.size}, root {head.root.hex()}, {utc(head.unix_ms)}"
    for cosignature in head.cosignatures:
        yield f"cosigned  by {cosignature.key.name}, {utc(cosignature.unix_s * 1000)}"


def command_receipt(arguments, trust):
    receipt, head, entry = verify_receipt(read_file(arguments.file, MAX_RECEIPT_BYTES), trust)
    lines = [*describe(head), f"leaf      {receipt.index}, hash {head.suite.leaf(receipt.entry).hex()}"]
    lines.append(f"recorded  {utc(entry.time_ns // 10**6).replace('signed ', '')} by the log's clock, {entry.event_type.decode()}")
    if arguments.payload is not None:
        verify_payload(head.suite, entry, receipt.salt, read_file(arguments.payload, MAX_PAYLOAD_BYTES))
        lines.append(f"payload   {arguments.payload} is what was recorded")
    return [*lines, "not proved: that the log still has this history, and that what the event says is true"]


def command_head(arguments, trust):
    return describe(verify_head(read_file(arguments.file, MAX_NOTE_BYTES), trust))


def parse_hash(line):
    """In hex, as people are shown hashes, or in base64, as files have them: their lengths differ."""
    return bytes.fromhex(line) if re.fullmatch("[0-9a-f]{64}", line) else parse_base64(line, "a hash in the proof", 32)


def command_consistency(arguments, trust):
    old, new = (verify_head(read_file(path, MAX_NOTE_BYTES), trust) for path in (arguments.old, arguments.new))
    proof = []
    if arguments.proof is not None:
        lines = decode_utf8(read_file(arguments.proof, MAX_RECEIPT_BYTES), "the proof").split("\n")
        proof = [parse_hash(line) for line in lines if line]
    require_later(old, new)
    verify_consistency(old.suite, old.size, old.root, new.size, new.root, proof)
    return [*describe(new), f"continues size {old.size}, root {old.root.hex()}, {utc(old.unix_ms)}"]


def command_evidence(arguments, trust):
    fact, basis, head = verify_evidence(read_file(arguments.file, MAX_EVIDENCE_BYTES), trust)
    rests = {
        LOG_SIGNATURES: "on the log's own signatures: it holds, whoever made the file",
        OBSERVERS_WORD: "on the word of whoever made the file, as far as the log is to have served this",
    }
    return [f"fact      {fact}", *describe(head), f"rests     {rests[basis]}"]


def command_log(arguments, trust):
    since = None
    if arguments.since is not None:
        since = verify_head(read_file(arguments.since, MAX_NOTE_BYTES), trust)
    head, tiles = verify_log(arguments.url, trust, since)
    lines = [*describe(head), f"read      {head.size} entries and {tiles} tiles: they are that tree"]
    if since:
        lines.append(f"continues size {since.size}, root {since.root.hex()}, {utc(since.unix_ms)}")
    return lines


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(run, name, *positional):
        added = commands.add_parser(name)
        for argument in positional:
            added.add_argument(argument)
        added.set_defaults(run=run)
        if run:
            trust = added.add_mutually_exclusive_group(required=True)
            trust.add_argument("--key", action="append", metavar="VKEY")
            trust.add_argument("--policy", metavar="FILE")
        return added

    command(command_receipt, "receipt", "file").add_argument("--payload", metavar="FILE")
    command(command_head, "head", "file")
    command(command_consistency, "consistency", "old", "new").add_argument("--proof", metavar="FILE")
    command(command_evidence, "evidence", "file")
    command(command_log, "log", "url").add_argument("--since", metavar="CHECKPOINT")
    command(None, "selftest", "directory")
    return parser.parse_args()


def disarmed(text):
    """Others chose some of the words, and some CI runners take `##[...]` and `##vso[...]` in a line for commands."""
    return re.sub("#(?=[^!-~]*#)", r"\\x23", text)


def main():
    arguments = parse_arguments()
    try:
        if arguments.run:
            lines = arguments.run(arguments, read_trust(arguments))
        else:
            lines = [f"{self_test(arguments.directory)} checks pass"]
        print("ok", *map(disarmed, lines), sep="\n")
    except MaybeLater as later:
        print(disarmed(f"error: {later}. A newer verifier may know it; it is nothing against the log"), file=sys.stderr)
        return 2
    except Refused as refused:
        print(disarmed(f"refused: {refused}"), file=sys.stderr)
        return 1
    except Unusable as unusable:
        print(disarmed(f"error: {unusable}"), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
