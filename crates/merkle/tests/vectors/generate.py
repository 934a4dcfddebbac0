#!/usr/bin/env python3
"""Writes trees.json beside itself: both suites, straight from the definitions of RFC 6962, section 2.1.

It shares no code with the crate. Needs the `blake3` package.
"""

import hashlib
import hmac
import json
from pathlib import Path

import blake3

# The eight entries that Certificate Transparency implementations have always tested with.
ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
SALTS = [bytes(32), bytes(range(32))]


def derive(context, data):
    return blake3.blake3(data, derive_key_context="counterfoil 2026-11-22 " + context).digest()


def le64(number):
    return number.to_bytes(8, "little")


class Blake3:
    name = "blake3"
    empty = staticmethod(lambda: derive("empty", b""))
    leaf = staticmethod(lambda entry: derive("leaf", entry))
    node = staticmethod(lambda left, right: derive("node", left + right))
    commit = staticmethod(lambda salt, data: derive("commitment", salt + le64(len(data)) + data))


class Sha256:
    name = "sha256"
    empty = staticmethod(lambda: hashlib.sha256().digest())
    leaf = staticmethod(lambda entry: hashlib.sha256(b"\0" + entry).digest())
    node = staticmethod(lambda left, right: hashlib.sha256(b"\1" + left + right).digest())
    commit = staticmethod(lambda salt, data: hmac.digest(salt, le64(len(data)) + data, "sha256"))


def split(n):
    return 1 << (n - 1).bit_length() - 1


def root(suite, leaves):
    if not leaves:
        return suite.empty()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return suite.node(root(suite, leaves[:k]), root(suite, leaves[k:]))


def path(suite, m, leaves):
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return path(suite, m, leaves[:k]) + [root(suite, leaves[k:])]
    return path(suite, m - k, leaves[k:]) + [root(suite, leaves[:k])]


def subproof(suite, m, leaves, whole):
    if m == len(leaves):
        return [] if whole else [root(suite, leaves)]
    k = split(len(leaves))
    if m <= k:
        return subproof(suite, m, leaves[:k], whole) + [root(suite, leaves[k:])]
    return subproof(suite, m - k, leaves[k:], False) + [root(suite, leaves[:k])]


def vectors(suite):
    entries = [bytes.fromhex(entry) for entry in ENTRIES]
    leaves = [suite.leaf(entry) for entry in entries]
    sizes = range(1, len(leaves) + 1)
    return {
        "suite": suite.name,
        "leaf_hashes": [leaf.hex() for leaf in leaves],
        "roots": [root(suite, leaves[:size]).hex() for size in range(len(leaves) + 1)],
        "inclusion_proofs": [
            {"index": index, "size": size, "proof": [h.hex() for h in path(suite, index, leaves[:size])]}
            for size in sizes
            for index in range(size)
        ],
        "consistency_proofs": [
            {"first": m, "second": n, "proof": [h.hex() for h in subproof(suite, m, leaves[:n], True)]}
            for n in sizes
            for m in range(1, n + 1)
        ],
        "commitments": [
            {"salt": salt.hex(), "bytes": data.hex(), "commitment": suite.commit(salt, data).hex()}
            for salt in SALTS
            for data in entries
        ],
    }


if __name__ == "__main__":
    content = {"entries": ENTRIES, "suites": [vectors(Blake3), vectors(Sha256)]}
    Path(__file__).with_name("trees.json").write_text(json.dumps(content, indent=1) + "\n")
