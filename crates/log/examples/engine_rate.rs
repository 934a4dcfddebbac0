//! How fast the engine alone takes events: no gRPC, receipts made but not verified.
//!
//! `engine_rate BATCH TASKS SECONDS [PAYLOAD_BYTES]`

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use counterfoil_event::{Event, EventParts, Submitter};
use counterfoil_log::{DataDirectory, Log, LogName, LogOptions, create_log};
use counterfoil_merkle::Suite;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<u64> = env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let [batch, tasks, seconds] = arguments[..3] else {
        return Err("engine_rate BATCH TASKS SECONDS [PAYLOAD_BYTES]".into());
    };
    let payload_bytes = usize::try_from(arguments.get(3).copied().unwrap_or(1024))?;

    let directory = tempfile::tempdir_in(".")?;
    let data = DataDirectory::new(directory.path());
    create_log(
        &data,
        &LogName::default(),
        &"bench.example/engine".parse()?,
        Suite::Blake3,
    )?;
    let log = Arc::new(Log::open(&data, &LogName::default(), LogOptions::default())?);
    let count = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let started = Instant::now();
    let deadline = started + Duration::from_secs(seconds);
    runtime.block_on(async {
        let tasks: Vec<_> = (0..tasks)
            .map(|task| {
                tokio::spawn(submit_until(
                    log.clone(),
                    task,
                    batch,
                    payload_bytes,
                    deadline,
                    count.clone(),
                ))
            })
            .collect();
        for task in tasks {
            task.await.expect("tasks do not panic");
        }
    });
    let rate = count.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    println!("{rate:.0} events/s in batches of {batch} from {tasks} tasks, {payload_bytes} bytes of payload");
    Ok(())
}

async fn submit_until(
    log: Arc<Log>,
    task: u64,
    batch: u64,
    payload_bytes: usize,
    deadline: Instant,
    count: Arc<AtomicU64>,
) {
    let mut number = 0;
    while Instant::now() < deadline {
        let events = (0..batch)
            .map(|_| {
                number += 1;
                log.prepare(event(task, number, payload_bytes), &Submitter::anonymous())
            })
            .collect();
        let submitted = log.submit(events).await.expect("the log takes what it is given");
        count.fetch_add(submitted.outcomes.len() as u64, Ordering::Relaxed);
    }
}

fn event(task: u64, number: u64, payload_bytes: usize) -> Event {
    let mut data = format!("{{\"run\":{{\"id\":{number},\"task\":{task}}},\"digest\":\"").into_bytes();
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ task;
    while data.len() < payload_bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        data.extend_from_slice(format!("{:016x}\",\"step\":\"", state >> 1).as_bytes());
    }
    data.truncate(payload_bytes);
    Event::try_from(EventParts {
        id: format!("{task}-{number}"),
        source: "https://ci.example/bench".to_owned(),
        event_type: "ci.run.finished".to_owned(),
        data_content_type: "application/json".to_owned(),
        data: Bytes::from(data),
        ..EventParts::default()
    })
    .expect("the event is valid")
}
