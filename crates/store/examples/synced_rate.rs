//! How fast the database alone takes leaves: no tree, no signature, payloads of 1 KiB, each batch synced.
//!
//! `synced_rate BATCH SECONDS`: what everything above the store is measured against.

use std::{
    env,
    error::Error,
    time::{Duration, Instant},
};

use counterfoil_event::EventKey;
use counterfoil_merkle::{LeafIndex, Suite};
use counterfoil_store::{Store, StoreOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<u64> = env::args()
        .skip(1)
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    let [batch_size, seconds] = arguments[..] else {
        return Err("synced_rate BATCH SECONDS".into());
    };
    let directory = tempfile::tempdir_in(".")?;
    let store = Store::create(&directory.path().join("db"), &StoreOptions::default())?;

    let entry = [7; 250];
    // Half of each is hex digits, as in the reports that the load generator sends, and comes to a quarter.
    let mut random = fastrand::Rng::with_seed(7);
    let mut payloads = [[7; 1024]; 64];
    for digit in payloads.iter_mut().flat_map(|payload| &mut payload[..512]) {
        *digit = b"0123456789abcdef"[random.usize(..16)];
    }
    let mut written = 0;
    let mut latencies = Vec::new();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(seconds) {
        let batch_started = Instant::now();
        let mut batch = store.batch();
        for number in written..written + batch_size {
            let leaf_hash = Suite::Blake3.leaf_hash(&number.to_be_bytes());
            let event = EventKey::new("synced_rate", &number.to_string());
            let payload = payloads[usize::try_from(number)? % payloads.len()].as_slice();
            batch.put_leaf(LeafIndex::new(number)?, &entry, payload, &leaf_hash, &event);
        }
        batch.write()?;
        written += batch_size;
        latencies.push(batch_started.elapsed());
    }
    latencies.sort_unstable();
    println!(
        "{:.0} leaves/s in batches of {batch_size}; a batch takes {:.3} ms (median)",
        written as f64 / started.elapsed().as_secs_f64(),
        latencies[latencies.len() / 2].as_secs_f64() * 1e3,
    );
    Ok(())
}
