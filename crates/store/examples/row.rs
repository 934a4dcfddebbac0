//! `row DATABASE get|put|delete|list FAMILY [KEY [VALUE]]`: reads and changes single rows of a log's database with RocksDB
//! itself, so that its checksums fit. Keys and values are in hex. For tests and drills: run it on a copy, with the server
//! stopped.

use std::{env, error::Error, process::ExitCode};

use rocksdb::{DB, IteratorMode, Options};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("row: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Box<dyn Error>> {
    let [database, verb, family, rest @ ..] = arguments else {
        return Err("usage: row DATABASE get|put|delete|list FAMILY [KEY [VALUE]]".into());
    };
    let families = DB::list_cf(&Options::default(), database)?;
    let db = DB::open_cf(&Options::default(), database, families)?;
    let family = db.cf_handle(family).ok_or("there is no such family")?;
    match (*verb, rest) {
        ("list", []) => {
            for row in db.iterator_cf(family, IteratorMode::Start) {
                let (key, value) = row?;
                println!("{} {}", hex::encode(key), hex::encode(value));
            }
        }
        ("get", [key]) => {
            let value = db
                .get_cf(family, hex::decode(key)?)?
                .ok_or("there is no such row")?;
            println!("{}", hex::encode(value));
        }
        ("put", [key, value]) => db.put_cf(family, hex::decode(key)?, hex::decode(value)?)?,
        ("delete", [key]) => db.delete_cf(family, hex::decode(key)?)?,
        _ => return Err("no such command".into()),
    }
    Ok(())
}
