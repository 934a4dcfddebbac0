"""Makes envelopes.json: envelopes that OpenSSL signed, one for each kind of key. Needs `openssl` 3; the keys are thrown away."""

import base64
import json
import pathlib
import subprocess
import tempfile

TYPE = "application/vnd.in-toto+json"
STATEMENT = json.dumps(
    {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "widgets.tar.gz", "digest": {"sha256": "5a" * 32, "sha512": "6b" * 64}},
            {"name": "pkg:npm/widgets@1.2.3", "digest": {"sha256": "7c" * 32}},
        ],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "https://ci.example/build/v1",
                "externalParameters": {},
                "resolvedDependencies": [
                    {
                        "uri": "git+https://git.example/acme/widgets@refs/heads/main",
                        "digest": {"gitCommit": "0123456789abcdef0123456789abcdef01234567"},
                    }
                ],
            },
            "runDetails": {
                "builder": {"id": "https://ci.example/builder"},
                "metadata": {"invocationId": "run-42", "finishedOn": "2026-11-22T09:30:00Z"},
            },
        },
    }
).encode()

PSS = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"]
KINDS = {
    "ed25519": (["-algorithm", "ed25519"], None, []),
    "p256": (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], "sha256", []),
    "p384": (["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], "sha384", []),
    "rsa-pss": (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "sha256", PSS),
    "rsa-pkcs1": (["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], "sha256", []),
}
# Keys that are refused, and signatures that do not count: another hash than the key's kind goes with.
REFUSED = {
    "p521": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
    "rsa-1024": ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
    "x25519": ["-algorithm", "x25519"],
}


def pae(kind: str, body: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)


def openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


def sign(directory: pathlib.Path, digest: str | None, options: list[str]) -> bytes:
    message = directory / "message"
    message.write_bytes(pae(TYPE, STATEMENT))
    key = str(directory / "key")
    if digest is None:
        return openssl("pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", str(message))
    return openssl("dgst", f"-{digest}", "-sign", key, *options, str(message))


def make(generate: list[str], directory: pathlib.Path) -> str:
    openssl("genpkey", *generate, "-out", str(directory / "key"))
    return openssl("pkey", "-in", str(directory / "key"), "-pubout").decode()


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        envelopes = []
        for kind, (generate, digest, options) in KINDS.items():
            key = make(generate, directory)
            signature = sign(directory, digest, options)
            envelope = {
                "payloadType": TYPE,
                "payload": base64.b64encode(STATEMENT).decode(),
                "signatures": [{"keyid": "whatever", "sig": base64.b64encode(signature).decode()}],
            }
            envelopes.append({"kind": kind, "key": key, "envelope": json.dumps(envelope)})
        refused = {kind: make(generate, directory) for kind, generate in REFUSED.items()}
    vectors = {"envelopes": envelopes, "refused_keys": refused}
    path = pathlib.Path(__file__).with_name("envelopes.json")
    path.write_text(json.dumps(vectors, indent=1) + "\n")


main()
