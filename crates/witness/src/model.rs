//! The way of an update, without a network: clients that race for one log, a fork among them, model-checked over many
//! schedules; more updates than may wait; a damaged record; and checkpoints that are brought again.

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use counterfoil_merkle::Suite;
use counterfoil_note::{CosignerSigner, UnixSeconds};
use counterfoil_tests::{MemoryLog, add_checkpoint};
use shuttle::{future::block_on, thread};

use crate::{
    committer,
    logs::LogList,
    refusal::Refusal,
    state::{OriginHash, State},
    witness::{MAX_WAITING, REPEAT_SECONDS, Witness},
};

const SCHEDULES: usize = 500;
const ORIGIN: &str = "log.example/model";
/// Where the two histories part.
const FORK: u64 = 4;

/// A cosignature that left the witness: which history it is of, from which size to which, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Given {
    old: u64,
    new: u64,
    forked: bool,
    time: u64,
}

/// What all clients of a race share.
struct Race {
    witness: Witness,
    /// Shows another time whenever it is read, so much later that nothing is given a second time.
    clock: AtomicU64,
    given: Mutex<Vec<Given>>,
}

impl Race {
    /// Reads the clock, and then sets the reader aside for whatever others do.
    fn now(&self) -> UnixSeconds {
        let now = self.clock.fetch_add(REPEAT_SECONDS, Ordering::Relaxed);
        thread::yield_now();
        UnixSeconds::new(now).unwrap()
    }
}

/// Asks as a log does: examined, set aside for whatever others do, then committed; after a 409 again from the size it
/// names. Only the honest history can go on from any size.
fn client(race: &Race, log: &MemoryLog, forked: bool, mut old: u64, new: u64) {
    while old <= new {
        let body = log.request(old, new);
        let examined = race.witness.examine(body.as_bytes(), || Some(race.now()));
        thread::yield_now();
        let outcome = examined.and_then(|examined| block_on(race.witness.commit(examined)));
        match outcome {
            Ok(cosignature) => {
                let time = u64::from_be_bytes(*cosignature.payload().first_chunk().unwrap());
                race.given.lock().unwrap().push(Given {
                    old,
                    new,
                    forked,
                    time,
                });
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
    let committer = {
        let state = state.clone();
        thread::spawn(move || block_on(committer::run(state, updates)).unwrap())
    };

    let race = Arc::new(Race {
        witness,
        clock: AtomicU64::new(1_795_000_000),
        given: Mutex::default(),
    });
    client(&race, &honest, false, 0, FORK);
    let clients: Vec<_> = [
        // One that knows of a step that may not have been taken yet.
        (&honest, false, 6, 8),
        (&forked, true, FORK, 8),
        (&honest, false, FORK, 6),
        (&forked, true, FORK, 7),
        // One that has the size cosigned anew that others go on from.
        (&honest, false, FORK, FORK),
    ]
    .map(|(log, is_forked, old, new)| {
        let (race, log) = (race.clone(), log.clone());
        thread::spawn(move || client(&race, &log, is_forked, old, new))
    })
    .into_iter()
    .collect();
    for client in clients {
        client.join().unwrap();
    }
    let race = Arc::into_inner(race).expect("all clients have ended");
    drop(race.witness);
    committer.join().unwrap();

    // One history: each step starts where the one before ended and is cosigned later, and past the fork all are of one kind.
    let mut given = race.given.into_inner().unwrap();
    given.sort_unstable();
    let (mut size, mut time) = (0, 0);
    for step in &given {
        assert_eq!(step.old, size, "{given:?}");
        assert!(step.time > time, "{given:?}");
        (size, time) = (step.new, step.time);
    }
    let past_the_fork = given.iter().filter(|step| step.new > FORK);
    let mut kinds = past_the_fork.map(|step| step.forked);
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
    let signer = CosignerSigner::generate("witness.example/w".parse().unwrap(), [200; 32]);
    let log = MemoryLog::new(ORIGIN, Suite::Sha256, 1);
    let key = log.keys().next().unwrap();
    let logs = LogList::parse(format!("log {key}\n").as_bytes(), signer.verifier_key()).unwrap();
    let state = Arc::new(State::in_memory(signer.verifier_key()));
    let (witness, updates) = Witness::new(signer, state.clone(), logs);
    let now = || UnixSeconds::new(1_795_000_000).ok();
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

#[test]
fn a_damaged_record_refuses_its_own_log_alone() {
    let signer = CosignerSigner::generate("witness.example/w".parse().unwrap(), [200; 32]);
    let damaged = MemoryLog::new("log.example/damaged", Suite::Blake3, 1);
    let sound = MemoryLog::new(ORIGIN, Suite::Blake3, 2);
    let keys: String = [&damaged, &sound]
        .iter()
        .flat_map(|log| log.keys())
        .map(|key| format!("log {key}\n"))
        .collect();
    let logs = LogList::parse(keys.as_bytes(), signer.verifier_key()).unwrap();
    let state = Arc::new(State::in_memory(signer.verifier_key()));
    let (witness, updates) = Witness::new(signer, state.clone(), logs);
    let now = || UnixSeconds::new(1_795_000_000).ok();

    // Damaged between the examination and the commit, so that the committer meets it, in one batch with the other.
    let [first, second] =
        [&damaged, &sound].map(|log| witness.examine(log.request(0, 8).as_bytes(), now).unwrap());
    state.damage(OriginHash::of(damaged.origin()));
    let mut context = Context::from_waker(Waker::noop());
    let mut first = pin!(witness.commit(first));
    let mut second = pin!(witness.commit(second));
    let mut committer = pin!(committer::run(state, updates));
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(second.as_mut().poll(&mut context).is_pending());
    assert!(committer.as_mut().poll(&mut context).is_pending());
    assert_eq!(
        first.as_mut().poll(&mut context),
        Poll::Ready(Err(Refusal::State))
    );
    assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Ok(_))));

    let body = damaged.request(0, 8);
    let refused = witness.examine(body.as_bytes(), now);
    assert_eq!(refused.err(), Some(Refusal::State));
    let body = sound.request(8, 9);
    let mut next = pin!(witness.add_checkpoint(body.as_bytes(), now));
    assert!(next.as_mut().poll(&mut context).is_pending());
    assert!(committer.as_mut().poll(&mut context).is_pending());
    assert!(matches!(next.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
}

#[test]
fn what_is_on_record_is_not_written_again_until_it_is_old() {
    const TIME: u64 = 1_795_000_000;
    let signer = CosignerSigner::generate("witness.example/w".parse().unwrap(), [200; 32]);
    let log = MemoryLog::new(ORIGIN, Suite::Sha256, 1);
    let keys: String = log.keys().map(|key| format!("log {key}\n")).collect();
    let logs = LogList::parse(keys.as_bytes(), signer.verifier_key()).unwrap();
    let state = Arc::new(State::in_memory(signer.verifier_key()));
    let (witness, updates) = Witness::new(signer, state.clone(), logs);
    let at = |seconds| move || UnixSeconds::new(seconds).ok();
    let mut context = Context::from_waker(Waker::noop());

    let body = log.request(0, 8);
    let mut first = pin!(witness.add_checkpoint(body.as_bytes(), at(TIME)));
    let mut committer = pin!(committer::run(state, updates));
    assert!(first.as_mut().poll(&mut context).is_pending());
    assert!(committer.as_mut().poll(&mut context).is_pending());
    let Poll::Ready(Ok(given)) = first.as_mut().poll(&mut context) else {
        panic!("it was not cosigned");
    };

    // The committer does not run: an answer at once is one that was not written.
    let head = log.head(8);
    let stamped_alone = &head[..head.trim_end().rfind('\n').unwrap() + 1];
    for note in [head.as_str(), stamped_alone] {
        let body = add_checkpoint(8, &[], note);
        for age in [0, 9] {
            let mut again = pin!(witness.add_checkpoint(body.as_bytes(), at(TIME + age)));
            assert_eq!(again.as_mut().poll(&mut context), Poll::Ready(Ok(given.clone())));
        }
        // It is old, or the clock was set back.
        for time in [TIME + 10, TIME - 1] {
            let mut again = pin!(witness.add_checkpoint(body.as_bytes(), at(time)));
            assert!(again.as_mut().poll(&mut context).is_pending());
        }
    }

    // Then it is cosigned anew, and no line of the log is lost.
    let body = add_checkpoint(8, &[], stamped_alone);
    let mut again = pin!(witness.add_checkpoint(body.as_bytes(), at(TIME + 10)));
    assert!(again.as_mut().poll(&mut context).is_pending());
    assert!(committer.as_mut().poll(&mut context).is_pending());
    let Poll::Ready(Ok(renewed)) = again.as_mut().poll(&mut context) else {
        panic!("it was not cosigned");
    };
    assert_ne!(renewed, given);
    let newest = witness.newest(OriginHash::of(ORIGIN)).unwrap().unwrap();
    assert_eq!(String::from_utf8(newest).unwrap(), format!("{head}{renewed}\n"));
}
