//! Both verifiers judge the same damaged artefacts, and have to agree on every one.

use std::fs;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::Suite;
use counterfoil_note::{
    CosignerKey, CosignerSigner, MAX_POLICY_BYTES, Policy, SignedHead, UnixSeconds, VerifierKey,
};
use counterfoil_tests::MemoryLog;
use counterfoil_verify::{Evidence, Receipt};
use fastrand::Rng;
use serde_json::{Value, json};

use crate::{mutation::mutate, python};

const REFUSED: &str = "refused";

/// Artefacts with the product's verdicts.
#[derive(Default)]
pub(crate) struct Cases(Vec<Value>);

impl Cases {
    fn add(&mut self, kind: &str, what: &str, trust: &Value, bytes: &[u8], verdict: Option<String>) {
        self.0.push(json!({
            "kind": kind,
            "what": what,
            "trust": trust,
            "bytes": BASE64_STANDARD.encode(bytes),
            "verdict": verdict.unwrap_or_else(|| REFUSED.to_owned()),
        }));
    }

    fn add_vkey(&mut self, what: &str, bytes: &[u8]) {
        let text = str::from_utf8(bytes).ok();
        let log = text
            .and_then(|text| text.parse::<VerifierKey>().ok())
            .map(|_| "log");
        let witness = text
            .and_then(|text| text.parse::<CosignerKey>().ok())
            .map(|_| "witness");
        self.add(
            "vkey",
            what,
            &json!({"keys": []}),
            bytes,
            log.or(witness).map(str::to_owned),
        );
    }

    pub(crate) fn add_head(&mut self, what: &str, policy: &[u8], note: &[u8]) {
        let verdict = Policy::parse(policy)
            .ok()
            .and_then(|policy| policy.verify_cosigned(note).ok())
            .map(|cosigned| describe(cosigned.head(), cosigned.cosignatures().len()));
        let trust = json!({"policy": BASE64_STANDARD.encode(policy)});
        self.add("head", what, &trust, note, verdict);
    }

    pub(crate) fn add_receipt(&mut self, what: &str, key: &VerifierKey, bytes: &[u8]) {
        let receipt = str::from_utf8(bytes)
            .ok()
            .and_then(|text| Receipt::from_text(text, key.suite()).ok())
            .and_then(|receipt| receipt.verify(key).ok());
        let verdict = receipt.map(|receipt| format!("{} of {}", receipt.index(), receipt.head().size()));
        self.add(
            "receipt",
            what,
            &json!({"keys": [key.to_string()]}),
            bytes,
            verdict,
        );
    }

    pub(crate) fn add_evidence(&mut self, what: &str, keys: &[VerifierKey], bytes: &[u8]) {
        let verdict = str::from_utf8(bytes)
            .ok()
            .and_then(|text| Evidence::from_text(text).ok())
            .and_then(|evidence| Some((evidence.check(keys).ok()?.basis(), evidence.fact.name())))
            .map(|(basis, name)| format!("{name} {}", basis.as_str()));
        let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
        self.add("evidence", what, &json!({"keys": keys}), bytes, verdict);
    }

    /// How many of a kind the product accepts.
    pub(crate) fn accepted(&self, kind: &str) -> usize {
        let of_kind = self.0.iter().filter(|case| case["kind"] == kind);
        of_kind.filter(|case| case["verdict"] != REFUSED).count()
    }

    /// Has Python judge them all, and asserts that it says the same.
    #[track_caller]
    pub(crate) fn assert_agreed(self) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, serde_json::to_vec(&self.0).unwrap()).unwrap();
        let (code, printed) = python("agree.py", [file.path()]);
        assert_eq!(code, 0, "{printed}");
        println!("{printed}");
    }
}

fn describe(head: &SignedHead, cosignatures: usize) -> String {
    let time = head.time().map_or("None".to_owned(), |time| time.to_string());
    format!(
        "{} {} {} {time} {cosignatures}",
        head.origin(),
        head.size(),
        head.root()
    )
}

/// A member of a JSON file of golden vectors.
fn text<'a>(vector: &'a Value, name: &str) -> &'a str {
    vector[name].as_str().unwrap()
}

fn vkeys(vector: &Value) -> Vec<VerifierKey> {
    let keys = vector["vkeys"].as_array().unwrap().iter();
    keys.map(|key| key.as_str().unwrap().parse().unwrap()).collect()
}

const RECEIPTS: &str = include_str!("../../../crates/verify/tests/vectors/receipts.json");
const EVIDENCE: &str = include_str!("../../../crates/verify/tests/vectors/evidence.json");

#[test]
fn on_damaged_receipts() {
    let (mut rng, mut cases) = (Rng::with_seed(1), Cases::default());
    let vectors: Vec<Value> = serde_json::from_str(RECEIPTS).unwrap();
    for vector in &vectors {
        for key in vkeys(vector) {
            let receipt = text(vector, "receipt").as_bytes();
            cases.add_receipt("as it is", &key, receipt);
            for _ in 0..20 {
                cases.add_receipt("damaged", &key, &mutate(&mut rng, receipt));
            }
        }
    }
    assert!(cases.accepted("receipt") >= vectors.len());
    cases.assert_agreed();
}

/// Fields of true evidence put into other evidence are signed and proved, each by itself: what is left to judge is the fact.
#[test]
fn on_damaged_evidence() {
    let (mut rng, mut cases) = (Rng::with_seed(2), Cases::default());
    let vectors: Vec<Value> = serde_json::from_str(EVIDENCE).unwrap();
    for vector in &vectors {
        let (keys, evidence) = (vkeys(vector), text(vector, "evidence"));
        cases.add_evidence("as it is", &keys, evidence.as_bytes());
        for _ in 0..4 {
            cases.add_evidence("damaged", &keys, &mutate(&mut rng, evidence.as_bytes()));
        }
        for _ in 0..6 {
            let other = text(&vectors[rng.usize(..vectors.len())], "evidence");
            let mixed = mix_lines(&mut rng, evidence, other);
            cases.add_evidence("mixed", &keys, mixed.as_bytes());
        }
    }
    assert!(cases.accepted("evidence") > 30);
    cases.assert_agreed();
}

/// Signed as a log of either suite: the root does not say which tree it is of.
#[test]
fn on_a_head_of_two_suites() {
    let logs = [Suite::Blake3, Suite::Sha256].map(|suite| MemoryLog::new("log.example/main", suite, 1));
    let keys: Vec<_> = logs.iter().flat_map(MemoryLog::keys).cloned().collect();
    let root = logs[0].root(1);
    let [blake3, sha256] = logs.map(|log| log.sign(1, root));
    let both = format!("{blake3}{}", sha256.split_once("\n\n").unwrap().1);
    let fork = |heads: [&str; 2]| {
        let [first, second] = heads.map(|head| BASE64_STANDARD.encode(head));
        format!("counterfoil/evidence@v1\nfact fork\nobserved 0\nhead {first}\nhead {second}\n")
    };
    let other = MemoryLog::forked("log.example/main", Suite::Blake3, 1, 0).head(1);
    let mut cases = Cases::default();
    cases.add_evidence("of two suites", &keys, fork([&both, &other]).as_bytes());
    cases.add_evidence("of two suites", &keys, fork([&other, &both]).as_bytes());
    assert_eq!(cases.accepted("evidence"), 0);
    cases.add_evidence("of one suite", &keys[..1], fork([&both, &other]).as_bytes());
    assert_eq!(cases.accepted("evidence"), 1);
    cases.assert_agreed();
}

/// Heads of two logs, of two suites, and of sizes that no consistency proof links convict nobody.
#[test]
fn on_heads_that_have_nothing_to_do_with_each_other() {
    let mut cases = Cases::default();
    let logs = [
        MemoryLog::new("log.example/main", Suite::Blake3, 1),
        MemoryLog::forked("log.example/main", Suite::Blake3, 1, 0),
        MemoryLog::new("log.example/other", Suite::Blake3, 1),
        MemoryLog::new("log.example/main", Suite::Sha256, 1),
    ];
    let keys: Vec<_> = logs.iter().flat_map(MemoryLog::keys).cloned().collect();
    for (first, second) in logs
        .iter()
        .flat_map(|first| logs.iter().map(move |second| (first, second)))
    {
        for (old, new) in [(4, 4), (0, 4), (4, 7), (6, 7), (7, 6), (0, 0)] {
            let head = |log: &MemoryLog, size| format!("head {}\n", BASE64_STANDARD.encode(log.head(size)));
            let heads = head(first, old) + &head(second, new);
            let nothing = BASE64_STANDARD.encode([0; 32]);
            let proof = match (old, new) {
                (4, 7) => vec![first.root(4), second.proof(4, 7)[0]],
                (6, 7) => second.proof(6, 7),
                _ => vec![],
            };
            let proof: Vec<_> = proof
                .iter()
                .map(|hash| BASE64_STANDARD.encode(hash.as_bytes()))
                .collect();
            let seed = proof.first().unwrap_or(&nothing);
            let hashes: String = proof
                .iter()
                .skip(1)
                .map(|hash| format!("hash {hash}\n"))
                .collect();
            for fact in [
                format!("fact fork\nobserved 0\n{heads}"),
                format!("fact rollback\nobserved 0\n{heads}"),
                format!("fact inconsistency\nobserved 0\n{heads}seed {seed}\n{hashes}"),
            ] {
                let evidence = format!("counterfoil/evidence@v1\n{fact}");
                cases.add_evidence("of two heads", &keys, evidence.as_bytes());
            }
        }
    }
    assert!(cases.accepted("evidence") > 0);
    cases.assert_agreed();
}

/// `text` with one or two of its fields, or its fact, from `other`.
fn mix_lines(rng: &mut Rng, text: &str, other: &str) -> String {
    let mut lines: Vec<_> = text.split_inclusive('\n').collect();
    for _ in 0..=rng.u8(..2) {
        let at = rng.usize(1..lines.len());
        let name = |line: &str| line.split(' ').next().unwrap().to_owned();
        let same: Vec<_> = other
            .split_inclusive('\n')
            .filter(|line| name(line) == name(lines[at]))
            .collect();
        if let Some(line) = rng.choice(same) {
            lines[at] = line;
        }
    }
    lines.concat()
}

#[test]
fn on_damaged_heads_and_policies() {
    let (mut rng, mut cases) = (Rng::with_seed(3), Cases::default());
    for suite in [Suite::Blake3, Suite::Sha256] {
        let log = MemoryLog::new("log.example/main", suite, 1);
        let witnesses = [7, 8, 9].map(|seed: u8| {
            CosignerSigner::generate(format!("witness.example/{seed}").parse().unwrap(), [seed; 32])
        });
        let note = cosigned(&log, &witnesses[..2]);
        for policy in policies(&log, &witnesses) {
            cases.add_head("as it is", policy.as_bytes(), &note);
            cases.add_head("not cosigned", policy.as_bytes(), log.head(7).as_bytes());
            for _ in 0..12 {
                cases.add_head("damaged head", policy.as_bytes(), &mutate(&mut rng, &note));
                cases.add_head("damaged policy", &mutate(&mut rng, policy.as_bytes()), &note);
            }
        }
        for key in log.keys() {
            add_vkeys(&mut rng, &mut cases, &key.to_string());
        }
        add_vkeys(&mut rng, &mut cases, &witnesses[0].verifier_key().to_string());
    }
    assert!(cases.accepted("head") > 30);
    assert!(cases.accepted("vkey") > 5);
    cases.assert_agreed();
}

fn add_vkeys(rng: &mut Rng, cases: &mut Cases, vkey: &str) {
    cases.add_vkey("as it is", vkey.as_bytes());
    for _ in 0..30 {
        cases.add_vkey("damaged", &mutate(rng, vkey.as_bytes()));
    }
}

fn cosigned(log: &MemoryLog, witnesses: &[CosignerSigner]) -> Vec<u8> {
    let head = log
        .keys()
        .next()
        .unwrap()
        .verify_head(log.head(7).as_bytes())
        .unwrap();
    let time = UnixSeconds::new(1_795_000_001).unwrap();
    let lines = witnesses.iter().map(|witness| witness.cosign(&head, time));
    head.with_signatures(lines).unwrap().note_bytes().to_vec()
}

/// Policies in every form; the head that they are held against is cosigned by witnesses A and B of A, B and C.
fn policies(log: &MemoryLog, witnesses: &[CosignerSigner]) -> Vec<String> {
    let logs: String = log.keys().map(|key| format!("log {key}\n")).collect();
    let witnesses: String = ["A", "B", "C"]
        .iter()
        .zip(witnesses)
        .map(|(name, witness)| format!("witness {name} {}\n", witness.verifier_key()))
        .collect();
    let base = format!("# whom to trust\n{logs}\n{witnesses}");
    let rules = [
        "quorum none",
        "quorum A",
        "quorum C",
        "group g any A C\nquorum g",
        "group g all A B C\nquorum g",
        "group g 2 A B C\n\tquorum  g ",
        "group g 2 A B\ngroup h all g C\nquorum h",
        "group g all A B\ngroup h any g C\nquorum h",
        "group g 0 A\nquorum g",
        "group g 02 A B\nquorum g",
        "group g 3 A B\nquorum g",
        "group g any A A\nquorum g",
        "group g any A\ngroup h any A\nquorum h",
        "group A any B\nquorum A",
        "group none any A\nquorum none",
        "group g any none\nquorum g",
        "group g any h\ngroup h any A\nquorum g",
        "group g any\nquorum A",
        "quorum D",
        "quorum A\nquorum A",
        "quorum A B",
        "quorum none\ngroup g all A B",
        "# no quorum",
    ];
    let mut policies: Vec<_> = rules.iter().map(|rule| format!("{base}{rule}\n")).collect();
    policies.extend([
        format!("{base}quorum none"),
        format!("{base}\r\nquorum none\n"),
        format!("{base}#\u{7f}\nquorum none\n"),
        format!("{base}{logs}quorum none\n"),
        format!("{base}{witnesses}quorum none\n"),
        format!("{witnesses}quorum none\n"),
        format!("{base}mirror A\nquorum none\n"),
        logs.replace('\n', " https://log.example/\n") + "quorum none\n",
        logs.replace('\n', " https://log.example/ more\n") + "quorum none\n",
        logs.replacen("log ", "log\t", 1) + "quorum none\n",
        logs.replace("log.example", "other.example") + "quorum none\n",
        base.clone() + "quorum none\n#" + &"x".repeat(MAX_POLICY_BYTES - base.len() - 14) + "\n",
        base.clone() + "quorum none\n#" + &"x".repeat(MAX_POLICY_BYTES - base.len() - 13) + "\n",
    ]);
    policies
}
