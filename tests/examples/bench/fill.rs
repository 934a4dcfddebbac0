//! A log that grows in place, without a server: nothing that is measured, so as fast as can be.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use bytes::Bytes;
use counterfoil_event::{Event, EventParts, Submitter};
use counterfoil_log::{DataDirectory, Log, LogName, LogOptions};
use tokio::{runtime::Runtime, task::JoinSet};

const PAYLOAD_BYTES: usize = 100;
const BATCH: u64 = 2_048;
const TASKS: usize = 4;
/// Entries between lines about how far it is.
const STEP: u64 = 5_000_000;

/// Grows the log `main` of a data directory to so many entries. No server may have it open.
pub(crate) fn fill(directory: &Path, leaves: u64) -> Result<()> {
    let log = Log::open(
        &DataDirectory::new(directory),
        &LogName::default(),
        LogOptions::default(),
    )?;
    let log = Arc::new(log);
    let next = Arc::new(AtomicU64::new(log.commit_head().size.get()));
    let result = Runtime::new()?.block_on(async {
        let mut tasks = JoinSet::new();
        for _ in 0..TASKS {
            tasks.spawn(submit_until(log.clone(), next.clone(), leaves));
        }
        tasks.join_all().await.into_iter().collect()
    });
    log.stop();
    result
}

async fn submit_until(log: Arc<Log>, next: Arc<AtomicU64>, leaves: u64) -> Result<()> {
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= leaves {
            return Ok(());
        }
        let numbers = first..leaves.min(first + BATCH);
        if first / STEP < numbers.end / STEP {
            eprintln!("filling: {first} of {leaves} entries");
        }
        let events = numbers.map(|number| log.prepare(event(number), &Submitter::anonymous()));
        let events = events.collect();
        log.submit(events).await?;
    }
}

/// Half of what it says is random.
fn event(number: u64) -> Event {
    let mut random = fastrand::Rng::with_seed(number);
    let mut data = String::with_capacity(PAYLOAD_BYTES + 16);
    while data.len() < PAYLOAD_BYTES {
        data.push_str(&format!("{:016x}", random.u64(..)));
    }
    data.truncate(PAYLOAD_BYTES);
    Event::try_from(EventParts {
        id: format!("fill-{number}"),
        source: "https://ci.test.example/fill".to_owned(),
        event_type: "build.finished".to_owned(),
        data_content_type: "application/octet-stream".to_owned(),
        data: Bytes::from(data),
        ..EventParts::default()
    })
    .expect("such an event is valid")
}
