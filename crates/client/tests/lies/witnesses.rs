//! Policies that ask for witnesses: what is published needs them, what is fresh can't have them.

use std::fmt::Write as _;

use counterfoil_client::{Action, Client, Error, Leaf, Misbehaviour, NotCosigned, Options, StateDir};
use counterfoil_merkle::Suite;
use counterfoil_note::{HeadError, KeyKind, Policy, SignerKey};
use tempfile::TempDir;

use crate::{
    fact, index,
    log::{FakeLog, Lie, event, witness},
    size, submit,
};

/// The log, witnesses w1 to w3, and `rest`.
fn policy(log: &FakeLog, rest: &str) -> Policy {
    let mut text = format!("log {}\n", log.key());
    for number in 1..=3 {
        writeln!(text, "witness w{number} {}", witness(number).verifier_key()).unwrap();
    }
    Policy::parse(format!("{text}{rest}\n").as_bytes()).unwrap()
}

async fn connect(address: &str, policy: Policy, state: Option<&TempDir>) -> Result<Client, Error> {
    let mut options = Options::new(address.parse().unwrap(), policy);
    options.state = state.map(|directory| StateDir::new(directory.path()));
    Client::connect(options).await
}

/// A log with entries 0 to 6, and a client that asks for two of three witnesses.
async fn log_and_client(state: Option<&TempDir>) -> (FakeLog, String, Client) {
    let log = FakeLog::new(Suite::Blake3);
    log.record(0..7);
    let address = log.serve().await;
    let policy = policy(&log, "group most 2 w1 w2 w3\nquorum most");
    let client = connect(&address, policy, state).await.unwrap();
    (log, address, client)
}

/// The log goes back to size 7: neither this client takes that, nor one that begins with what it has saved.
async fn assert_no_way_back(log: &FakeLog, address: &str, client: &Client, state: &TempDir) {
    log.lie(Lie::OldHead(7));
    log.set_back();
    let again = connect(address, client.policy().clone(), Some(state))
        .await
        .unwrap();
    for client in [client, &again] {
        assert_eq!(fact(client.head().await).name(), "rollback");
    }
}

fn not_cosigned<T>(result: Result<T, Error>) -> NotCosigned {
    match result.map(|_| "success") {
        Err(error @ Error::NotCosigned(_)) => {
            assert_eq!(error.action(), Action::Retry);
            let Error::NotCosigned(error) = error else {
                unreachable!()
            };
            *error
        }
        other => panic!("instead of a missing quorum: {other:?}"),
    }
}

#[tokio::test]
async fn what_is_published_needs_a_quorum() {
    let (log, _, client) = log_and_client(None).await;
    for witnesses in [&[][..], &[2], &[2, 4, 5]] {
        log.cosigned_by(witnesses);
        let error = not_cosigned(client.head().await);
        let names = |names: &[counterfoil_note::PolicyName]| {
            names.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(error.head.size(), size(7));
        assert_eq!(
            names(&error.problem.cosigned),
            if witnesses.is_empty() { vec![] } else { vec!["w2"] }
        );
        assert!(names(&error.problem.missing).contains(&"w1".to_owned()));
        let leaf = Leaf::Index(index(3));
        not_cosigned(client.entry(&leaf, true).await);
        not_cosigned(client.prove_inclusion(&leaf, None).await);
        not_cosigned(client.prove_consistency(size(3), None).await);
        not_cosigned(client.receipt(index(3)).await);
        not_cosigned(client.entries(index(0), 0, false).await.map(|_| ()));
    }
    log.cosigned_by(&[3, 2]);
    let head = client.head().await.unwrap();
    assert_eq!(client.policy().cosignatures(&head).unwrap().len(), 2);
    client.entry(&Leaf::Index(index(3)), true).await.unwrap();
    client
        .prove_inclusion(&Leaf::Index(index(3)), None)
        .await
        .unwrap();
    let (receipt, _) = client.receipt(index(3)).await.unwrap();
    assert_eq!(
        receipt.verify_by(client.policy()).unwrap().cosignatures().len(),
        2
    );
}

/// A receipt straight from a submission is under a head that no witness can have seen.
#[tokio::test]
async fn what_is_submitted_needs_the_logs_signature_alone() {
    let (log, _, client) = log_and_client(None).await;
    let submitted = client.submit(&event(7)).await.unwrap();
    client.link_heads().await.unwrap();
    assert!(submitted.receipt.verify_by(client.policy()).is_err());
    assert!(submitted.receipt.verify(&log.key()).is_ok());
    log.cosigned_by(&[1, 2, 3]);
    let (receipt, _) = client.receipt(index(7)).await.unwrap();
    assert!(receipt.verify_by(client.policy()).is_ok());
}

/// Someone changed a witness's line, or the log made it up.
#[tokio::test]
async fn a_cosignature_that_its_witness_did_not_make_is_refused() {
    let (log, address, _) = log_and_client(None).await;
    log.cosigned_by(&[1, 2, 3]);
    log.lie(Lie::BrokenCosignature);
    for rest in ["quorum w1", "quorum none"] {
        let client = connect(&address, policy(&log, rest), None).await.unwrap();
        // A receipt under such a head holds for nobody who knows the witness.
        for fact in [
            fact(client.head().await),
            fact(submit(&client, "one").await),
            fact(submit(&client, "batch").await),
            fact(submit(&client, "stream").await),
        ] {
            let Misbehaviour::UnverifiedHead { error, .. } = fact else {
                panic!("{fact:?}")
            };
            assert!(matches!(error, HeadError::Cosignature(_)), "{error}");
        }
    }
    // Whoever does not know the witness does not look.
    let client = connect(&address, Policy::for_log(log.key()), None).await.unwrap();
    client.head().await.unwrap();
    submit(&client, "one").await.unwrap();
}

/// Published heads wait for witnesses: one below a fresh receipt's is no rollback, one below a cosigned head's is.
#[tokio::test]
async fn a_log_that_waits_for_its_witnesses_has_not_gone_back() {
    let state = tempfile::tempdir().unwrap();
    let (log, address, client) = log_and_client(Some(&state)).await;
    log.cosigned_by(&[1, 2]);
    client.head().await.unwrap();
    log.cosigned_by(&[]);
    client.submit(&event(7)).await.unwrap();
    client.link_heads().await.unwrap();

    // Signed before the larger one, or else its time would tell.
    log.cosigned_by(&[1, 2]);
    log.lie(Lie::OldHead(7));
    log.set_back();
    let again = connect(&address, client.policy().clone(), Some(&state))
        .await
        .unwrap();
    for client in [&client, &again] {
        assert_eq!(not_cosigned(client.head().await).head.size(), size(8));
    }
    // Once the larger one was published with its witnesses, there is no way back; other processes know it too.
    log.lie(Lie::Nothing);
    client.head().await.unwrap();
    assert_no_way_back(&log, &address, &client, &state).await;
}

/// Anyone can add lines. A head that was cosigned stays so, whatever comes of its size.
#[tokio::test]
async fn lines_of_strangers_do_not_take_the_place_of_cosignatures() {
    let state = tempfile::tempdir().unwrap();
    let (log, address, client) = log_and_client(Some(&state)).await;
    log.record(7..8);
    log.cosigned_by(&[1, 2]);
    client.head().await.unwrap();
    log.cosigned_by(&[]);
    log.lie(Lie::Strangers);
    not_cosigned(client.receipt(index(7)).await);

    assert_no_way_back(&log, &address, &client, &state).await;
}

#[tokio::test]
async fn a_stream_does_not_go_back_behind_a_cosigned_head() {
    let (log, _, client) = log_and_client(None).await;
    log.cosigned_by(&[1, 3]);
    client.head().await.unwrap();
    log.cosigned_by(&[]);
    log.lie(Lie::OldHead(6));
    log.set_back();
    let mut heads = client.watch_heads().await.unwrap();
    assert_eq!(not_cosigned(heads.next().await).head.size(), size(7));
    assert_eq!(fact(heads.next().await).name(), "rollback");
}

#[tokio::test]
async fn a_stream_of_heads_goes_on_after_one_without_witnesses() {
    let (log, _, client) = log_and_client(None).await;
    log.cosigned_by(&[1, 3]);
    log.lie(Lie::LateWitnesses);
    let mut heads = client.watch_heads().await.unwrap();
    not_cosigned(heads.next().await);
    assert_eq!(heads.next().await.unwrap().unwrap().size(), size(7));
}

/// The policy lists several logs: the client is of the one that the server presents, and stays with it.
#[tokio::test]
async fn of_several_logs_the_client_follows_the_one_presented() {
    let (log, address, _) = log_and_client(None).await;
    let kind = KeyKind::TimestampedHead(Suite::Sha256);
    let other = SignerKey::generate("log.example/other".parse().unwrap(), kind, [50; 32]);
    let of_both = format!("log {}\nlog {}\nquorum none\n", other.verifier_key(), log.key());
    let client = connect(&address, Policy::parse(of_both.as_bytes()).unwrap(), None)
        .await
        .unwrap();
    assert_eq!(
        (client.origin().as_str(), client.suite()),
        ("log.example/main", Suite::Blake3)
    );
    assert_eq!(client.policy().logs().len(), 1);
    client.head().await.unwrap();

    // Neither of these is the one that is served.
    let third = SignerKey::generate("log.example/third".parse().unwrap(), kind, [51; 32]);
    let of_others = format!(
        "log {}\nlog {}\nquorum none\n",
        other.verifier_key(),
        third.verifier_key()
    );
    let refused = connect(&address, Policy::parse(of_others.as_bytes()).unwrap(), None).await;
    assert!(matches!(
        fact(refused.map(|_| ())),
        Misbehaviour::UnverifiedHead {
            error: HeadError::UnlistedLog { .. },
            ..
        }
    ));
    let refused = connect(&address, Policy::parse(b"quorum none\n").unwrap(), None).await;
    assert!(matches!(refused.map(|_| ()), Err(Error::Options(_))));
}
