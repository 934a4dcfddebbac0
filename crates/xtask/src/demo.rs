//! `cargo xtask demo`: a log from its first entry to the day that somebody rewrites it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result};

use crate::cargo::Workspace;
use crate::shell::{Shell, quoted};

const ORIGIN: &str = "demo.example/main";

/// What a pipeline reports about one change, first to last.
const EVENTS: [Event; 4] = [
    Event {
        name: "merged",
        event_type: "scm.change.merged",
        data: r#"{"change":{"number":17,"base_ref":"refs/heads/main"},"review":{"state":"approved"}}"#,
    },
    Event {
        name: "tested",
        event_type: "ci.run.finished",
        data: r#"{"run":{"number":402,"attempt":1},"outcome":"success"}"#,
    },
    Event {
        name: "built",
        event_type: "artifact.built",
        data: r#"{"run":{"number":402},"artifacts":[{"name":"counterfoil","tag":"v0.1.0"}]}"#,
    },
    Event {
        name: "deployed",
        event_type: "deploy.succeeded",
        data: r#"{"deployment":{"environment":"production","status":"success"}}"#,
    },
];

struct Event {
    /// Names the event's files.
    name: &'static str,
    event_type: &'static str,
    data: &'static str,
}

/// Plays the whole story. Every step has to go as told, the refusals too.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    workspace.build_demo()?;
    let mut shell = open_shell(workspace)?;
    let receipt = record(&mut shell, workspace.root())?;
    check_offline(&shell)?;
    witness(&mut shell, &receipt)?;
    fork(&shell)?;
    tamper(&mut shell, &receipt)?;
    print_what_next(&shell);
    Ok(())
}

fn open_shell(workspace: &Workspace) -> Result<Shell> {
    let directory = env::temp_dir().join(format!("counterfoil-demo-{}", process::id()));
    fs::create_dir(&directory).with_context(|| format!("creating {}", directory.display()))?;
    chapter("A directory for the demo");
    let mut shell = Shell::open(directory);
    let programs = workspace.release_directory();
    shell.export(
        "PATH",
        &format!(
            "{}:{}:\"$PATH\"",
            quoted(programs),
            quoted(&programs.join("examples"))
        ),
    );
    // What the client remembers of this log is of no use to the user's other logs.
    shell.export("XDG_STATE_HOME", &quoted(&shell.directory().join("state")));
    Ok(shell)
}

/// Records real history and a pipeline's events in a new log, and asks the log to prove them.
fn record(shell: &mut Shell, checkout: &Path) -> Result<Receipt> {
    chapter("A new log; its public key is all that anyone has to trust");
    shell.run(&format!(
        "counterfoild init --data data --origin {ORIGIN} > log.vkey"
    ))?;
    shell.run("cat log.vkey")?;
    shell.export("COUNTERFOIL_LOG_KEY", "@log.vkey");
    let server = shell.start_server(
        "counterfoild serve --data data --listen 127.0.0.1:0",
        "server.log",
    )?;
    shell.export("COUNTERFOIL_SERVER", &server.url());

    chapter("Git history goes in: commits, merges and tags");
    let repository = if has_history(checkout) {
        checkout.to_path_buf()
    } else {
        make_repository(shell)?
    };
    shell.run(&format!("counterfoil import git {}", quoted(&repository)))?;

    chapter("A pipeline reports what it did; each event comes back with a receipt");
    shell.run("mkdir events receipts")?;
    for Event {
        name,
        event_type,
        data,
    } in EVENTS
    {
        shell.run(&format!("echo '{data}' > events/{name}.json"))?;
        shell.run(&format!(
            "counterfoil submit --source ci.example/shop --id {name}-17 --type {event_type} \
             --data-file events/{name}.json --receipt receipts/{name}.tlog-proof"
        ))?;
    }
    let receipt = Receipt::read(&shell.directory().join("receipts/built.tlog-proof"))?;

    chapter("The log grows: a second of load, every receipt verified");
    shell.run("counterfoil bench ingest --mode batch --batch 64 --size 512 --duration 1")?;

    chapter(
        "The log proves that the event is in its tree, and that the tree has only grown since the receipt",
    );
    shell.run("counterfoil head")?;
    shell.run(&format!("counterfoil prove inclusion {}", receipt.leaf_index))?;
    shell.run(&format!("counterfoil prove consistency {}", receipt.tree_size))?;
    shell.stop_server(server)?;
    shell.unset("COUNTERFOIL_SERVER");
    Ok(receipt)
}

fn check_offline(shell: &Shell) -> Result<()> {
    chapter("With the server gone, a receipt still proves what was logged, and when");
    shell.run("counterfoil verify receipts/built.tlog-proof --payload events/built.json")?;
    chapter("The operator's own check: every leaf, tile, head and index, computed anew");
    shell.run("counterfoild fsck --data data")
}

/// Has the log's heads cosigned by a witness, and checks a receipt that says so.
fn witness(shell: &mut Shell, receipt: &Receipt) -> Result<()> {
    chapter("Somebody else watches the log: a witness cosigns heads that continue what it cosigned before");
    shell.run("counterfoil witness init --data witness --name witness.example/w1 > witness.vkey")?;
    shell.run("sed 's/^/log /' log.vkey > witnessed-logs")?;
    let witness = shell.start_server(
        "counterfoil witness serve --data witness --logs witnessed-logs --listen 127.0.0.1:0",
        "witness.log",
    )?;
    chapter("Whom to trust is a file: this log, and only with the witness");
    shell.run(&format!(
        "printf 'log %s\\nwitness w1 %s {}\\nquorum w1\\n' \"$(cat log.vkey)\" \"$(cat witness.vkey)\" > trust.policy",
        witness.url()
    ))?;
    shell.run("counterfoil policy check trust.policy")?;
    shell.unset("COUNTERFOIL_LOG_KEY");
    shell.export("COUNTERFOIL_POLICY", "trust.policy");
    let server = shell.start_server(
        "counterfoild serve --data data --witness-policy trust.policy --listen 127.0.0.1:0",
        "witnessed.log",
    )?;
    shell.run(&format!(
        "counterfoil receipt {} --server {} --output receipts/witnessed.tlog-proof",
        receipt.leaf_index,
        server.url()
    ))?;
    shell.stop_server(server)?;
    shell.stop_server(witness)?;
    shell.run("counterfoil verify receipts/witnessed.tlog-proof --payload events/built.json")?;
    shell.unset("COUNTERFOIL_POLICY");
    shell.export("COUNTERFOIL_LOG_KEY", "@log.vkey");
    Ok(())
}

/// Lets two copies of the log go on apart, as an operator would who shows different histories to different people.
fn fork(shell: &Shell) -> Result<()> {
    chapter("The operator shows two histories: a copy of the log goes on by itself");
    shell.run("cp -r data copy")?;
    let serve = |data, log_file| {
        shell.start_server(
            &format!("counterfoild serve --data {data} --listen 127.0.0.1:0"),
            log_file,
        )
    };
    let (log, copy) = (serve("data", "log.log")?, serve("copy", "copy.log")?);
    for (server, environment) in [(&log, "production"), (&copy, "staging")] {
        shell.run(&format!(
            "counterfoil submit --server {} --state-dir state-{environment} --source ci.example/shop \
             --id release-18 --type deploy.succeeded --data {environment}",
            server.url()
        ))?;
    }

    chapter("A monitor compares what both show, and keeps what the log's own signatures prove");
    shell.run("printf 'log %s\\nquorum none\\n' \"$(cat log.vkey)\" > monitor.policy")?;
    shell.run(&format!(
        "printf '%s\\n' 'state_dir = \"monitor\"' '[[log]]' 'name = \"shop\"' 'policy = \"monitor.policy\"' \
         'sources = [{{ tiles = \"{}/logs/main/\" }}, {{ grpc = \"{}\" }}]' > monitor.toml",
        log.url(),
        copy.url()
    ))?;
    // Published heads follow the newest entries within a second.
    shell.run("sleep 2")?;
    shell.run_expecting_refusal("counterfoil monitor --config monitor.toml --once", &["FINDING"])?;
    shell.stop_server(log)?;
    shell.stop_server(copy)?;

    chapter("Anyone with the log's key confirms that, without the log and without the monitor");
    shell.run("counterfoil verify --evidence monitor/evidence/*.evidence")
}

/// Changes a stored byte in a copy of the log, and has it found from three sides.
fn tamper(shell: &mut Shell, receipt: &Receipt) -> Result<()> {
    let index = receipt.leaf_index;
    chapter(&format!(
        "Somebody changes one byte of entry {index}, here in a copy of the log"
    ));
    shell.run("cp -r data tampered")?;
    shell.run(&format!("tamper tampered main {index}"))?;

    chapter("1. The operator's check names the place");
    shell.run_expecting_refusal("counterfoild fsck --data tampered", &[&index.to_string()])?;

    chapter("2. A client refuses what the log now says");
    let server = shell.start_server(
        "counterfoild serve --data tampered --listen 127.0.0.1:0",
        "tampered.log",
    )?;
    shell.export("COUNTERFOIL_SERVER", &server.url());
    shell.run_expecting_refusal(&format!("counterfoil get {index}"), &[])?;

    chapter("3. The old receipt still verifies by itself, and contradicts the log");
    shell.unset("COUNTERFOIL_SERVER");
    shell.run("counterfoil verify receipts/built.tlog-proof")?;
    let compare = format!(
        "counterfoil verify receipts/built.tlog-proof --server {}",
        server.url()
    );
    shell.run_expecting_refusal(&compare, &[])?;
    shell.stop_server(server)
}

/// Whether this is a git checkout with a commit; an unpacked archive is none.
fn has_history(checkout: &Path) -> bool {
    let mut newest_commit = Command::new("git");
    newest_commit
        .args(["rev-parse", "--quiet", "--verify", "HEAD"])
        .current_dir(checkout);
    newest_commit.stdout(Stdio::null()).stderr(Stdio::null());
    // An archive may lie inside of somebody else's repository.
    checkout.join(".git").exists() && newest_commit.status().is_ok_and(|status| status.success())
}

fn make_repository(shell: &Shell) -> Result<PathBuf> {
    println!("This checkout has no history, so a small one is made.");
    shell.run("git init --quiet repository")?;
    for change in ["Add the shop", "Sell umbrellas", "Raise prices when it rains"] {
        shell.run(&format!(
            "git -C repository -c user.name=Ada -c user.email=ada@example.com \
             commit --quiet --allow-empty --message '{change}'"
        ))?;
    }
    Ok(shell.directory().join("repository"))
}

fn chapter(title: &str) {
    println!("\n## {title}");
}

fn print_what_next(shell: &Shell) {
    let directory = quoted(shell.directory());
    println!(
        "\nAll went as it should: two histories convicted their log, and one changed byte was noticed by three parties on \
         their own."
    );
    println!("\nThe log is still in {directory}. To go on with it:\n");
    for line in shell.setup() {
        println!("    {line}");
    }
    println!(
        "    counterfoild serve --data data &
    counterfoil head --watch &
    counterfoil import git PATH_OF_A_REPOSITORY
    counterfoil bench ingest --mode stream --connections 2 --in-flight 256 --size 1024 --duration 10

Remove it with `rm -r {directory}`. Run the tests with `cargo xtask test`."
    );
}

/// What the demo reads from a receipt file.
struct Receipt {
    leaf_index: u64,
    tree_size: u64,
}

impl Receipt {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("{} is no receipt", path.display()))
    }

    fn parse(text: &str) -> Option<Self> {
        // The proof, an empty line, then the checkpoint: origin, size, root.
        let (proof, checkpoint) = text.split_once("\n\n")?;
        let leaf_index = proof.lines().find_map(|line| line.strip_prefix("index "))?;
        Some(Self {
            leaf_index: leaf_index.parse().ok()?,
            tree_size: checkpoint.lines().nth(1)?.parse().ok()?,
        })
    }
}
