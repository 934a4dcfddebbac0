//! Trust policies: what is read, what is refused and at which line, and which heads pass.
#![allow(clippy::unwrap_used, missing_docs)]

use counterfoil_merkle::{Digest, Suite, TreeSize};
use counterfoil_note::{
    CosignedHeadError, CosignerSigner, HeadError, KeyError, KeyKind, LogSigner, MAX_POLICY_BYTES,
    MAX_POLICY_GROUPS, MAX_POLICY_LOGS, MAX_POLICY_NAME_BYTES, MAX_POLICY_WITNESSES, Policy, PolicyProblem,
    SignedHead, SignerKey, UnixMillis, UnixSeconds, VerifierKey,
};
use proptest::prelude::*;

fn log_key(name: &str, kind: KeyKind, seed: u8) -> SignerKey {
    SignerKey::generate(name.parse().unwrap(), kind, [seed; 32])
}

fn log_vkey(name: &str, kind: KeyKind, seed: u8) -> String {
    log_key(name, kind, seed).verifier_key().to_string()
}

const BLAKE3: KeyKind = KeyKind::TimestampedHead(Suite::Blake3);
const SHA256: KeyKind = KeyKind::TimestampedHead(Suite::Sha256);

fn witness(number: u8) -> CosignerSigner {
    let name = format!("witness.example/w{number}");
    CosignerSigner::generate(name.parse().unwrap(), [100 + number; 32])
}

fn vkey(number: u8) -> String {
    witness(number).verifier_key().to_string()
}

/// Lines for witnesses w1 to w<count>, then `rest`.
fn policy_text(count: u8, rest: &str) -> String {
    let log = log_vkey("example.com/log", BLAKE3, 1);
    let witnesses: String = (1..=count)
        .map(|n| format!("witness w{n} {}\n", vkey(n)))
        .collect();
    format!("log {log}\n{witnesses}{rest}\n")
}

fn policy(count: u8, rest: &str) -> Policy {
    Policy::parse(policy_text(count, rest).as_bytes()).unwrap()
}

fn head() -> SignedHead {
    let signer = LogSigner::new(vec![log_key("example.com/log", BLAKE3, 1)]).unwrap();
    let note = signer.sign_head(
        TreeSize::new(12).unwrap(),
        Digest::from([9; 32]),
        UnixMillis::new(5),
    );
    signer.keys()[0].verifier_key().verify_head(&note).unwrap()
}

/// The head with cosignatures by these witnesses.
fn cosigned_by(numbers: &[u8]) -> Vec<u8> {
    let time = UnixSeconds::new(1_795_340_000).unwrap();
    let lines: Vec<_> = numbers
        .iter()
        .map(|&n| witness(n).cosign(&head(), time))
        .collect();
    head().with_signatures(lines).unwrap().note_bytes().to_vec()
}

fn passes(policy: &Policy, numbers: &[u8]) -> bool {
    match policy.verify_cosigned(&cosigned_by(numbers)) {
        Ok(_) => true,
        Err(CosignedHeadError::NoQuorum(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn two_levels_of_groups_are_met_as_they_say() {
    let policy = policy(
        6,
        "group X-witnesses 2 w1 w2 w3\ngroup Y-witnesses any w4 w5 w6\ngroup X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y",
    );
    for set in 0_u8..64 {
        let cosigned: Vec<_> = (1..=6).filter(|n| set >> (n - 1) & 1 == 1).collect();
        let expected = (set & 0b111).count_ones() >= 2 && set >> 3 != 0;
        assert_eq!(passes(&policy, &cosigned), expected, "{cosigned:?}");
    }
    let shown = "X-and-Y (2 of X-witnesses (2 of w1, w2, w3), Y-witnesses (1 of w4, w5, w6))";
    assert_eq!(policy.quorum().to_string(), shown);
    let error = policy.verify_cosigned(&cosigned_by(&[3, 1])).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the tree head lacks witnesses: the policy asks for {shown}; cosigned by w1, w3; not by w2, w4, w5, w6"
        )
    );
}

#[test]
fn a_quorum_can_be_a_single_witness_or_none() {
    let one = policy(2, "quorum w2");
    assert!(one.requires_cosignatures() && passes(&one, &[2]) && passes(&one, &[1, 2]));
    assert!(!passes(&one, &[1]) && !passes(&one, &[]));
    let none = policy(2, "quorum none");
    assert!(!none.requires_cosignatures() && passes(&none, &[]));
    // What is there is verified and told all the same.
    let cosigned = none.verify_cosigned(&cosigned_by(&[2, 1])).unwrap();
    let names: Vec<_> = cosigned
        .cosignatures()
        .iter()
        .map(|by| by.name().as_str())
        .collect();
    assert_eq!(names, ["witness.example/w1", "witness.example/w2"]);
}

/// An empty list of witnesses is nobody, not anybody.
#[test]
fn witnesses_that_are_not_listed_count_for_nothing() {
    let nobody = Policy::for_log(head_key());
    assert_eq!(nobody, policy(0, "quorum none"));
    let cosigned = nobody.verify_cosigned(&cosigned_by(&[1, 2, 3])).unwrap();
    assert_eq!(cosigned.cosignatures(), []);
    let two = policy(2, "group both all w1 w2\nquorum both");
    assert!(!passes(&two, &[1, 3, 4, 5]));
    // The other's name does not help.
    let impostor = CosignerSigner::generate(witness(2).verifier_key().name().clone(), [9; 32]);
    let line = impostor.cosign(&head(), UnixSeconds::new(1).unwrap());
    let by_1 = two.verify_head(&cosigned_by(&[1])).unwrap();
    let note = by_1.with_signatures([line]).unwrap();
    let refused = two.verify_cosigned(note.note_bytes());
    assert!(
        matches!(refused, Err(CosignedHeadError::NoQuorum(_))),
        "{refused:?}"
    );
    let refused = Policy::parse(b"quorum w1\n").unwrap_err();
    assert!(matches!(refused.problem, PolicyProblem::UnknownName { .. }));
}

fn head_key() -> VerifierKey {
    log_key("example.com/log", BLAKE3, 1).verifier_key().clone()
}

/// One bad line by a known witness spoils the head, even where there are enough others.
#[test]
fn a_cosignature_that_fails_rejects_the_head() {
    let policy = policy(3, "group g any w1 w2 w3\nquorum g");
    let good = cosigned_by(&[1, 2]);
    policy.verify_cosigned(&good).unwrap();
    let other = witness(2)
        .cosign(&head(), UnixSeconds::new(1).unwrap())
        .to_string();
    let lines = String::from_utf8(good).unwrap();
    let last = lines.lines().last().unwrap();
    // The time of one, the signature of the other.
    let spliced = format!("{}{}", &other[..other.len() - 80], &last[last.len() - 80..]);
    let refused = policy.verify_cosigned(lines.replace(last, &spliced).as_bytes());
    assert!(
        matches!(refused, Err(CosignedHeadError::Head(HeadError::Cosignature(_)))),
        "{refused:?}"
    );
}

#[test]
fn a_log_may_be_listed_with_several_keys_and_each_that_signs_must_hold() {
    let keys = [
        log_key("example.com/log", SHA256, 1),
        log_key("example.com/log", KeyKind::Ed25519, 2),
    ];
    let lines = keys.each_ref().map(|key| format!("log {}\n", key.verifier_key()));
    let both = Policy::parse(format!("{}{}quorum none\n", lines[0], lines[1]).as_bytes()).unwrap();
    let plain = Policy::parse(format!("{}quorum none\n", lines[1]).as_bytes()).unwrap();
    let unlisted = Policy::parse(b"quorum none\n").unwrap();
    let time = UnixMillis::new(5);
    let note = LogSigner::new(keys.into()).unwrap().sign_head(
        TreeSize::new(1).unwrap(),
        Digest::from([1; 32]),
        time,
    );
    assert_eq!(both.verify_head(&note).unwrap().time(), Some(time));
    assert_eq!(plain.verify_head(&note).unwrap().time(), None);
    let refused = unlisted.verify_head(&note);
    assert!(
        matches!(refused, Err(HeadError::UnlistedLog { .. })),
        "{refused:?}"
    );

    let note = String::from_utf8(note).unwrap();
    let lines: Vec<_> = note.split_inclusive('\n').collect();
    let one = [&lines[..4], &lines[5..]].concat().concat();
    assert_eq!(both.verify_head(one.as_bytes()).unwrap().time(), None);
    let changed = format!("{}A==\n", &lines[4][..lines[4].len() - 4]);
    let forged = [&lines[..4], &[&changed], &lines[5..]].concat().concat();
    let refused = both.verify_head(forged.as_bytes());
    assert!(
        matches!(refused, Err(HeadError::BadSignature { .. })),
        "{refused:?}"
    );
}

#[test]
fn several_logs_are_told_apart_by_their_origin() {
    let other = log_key("example.com/other", SHA256, 7);
    let text = format!("log {}\n{}", other.verifier_key(), policy_text(1, "quorum w1"));
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert!(passes(&policy, &[1]));
    let third = log_key("example.com/third", BLAKE3, 8);
    let note = LogSigner::new(vec![third]).unwrap().sign_head(
        TreeSize::new(1).unwrap(),
        Digest::from([1; 32]),
        UnixMillis::new(1),
    );
    let found = "example.com/third".parse().unwrap();
    assert_eq!(policy.verify_head(&note), Err(HeadError::UnlistedLog { found }));

    let of_other = policy.for_origin(other.verifier_key().name());
    assert_eq!(
        (of_other.logs().len(), of_other.witnesses()),
        (1, policy.witnesses())
    );
    let refused = of_other.verify_cosigned(&cosigned_by(&[1]));
    assert!(
        matches!(
            refused,
            Err(CosignedHeadError::Head(HeadError::OtherOrigin { .. }))
        ),
        "{refused:?}"
    );
}

#[test]
fn words_comments_and_urls_are_read_as_specified() {
    let log = log_vkey("example.com/log", BLAKE3, 1);
    let text = format!(
        " # whom we trust\n\n \t \nquorum\tnone \n\twitness  w1 {} https://w.example/\u{e4}\n#log none\nlog {log} \t https://log.example/\n",
        vkey(1)
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!(policy.logs()[0].url.as_deref(), Some("https://log.example/"));
    assert_eq!(
        policy.witnesses()[0].url.as_deref(),
        Some("https://w.example/\u{e4}")
    );
    assert_eq!(policy.witnesses()[0].name.to_string(), "w1");

    // Names are bytes: a K is no Kelvin sign, and what is not UTF-8 is a name too.
    let mut text = format!(
        "witness K {}\nwitness \u{212a} {}\nwitness \u{9b}2J {}\nwitness ",
        vkey(1),
        vkey(2),
        vkey(3)
    );
    text.push_str(&format!(
        "? {}\ngroup all all K \u{212a} ?\nquorum all\n",
        vkey(4)
    ));
    let bytes: Vec<_> = text
        .bytes()
        .map(|byte| if byte == b'?' { 0xff } else { byte })
        .collect();
    let policy = Policy::parse(&bytes).unwrap();
    assert_eq!(policy.witnesses()[3].name.as_bytes(), [0xff]);
    assert_eq!(policy.witnesses()[2].name.to_string(), "\\u{9b}2J");
    assert_eq!(policy.quorum().to_string(), "all (3 of K, \u{212a}, \u{fffd})");
}

/// Two keys of one name whose ids are the same, as a search over some 10^5 keys finds them.
const SAME_ID: [&str; 2] = [
    "witness.example/w+646664b2+BLAz4JMh0I5JOR07B+IwrZ3gRJJTkU9iduX/LzOxXfkn",
    "witness.example/w+646664b2+BEgw1s9rTr1qWIb7T9ZRtEd0M0ryhfmkGyvNLorQA+QO",
];

/// What is refused, at which line, and how it begins to say so.
#[test]
fn a_bad_policy_is_refused_with_its_line() {
    let log = log_vkey("example.com/log", BLAKE3, 1);
    let same_key_other_name = log_vkey("example.com/other", BLAKE3, 1);
    let other_suite = log_vkey("example.com/log", SHA256, 2);
    let log_key_as_witness = CosignerSigner::generate("w".parse().unwrap(), [1; 32])
        .verifier_key()
        .to_string();
    let witness_again = CosignerSigner::generate("w".parse().unwrap(), [101; 32])
        .verifier_key()
        .to_string();
    let (w1, w2) = (vkey(1), vkey(2));
    let two = format!("witness a {w1}\nwitness b {w2}\n");
    let secret = witness(1).to_secret_text();
    let cases = [
        (String::new(), 1, "the policy ends without a `quorum` line"),
        ("# nothing\n".into(), 1, "the policy ends without a `quorum` line"),
        (
            "\n\nlog\n".into(),
            3,
            "it is not of the form `log <vkey> [<url>]`",
        ),
        ("quorum none".into(), 1, "the line does not end in a newline"),
        ("quorum none\r\n".into(), 1, "it holds the control character 0x0d"),
        (
            "# \u{7f}\nquorum none\n".into(),
            1,
            "it holds the control character 0x7f",
        ),
        (
            "quorum none\n# \0\n".into(),
            2,
            "it holds the control character 0x00",
        ),
        (
            "quorum none\nquorum none\n".into(),
            2,
            "line 1 is a `quorum` line already",
        ),
        ("quorum\n".into(), 1, "it is not of the form `quorum <name>|none`"),
        ("quorum none # whom\n".into(), 1, "it is not of the form `quorum"),
        ("Quorum none\n".into(), 1, "\"Quorum\" is none of `log`"),
        ("quorum none\nlogs x\n".into(), 2, "\"logs\" is none of `log`"),
        (
            "quorum \u{a0}none\n".into(),
            1,
            "no witness or group \u{a0}none is defined above",
        ),
        (format!("log {log} u v\n"), 1, "it is not of the form `log"),
        (format!("log {log}x\n"), 1, "the key is not of the form"),
        (
            format!("log {w1}\n"),
            1,
            "this is a witness's key; a log's is expected here",
        ),
        (
            format!("witness a {log}\n"),
            1,
            "this is a log's key; a witness's is expected here",
        ),
        (format!("witness a {}\n", *secret), 1, "this is a secret key"),
        (format!("witness {w1}\n"), 1, "it is not of the form `witness"),
        (
            format!("witness a {w1} u v\n"),
            1,
            "it is not of the form `witness",
        ),
        (format!("witness none {w1}\n"), 1, "the name `none` is reserved"),
        (
            format!("witness a {w1}\nwitness b {w1}\n"),
            2,
            "line 1 has the same public key",
        ),
        (
            format!("witness a {w1}\n\nwitness b {witness_again}\n"),
            3,
            "line 1 has the same public key",
        ),
        (
            format!("log {log}\nlog {log}\n"),
            2,
            "line 1 has the same public key",
        ),
        (
            format!("log {log}\nlog {same_key_other_name}\n"),
            2,
            "line 1 has the same public key",
        ),
        (
            format!("log {log}\nwitness a {log_key_as_witness}\n"),
            2,
            "line 1 has the same public key",
        ),
        (
            format!("witness a {log_key_as_witness}\nlog {log}\n"),
            2,
            "line 1 has the same public key",
        ),
        (
            format!("witness a {}\nwitness b {}\n", SAME_ID[0], SAME_ID[1]),
            2,
            "line 1 has another key of the same name and id",
        ),
        (
            format!("log {log}\nlog {other_suite}\n"),
            2,
            "line 1 has a key of another hash suite for the log example.com/log",
        ),
        (
            format!("witness a {w1}\nwitness a {w2}\n"),
            2,
            "the name a is defined already",
        ),
        (
            format!("{two}group a any b\n"),
            3,
            "the name a is defined already",
        ),
        (format!("{two}group g any\n"), 3, "it is not of the form `group"),
        (format!("{two}group g 1\n"), 3, "it is not of the form `group"),
        (
            format!("{two}group g all a c\n"),
            3,
            "no witness or group c is defined above",
        ),
        (
            format!("{two}group g all a none\n"),
            3,
            "the name `none` is reserved",
        ),
        (
            format!("{two}group none all a\n"),
            3,
            "the name `none` is reserved",
        ),
        (
            format!("{two}group g all a a\n"),
            3,
            "a is a member of a group already",
        ),
        (
            format!("{two}group g all a b\ngroup h any b\n"),
            4,
            "b is a member of a group already",
        ),
        (
            format!("{two}group g all a b\ngroup h any g\ngroup i any g\n"),
            5,
            "g is a member of a group already",
        ),
        (
            format!("{two}group g all g\n"),
            3,
            "no witness or group g is defined above",
        ),
        (
            format!("{two}quorum g\ngroup g all a b\n"),
            3,
            "no witness or group g is defined above",
        ),
        (
            format!("group g all a\nwitness a {w1}\n"),
            1,
            "no witness or group a is defined above",
        ),
    ];
    for (text, line, message) in cases {
        let error = Policy::parse(text.as_bytes()).unwrap_err();
        assert_eq!(error.line, line, "{text}: {error}");
        assert!(error.problem.to_string().starts_with(message), "{text}: {error}");
    }
    for threshold in [
        "0",
        "3",
        "01",
        "+1",
        "-1",
        "1.0",
        "",
        "All",
        "18446744073709551617",
    ] {
        let text = format!("{two}group g {threshold} a b\n");
        let error = Policy::parse(text.as_bytes()).unwrap_err();
        // With no threshold, a is taken for one.
        let members = if threshold.is_empty() { 1 } else { 2 };
        assert_eq!(
            (error.line, error.problem),
            (3, PolicyProblem::Threshold { members })
        );
    }
    let ml_dsa = format!("witness a w+00000000+Bg{}\nquorum a\n", "A".repeat(1750));
    let problem = Policy::parse(ml_dsa.as_bytes()).unwrap_err().problem;
    assert_eq!(problem, PolicyProblem::Key(KeyError::MlDsa44));
}

#[test]
fn policies_have_their_limits() {
    let key = |n: usize| {
        let mut seed = [3; 32];
        seed[..8].copy_from_slice(&n.to_le_bytes());
        seed
    };
    let log = |n: usize| {
        let key = SignerKey::generate(format!("log{n}").parse().unwrap(), BLAKE3, key(n));
        format!("log {}\n", key.verifier_key())
    };
    let witness = |n: usize| {
        let key = CosignerSigner::generate("w".parse().unwrap(), key(1000 + n));
        format!("witness w{n} {}\n", key.verifier_key())
    };
    let group = |n: usize| match n {
        0 => "group g0 any w0\n".to_owned(),
        n => format!("group g{n} any g{}\n", n - 1),
    };
    let lines = |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    let full = format!(
        "{}{}{}",
        lines(&log, MAX_POLICY_LOGS),
        lines(&witness, MAX_POLICY_WITNESSES),
        lines(&group, MAX_POLICY_GROUPS)
    );
    let last = MAX_POLICY_GROUPS - 1;
    let policy = Policy::parse(format!("{full}quorum g{last}\n").as_bytes()).unwrap();
    assert!(
        !policy.is_quorum(&[])
            && policy
                .quorum()
                .to_string()
                .ends_with("(1 of w0))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))")
    );

    let one_more = [
        (log(MAX_POLICY_LOGS), PolicyProblem::TooManyLogs),
        (witness(MAX_POLICY_WITNESSES), PolicyProblem::TooManyWitnesses),
        (group(MAX_POLICY_GROUPS), PolicyProblem::TooManyGroups),
    ];
    for (line, problem) in one_more {
        let error = Policy::parse(format!("{full}{line}quorum none\n").as_bytes()).unwrap_err();
        assert_eq!(
            (error.line, error.problem),
            (
                MAX_POLICY_LOGS + MAX_POLICY_WITNESSES + MAX_POLICY_GROUPS + 1,
                problem
            )
        );
    }

    let named = |bytes: usize| format!("witness {} {}\nquorum none\n", "n".repeat(bytes), vkey(1));
    Policy::parse(named(MAX_POLICY_NAME_BYTES).as_bytes()).unwrap();
    let bytes = MAX_POLICY_NAME_BYTES + 1;
    let problem = Policy::parse(named(bytes).as_bytes()).unwrap_err().problem;
    assert_eq!(problem, PolicyProblem::NameTooLong { bytes });

    let long = |bytes: usize| format!("quorum none\n#{}\n", "-".repeat(bytes - 14));
    Policy::parse(long(MAX_POLICY_BYTES).as_bytes()).unwrap();
    let bytes = MAX_POLICY_BYTES + 1;
    let error = Policy::parse(long(bytes).as_bytes()).unwrap_err();
    assert_eq!((error.line, error.problem), (2, PolicyProblem::TooLong { bytes }));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>, words in "((log|witness|group|quorum|none|all|any|[1a#])[ \t\n]){0,20}") {
        let _ = Policy::parse(&bytes);
        let _ = Policy::parse(words.as_bytes());
    }

    /// Against the plainest evaluation there is: a tree of thresholds over sets.
    #[test]
    fn random_trees_of_groups_are_met_as_they_say(
        thresholds in prop::collection::vec((1_usize..4, 1_usize..5), 1..6), set: u8,
    ) {
        let mut free: Vec<(String, Tree)> = (1..=8).map(|n| (format!("w{n}"), Tree::Leaf(n))).collect();
        let mut rest = String::new();
        for (number, (threshold, members)) in thresholds.into_iter().enumerate() {
            let members: Vec<_> = free.drain(..members.min(free.len())).collect();
            let threshold = threshold.min(members.len());
            let names: Vec<_> = members.iter().map(|(name, _)| name.as_str()).collect();
            rest.push_str(&format!("group g{number} {threshold} {}\n", names.join(" ")));
            free.push((format!("g{number}"), Tree::Node(threshold, members.into_iter().map(|(_, tree)| tree).collect())));
        }
        let (name, tree) = free.pop().unwrap();
        let policy = policy(8, &format!("{rest}quorum {name}"));
        let cosigned: Vec<_> = (1..=8_u8).filter(|n| set >> (n - 1) & 1 == 1).collect();
        prop_assert_eq!(passes(&policy, &cosigned), tree.is_met(&cosigned));
    }
}

enum Tree {
    Leaf(u8),
    Node(usize, Vec<Tree>),
}

impl Tree {
    fn is_met(&self, cosigned: &[u8]) -> bool {
        match self {
            Self::Leaf(number) => cosigned.contains(number),
            Self::Node(threshold, members) => {
                members.iter().filter(|member| member.is_met(cosigned)).count() >= *threshold
            }
        }
    }
}
