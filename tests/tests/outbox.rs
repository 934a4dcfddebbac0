//! A build goes on when the log is away: `counterfoil submit` queues on the machine, and nothing that it said it queued is
//! lost, doubled or delivered out of order, whenever the process is killed.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use axum::{Router, response::Html, routing::any};
use counterfoil_client::{Client, Leaf, Options};
use counterfoil_event::{Attributes, Event, EventParts};
use counterfoil_merkle::LeafIndex;
use counterfoil_note::Policy;
use counterfoil_tests::{Data, Server, TestLog, client_of, counterfoil, json_with};
use serde_json::Value;

/// A log that may be served or not, always at one address, and a machine that submits to it.
struct Machine {
    data: Data,
    log: TestLog,
    address: SocketAddr,
}

impl Machine {
    fn new() -> Self {
        let (data, log) = Data::with_main_log();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        Self { data, log, address }
    }

    fn serve(&self) -> Server {
        Server::start(&self.data, &["--listen", &self.address.to_string()])
    }

    fn counterfoil(&self, arguments: &[&str]) -> Command {
        self.counterfoil_at(&format!("http://{}", self.address), arguments)
    }

    fn counterfoil_at(&self, server: &str, arguments: &[&str]) -> Command {
        let mut command = counterfoil();
        command
            .args(arguments)
            .args(["--server", server])
            .args(["--log-key", &self.log.key().to_string(), "--json", "--state-dir"])
            .arg(self.data.beside("state"))
            .env_remove("COUNTERFOIL_OUTBOX")
            .stdin(Stdio::null());
        command
    }

    fn submit(&self, id: &str) -> Command {
        let source = "https://ci.test.example/runners/7";
        let time = "2026-11-22T09:30:00Z";
        self.counterfoil(&[
            "submit",
            "--type",
            "ci.job.finished",
            "--source",
            source,
            "--id",
            id,
            "--time",
            time,
            "--data",
            id,
        ])
    }

    /// The attributes of all that others put on record.
    fn recorded(&self) -> Vec<Attributes> {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let server = format!("http://{}", self.address).parse().unwrap();
            let options = Options::new(server, Policy::for_log(self.log.key().clone()));
            let client = Client::connect(options).await.unwrap();
            let last = EventParts {
                id: "last".to_owned(),
                source: "test".to_owned(),
                event_type: "test.last".to_owned(),
                ..EventParts::default()
            };
            let last = client.submit(&Event::try_from(last).unwrap()).await.unwrap();
            // Heads are published a little later.
            while client.head().await.unwrap().size().get() <= last.receipt.index.get() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let mut all = Vec::new();
            for index in 0..last.receipt.index.get() {
                let leaf = Leaf::Index(LeafIndex::new(index).unwrap());
                let (entry, _) = client.entry(&leaf, true).await.unwrap();
                all.push(entry.payload.unwrap().attributes);
            }
            all.retain(|attributes| attributes.source != "log");
            all
        })
    }

    fn recorded_ids(&self) -> Vec<String> {
        self.recorded()
            .into_iter()
            .map(|attributes| attributes.id)
            .collect()
    }

    fn outbox(&self) -> PathBuf {
        let mut directories = fs::read_dir(self.data.beside("state").join("outbox")).unwrap();
        directories.next().unwrap().unwrap().path()
    }
}

/// No log said anything: that neither costs an event nor speaks against a log.
#[test]
fn who_answers_and_is_no_log_is_as_good_as_away() {
    let machine = Machine::new();
    let identity = machine.data.identity(&["127.0.0.1"]);
    let listen = machine.address.to_string();
    let tls = [&["--listen", &listen][..], &identity.options()].concat();
    let server = Server::start(&machine.data, &tls);
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let web_server = format!("http://{}", web.local_addr().unwrap());
    thread::spawn(move || {
        for visit in web.incoming() {
            let mut visit = visit.unwrap();
            let _ = visit.read(&mut [0; 1_024]);
            let _ = visit.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
        }
    });

    let proxy = format!("http://{}", proxy_without_its_log());

    let submission = ["submit", "--type", "deploy.succeeded", "--source", "s"];
    for (address, hint) in [
        (format!("http://{listen}"), "is it http, or https?"),
        (web_server, "is it http, or https?"),
        (proxy, "check --server"),
        (format!("https://{listen}"), "--tls-ca"),
    ] {
        let failed = machine.counterfoil_at(&address, &["head"]).output().unwrap();
        let failed = &json_with(&failed, 3)["error"];
        assert_eq!(failed["kind"], "unavailable", "{failed}");
        assert!(failed["hints"].to_string().contains(hint), "{failed}");
        let submitted = machine.counterfoil_at(&address, &submission).output().unwrap();
        assert_eq!(json_with(&submitted, 0)["queued"], true, "{address}");
    }
    let trusting = [&submission[..], &["--tls-ca", &identity.files[0]]].concat();
    let mut submitting = machine.counterfoil_at(&format!("https://{listen}"), &trusting);
    // Behind those that waited for this address.
    assert_eq!(json_with(&submitting.output().unwrap(), 0)["leaf_index"], 2);
    server.stop();
}

/// Speaks HTTP/2, and has a page of its own for some calls, and none for others.
fn proxy_without_its_log() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let pages = Router::new().route(
        "/counterfoil.v1.ReadService/{call}",
        any(|| async { Html("Soon!") }),
    );
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            axum::serve(tokio::net::TcpListener::from_std(listener).unwrap(), pages).await
        })
    });
    address
}

#[test]
fn what_is_queued_is_delivered_in_order_with_its_own_time() {
    let machine = Machine::new();
    let queued = json_with(&machine.submit("a").output().unwrap(), 0);
    assert_eq!((&queued["queued"], &queued["waiting"]), (&true.into(), &1.into()));
    let mut anonymous = machine.counterfoil(&["submit", "--type", "deploy.succeeded", "--source", "s"]);
    assert_eq!(json_with(&anonymous.output().unwrap(), 0)["waiting"], 2);
    let named = [
        "submit",
        "--type",
        "deploy.succeeded",
        "--source",
        "s",
        "--id",
        "named",
    ];
    assert_eq!(
        json_with(&machine.counterfoil(&named).output().unwrap(), 0)["waiting"],
        3
    );
    // The same again is the same.
    let again = json_with(&machine.counterfoil(&named).output().unwrap(), 0);
    assert_eq!((&again["queued"], &again["waiting"]), (&true.into(), &3.into()));

    let listed = json_with(&machine.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
    let waiting = listed["waiting"].as_array().unwrap();
    let times: Vec<_> = waiting
        .iter()
        .map(|item| item["attributes"]["time"].as_str().unwrap())
        .collect();
    assert_eq!(times[0], "2026-11-22T09:30:00Z");
    assert!(times.iter().all(|time| time.ends_with('Z')));

    let refused = machine.submit("b").arg("--require-receipt").output().unwrap();
    assert_eq!(json_with(&refused, 3)["error"]["kind"], "unavailable");
    assert_eq!(
        json_with(&machine.counterfoil(&["outbox", "flush"]).output().unwrap(), 3)["error"]["kind"],
        "unavailable"
    );

    let server = machine.serve();
    let receipt = machine.data.beside("b.tlog-proof");
    let last = machine
        .submit("b")
        .arg("--receipt")
        .arg(&receipt)
        .output()
        .unwrap();
    let last = json_with(&last, 0);
    assert_eq!((&last["queued"], &last["leaf_index"]), (&false.into(), &4.into()));
    assert!(receipt.exists());
    let recorded = machine.recorded();
    assert_eq!(
        (&*recorded[0].id, &*recorded[2].id, &*recorded[3].id),
        ("a", "named", "b")
    );
    for (recorded, time) in recorded.iter().zip(times) {
        assert_eq!(recorded.time, time);
    }
    let nothing = json_with(&machine.counterfoil(&["outbox", "flush"]).output().unwrap(), 0);
    assert_eq!(nothing["recorded"], 0);
    server.stop();
    machine.data.assert_sound();
}

#[test]
fn a_log_that_does_not_get_on_is_not_waited_for() {
    let mut machine = Machine::new();
    // Takes connections, and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    machine.address = silent.local_addr().unwrap();
    let queued = json_with(
        &machine.submit("a").args(["--deadline", "1"]).output().unwrap(),
        0,
    );
    assert_eq!(queued["queued"], true);
    let refused = machine
        .submit("b")
        .args(["--deadline", "1", "--require-receipt"])
        .output()
        .unwrap();
    assert_eq!(json_with(&refused, 3)["error"]["kind"], "unavailable");
    let listed = json_with(&machine.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
    assert_eq!(listed["waiting"].as_array().unwrap().len(), 1);
}

/// Full is as good as away: the log says so at once, with a time to come back, and nobody waits for that.
#[test]
fn a_log_that_is_full_is_not_waited_for() {
    let machine = Machine::new();
    let address = machine.address.to_string();
    // More than any disk has free.
    let full = Server::start(
        &machine.data,
        &["--listen", &address, "--min-free-mib", "4294967295"],
    );
    for (id, waiting) in [("a", 1), ("b", 2)] {
        let queued = json_with(&machine.submit(id).output().unwrap(), 0);
        assert_eq!(
            (&queued["queued"], &queued["waiting"]),
            (&true.into(), &waiting.into())
        );
    }
    let refused = machine.submit("c").arg("--require-receipt").output().unwrap();
    assert_eq!(json_with(&refused, 3)["error"]["reason"], "OUT_OF_SPACE");
    let flushed = machine.counterfoil(&["outbox", "flush"]).output().unwrap();
    assert_eq!(json_with(&flushed, 3)["error"]["reason"], "OUT_OF_SPACE");
    full.stop();
    let _server = machine.serve();
    assert_eq!(
        json_with(&machine.submit("d").output().unwrap(), 0)["leaf_index"],
        3
    );
    assert_eq!(machine.recorded_ids(), ["a", "b", "d"]);
}

#[test]
fn what_the_log_refuses_is_moved_aside_and_told() {
    let machine = Machine::new();
    let server = machine.serve();
    json_with(&machine.submit("a").output().unwrap(), 0);
    server.stop();
    // Another event under the same name, which the log alone can know.
    json_with(
        &machine.submit("a").args(["--ext", "attempt=2"]).output().unwrap(),
        0,
    );
    json_with(&machine.submit("b").output().unwrap(), 0);
    let number = {
        let listed = json_with(&machine.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
        listed["waiting"][0]["number"].as_u64().unwrap().to_string()
    };
    let drop = ["outbox", "drop", &number];
    assert_eq!(
        json_with(&machine.counterfoil(&drop).output().unwrap(), 2)["error"]["kind"],
        "usage"
    );

    let _server = machine.serve();
    let flushed = machine.counterfoil(&["outbox", "flush"]).output().unwrap();
    assert_eq!(json_with(&flushed, 4)["error"]["kind"], "refused");
    let recorded = machine.recorded_ids();
    assert!(recorded.contains(&"b".to_owned()), "{recorded:?}");
    let listed = json_with(&machine.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
    assert_eq!(listed["set_aside"][0]["attributes"]["id"], "a");
    assert_eq!(listed["waiting"].as_array().unwrap().len(), 0);

    // The log says the same once more.
    let retry = ["outbox", "retry", &number];
    let retried = json_with(&machine.counterfoil(&retry).output().unwrap(), 0);
    let flushed = machine.counterfoil(&["outbox", "flush"]).output().unwrap();
    assert_eq!(json_with(&flushed, 4)["error"]["kind"], "refused");
    let number = retried["number"].as_u64().unwrap();
    let listed = json_with(&machine.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
    assert_eq!(listed["set_aside"][0]["number"], number);
    let number = number.to_string();
    let drop = ["outbox", "drop", &number];
    json_with(&machine.counterfoil(&drop).output().unwrap(), 0);
    let listed = json_with(&machine.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
    assert_eq!(listed["set_aside"].as_array().unwrap().len(), 0);

    // With the log there, a bad event is an error at once.
    let refused = machine.submit("a").args(["--ext", "attempt=3"]).output().unwrap();
    assert_eq!(json_with(&refused, 4)["error"]["reason"], "EVENT_CONFLICT");
}

/// Each attempt would put another event on record: its id is random.
#[test]
fn what_can_not_be_kept_is_not_sent() {
    let machine = Machine::new();
    let _server = machine.serve();
    let beside = |name: &str| machine.data.beside(name);
    fs::write(beside("file"), "").unwrap();
    // Nothing is there to be read, and no directory can be made.
    symlink(beside("none/at-all"), beside("dangling")).unwrap();
    let (in_none, directory) = (beside("none/receipt"), beside(""));
    let (in_none, directory) = (in_none.to_str().unwrap(), directory.to_str().unwrap());
    let named: [(&str, &[&str]); 4] = [
        ("state", &["--receipt", in_none]),
        ("state", &["--receipt", directory]),
        ("file/state", &[]),
        ("dangling", &[]),
    ];
    for (state, receipt) in named {
        let submission = ["submit", "--type", "ci.job.finished", "--source", "s"];
        let submitted = client_of(
            machine.address,
            &machine.log,
            &beside(state),
            &[&submission[..], receipt].concat(),
        )
        .env("COUNTERFOIL_OUTBOX", beside("outbox"))
        .output()
        .unwrap();
        json_with(&submitted, 2);
    }
    assert_eq!(machine.recorded_ids(), [""; 0]);
}

#[test]
fn who_gets_no_receipt_for_what_is_on_record_can_send_the_same_again() {
    let machine = Machine::new();
    let _server = machine.serve();
    let submission = ["submit", "--type", "ci.job.finished", "--source", "s"];
    let full = [&submission[..], &["--receipt", "/dev/full"]].concat();
    let failed = machine.counterfoil(&full).output().unwrap();
    let failed = &json_with(&failed, 2)["error"];
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("on record as leaf 1"), "{message}");
    assert_eq!(
        (&failed["leaf_index"], &failed["source"]),
        (&1.into(), &"s".into())
    );
    let hints = failed["hints"].as_array().unwrap();
    let again = hints
        .iter()
        .find_map(|hint| {
            hint.as_str()
                .unwrap()
                .strip_prefix("to send the same event again, give ")
        })
        .unwrap();
    assert!(again.contains(failed["id"].as_str().unwrap()), "{again}");
    let again: Vec<_> = submission.into_iter().chain(again.split(' ')).collect();
    let again = json_with(&machine.counterfoil(&again).output().unwrap(), 0);
    assert_eq!(
        (&again["leaf_index"], &again["duplicate"]),
        (&1.into(), &true.into())
    );
}

/// A build's receipt is where the next one wants its own.
#[test]
fn a_receipt_from_before_is_no_receipt_of_what_is_queued() {
    let machine = Machine::new();
    let receipt = machine.data.beside("build.tlog-proof");
    let submit = |id| {
        machine
            .submit(id)
            .arg("--receipt")
            .arg(&receipt)
            .output()
            .unwrap()
    };
    let server = machine.serve();
    json_with(&submit("a"), 0);
    server.stop();
    let queued = submit("b");
    assert_eq!(json_with(&queued, 0)["queued"], true);
    let errors = String::from_utf8(queued.stderr).unwrap();
    assert!(
        errors.contains("is from before\nthere is no receipt yet"),
        "{errors}"
    );
    assert!(receipt.exists());
}

/// It holds by itself, so it is evidence.
#[test]
fn a_receipt_that_does_not_fit_to_what_is_known_is_kept_beside_its_place() {
    let machine = Machine::new();
    let older = machine.data.beside("older");
    machine.data.copy_to(&older);
    let server = machine.serve();
    for id in ["a", "b"] {
        json_with(&machine.submit(id).output().unwrap(), 0);
    }
    server.stop();
    machine.data.restore_from(&older);
    let _server = machine.serve();
    let receipt = machine.data.beside("c.tlog-proof");
    let submitted = machine.submit("c").arg("--receipt").arg(&receipt).output();
    let failed = &json_with(&submitted.unwrap(), 1)["error"];
    assert_eq!(
        (&failed["kind"], &failed["leaf_index"]),
        (&"misbehaviour".into(), &1.into())
    );
    let unlinked = machine.data.beside("c.tlog-proof.unlinked");
    let hint = format!("its receipt is in {}", unlinked.display());
    let hints = failed["hints"].as_array().unwrap();
    assert!(hints.iter().any(|told| *told == hint), "{hints:?}");
    let evidence = fs::read(&unlinked).unwrap();
    assert!(!receipt.exists());

    // Who has seen nothing else of the log links it; what was kept before stays.
    let submission = ["submit", "--type", "ci.job.finished", "--source", "s"];
    let submitted = client_of(
        machine.address,
        &machine.log,
        &machine.data.beside("another-state"),
        &[&submission[..], &["--receipt", receipt.to_str().unwrap()]].concat(),
    )
    .env_remove("COUNTERFOIL_OUTBOX")
    .output();
    json_with(&submitted.unwrap(), 0);
    assert!(receipt.exists());
    assert_eq!(fs::read(&unlinked).unwrap(), evidence);
    assert!(!machine.data.beside("c.tlog-proof.unlinked-2").exists());
}

#[test]
fn what_is_beside_the_place_of_a_receipt_stays_and_costs_no_receipt() {
    let machine = Machine::new();
    let _server = machine.serve();
    let beside = |name: &str| machine.data.beside(name);
    let (receipt, link) = (beside("a.tlog-proof"), beside("a.tlog-proof.unlinked-2"));
    fs::create_dir(beside("a.tlog-proof.unlinked")).unwrap();
    fs::write(beside("file"), "of somebody else").unwrap();
    symlink(beside("file"), &link).unwrap();
    let submitted = machine.submit("a").arg("--receipt").arg(&receipt).output();
    json_with(&submitted.unwrap(), 0);
    assert!(receipt.exists());
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(beside("file")).unwrap(), b"of somebody else");
    assert!(!beside("a.tlog-proof.unlinked-3").exists());

    // With more behind it the name would be too long.
    let receipt = beside(&"b".repeat(250));
    let submitted = machine.submit("b").arg("--receipt").arg(&receipt).output();
    let submitted = submitted.unwrap();
    json_with(&submitted, 0);
    assert!(receipt.exists());
    let errors = String::from_utf8(submitted.stderr).unwrap();
    assert!(
        errors.contains("is kept nowhere until its head is linked"),
        "{errors}"
    );
}

#[test]
fn what_waits_is_delivered_whether_or_not_anybody_reads() {
    let machine = Machine::new();
    let server = machine.serve();
    json_with(&machine.submit("a").output().unwrap(), 0);
    server.stop();
    // Refused for good, so that something is told before all is delivered.
    json_with(
        &machine.submit("a").args(["--ext", "attempt=2"]).output().unwrap(),
        0,
    );
    json_with(&machine.submit("b").output().unwrap(), 0);
    let _server = machine.serve();
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let flushed = machine.counterfoil(&["outbox", "flush"]).stdout(writer).output();
    assert_eq!(json_with(&flushed.unwrap(), 4)["error"]["kind"], "refused");
    assert_eq!(machine.recorded_ids(), ["a", "b"]);
}

#[test]
fn what_waits_is_delivered_although_the_disk_behind_the_output_is_full() {
    let machine = Machine::new();
    for id in ["a", "b"] {
        json_with(&machine.submit(id).output().unwrap(), 0);
    }
    let _server = machine.serve();
    let full = File::options().write(true).open("/dev/full").unwrap();
    let flushed = machine.counterfoil(&["outbox", "flush"]).stdout(full).output();
    let failed = &json_with(&flushed.unwrap(), 2)["error"];
    let message = failed["message"].as_str().unwrap();
    assert!(message.starts_with("can't write standard output: "), "{message}");
    assert_eq!(machine.recorded_ids(), ["a", "b"]);

    let full = File::options().write(true).open("/dev/full").unwrap();
    let listed = machine.counterfoil(&["outbox", "list"]).stdout(full).output();
    json_with(&listed.unwrap(), 2);
}

#[test]
fn what_is_on_record_or_queued_is_named_although_the_disk_behind_the_output_is_full() {
    let machine = Machine::new();
    let submit = || {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let submission = ["submit", "--type", "ci.job.finished", "--source", "s"];
        let failed = machine.counterfoil(&submission).stdout(full).output().unwrap();
        json_with(&failed, 2)["error"].clone()
    };
    let starts = |failed: &Value, with: &str| {
        let message = failed["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("{with}: can't write standard output: ")),
            "{message}"
        );
        assert_eq!(failed["source"], "s");
    };
    let queued = submit();
    starts(&queued, "the event is queued as number 1");

    let _server = machine.serve();
    let recorded = submit();
    // What was queued came first.
    starts(&recorded, "the event is on record as leaf 2");
    assert_eq!(recorded["leaf_index"], 2);
    let id = recorded["id"].as_str().unwrap();
    let again = format!("to send the same event again, give --id {id}");
    let hints = recorded["hints"].as_array().unwrap();
    assert!(
        hints
            .iter()
            .any(|hint| hint.as_str().unwrap().starts_with(&again)),
        "{hints:?}"
    );
    assert_eq!(machine.recorded_ids(), [queued["id"].as_str().unwrap(), id]);
}

#[test]
fn the_credential_is_read_when_it_is_the_turn_of_who_delivers() {
    let machine = Machine::new();
    json_with(&machine.submit("a").output().unwrap(), 0);
    let other = File::create(machine.outbox().join("delivery")).unwrap();
    other.lock().unwrap();
    let token = machine.data.beside("token");
    let flush = machine
        .counterfoil(&["outbox", "flush"])
        .arg("--token-file")
        .arg(&token)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Long enough for who does not wait to miss the token.
    thread::sleep(Duration::from_millis(500));
    fs::write(token, "not-a-secret").unwrap();
    other.unlock().unwrap();
    let flushed = json_with(&flush.wait_with_output().unwrap(), 3);
    assert_eq!(flushed["error"]["kind"], "unavailable");
}

#[test]
fn a_full_outbox_is_an_error() {
    let machine = Machine::new();
    json_with(&machine.submit("a").output().unwrap(), 0);
    for number in 2..=counterfoil_client::MAX_QUEUED_EVENTS {
        fs::write(
            machine.outbox().join(format!("{number:012}-{number:064}.event")),
            "",
        )
        .unwrap();
    }
    let full = json_with(&machine.submit("b").output().unwrap(), 3);
    let message = full["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("neither on record nor queued") && message.contains("is full"),
        "{message}"
    );
}

/// Lets a process live for a random time, then kills it. Whether it succeeded before.
fn killed_at_random(mut command: Command, longest: Duration) -> bool {
    let mut child: Child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    thread::sleep(longest.mul_f64(fastrand::f64()));
    let _ = child.kill();
    child.wait().unwrap().success()
}

#[test]
fn whoever_is_killed_when_loses_doubles_and_reorders_nothing() {
    let machine = Machine::new();
    let mut acknowledged = Vec::new();
    let submit = |acknowledged: &mut Vec<String>, id: String, longest| {
        if killed_at_random(machine.submit(&id), longest) {
            acknowledged.push(id);
        }
    };
    // Long enough for about half to succeed, on a machine that is as busy as this one is.
    let whole = {
        let started = std::time::Instant::now();
        json_with(&machine.submit("first").output().unwrap(), 0);
        acknowledged.push("first".to_owned());
        started.elapsed()
    };
    for number in 0..40 {
        submit(&mut acknowledged, format!("away-{number}"), whole * 2);
    }
    let away = acknowledged.len();
    assert!(
        away > 1,
        "every process was killed too early for the test to mean anything"
    );

    let server = machine.serve();
    for number in 0..25 {
        killed_at_random(machine.counterfoil(&["outbox", "flush"]), whole * 2);
        submit(&mut acknowledged, format!("back-{number}"), whole * 3);
    }
    json_with(&machine.counterfoil(&["outbox", "flush"]).output().unwrap(), 0);

    let recorded = machine.recorded_ids();
    let mut unique = recorded.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), recorded.len(), "doubled: {recorded:?}");
    let in_order: Vec<_> = recorded.iter().filter(|id| acknowledged.contains(id)).collect();
    assert_eq!(
        in_order,
        acknowledged.iter().collect::<Vec<_>>(),
        "lost or out of order"
    );
    let listed = json_with(&machine.counterfoil(&["outbox", "list"]).output().unwrap(), 0);
    assert_eq!(listed["waiting"].as_array().unwrap().len(), 0);
    assert_eq!(listed["set_aside"].as_array().unwrap().len(), 0);
    server.stop();
    machine.data.assert_sound();
}

#[test]
fn many_processes_share_an_outbox() {
    let machine = Machine::new();
    let spawn = |phase: &str| -> Vec<Child> {
        let command = |number| {
            let mut command = machine.submit(&format!("{phase}-{number}"));
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        (0..8).map(command).collect()
    };
    for child in spawn("away") {
        assert_eq!(json_with(&child.wait_with_output().unwrap(), 0)["queued"], true);
    }
    let _server = machine.serve();
    // All find events that wait; one delivers, and the others go on behind it.
    for child in spawn("back") {
        assert_eq!(json_with(&child.wait_with_output().unwrap(), 0)["queued"], false);
    }
    let recorded = machine.recorded_ids();
    assert_eq!(recorded.len(), 16);
    assert!(
        recorded[..8].iter().all(|id| id.starts_with("away-")),
        "{recorded:?}"
    );
}
