//! `../vectors/evidence.json`, for anyone's use: files that hold, and files that prove nothing.

use counterfoil_note::VerifierKey;
use counterfoil_verify::Evidence;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    vkeys: Vec<String>,
    evidence: String,
    /// `log_signatures` or `observers_word` if it holds; absent if it proves nothing.
    basis: Option<String>,
}

#[test]
fn golden_evidence_holds_or_does_not_as_it_says() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("../vectors/evidence.json")).unwrap();
    assert!(vectors.len() >= 20);
    for vector in vectors {
        let keys: Vec<VerifierKey> = vector.vkeys.iter().map(|vkey| vkey.parse().unwrap()).collect();
        let basis = Evidence::from_text(&vector.evidence).ok().and_then(|evidence| {
            assert_eq!(evidence.to_text().unwrap(), vector.evidence);
            let verdict = evidence.check(&keys).ok()?;
            Some(verdict.basis().as_str().to_owned())
        });
        assert_eq!(basis, vector.basis, "{}", vector.name);
    }
}
