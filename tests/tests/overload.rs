//! The short form of `cargo xtask strength overload`: what has to hold however fast the machine is.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use counterfoil_tests::{Crowd, Data, Overload, Server};

/// More than the queue holds, on some hundred connections, and then as before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overload_loses_nothing_and_keeps_to_its_memory() {
    const MEMORY_MIB: u64 = 32;
    /// Queue, messages, bodies, windows, and what the run over all kinds of loads allows.
    const MORE_MEMORY_MIB: u64 = 768;
    let crowd = Crowd {
        usual: 4,
        giants: 40,
        unread: 8,
        churn: 40,
        half: 40,
        silent: 150,
    };
    let (data, log) = Data::with_main_log();
    let server = Server::start(
        &data,
        &[
            "--memory-mib",
            &MEMORY_MIB.to_string(),
            "--metrics-listen",
            "127.0.0.1:0",
        ],
    );
    let overload = Overload::of(&server);
    let at_once = Duration::ZERO;
    let over = overload.phase(crowd, at_once, Duration::from_secs(2)).await;
    let again = overload
        .phase(Crowd::USUAL, at_once, Duration::from_secs(1))
        .await;

    assert!(
        over.put_off_us.times() > 0,
        "it was not too much: forty of the largest batches found room in the queue"
    );
    for phase in [&over, &again] {
        assert!(phase.accepted.load(Ordering::Relaxed) > 0, "nothing was accepted");
        for health in [&phase.health, &phase.probe] {
            assert_eq!(health.unanswered.load(Ordering::Relaxed), 0);
        }
        assert_eq!(phase.failures(), BTreeMap::new());
        assert_eq!(overload.lost(phase).await, [""; 0]);
    }
    let peak_mib = server.peak_memory_bytes() / 1_048_576;
    assert!(peak_mib < MEMORY_MIB + MORE_MEMORY_MIB, "{peak_mib} MiB");
    server.assert_nothing_broke();
    drop(log);
    server.stop();
    data.assert_sound();
}
