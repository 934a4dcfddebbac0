#!/usr/bin/env python3
"""Writes cosignatures.json beside itself: witness keys, cosigned heads and trust policies, straight from the
specifications (C2SP signed-note, tlog-cosignature, tlog-policy) and docs/PROTOCOL.md, sections 7, 8 and 13.

It shares no code with the crate. Needs the `cryptography` package.
"""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BLAKE3 = b"\xffcounterfoil/timestamped-head/v1/blake3"
SHA256 = b"\xffcounterfoil/timestamped-head/v1/sha256"
PLAIN = b"\x01"
COSIGNER = b"\x04"


def b64(data):
    return base64.b64encode(data).decode()


class Key:
    def __init__(self, name, kind, seed):
        self.name, self.kind, self.seed = name, kind, seed
        self.private = Ed25519PrivateKey.from_private_bytes(seed)
        public = self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = hashlib.sha256(name.encode() + b"\n" + kind + public).digest()[:4]
        self.vkey = f"{name}+{self.id.hex()}+{b64(kind + public)}"
        self.secret = f"PRIVATE+KEY+{name}+{self.id.hex()}+{b64(kind + seed)}"

    def line(self, payload):
        return f"— {self.name} {b64(self.id + payload)}\n"

    def sign_head(self, text, unix_ms):
        if self.kind == PLAIN:
            return self.line(self.private.sign(text.encode()))
        suite = self.kind.rsplit(b"/", 1)[1].decode()
        message = f"counterfoil/timestamped-head/v1\nsuite {suite}\ntime {unix_ms}\n{text}"
        return self.line(unix_ms.to_bytes(8, "big") + self.private.sign(message.encode()))

    def cosign(self, text, seconds):
        message = f"cosignature/v1\ntime {seconds}\n{text}"
        return self.line(seconds.to_bytes(8, "big") + self.private.sign(message.encode()))


def seed(first):
    return bytes(range(first, first + 32))


LOG = Key("example.com/builds", BLAKE3, seed(0x00))
WITNESSES = [Key(f"witness.example/w{n}", COSIGNER, seed(0x20 * n)) for n in range(1, 5)]
W1, W2, W3, W4 = WITNESSES
SHA256_LOG = [Key("example.com/sha256", SHA256, seed(0xA0)), Key("example.com/sha256", PLAIN, seed(0xC0))]

TIME_MS = 1767225600123
TEXT = f"example.com/builds\n20852163\n{b64(bytes(range(0xC8, 0xE8)))}\n"
SHA256_TEXT = f"example.com/sha256\n7\n{b64(bytes(range(1, 33)))}\n"


def note(*lines, text=TEXT, log=None):
    own = LOG.sign_head(text, TIME_MS) if log is None else log
    return f"{text}\n{own}{''.join(lines)}"


def by(witness, seconds):
    return witness.cosign(TEXT, seconds)


THREE = f"log {LOG.vkey}\n" + "".join(f"witness w{n} {w.vkey}\n" for n, w in enumerate(WITNESSES[:3], 1))
TWO_OF_THREE = THREE + "group most 2 w1 w2 w3\nquorum most\n"
NESTED = (
    THREE
    + f"witness w4 {W4.vkey}\ngroup mine all w1 w2\ngroup theirs any w3 w4\ngroup everyone all mine theirs\nquorum everyone\n"
)
ONE = THREE + "quorum w2\n"
NONE = THREE + "quorum none\n"
NOBODY = f"log {LOG.vkey}\nquorum none\n"
SHA256_POLICY = "".join(f"log {key.vkey}\n" for key in SHA256_LOG) + "quorum none\n"

GOOD = [by(W1, 1767225601), by(W2, 1767225602), by(W3, 1767225603), by(W4, 1767225604)]
NAMES = [w.name for w in WITNESSES]


def cosigned(*numbers):
    return [{"name": NAMES[n - 1], "time": str(1767225600 + n)} for n in numbers]


def head(why, policy, text, cosignatures=None, error=None):
    return {"why": why, "policy": policy, "note": text, "cosignatures": cosignatures, "error": error}


def spoilt(line):
    """The same line with the last byte of its signature changed."""
    start, data = line.rstrip("\n").rsplit(" ", 1)
    raw = bytearray(base64.b64decode(data))
    raw[-1] ^= 1
    return f"{start} {b64(bytes(raw))}\n"


HEADS = [
    head("two of three", TWO_OF_THREE, note(GOOD[0], GOOD[2]), cosigned(1, 3)),
    head("all of three, in another order than the policy's", TWO_OF_THREE, note(GOOD[2], GOOD[1], GOOD[0]), cosigned(1, 2, 3)),
    head("one of three", TWO_OF_THREE, note(GOOD[1]), error="no_quorum"),
    head("no witness at all", TWO_OF_THREE, note(), error="no_quorum"),
    head("a witness that is not listed does not count", TWO_OF_THREE, note(GOOD[0], GOOD[3]), error="no_quorum"),
    head("the same line twice counts once", TWO_OF_THREE, note(GOOD[0], GOOD[0]), error="no_quorum"),
    head("the same witness at two times counts once", TWO_OF_THREE, note(GOOD[0], by(W1, 1767225605)), error="no_quorum"),
    head("a listed witness's line that fails rejects the head", TWO_OF_THREE, note(GOOD[0], GOOD[1], spoilt(GOOD[2])), error="head"),
    head("one that is not listed may say what it likes", TWO_OF_THREE, note(GOOD[0], GOOD[1], spoilt(GOOD[3])), cosigned(1, 2)),
    head("time 0", TWO_OF_THREE, note(GOOD[0], GOOD[1], by(W3, 0)), error="head"),
    head("time 2^63", TWO_OF_THREE, note(GOOD[0], GOOD[1], by(W3, 1 << 63)), error="head"),
    head("a cosignature of another head", TWO_OF_THREE, note(GOOD[0], GOOD[1], W3.cosign(SHA256_TEXT, 1767225603)), error="head"),
    head("witnesses, and no signature by the log", TWO_OF_THREE, note(*GOOD, log=""), error="head"),
    head("witnesses, and a broken signature by the log", TWO_OF_THREE, note(*GOOD, log=spoilt(LOG.sign_head(TEXT, TIME_MS))), error="head"),
    head("mine, and one of theirs", NESTED, note(GOOD[0], GOOD[1], GOOD[3]), cosigned(1, 2, 4)),
    head("theirs, and one of mine", NESTED, note(GOOD[1], GOOD[2], GOOD[3]), error="no_quorum"),
    head("mine, and none of theirs", NESTED, note(GOOD[0], GOOD[1]), error="no_quorum"),
    head("the one", ONE, note(GOOD[1]), cosigned(2)),
    head("others than the one", ONE, note(GOOD[0], GOOD[2]), error="no_quorum"),
    head("nobody is asked, and who is there is told", NONE, note(GOOD[1]), cosigned(2)),
    head("nobody is asked, and one who is listed fails", NONE, note(spoilt(GOOD[1])), error="head"),
    head("nobody is listed", NOBODY, note(*GOOD), []),
    head("a log that is not listed", SHA256_POLICY, note(*GOOD), error="head"),
    head(
        "both keys of a sha256 log",
        SHA256_POLICY,
        note(text=SHA256_TEXT, log="".join(key.sign_head(SHA256_TEXT, TIME_MS) for key in SHA256_LOG)),
        [],
    ),
    head("one key of two", SHA256_POLICY, note(text=SHA256_TEXT, log=SHA256_LOG[1].sign_head(SHA256_TEXT, TIME_MS)), []),
    head(
        "one key of two, and the other fails",
        SHA256_POLICY,
        note(
            text=SHA256_TEXT,
            log=SHA256_LOG[0].sign_head(SHA256_TEXT, TIME_MS) + spoilt(SHA256_LOG[1].sign_head(SHA256_TEXT, TIME_MS)),
        ),
        error="head",
    ),
]

TWO = f"witness a {W1.vkey}\nwitness b {W2.vkey}\n"
SAME_AS_W1 = Key("other.example", COSIGNER, W1.seed)
LOG_OF_W1 = Key("other.example", BLAKE3, W1.seed)
OTHER_SUITE = Key("example.com/builds", SHA256, seed(0x90))
WEAK = b"\x01" + bytes(31)
WEAK_ID = hashlib.sha256(b"w\n" + COSIGNER + WEAK).digest()[:4].hex()

BAD_POLICIES = [
    ("no quorum line", f"log {LOG.vkey}\n", 1),
    ("two quorum lines", "quorum none\nquorum none\n", 2),
    ("cut off", TWO + "quorum a", 3),
    ("Windows line ends", "quorum none\r\n", 1),
    ("a comment after a definition", "quorum none # nobody\n", 1),
    ("an unknown word", "quorum none\nwitnesses\n", 2),
    ("a log's key as a witness's", f"witness a {LOG.vkey}\nquorum a\n", 1),
    ("a witness's key as a log's", f"log {W1.vkey}\nquorum none\n", 1),
    ("a secret key", f"witness a {W1.secret}\nquorum a\n", 1),
    ("a weak key", f"witness a w+{WEAK_ID}+{b64(COSIGNER + WEAK)}\nquorum a\n", 1),
    ("an id of another key", f"witness a {W1.vkey.replace(W1.id.hex(), W2.id.hex())}\nquorum a\n", 1),
    ("a key twice", f"{TWO}witness c {SAME_AS_W1.vkey}\nquorum a\n", 3),
    ("a key as a log's and a witness's", f"{TWO}log {LOG_OF_W1.vkey}\nquorum a\n", 3),
    ("a log with two suites", f"log {LOG.vkey}\nlog {OTHER_SUITE.vkey}\nquorum none\n", 2),
    ("a name twice", f"witness a {W1.vkey}\nwitness a {W2.vkey}\nquorum a\n", 2),
    ("a group with a witness's name", f"{TWO}group a any b\nquorum a\n", 3),
    ("the name none", f"witness none {W1.vkey}\nquorum none\n", 1),
    ("none as a member", f"{TWO}group g any none\nquorum g\n", 3),
    ("a member that is defined later", f"group g any a\n{TWO}quorum g\n", 1),
    ("a quorum that is defined later", f"quorum a\n{TWO}", 1),
    ("a member twice in a group", f"{TWO}group g 2 a a\nquorum g\n", 3),
    ("a member of two groups", f"{TWO}group g any a b\ngroup h any a\nquorum g\n", 4),
    ("a group with no members", f"{TWO}group g any\nquorum a\n", 3),
    ("none of two", f"{TWO}group g 0 a b\nquorum g\n", 3),
    ("three of two", f"{TWO}group g 3 a b\nquorum g\n", 3),
    ("a leading zero", f"{TWO}group g 01 a b\nquorum g\n", 3),
]

vectors = {
    "about": "Witness keys, cosigned heads and trust policies as docs/PROTOCOL.md, section 13, has them. `keys`: seed to texts."
    " `heads`: the policy's verdict on the note: who of its witnesses cosigned and when (in the policy's order, times in"
    " seconds), or `error`: `head` (refused whatever the quorum) or `no_quorum`. `bad_policies`: must be refused at that line.",
    "keys": [
        {"name": w.name, "seed": w.seed.hex(), "key_id": w.id.hex(), "vkey": w.vkey, "secret_text": w.secret} for w in WITNESSES
    ],
    "heads": HEADS,
    "bad_policies": [{"why": why, "policy": policy, "line": line} for why, policy, line in BAD_POLICIES],
}
path = Path(__file__).with_name("cosignatures.json")
path.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")
