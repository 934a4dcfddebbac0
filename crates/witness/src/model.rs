//! The way of an update, without a network: clients that race for one log, a fork among them, model-checked over many
//! schedules; and more updates than may wait.

use std::sync::{Arc, Mutex};

use counterfoil_merkle::Suite;
use counterfoil_note::{CosignerSigner, UnixSeconds};
use counterfoil_tests::MemoryLog;
use shuttle::{future::block_on, thread};

use crate::{
    committer,
    logs::LogList,
    refusal::Refusal,
    state::{OriginHash, State},
    witness::{MAX_WAITING, Witness},
};

const SCHEDULES: usize = 500;
const ORIGIN: &str = "log.example/model";
/// Where the two histories part.
const FORK: u64 = 4;

/// A cosignature that left the witness: which history it is of, from which size to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Given {
    old: u64,
    new: u64,
    forked: bool,
}

/// Asks as a log does: examined, set aside for whatever others do, then committed; after a 409 again from the size it
/// names. Only the honest history can go on from any size.
fn client(
    witness: &Witness,
    given: &Mutex<Vec<Given>>,
    log: &MemoryLog,
    forked: bool,
    mut old: u64,
    new: u64,
) {
    let now = UnixSeconds::new(1_795_000_000).unwrap();
    while old <= new {
        let examined = witness.examine(log.request(old, new).as_bytes(), now);
        thread::yield_now();
        let outcome = examined.and_then(|examined| block_on(witness.commit(examined)));
        match outcome {
            Ok(_cosignature) => {
                given.lock().unwrap().push(Given { old, new, forked });
                return;
            }
            Err(Refusal::Conflict { newest }) => old = newest.get(),
            // The history that lost.
            Err(Refusal::Fork | Refusal::Proof(_)) => return,
            Err(other) => panic!("{other}"),
        }
    }
}

fn race() {
    let signer = CosignerSigner::generate("witness.example/w".parse().unwrap(), [200; 32]);
    let honest = Arc::new(MemoryLog::new(ORIGIN, Suite::Blake3, 1));
    let forked = Arc::new(MemoryLog::forked(
        ORIGIN,
        Suite::Blake3,
        1,
        usize::try_from(FORK).unwrap(),
    ));
    let key = honest.keys().next().unwrap();
    let logs = LogList::parse(format!("log {key}\n").as_bytes(), signer.verifier_key()).unwrap();
    let state = Arc::new(State::in_memory(signer.verifier_key()));
    let (witness, updates) = Witness::new(signer, state.clone(), logs);
    let witness = Arc::new(witness);
    let committer = {
        let state = state.clone();
        thread::spawn(move || block_on(committer::run(state, updates)).unwrap())
    };

    let given = Arc::new(Mutex::new(vec![]));
    client(&witness, &given, &honest, false, 0, FORK);
    let clients: Vec<_> = [
        (&honest, false, 8),
        (&forked, true, 8),
        (&honest, false, 6),
        (&forked, true, 7),
    ]
    .map(|(log, is_forked, new)| {
        let (witness, given, log) = (witness.clone(), given.clone(), log.clone());
        thread::spawn(move || client(&witness, &given, &log, is_forked, FORK, new))
    })
    .into_iter()
    .collect();
    for client in clients {
        client.join().unwrap();
    }
    drop(witness);
    committer.join().unwrap();

    // One history: each step starts where the one before ended, and past the fork all are of one kind.
    let mut given = given.lock().unwrap().clone();
    given.sort_unstable();
    let mut size = 0;
    for step in &given {
        assert_eq!(step.old, size, "{given:?}");
        size = step.new;
    }
    let mut kinds = given[1..].iter().map(|step| step.forked);
    let first = kinds.next().expect("someone wins");
    assert!(kinds.all(|kind| kind == first), "{given:?}");
    let newest = state.newest(OriginHash::of(ORIGIN)).unwrap().unwrap();
    assert_eq!(newest.size.get(), size, "{given:?}");
}

#[test]
fn however_requests_interleave_one_history_is_cosigned_and_never_goes_back() {
    shuttle::check_random(race, SCHEDULES);
    shuttle::check_pct(race, SCHEDULES, 3);
}

#[test]
fn past_the_limit_requests_are_turned_away_and_those_that_wait_are_served() {
    use std::task::{Context, Poll, Waker};

    let signer = CosignerSigner::generate("witness.example/w".parse().unwrap(), [200; 32]);
    let log = MemoryLog::new(ORIGIN, Suite::Sha256, 1);
    let key = log.keys().next().unwrap();
    let logs = LogList::parse(format!("log {key}\n").as_bytes(), signer.verifier_key()).unwrap();
    let state = Arc::new(State::in_memory(signer.verifier_key()));
    let (witness, updates) = Witness::new(signer, state.clone(), logs);
    let now = UnixSeconds::new(1_795_000_000).unwrap();
    let body = log.request(0, 8);

    let mut context = Context::from_waker(Waker::noop());
    let mut waiting: Vec<_> = (0..MAX_WAITING)
        .map(|_| Box::pin(witness.add_checkpoint(body.as_bytes(), now)))
        .collect();
    for request in &mut waiting {
        assert!(request.as_mut().poll(&mut context).is_pending());
    }
    let mut late = Box::pin(witness.add_checkpoint(body.as_bytes(), now));
    assert!(matches!(
        late.as_mut().poll(&mut context),
        Poll::Ready(Err(Refusal::QueueFull))
    ));
    drop(late);

    // All waiting ask for the same step: the first takes it, in the same batch as the others lose it.
    let mut committer = Box::pin(committer::run(state, updates));
    assert!(committer.as_mut().poll(&mut context).is_pending());
    let outcomes = waiting
        .iter_mut()
        .map(|request| match request.as_mut().poll(&mut context) {
            Poll::Ready(Ok(_)) => 200,
            Poll::Ready(Err(refusal)) => refusal.status(),
            Poll::Pending => 0,
        });
    let outcomes: Vec<_> = outcomes.collect();
    assert_eq!(outcomes[0], 200);
    assert!(outcomes[1..].iter().all(|status| *status == 409), "{outcomes:?}");

    // A committer that is gone answers nobody, and nothing is cosigned.
    drop(committer);
    drop(waiting);
    let body = log.request(8, 9);
    let mut orphan = Box::pin(witness.add_checkpoint(body.as_bytes(), now));
    assert!(matches!(
        orphan.as_mut().poll(&mut context),
        Poll::Ready(Err(Refusal::State))
    ));
}
