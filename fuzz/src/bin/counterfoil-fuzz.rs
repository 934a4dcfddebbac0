//! Runs the targets under libFuzzer, one after another or a few at a time, and prints what came of it.
//! `cargo xtask strength fuzz` builds what this runs.
#![allow(missing_docs)]

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Mutex,
    thread,
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use comfy_table::{Table, presets};
use counterfoil_fuzz::{TARGETS, Target};

/// A run that takes more memory than this is a finding.
const MAX_RSS_MIB: usize = 1024;
/// An input that takes longer than this is a finding.
const MAX_INPUT_SECONDS: u32 = 10;

/// Feed every parser what comes from outside, and worse
#[derive(Parser)]
#[command(name = "cargo xtask strength fuzz")]
struct Options {
    /// Only this target; may be given several times
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// How long each target is tried
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u32,
    /// How many targets are tried at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// List the targets and what they read
    #[arg(long)]
    list: bool,
    /// More seeds: a directory with a directory for each target
    #[arg(long, value_name = "DIRECTORY")]
    seeds: Option<PathBuf>,
    /// The targets, built for libFuzzer
    #[arg(long, value_name = "FILE", hide = true)]
    executable: PathBuf,
    /// Where corpora and what breaks a target are kept
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    work: PathBuf,
}

/// What came of one target.
struct Outcome {
    target: &'static Target,
    inputs: u64,
    inputs_per_second: u64,
    covered: String,
    corpus: String,
    peak_mib: u64,
    broken: Vec<PathBuf>,
    /// libFuzzer ended by itself, tried something, and found nothing.
    clean: bool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all targets held.
fn run(options: &Options) -> Result<bool> {
    if options.list {
        TARGETS
            .iter()
            .for_each(|target| println!("{:<20} {}", target.name, target.about));
        return Ok(true);
    }
    let chosen = chosen(&options.target)?;
    ensure!(options.jobs >= 1, "--jobs takes 1 or more");
    let waiting = Mutex::new(chosen.into_iter());
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..options.jobs)
            .map(|_| {
                scope.spawn(|| -> Result<()> {
                    loop {
                        let next = waiting.lock().expect("no worker panics with it").next();
                        let Some(target) = next else { return Ok(()) };
                        let outcome = fuzz(target, options)?;
                        outcomes.lock().expect("no worker panics with it").push(outcome);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().expect("a worker returns its errors"))
    })?;
    let outcomes = outcomes.into_inner().expect("no worker panics with it");
    println!("{}", table(&outcomes, options.seconds));
    for path in outcomes.iter().flat_map(|outcome| &outcome.broken) {
        println!("broken by {}", path.display());
    }
    Ok(outcomes
        .iter()
        .all(|outcome| outcome.clean && outcome.broken.is_empty()))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    let find = |name: &String| {
        Target::find(name).with_context(|| format!("there is no target {name}; --list has them"))
    };
    names.iter().map(find).collect()
}

fn fuzz(target: &'static Target, options: &Options) -> Result<Outcome> {
    let directory = options.work.join(target.name);
    let [corpus, seeds, broken] = ["corpus", "seeds", "broken"].map(|name| directory.join(name));
    for path in [&corpus, &seeds, &broken] {
        fs::create_dir_all(path).with_context(|| format!("creating {}", path.display()))?;
    }
    let words = directory.join("words");
    // libFuzzer opens it before the target has written it.
    File::create(&words).with_context(|| format!("creating {}", words.display()))?;
    prepare(target, options, &seeds, &words)?;
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("regressions")
        .join(target.name);
    let more = options.seeds.as_ref().map(|seeds| seeds.join(target.name));
    eprintln!("{}: {} s", target.name, options.seconds);
    let mut fuzzer = libfuzzer(target, options);
    fuzzer
        .arg(&corpus)
        .arg(&seeds)
        .args(
            [Some(regressions), more]
                .into_iter()
                .flatten()
                .filter(|path| path.is_dir()),
        )
        // A dictionary without words is an error to libFuzzer.
        .args((words.metadata()?.len() > 0).then(|| format!("-dict={}", words.display())))
        .arg(format!("-artifact_prefix={}/", broken.display()))
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-max_len={}", target.max_bytes))
        .arg(format!("-timeout={MAX_INPUT_SECONDS}"))
        .arg(format!("-rss_limit_mb={MAX_RSS_MIB}"))
        .args(["-print_final_stats=1", "-use_value_profile=1", "-reload=0"]);
    outcome(target, fuzzer.spawn().context("starting libFuzzer")?, &broken)
}

/// Lets the target write its seeds and words.
fn prepare(target: &Target, options: &Options, seeds: &Path, words: &Path) -> Result<()> {
    let status = libfuzzer(target, options)
        .env("COUNTERFOIL_FUZZ_SEEDS", seeds)
        .env("COUNTERFOIL_FUZZ_WORDS", words)
        .arg("-runs=0")
        .stderr(Stdio::null())
        .status()
        .context("starting libFuzzer")?;
    ensure!(
        status.success(),
        "the target {} breaks without any input",
        target.name
    );
    Ok(())
}

fn libfuzzer(target: &Target, options: &Options) -> Command {
    let mut command = Command::new(&options.executable);
    command
        .env("COUNTERFOIL_FUZZ_TARGET", target.name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

/// Reads what libFuzzer says of itself.
fn outcome(target: &'static Target, mut fuzzer: Child, broken: &Path) -> Result<Outcome> {
    let said = fuzzer.stderr.take().context("libFuzzer's messages")?;
    let mut log = Vec::new();
    let (mut covered, mut corpus) = (String::new(), String::new());
    let (mut inputs, mut inputs_per_second, mut peak_mib) = (0, 0, 0);
    for line in BufReader::new(said).lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).map(|word| (*word).to_owned())
        };
        let number = |name| after(name).and_then(|word| word.parse::<u64>().ok());
        if line.starts_with('#') {
            covered = after("cov:").unwrap_or(covered);
            corpus = after("corp:").unwrap_or(corpus);
            continue;
        }
        inputs = number("stat::number_of_executed_units:").unwrap_or(inputs);
        inputs_per_second = number("stat::average_exec_per_sec:").unwrap_or(inputs_per_second);
        peak_mib = number("stat::peak_rss_mb:").unwrap_or(peak_mib);
        log.push(line);
    }
    let status = fuzzer.wait().context("waiting for libFuzzer")?;
    eprintln!("{}: {inputs} inputs, {covered} edges, {status}", target.name);
    let clean = status.success() && inputs > 0;
    if !clean {
        log.iter().for_each(|line| eprintln!("{}: {line}", target.name));
    }
    Ok(Outcome {
        target,
        inputs,
        inputs_per_second,
        covered,
        corpus,
        peak_mib,
        broken: files(broken)?,
        clean,
    })
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn table(outcomes: &[Outcome], seconds: u32) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header([
        "target",
        "seconds",
        "inputs",
        "inputs/s",
        "edges",
        "corpus",
        "peak MiB",
        "broken by",
    ]);
    for outcome in outcomes {
        table.add_row([
            outcome.target.name.to_owned(),
            seconds.to_string(),
            outcome.inputs.to_string(),
            outcome.inputs_per_second.to_string(),
            outcome.covered.clone(),
            outcome.corpus.clone(),
            outcome.peak_mib.to_string(),
            match (outcome.broken.len(), outcome.clean) {
                (0, false) => "?".to_owned(),
                (count, _) => count.to_string(),
            },
        ]);
    }
    table
}
