//! Heads that wait for cosignatures: nothing is shown before its quorum, what is shown is what the log signed with more
//! lines, and a restart finds both the head that was shown and those that were only offered.

use std::{fs, sync::Arc, time::Duration};

use counterfoil_log::{
    Candidate, Log, LogOptions, OpenError, PublishError, RememberedHead, TreeHead, WithoutQuorum, Witnessing,
};
use counterfoil_merkle::Suite;
use counterfoil_note::{CosignerSigner, Note, NoteSignature, Policy, SignedHead, UnixSeconds};
use counterfoil_store::{Store, StoreOptions};

use crate::support::*;

/// Three witnesses, of which two have to cosign.
struct Witnesses(Vec<CosignerSigner>);

impl Witnesses {
    fn new() -> Self {
        let witness = |number: u8| {
            let name = format!("witness.example/w{number}").parse().unwrap();
            CosignerSigner::generate(name, [number; 32])
        };
        Self((1..=3).map(witness).collect())
    }

    fn policy(&self) -> Arc<Policy> {
        let mut text = String::new();
        for (number, witness) in self.0.iter().enumerate() {
            text += &format!("witness w{number} {}\n", witness.verifier_key());
        }
        text += "group two 2 w0 w1 w2\nquorum two\n";
        Arc::new(Policy::parse(text.as_bytes()).unwrap())
    }

    /// Publishes heads as they come, of which none is signed anew.
    fn options(&self, without_quorum: WithoutQuorum) -> LogOptions {
        LogOptions {
            publish_interval: Duration::from_millis(2),
            witnessing: Some(Witnessing {
                policy: self.policy(),
                without_quorum,
                remembered: Vec::new(),
            }),
            ..options()
        }
    }

    fn cosign(&self, number: usize, log: &Log, note: &[u8]) -> NoteSignature {
        self.0[number].cosign(&signed(log, note), UnixSeconds::new(1_800_000_000).unwrap())
    }
}

async fn publish_cosigned(log: &Log, witnesses: &Witnesses, candidate: Candidate) {
    let note = candidate.head().note.clone();
    let lines = vec![witnesses.cosign(0, log, &note), witnesses.cosign(1, log, &note)];
    log.publish(candidate, lines).await.unwrap();
}

fn signed(log: &Log, note: &[u8]) -> SignedHead {
    log.verifier_keys()[0].verify_head(note).unwrap()
}

async fn candidate_of(log: &Log, size: usize) -> Candidate {
    let is_it = |candidate: &Option<Candidate>| {
        candidate
            .as_ref()
            .is_some_and(|candidate| candidate.head().size == tree_size(size))
    };
    let mut candidates = log.candidates();
    let offered = tokio::time::timeout(Duration::from_secs(20), candidates.wait_for(is_it));
    offered
        .await
        .expect("no such candidate")
        .unwrap()
        .clone()
        .unwrap()
}

fn shown(log: &Log) -> Option<Arc<TreeHead>> {
    log.published_head()
}

fn stored_note(place: &Place, size: usize) -> Option<Vec<u8>> {
    let store = Store::open_read_only(&place.directory().database(), &StoreOptions::default()).unwrap();
    store
        .heads()
        .map(Result::unwrap)
        .find(|(stored, _)| *stored == tree_size(size))
        .map(|(_, note)| note.into_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_shown_once_a_quorum_cosigned_it_and_not_before() {
    for suite in SUITES {
        let (place, witnesses) = (Place::new(suite), Witnesses::new());
        let log = place.open_with(witnesses.options(WithoutQuorum::Hold)).unwrap();
        record(&log, &events(0..4)).await;
        let candidate = candidate_of(&log, 5).await;
        let note = candidate.head().note.clone();
        // Whoever reads the disk after a crash here finds it, though nobody was shown anything.
        assert_eq!(stored_note(&place, 5), Some(note.clone()));
        assert_eq!(fs::read(place.directory().newest_head()).unwrap(), note);
        assert_eq!(shown(&log), None);

        let lines: Vec<_> = (0..3)
            .map(|number| witnesses.cosign(number, &log, &note))
            .collect();
        for too_few in [
            vec![],
            vec![lines[1].clone()],
            vec![lines[1].clone(), lines[1].clone()],
        ] {
            let refused = log.publish(candidate.clone(), too_few).await;
            assert!(matches!(refused, Err(PublishError::NoQuorum(_))), "{refused:?}");
            assert_eq!(shown(&log), None);
        }
        let mut watch = log.watch_published();
        log.publish(candidate, vec![lines[2].clone(), lines[0].clone()])
            .await
            .unwrap();
        assert!(watch.has_changed().unwrap());
        let head = watch.borrow_and_update().clone().unwrap();

        // The same text, the same lines by the log, and two more.
        let (before, after) = (Note::parse(&note).unwrap(), Note::parse(&head.note).unwrap());
        assert_eq!(before.text(), after.text());
        let (own, others) = after.signatures().split_at(before.signatures().len());
        assert_eq!(own, before.signatures());
        assert_eq!(others, [lines[2].clone(), lines[0].clone()]);
        let cosignatures = witnesses
            .policy()
            .cosignatures(&signed(&log, &head.note))
            .unwrap();
        assert!(witnesses.policy().is_quorum(&cosignatures));
        assert_eq!(stored_note(&place, 5).as_ref(), Some(&head.note));
        // Receipts bear it too.
        let (proven_at, _) = log.proven_leaf(index(3)).await.unwrap();
        assert_eq!(proven_at.note, head.note);
        audit(&log).await;

        // What is recorded later is in the tree, and waits for its own quorum.
        record(&log, &events(10..12)).await;
        candidate_of(&log, 7).await;
        assert_eq!(shown(&log).unwrap().note, head.note);
        drop(log);
        let log = place.open_with(witnesses.options(WithoutQuorum::Hold)).unwrap();
        assert_eq!(shown(&log).unwrap(), head, "the one that readers saw last");
        let again = candidate_of(&log, 7).await;
        publish_cosigned(&log, &witnesses, again).await;
        assert_eq!(shown(&log).unwrap().size, tree_size(7));
        audit(&log).await;
        drop(log);
        let report = counterfoil_log::fsck(
            &place.data(),
            &name(),
            counterfoil_log::FsckDepth::Payloads,
            |_| {},
        )
        .unwrap();
        assert_eq!(report.finding_count, 0, "{:?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_that_are_no_witness_s_word_on_this_head_get_nowhere() {
    for suite in SUITES {
        let (place, other, witnesses) = (Place::new(suite), Place::new(suite), Witnesses::new());
        let log = place
            .open_with(witnesses.options(WithoutQuorum::Publish))
            .unwrap();
        let foreign = other
            .open_with(witnesses.options(WithoutQuorum::Publish))
            .unwrap();
        let first = candidate_of(&log, 1).await;
        record(&log, &events(0..2)).await;
        let candidate = candidate_of(&log, 3).await;
        let note = candidate.head().note.clone();
        let good = || vec![witnesses.cosign(0, &log, &note), witnesses.cosign(1, &log, &note)];

        let of_another_head = witnesses.cosign(2, &log, &first.head().note);
        let refused = log
            .publish(candidate.clone(), [good(), vec![of_another_head]].concat())
            .await;
        assert!(
            matches!(refused, Err(PublishError::Cosignature(_))),
            "{refused:?}"
        );

        let stranger = CosignerSigner::generate("witness.example/w9".parse().unwrap(), [9; 32]);
        // The policy's name does not make its key.
        let namesake = CosignerSigner::generate("witness.example/w1".parse().unwrap(), [10; 32]);
        for by in [stranger, namesake] {
            let line = by.cosign(&signed(&log, &note), UnixSeconds::new(1).unwrap());
            let refused = log
                .publish(candidate.clone(), [good(), vec![line]].concat())
                .await;
            assert!(matches!(refused, Err(PublishError::Stranger)), "{refused:?}");
        }
        let refused = log.publish(candidate_of(&foreign, 1).await, vec![]).await;
        assert!(matches!(refused, Err(PublishError::Candidate(_))), "{refused:?}");
        assert_eq!(shown(&log), None);
        assert_eq!(stored_note(&place, 3), Some(note.clone()));

        // A line under the log's name does not displace the log's own.
        let own = Note::parse(&first.head().note).unwrap().signatures().to_vec();
        log.publish(candidate, [good(), own].concat()).await.unwrap();
        let head = shown(&log).unwrap();
        assert_eq!(head.size, tree_size(3));
        assert_eq!(
            Note::parse(&head.note).unwrap().signatures().len(),
            log.verifier_keys().len() + 2
        );
        // An older head that comes late would look like a rollback.
        publish_cosigned(&log, &witnesses, first).await;
        assert_eq!(shown(&log).unwrap(), head);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_a_head_is_published_only_where_that_is_wanted() {
    let (place, witnesses) = (Place::new(Suite::Blake3), Witnesses::new());
    let log = place
        .open_with(witnesses.options(WithoutQuorum::Publish))
        .unwrap();
    let candidate = candidate_of(&log, 1).await;
    log.publish(candidate.clone(), vec![]).await.unwrap();
    assert_eq!(shown(&log).unwrap().note, candidate.head().note);
    // Cosignatures that come late are added to what is shown.
    let line = witnesses.cosign(1, &log, &candidate.head().note);
    log.publish(candidate, vec![line.clone()]).await.unwrap();
    let head = shown(&log).unwrap();
    assert_eq!(Note::parse(&head.note).unwrap().signatures()[1..], [line]);
    drop(log);

    // Readers have seen it: an open start goes on from it, a closed one shows nothing until there is a quorum.
    let log = place
        .open_with(witnesses.options(WithoutQuorum::Publish))
        .unwrap();
    assert_eq!(shown(&log).unwrap(), head);
    drop(log);
    let log = place.open_with(witnesses.options(WithoutQuorum::Hold)).unwrap();
    assert_eq!(shown(&log), None);
    // What the witness signed is kept: another policy may ask for no more.
    assert_eq!(stored_note(&place, 1), Some(head.note.clone()));
    record(&log, &events(0..3)).await;
    let (proven_at, _) = log.proven_leaf(index(2)).await.unwrap();
    assert_eq!(proven_at.size, tree_size(4), "receipts come with the commit head");
    drop(log);
    let log = place.open();
    assert_eq!(
        shown(&log).unwrap().size,
        tree_size(4),
        "without witnesses nothing waits"
    );
    let nobody_asked = log.publish(candidate_of_none(&log), vec![]).await;
    assert!(nobody_asked.is_err());
}

/// A candidate from another log: an unwitnessed one offers none.
fn candidate_of_none(log: &Log) -> Candidate {
    assert!(log.candidates().borrow().is_none());
    let (place, witnesses) = (Place::new(Suite::Blake3), Witnesses::new());
    let other = place.open_with(witnesses.options(WithoutQuorum::Hold)).unwrap();
    let candidate = other.candidates().borrow().clone();
    candidate.unwrap()
}

/// While nothing grows, heads are signed anew and offered. That must not cost the stored head its cosignatures.
#[tokio::test(flavor = "multi_thread")]
async fn a_head_signed_anew_leaves_the_cosigned_one_in_its_place() {
    let (place, witnesses) = (Place::new(Suite::Sha256), Witnesses::new());
    let resigning = LogOptions {
        resign_interval: Duration::from_millis(5),
        ..witnesses.options(WithoutQuorum::Hold)
    };
    let log = place.open_with(resigning).unwrap();
    let candidate = candidate_of(&log, 1).await;
    let signed_at = candidate.head().time;
    let first = candidate.clone();
    publish_cosigned(&log, &witnesses, candidate).await;
    let head = shown(&log).unwrap();
    let is_newer = |candidate: &Option<Candidate>| {
        candidate
            .as_ref()
            .is_some_and(|candidate| candidate.head().time > signed_at)
    };
    let mut candidates = log.candidates();
    let anew = candidates.wait_for(is_newer).await.unwrap().clone().unwrap();
    assert_eq!((anew.head().size, anew.head().root), (head.size, head.root));
    assert_eq!(stored_note(&place, 1).as_ref(), Some(&head.note));
    drop((candidates, log));
    let log = place.open_with(witnesses.options(WithoutQuorum::Hold)).unwrap();
    assert_eq!(shown(&log).unwrap(), head);
    publish_cosigned(&log, &witnesses, anew.clone()).await;
    assert_eq!(
        shown(&log).unwrap().time,
        anew.head().time,
        "the newer signature replaces the older"
    );
    // Cosignatures of the older one that come late would set the clock back that readers see.
    publish_cosigned(&log, &witnesses, first).await;
    assert_eq!(shown(&log).unwrap().time, anew.head().time);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_witness_remembers_keeps_a_log_shut_that_lost_it() {
    for suite in SUITES {
        let (place, witnesses) = (Place::new(suite), Witnesses::new());
        let log = place.open();
        record(&log, &events(0..9)).await;
        drop(log);
        let backup = place.beside("backup");
        place.back_up(&backup);
        let log = place.open_with(witnesses.options(WithoutQuorum::Hold)).unwrap();
        record(&log, &events(100..105)).await;
        let candidate = candidate_of(&log, 15).await;
        let line = witnesses.cosign(0, &log, &candidate.head().note);
        // A witness keeps the signature that it verified: of a sha256 log that may be the plain one alone.
        let note = signed(&log, &candidate.head().note)
            .with_signatures([line])
            .unwrap();
        let keep = |keep: usize| {
            let text = Note::parse(note.note_bytes()).unwrap().text().to_owned();
            let lines: String = [keep, note.signatures().len() - 1]
                .map(|at| format!("{}\n", note.signatures()[at]))
                .concat();
            format!("{text}\n{lines}").into_bytes()
        };
        drop(log);

        let with = |note: Vec<u8>| {
            let mut options = witnesses.options(WithoutQuorum::Hold);
            options.witnessing.as_mut().unwrap().remembered = vec![RememberedHead {
                witness: "w1".to_owned(),
                note,
            }];
            options
        };
        let each_own_line = 0..note.signatures().len() - 1;
        place.open_with(with(note.note_bytes().to_vec())).unwrap();
        place.restore(&backup);
        for own_line in each_own_line.clone() {
            match place.open_with(with(keep(own_line))).err() {
                Some(refused @ OpenError::RolledBack { .. }) => {
                    let text = refused.to_string();
                    for part in ["size 15 ", "holds 10 entries", "witness w1"] {
                        assert!(text.contains(part), "{text}");
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        // What the log did not sign can't keep it shut.
        let mut forged = note.note_bytes().to_vec();
        forged[22] ^= 1;
        for junk in [forged, b"junk".to_vec(), vec![]] {
            drop(place.open_with(with(junk)).unwrap());
        }
        // Grown past it with other entries, it is another history.
        let log = place.open();
        record(&log, &events(200..220)).await;
        drop(log);
        for own_line in each_own_line {
            let refused = place.open_with(with(keep(own_line))).err();
            assert!(
                matches!(refused, Some(OpenError::Rewritten { .. })),
                "{refused:?}"
            );
        }
    }
}
