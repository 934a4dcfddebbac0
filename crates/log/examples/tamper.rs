//! `tamper DATA_DIR LOG_NAME INDEX`: does to a log what somebody with write access to its disk could do.
//!
//! It backdates one entry by changing one byte of its time. RocksDB writes the row, so all its checksums fit; the entry
//! is well-formed; payload, attributes and index rows stay as they were. Only the tree is evidence against it. For the
//! demonstration and for drills: run it on a copy, with the server stopped.

use std::{env, error::Error, process::ExitCode};

use counterfoil_event::{Attributes, Entry, EventKey};
use counterfoil_log::{DataDirectory, LogName};
use counterfoil_merkle::LeafIndex;
use counterfoil_note::SignerKey;
use counterfoil_store::{Disk, Store, StoreOptions, encode_payload};

/// The byte of the time that counts units of 2^40 ns, about 18 minutes.
const BYTE_OF_TIME: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [data, name, index] = arguments.as_slice() else {
        eprintln!("usage: tamper DATA_DIR LOG_NAME INDEX");
        return ExitCode::from(2);
    };
    match tamper(data, name, index) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("tamper: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn tamper(data: &str, name: &str, index: &str) -> Result<(), Box<dyn Error>> {
    let index = LeafIndex::new(index.parse()?)?;
    let directory = DataDirectory::new(data).log(&name.parse::<LogName>()?);
    let suite = std::fs::read_to_string(directory.keys())?
        .lines()
        .next()
        .ok_or("the key file is empty")?
        .parse::<SignerKey>()?
        .verifier_key()
        .suite();
    let store = Store::open(&directory.database(), &StoreOptions::default())?;

    let mut bytes = store
        .entry(index, Disk::Allowed)?
        .ok_or("the log has no such entry")?;
    let leaf_hash = suite.leaf_hash(&bytes);
    let before = Entry::decode(&bytes)?.time_unix_ns().get();
    let time = before.to_le_bytes();
    let offset = bytes
        .windows(time.len())
        .position(|window| window == time)
        .ok_or("the entry does not hold its time")?
        + BYTE_OF_TIME;
    let byte = bytes[offset];
    bytes[offset] = byte.wrapping_sub(1);
    let after = Entry::decode(&bytes)?.time_unix_ns().get();

    // The other rows of the leaf are written as they are: the index still leads from the old hash to the entry.
    let payload = store.payload(index)?.ok_or("its payload is missing")?;
    let attributes = Attributes::decode_canonical(&payload.attributes)?;
    let record = encode_payload(
        &payload.salt,
        &payload.attributes,
        &payload.annotations,
        &payload.data,
    );
    let mut batch = store.batch();
    batch.put_leaf(
        index,
        &bytes,
        record,
        &leaf_hash,
        &EventKey::new(&attributes.source, &attributes.id),
    );
    batch.write()?;
    store.flush()?;

    println!(
        "entry {index}: byte {offset} was {byte:02x} and is {:02x}",
        bytes[offset]
    );
    println!("  its time was {before} ns and is {after} ns since 1970");
    Ok(())
}
