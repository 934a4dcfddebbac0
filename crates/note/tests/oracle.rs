//! Against implementations that others wrote: `signed_note` and `tlog_tiles`, ports of Go's `note` and `tlog`.
#![allow(clippy::unwrap_used, missing_docs)]

use base64::prelude::{BASE64_STANDARD, Engine as _};
use counterfoil_merkle::{Digest, Suite, TreeSize};
use counterfoil_note::{
    Checkpoint, CosignerSigner, KeyKind, LogSigner, Note, Origin, SignerKey, UnixMillis, UnixSeconds,
    VerifierKey,
};
use proptest::prelude::*;
use signed_note::{NoteError, Signer as _, StandardSigner, StandardVerifier, VerifierError, VerifierList};

const ED25519: KeyKind = KeyKind::Ed25519;
const TIME: UnixMillis = UnixMillis::new(1_767_225_600_000);

fn key(kind: KeyKind, seed: [u8; 32]) -> SignerKey {
    SignerKey::generate("example.com/log".parse::<Origin>().unwrap(), kind, seed)
}

fn sha256_signer(seed: [u8; 32]) -> LogSigner {
    let mut other = seed;
    other[31] ^= 1;
    LogSigner::new(vec![
        key(KeyKind::TimestampedHead(Suite::Sha256), other),
        key(ED25519, seed),
    ])
    .unwrap()
}

fn oracle_for(key: &VerifierKey) -> VerifierList {
    VerifierList::new(vec![Box::new(StandardVerifier::new(&key.to_string()).unwrap())])
}

proptest! {
    #[test]
    fn what_we_sign_it_accepts(seed: [u8; 32], size in 1..=TreeSize::MAX.get(), root: [u8; 32]) {
        let signer = sha256_signer(seed);
        let bytes = signer.sign_head(TreeSize::new(size).unwrap(), Digest::from(root), TIME);
        let note = signed_note::Note::from_bytes(&bytes).unwrap();
        prop_assert_eq!(note.to_bytes(), &*bytes);

        let standard = signer.keys()[1].verifier_key();
        let (verified, unknown) = note.verify(&oracle_for(standard)).unwrap();
        prop_assert_eq!(verified.len(), 1);
        prop_assert_eq!(format!("{:08x}", verified[0].id()), standard.id().to_string());
        // The timestamped signature, which it does not know.
        prop_assert_eq!(unknown.len(), 1);

        let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
        prop_assert_eq!(checkpoint.origin(), "example.com/log");
        prop_assert_eq!((checkpoint.size(), checkpoint.hash().0), (size, root));
    }

    #[test]
    fn what_it_signs_we_accept(
        seed: [u8; 32], size in 1..=TreeSize::MAX.get(), root: [u8; 32], extension in "([a-z ]{1,20}\n){0,2}",
    ) {
        let key = key(ED25519, seed);
        let checkpoint =
            tlog_tiles::Checkpoint::new("example.com/log", size, tlog_tiles::Hash(root), &extension).unwrap();
        let mut note = signed_note::Note::new(&checkpoint.to_bytes(), &[]).unwrap();
        note.add_sigs(&[&StandardSigner::new(&key.to_secret_text()).unwrap()]).unwrap();

        let head = key.verifier_key().verify_head(&note.to_bytes()).unwrap();
        prop_assert_eq!((head.size().get(), *head.root().as_bytes()), (size, root));
        prop_assert_eq!((head.time(), head.suite()), (None, Suite::Sha256));
    }

    /// We may be stricter than it is, never more lenient.
    #[test]
    fn what_we_parse_it_parses_alike(seed: [u8; 32], edits in edits()) {
        let mut bytes = sha256_signer(seed).sign_head(TreeSize::new(907).unwrap(), Digest::from(seed), TIME);
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(ours) = Note::parse(&bytes) {
            let its = signed_note::Note::from_bytes(&bytes).unwrap();
            prop_assert_eq!(its.text(), ours.text().as_bytes());
            prop_assert_eq!(its.to_bytes(), ours.to_bytes());
            if let Ok(ours) = Checkpoint::parse(ours.text()) {
                let its = tlog_tiles::Checkpoint::from_bytes(its.text()).unwrap();
                prop_assert_eq!(its.origin(), ours.origin().as_str());
                prop_assert_eq!((its.size(), its.hash().0), (ours.size().get(), *ours.root().as_bytes()));
            }
        }
    }
}

/// Where to change a note, and to what; bytes that mean something to the format come often.
fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let byte = prop_oneof![prop::sample::select(b"\n =+/0A\xe2-".as_slice()), any::<u8>()];
    prop::collection::vec((any::<prop::sample::Index>(), byte), 0..4)
}

/// Software that knows SHA-256 trees only can't check a `blake3` head, so it must not take it for a signed one.
#[test]
fn a_blake3_head_is_unsigned_to_sha256_software() {
    let seed = [11; 32];
    let signer = LogSigner::new(vec![key(KeyKind::TimestampedHead(Suite::Blake3), seed)]).unwrap();
    let bytes = signer.sign_head(TreeSize::new(907).unwrap(), Digest::from([1; 32]), TIME);
    let note = signed_note::Note::from_bytes(&bytes).unwrap();

    // It can't be told to trust the key,
    let vkey = signer.keys()[0].verifier_key().to_string();
    assert!(matches!(StandardVerifier::new(&vkey), Err(VerifierError::Alg)));
    // nor does the same secret in a key that it knows change anything: the line is unknown to it.
    let standard = key(ED25519, seed);
    assert!(matches!(
        note.verify(&oracle_for(standard.verifier_key())),
        Err(NoteError::UnverifiedNote)
    ));

    // Beside a signature that it does know, the line does no harm.
    let mut signed = signed_note::Note::from_bytes(&bytes).unwrap();
    signed
        .add_sigs(&[&StandardSigner::new(&standard.to_secret_text()).unwrap()])
        .unwrap();
    let (verified, unknown) = signed.verify(&oracle_for(standard.verifier_key())).unwrap();
    assert_eq!((verified.len(), unknown.len()), (1, 1));
    assert_eq!(
        format!("{:08x}", unknown[0].id()),
        signer.keys()[0].verifier_key().id().to_string()
    );
    signer.keys()[0]
        .verifier_key()
        .verify_head(&signed.to_bytes())
        .unwrap();
}

/// A published key pair and a head that its owner signed with Go's `note` package: same keys, same bytes.
#[test]
fn we_sign_the_bytes_that_go_signs() {
    let secret = "PRIVATE+KEY+example.com/log/testdata+33d7b496+AeymY/SZAX0jZcJ8enZ5FY1Dz+wTML2yWSkK+9DSF3eg";
    let public = "example.com/log/testdata+33d7b496+AeHTu4Q3hEIMHNqc6fASMsq3rKNx280NI+oO5xCFkkSx";
    let published = "— example.com/log/testdata M9e0lkcvy5bAe7rrC8tCyAP+my+CLzswA91zOpBNWVU7qCojkUOHnfdQzDImoYeYH8G8PJSwOqsx0RkSa261OmKVwwM=";

    let standard: SignerKey = secret.parse().unwrap();
    assert_eq!(standard.verifier_key().to_string(), public);
    let kind = KeyKind::TimestampedHead(Suite::Sha256);
    let timestamping = SignerKey::generate(standard.verifier_key().name().clone(), kind, [0; 32]);
    let signer = LogSigner::new(vec![timestamping, standard]).unwrap();

    let root = "1915753b4742aa68e33ef622ec2b4e4fbf736ff7cfc0b36c3055acca7c14f007"
        .parse()
        .unwrap();
    let note = signer.sign_head(TreeSize::new(100_270).unwrap(), root, TIME);
    assert_eq!(str::from_utf8(&note).unwrap().lines().last(), Some(published));
}

/// Why verification is strict: a signature that commits to no nonce passes where it is not.
#[test]
fn the_vectors_hold_a_signature_that_lenient_software_takes() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("vectors/note.json")).unwrap();
    let heads = vectors["bad_heads"].as_array().unwrap();
    let why = "R of small order, which only lenient verifiers take, ed25519";
    let head = heads.iter().find(|head| head["why"] == why).unwrap();
    let (vkey, note) = (
        head["vkey"].as_str().unwrap(),
        head["note"].as_str().unwrap().as_bytes(),
    );

    let lenient = VerifierList::new(vec![Box::new(StandardVerifier::new(vkey).unwrap())]);
    signed_note::Note::from_bytes(note)
        .unwrap()
        .verify(&lenient)
        .unwrap();
    vkey.parse::<VerifierKey>()
        .unwrap()
        .verify_head(note)
        .unwrap_err();
}

/// A cosigner made of that software's parts: names, key ids, lines and Ed25519 are its, the message is spelt out here.
struct OracleCosigner {
    id: u32,
    verifier: StandardVerifier,
    signer: StandardSigner,
    time: u64,
}

impl OracleCosigner {
    fn new(seed: [u8; 32], time: u64) -> Self {
        let plain = SignerKey::generate("witness.example/w1".parse().unwrap(), ED25519, seed);
        let vkey = plain.verifier_key().to_string();
        let public = BASE64_STANDARD
            .decode(vkey.splitn(3, '+').last().unwrap())
            .unwrap();
        Self {
            id: signed_note::key_id("witness.example/w1", &[&[0x04], &public[1..]].concat()),
            verifier: StandardVerifier::new(&vkey).unwrap(),
            signer: StandardSigner::new(&plain.to_secret_text()).unwrap(),
            time,
        }
    }

    fn cosign(&self, text: &[u8]) -> signed_note::Signature {
        let signature = self.signer.sign(&Self::message(self.time, text)).unwrap();
        let payload = [&self.time.to_be_bytes()[..], &signature].concat();
        signed_note::Signature::new(self.signer.name().to_owned(), self.id, payload).unwrap()
    }

    fn message(time: u64, text: &[u8]) -> Vec<u8> {
        [format!("cosignature/v1\ntime {time}\n").as_bytes(), text].concat()
    }
}

impl signed_note::Verifier for OracleCosigner {
    fn name(&self) -> &str {
        self.verifier.name()
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], payload: &[u8]) -> bool {
        let (time, signature) = payload.split_at(8);
        let time = u64::from_be_bytes(time.try_into().unwrap());
        self.verifier.verify(&Self::message(time, text), signature)
    }
}

proptest! {
    #[test]
    fn cosignatures_are_the_bytes_that_it_would_make(seed: [u8; 32], time in 1..=UnixSeconds::MAX.get()) {
        let log = sha256_signer([1; 32]);
        let head = log.sign_head(TreeSize::new(907).unwrap(), Digest::from(seed), TIME);
        let head = log.keys()[0].verifier_key().verify_head(&head).unwrap();
        let witness = CosignerSigner::generate("witness.example/w1".parse().unwrap(), seed);
        let ours = head.with_signatures([witness.cosign(&head, UnixSeconds::new(time).unwrap())]).unwrap();

        let oracle = OracleCosigner::new(seed, time);
        let note = Note::parse(head.note_bytes()).unwrap();
        let own = note.signatures().iter().map(|line| signed_note::Signature::from_bytes(line.to_string().as_bytes()));
        let mut lines: Vec<_> = own.collect::<Result<_, _>>().unwrap();
        lines.push(oracle.cosign(note.text().as_bytes()));
        let its = signed_note::Note::new(note.text().as_bytes(), &lines).unwrap();
        prop_assert_eq!(its.to_bytes(), ours.note_bytes().to_vec());

        let (verified, unknown) = its.verify(&VerifierList::new(vec![Box::new(oracle)])).unwrap();
        prop_assert_eq!((verified.len(), unknown.len()), (1, 2));
        let read = log.keys()[1].verifier_key().verify_head(&its.to_bytes()).unwrap();
        let cosignature = witness.verifier_key().verify_cosignature(&read).unwrap().unwrap();
        prop_assert_eq!(cosignature.time().get(), time);
    }
}
