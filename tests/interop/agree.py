#!/usr/bin/env python3
"""Holds verify.py against verdicts of another implementation.

    agree.py CASES

CASES is JSON: a list of objects with `kind` (a function below), `trust` ({"keys": [vkey…]} or {"policy": base64}), `what` (how
the case was made), `bytes` (base64) and `verdict`: "refused", or what the function below returns. Exit code 1 where one
verdict differs.
"""

import base64
import functools
import json
import sys
from collections import Counter
from pathlib import Path

import verify

# Cases share keys and heads by the hundred, and elliptic curves are slow in Python.
verify.parse_vkey = functools.lru_cache(maxsize=None)(verify.parse_vkey)
verify.ed25519_verifies = functools.lru_cache(maxsize=None)(verify.ed25519_verifies)


def vkey(raw, _trust):
    return "log" if verify.parse_vkey(verify.decode_utf8(raw, "the vkey")).kind != "cosigner" else "witness"


def head(raw, trust):
    found = verify.verify_head(raw, trust)
    return f"{found.origin} {found.size} {found.root.hex()} {found.unix_ms} {len(found.cosignatures)}"


def receipt(raw, trust):
    found, found_head, _ = verify.verify_receipt(raw, trust)
    return f"{found.index} of {found_head.size}"


def evidence(raw, trust):
    fact, basis, _ = verify.verify_evidence(raw, trust)
    return f"{fact} {basis}"


KINDS = {function.__name__: function for function in (vkey, head, receipt, evidence)}


def read_trust(trust):
    if "policy" in trust:
        return verify.parse_policy(base64.b64decode(trust["policy"]))
    return verify.Trust(verify.parse_log_key(key) for key in trust["keys"])


def judge(case):
    try:
        return KINDS[case["kind"]](base64.b64decode(case["bytes"]), read_trust(case["trust"])), ""
    except verify.Refused as refused:
        return "refused", str(refused)


def main():
    cases = json.loads(Path(sys.argv[1]).read_text())
    agreed, differ = Counter(), 0
    for case in cases:
        verdict, why = judge(case)
        if verdict == case["verdict"]:
            agreed[case["kind"], verdict == "refused"] += 1
            continue
        differ += 1
        print(f"{case['kind']}, {case['what']}: verify.py says {verdict} ({why}), expected was {case['verdict']}")
        print(f"  {base64.b64decode(case['bytes'])!r}\n  under {case['trust']}")
    for (kind, refused), count in sorted(agreed.items()):
        print(f"{kind}: {count} {'refused' if refused else 'accepted'} by both")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
