//! The text form: one spelling, named limits.

use counterfoil_event::limits::MAX_ENTRY_BYTES;
use counterfoil_merkle::{Digest, Suite};
use counterfoil_note::MAX_NOTE_BYTES;
use counterfoil_verify::{
    Evidence, EvidenceTextError, Fact, Inconsistency, MAX_EVIDENCE_TEXT_BYTES, MAX_INVALID_ENTRY_BYTES,
    MAX_PROOF_HASHES,
};

use crate::{
    facts,
    log::{Log, evidence, index},
};

#[test]
fn text_reads_back_as_it_was_written() {
    let keys = Suite::ALL.map(|suite| Log::of_entries(suite, 1).keys()).concat();
    for fact in Suite::ALL.into_iter().flat_map(facts) {
        let evidence = evidence(fact);
        let text = evidence.to_text().unwrap();
        assert!(text.starts_with(&format!(
            "counterfoil/evidence@v1\nfact {}\n",
            evidence.fact.name()
        )));
        assert_eq!(Evidence::from_text(&text).unwrap(), evidence);
        // A proof is as long as it is, so where a hash line is missing the check has to notice.
        for cut in 0..text.len() {
            let proved = Evidence::from_text(&text[..cut]).is_ok_and(|cut| cut.check(&keys).is_ok());
            assert!(!proved, "{cut}");
        }
    }
}

#[test]
fn there_is_one_spelling() {
    let text = evidence(facts(Suite::Blake3).remove(4)).to_text().unwrap();
    assert!(text.contains("\nindex 4\n"), "{text}");
    let malformed = |line, expected| EvidenceTextError::Malformed { line, expected };
    let other = |from: &str, to: &str| Evidence::from_text(&text.replacen(from, to, 1)).unwrap_err();

    assert_eq!(other("@v1", "@v2"), EvidenceTextError::NotEvidence);
    assert_eq!(other("@v1\n", "@v1\r\n"), EvidenceTextError::NotEvidence);
    assert_eq!(
        other("rewritten_entry", "treason"),
        EvidenceTextError::UnknownFact
    );
    assert_eq!(other("fact rewritten_entry\n", ""), malformed(2, "fact"));
    assert_eq!(other("observed 1", "observed 01"), malformed(3, "observed"));
    assert_eq!(other("observed 1", "observed +1"), malformed(3, "observed"));
    assert_eq!(other("observed ", "observed  "), malformed(3, "observed"));
    assert_eq!(
        other("observed 1795343600000", "observed 18446744073709551616"),
        malformed(3, "observed")
    );
    assert_eq!(other("index 4", "index 04"), malformed(4, "index"));
    assert_eq!(
        other("index 4", &format!("index {}", u64::MAX)),
        malformed(4, "index")
    );
    assert_eq!(other("\nhead ", "\nHead "), malformed(5, "head"));
    assert_eq!(other("\nhead ", "\nhead *"), malformed(5, "head"));
    assert_eq!(other("\nleaf ", "\nleaf AAAA"), malformed(6, "leaf"));
    assert_eq!(other("\nhash ", "\nhash AAAA"), malformed(7, "hash"));
    let lines = text.lines().count();
    for (tail, line) in [("\n", lines + 1), ("note x\n", lines + 1)] {
        assert_eq!(
            Evidence::from_text(&format!("{text}{tail}")),
            Err(EvidenceTextError::TrailingLine { line })
        );
    }
    assert!(Evidence::from_text(text.trim_end()).is_err());

    // Bits that no byte has: another decoder might take them.
    let leaf = text.lines().find(|line| line.starts_with("leaf ")).unwrap();
    let last = leaf.len() - 2;
    let spare = char::from(leaf.as_bytes()[last] + 1);
    let loose = format!("{}{spare}=", &leaf[..last]);
    assert_eq!(other(leaf, &loose), malformed(6, "leaf"));
    assert_eq!(other(leaf, leaf.trim_end_matches('=')), malformed(6, "leaf"));
}

#[test]
fn limits_hold_at_and_past_them() {
    let log = Log::of_entries(Suite::Blake3, 2);
    let mismatch = |served: usize, hashes: usize, head: usize| {
        let mut leaf = log.leaf_proof(0, 2);
        leaf.inclusion_proof = vec![Digest::from([1; 32]); hashes];
        leaf.head = vec![b'a'; head];
        evidence(Fact::EntryMismatch {
            index: index(0),
            served: vec![0; served],
            leaf,
        })
        .to_text()
    };
    let full = mismatch(MAX_ENTRY_BYTES, MAX_PROOF_HASHES, MAX_NOTE_BYTES).unwrap();
    assert!(Evidence::from_text(&full).is_ok());
    for (text, field) in [
        (mismatch(MAX_ENTRY_BYTES + 1, 1, 1), "entry"),
        (mismatch(0, 1, MAX_NOTE_BYTES + 1), "head"),
    ] {
        assert!(
            matches!(&text, Err(EvidenceTextError::FieldTooLong { field: found, .. }) if *found == field),
            "{text:?}"
        );
    }
    assert_eq!(
        mismatch(0, MAX_PROOF_HASHES + 1, 1),
        Err(EvidenceTextError::ProofTooLong)
    );
    let hash = full.lines().last().unwrap();
    assert_eq!(
        Evidence::from_text(&format!("{full}{hash}\n")),
        Err(EvidenceTextError::ProofTooLong)
    );
    let long = full.replacen("entry AAAA", "entry AAAAAAAA", 1);
    assert!(matches!(
        Evidence::from_text(&long),
        Err(EvidenceTextError::FieldTooLong { field: "entry", .. })
    ));

    // Of all facts this one alone takes a leaf that is too long for an entry, as that is what it may be about.
    let invalid = |bytes: usize| {
        let mut leaf = log.entry_proof(0, 2);
        leaf.entry = vec![0; bytes];
        leaf.inclusion_proof = vec![Digest::from([1; 32]); MAX_PROOF_HASHES];
        let head = vec![b'a'; MAX_NOTE_BYTES];
        evidence(Fact::InvalidEntry { head, leaf })
    };
    let longest = invalid(MAX_INVALID_ENTRY_BYTES);
    let text = longest.to_text().unwrap();
    assert_eq!(Evidence::from_text(&text), Ok(longest));
    let too_long = EvidenceTextError::FieldTooLong {
        field: "entry",
        actual_bytes: MAX_INVALID_ENTRY_BYTES + 1,
        limit_bytes: MAX_INVALID_ENTRY_BYTES,
    };
    assert_eq!(
        invalid(MAX_INVALID_ENTRY_BYTES + 1).to_text(),
        Err(too_long.clone())
    );
    // The last group of three holds one byte, so that one more takes the place of a padding sign.
    let long = text.replacen("AA==\n", "AAA=\n", 1);
    assert_eq!(Evidence::from_text(&long), Err(too_long));

    // The largest that there can be has room.
    let leaf = log.leaf_proof(0, 2);
    let mut proof = log.entry_proof(0, 2);
    proof.entry = vec![1; MAX_ENTRY_BYTES];
    proof.inclusion_proof = vec![leaf.leaf_hash; MAX_PROOF_HASHES];
    let two_entries = evidence(Fact::DecreasingTime {
        head: vec![b'a'; MAX_NOTE_BYTES],
        earlier: proof.clone(),
        later: proof,
    });
    let two_heads = evidence(Fact::Inconsistency(Inconsistency {
        older: vec![b'a'; MAX_NOTE_BYTES],
        newer: vec![b'a'; MAX_NOTE_BYTES],
        seed: leaf.leaf_hash,
        siblings: vec![leaf.leaf_hash; MAX_PROOF_HASHES],
    }));
    for largest in [two_entries, two_heads] {
        assert!(largest.to_text().unwrap().len() <= MAX_EVIDENCE_TEXT_BYTES);
    }
    let actual_bytes = MAX_EVIDENCE_TEXT_BYTES + 1;
    assert_eq!(
        Evidence::from_text(&"a".repeat(actual_bytes)),
        Err(EvidenceTextError::TooLong { actual_bytes })
    );
}
