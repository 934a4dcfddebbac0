//! Two histories at once, and the end of the process at any moment.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use counterfoil_merkle::Suite;
use counterfoil_tests::{Connection, MemoryLog, Witness, WitnessData};

use super::{NAME, connect, witness};

#[test]
fn of_forks_that_race_exactly_one_is_cosigned() {
    const LOGS: u8 = 40;
    let pairs: Vec<_> = (0..LOGS)
        .map(|number| {
            let (origin, suite) = (
                format!("log.example/{number}"),
                Suite::ALL[usize::from(number % 2)],
            );
            let [honest, forked] = [64, 4].map(|at| MemoryLog::forked(&origin, suite, 2 * number, at));
            (honest, forked)
        })
        .collect();
    let (_data, witness) = witness(&pairs.iter().map(|pair| &pair.0).collect::<Vec<_>>());
    let mut connection = connect(&witness);
    for (honest, _) in &pairs {
        assert_eq!(connection.add_checkpoint(honest.request(0, 4)).status, 200);
    }
    for (honest, forked) in &pairs {
        // Four clients a side, to different sizes, all from the size that both share.
        let start = Barrier::new(8);
        let won: Vec<bool> = thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|client| {
                    let (log, start, mut connection) = (
                        if client % 2 == 0 { honest } else { forked },
                        &start,
                        connect(&witness),
                    );
                    scope.spawn(move || {
                        let body = log.request(4, 8 + client / 4);
                        start.wait();
                        match connection.add_checkpoint(body).status {
                            200 => true,
                            409 => false,
                            other => panic!("{other}"),
                        }
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "{won:?}");
    }
}

/// What a client was told of one log.
struct Told {
    log: MemoryLog,
    /// The largest size that was answered with 200.
    size: AtomicU64,
}

/// Lets the log grow one leaf at a time until the witness is gone.
fn hammer(told: &Told, mut connection: Connection) {
    loop {
        let old = told.size.load(Ordering::Relaxed);
        let new = (old + 1).min(64);
        let Ok(answer) =
            connection.try_send("POST", "/add-checkpoint", told.log.request(old, new).as_bytes())
        else {
            return;
        };
        match answer.status {
            200 => told.size.store(new, Ordering::Relaxed),
            // One cosignature was on disk when the process was killed, and was not delivered.
            409 => {
                let stored: u64 = answer.body.trim_end().parse().unwrap();
                assert_eq!(
                    stored,
                    old + 1,
                    "the witness forgot what it answered, or cosigned what was not asked"
                );
                told.size.store(stored, Ordering::Relaxed);
            }
            other => panic!("{other} {}", answer.body),
        }
    }
}

#[test]
fn a_witness_that_is_killed_at_any_moment_remembers_every_answer() {
    const ROUNDS: u64 = 6;
    let told: Arc<Vec<Told>> = Arc::new(
        (0..16_u8)
            .map(|number| Told {
                log: MemoryLog::new(
                    &format!("log.example/{number}"),
                    Suite::ALL[usize::from(number % 2)],
                    2 * number,
                ),
                size: AtomicU64::new(0),
            })
            .collect(),
    );
    let data = WitnessData::init(NAME);
    data.set_logs(&told.iter().flat_map(|told| told.log.keys()).collect::<Vec<_>>());
    for round in 0..ROUNDS {
        let witness = Witness::start(&data);
        let clients: Vec<_> = (0..told.len())
            .map(|number| {
                let (told, connection) = (told.clone(), connect(&witness));
                thread::spawn(move || hammer(&told[number], connection))
            })
            .collect();
        thread::sleep(Duration::from_millis(3 + 7 * round));
        witness.kill();
        for client in clients {
            client.join().unwrap();
        }
    }
    assert!(
        told.iter().any(|told| told.size.load(Ordering::Relaxed) > 3),
        "nothing was cosigned"
    );

    let witness = Witness::start(&data);
    let mut connection = connect(&witness);
    for told in told.iter() {
        let answered = told.size.load(Ordering::Relaxed);
        let answer = connection.add_checkpoint(told.log.request(answered, 64));
        match answer.status {
            200 => {}
            409 => assert_eq!(answer.body, format!("{}\n", answered + 1)),
            other => panic!("{other}"),
        }
    }
    witness.stop();
}
