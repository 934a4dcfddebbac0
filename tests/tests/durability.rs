//! What was acknowledged stays, whatever happens to the server. The short form of `cargo xtask strength crash`.
//!
//! `COUNTERFOIL_TEST_SEED` replays the delays and loads of a run; `COUNTERFOIL_TEST_ROUNDS` makes it longer or shorter.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{env, sync::Arc, time::SystemTime};

use counterfoil_tests::{
    Data, Hook, Load, Server,
    crash::{self, Fault, KEPT, Subject},
    cut_short,
    power::can_trace,
};
use fastrand::Rng;
use rustix::process::Signal;

fn from_environment(name: &str) -> Option<u64> {
    Some(env::var(name).ok()?.parse().expect("a number"))
}

fn random() -> Rng {
    let seed = from_environment("COUNTERFOIL_TEST_SEED").unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("COUNTERFOIL_TEST_SEED={seed}");
    Rng::with_seed(seed)
}

fn rounds(short: u64) -> u64 {
    from_environment("COUNTERFOIL_TEST_ROUNDS").unwrap_or(short)
}

/// Reads all of it, and asserts that there was something to lose.
async fn finish(mut subject: Subject, rounds: u64, random: &mut Rng) {
    let entries = subject.finish(random).await;
    let (promised, heads) = subject.promised();
    println!(
        "{entries} entries, {promised} promised, {heads} heads seen: {:?}",
        subject.counts()
    );
    assert!(promised as u64 > rounds, "hardly anything was promised");
    assert!(heads > 0 || rounds == 0, "no published head was seen");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_sigkill() {
    let mut random = random();
    let rounds = rounds(8);
    for mut subject in [
        Subject::new("blake3").anchored(),
        Subject::new("sha256").witnessed(),
    ] {
        for round in 0..rounds / 2 {
            subject.kill(&format!("round-{round}"), &mut random).await;
        }
        finish(subject, rounds / 2, &mut random).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_lost_power() {
    if !can_trace() {
        return;
    }
    let mut random = random();
    let rounds = rounds(2).div_ceil(2);
    let mut kept = 0;
    for mut subject in [Subject::new("blake3"), Subject::new("sha256").witnessed()] {
        for round in 0..rounds {
            subject
                .lose_power(&format!("round-{round}"), 6, &mut random)
                .await;
        }
        println!("{:?}", subject.counts());
        kept += subject.counts().get(KEPT).copied().unwrap_or_default();
        subject.finish(&mut random).await;
    }
    assert!(kept > 0 || rounds == 0, "no receipt had to hold");
}

#[test]
fn a_log_is_made_whole_or_not_at_all() {
    if can_trace() {
        crash::lose_power_while_a_log_is_made(6, &mut random());
    }
}

#[test]
fn a_token_is_made_whole_or_not_at_all() {
    if can_trace() {
        cut_short::lose_power_while_a_token_is_made(&mut random());
    }
}

#[test]
fn a_witness_is_made_whole_or_not_at_all() {
    if can_trace() {
        cut_short::lose_power_while_a_witness_is_made(&mut random());
    }
}

#[test]
fn what_a_witness_cosigned_survives_lost_power() {
    if can_trace() {
        cut_short::lose_power_under_a_witness(8, &mut random());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_token_that_was_spent_survives_lost_power_as_spent() {
    if can_trace() {
        cut_short::lose_power_after_tokens_are_spent(&mut random()).await;
    }
}

#[test]
fn an_event_that_a_second_try_finds_queued_stays_queued() {
    if can_trace() {
        cut_short::lose_power_after_an_event_is_queued_again(&mut random());
    }
}

#[test]
fn a_token_that_a_second_try_finds_revoked_stays_revoked() {
    if can_trace() {
        cut_short::lose_power_after_a_token_is_revoked_again(&mut random());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_calls_that_fail() {
    if !can_trace() {
        return;
    }
    let mut random = random();
    let rounds = rounds(6);
    let faults = Fault::all();
    let subject = Subject::new("sha256");
    let mut subject = if random.bool() {
        subject.witnessed()
    } else {
        subject
    };
    for round in 0..rounds {
        let fault = random.choice(&faults).unwrap();
        let was_hit = subject.fail(fault, &format!("round-{round}"), &mut random).await;
        println!("{fault:?}: {was_hit}");
    }
    finish(subject, 0, &mut random).await;
}

/// Clients take a connection that breaks for what it is: a server that went away untold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[should_panic(expected = "JoinError::Panic")]
async fn a_server_that_ends_by_itself_is_noticed() {
    let (data, log) = Data::with_main_log();
    let hook = Hook::add(&data, "github", "github", &[]);
    let server = Arc::new(Server::start(&data, &[]));
    let mut load = Load::start(&server, None, &Arc::new(log), &hook, "load", &mut random());
    load.answered(1).await;
    server.signal(Signal::KILL);
    load.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_full_disk() {
    if let Some(subject) = crash::fill_disk("full", &mut random()).await {
        println!("{:?}", subject.counts());
        assert!(
            subject.promised().0 >= 50,
            "it was full before anything was promised"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_goes_on_while_the_clock_goes_back() {
    crash::step_clock("clock", &mut random()).await;
}
