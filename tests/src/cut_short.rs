//! Commands that make files, while the power goes; and what is promised of them, beside a log's entries.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::SystemTime,
};

use counterfoil_merkle::Suite;
use fastrand::Rng;
use tonic::{Code, Request, Status};

use crate::{
    Connection, Data, Issuer, JwtKey, MemoryLog, Server, WitnessData, client_of, counterfoil, counterfoild,
    event, json_of, now_unix_s, output_of,
    power::{Disk, Loss, Recording, recorder},
    process::Process,
    server::behind,
    submission,
};

/// Where the power went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    /// Before one of the calls.
    Meanwhile,
    /// After the last: what was said to be made stays.
    Ended,
}

/// Makes a token while the power goes: what is left can be served, with the token or without it.
pub fn lose_power_while_a_token_is_made(random: &mut Rng) {
    let (data, _) = Data::with_main_log();
    let mut create = counterfoild();
    create
        .args(["token", "create", "--role", "read", "--data"])
        .arg(data.path());
    lose_power_during(&create, data.path(), random, |left, cut| {
        let mut list = counterfoild();
        list.args(["token", "list", "--data"]).arg(left);
        let tokens = output_of(list).unwrap();
        assert!(
            cut == Cut::Meanwhile || !tokens.is_empty(),
            "the token was given out"
        );
        Server::start(&Data::at(left.to_owned()), &[]).kill();
    });
}

/// Makes a witness, in a directory of a new one, while the power goes: if there is a key, it can be served with.
pub fn lose_power_while_a_witness_is_made(random: &mut Rng) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    let logs = scratch.path().join("logs");
    fs::write(&logs, "").unwrap();
    let mut init = counterfoil();
    init.args(["witness", "init", "--name", "witness.example/w", "--data"])
        .arg(root.join("new/witness"));
    lose_power_during(&init, &root, random, |left, cut| {
        let data = left.join("new/witness");
        if data.join("witness.key").exists() {
            let mut witness = Process::spawn(serve_witness(&data, &logs), scratch.path().join("errors"));
            witness.listening().unwrap();
            witness.kill();
        } else {
            assert_eq!(cut, Cut::Meanwhile, "the key was given out");
        }
    });
}

fn serve_witness(data: &Path, logs: &Path) -> Command {
    let mut serve = counterfoil();
    serve
        .args(["witness", "serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data)
        .arg("--logs")
        .arg(logs);
    serve
}

/// Takes the power away from a witness at so many places, and after the last head that it cosigned: it remembers each that it had
/// cosigned by then.
pub fn lose_power_under_a_witness(crashes: usize, random: &mut Rng) {
    const HEADS: u64 = 12;
    let log = MemoryLog::new("log.example/main", Suite::Blake3, 1);
    let data = WitnessData::init("witness.example/w");
    data.set_logs(&log.keys().collect::<Vec<_>>());
    let scratch = tempfile::tempdir().unwrap();
    let (calls, errors) = (scratch.path().join("calls"), scratch.path().join("errors"));
    let mut disk = Disk::load(&data.path());
    let serve = behind(&recorder(&calls), serve_witness(&data.path(), &data.logs_path()));
    let mut witness = Process::spawn(serve, errors.clone());
    let mut connection = Connection::to(witness.listening().unwrap());
    let mut cosigned = Vec::new();
    for size in 1..=HEADS {
        let answer = connection.add_checkpoint(log.request(size - 1, size));
        assert_eq!(answer.status, 200, "{answer:?}");
        cosigned.push((size, SystemTime::now()));
    }
    witness.kill();
    let recording = Recording::read(&calls, witness.id(), &data.path());

    let mut places: Vec<_> = (0..crashes).map(|_| random.usize(..recording.calls())).collect();
    places.sort_unstable();
    let mut check = |disk: &Disk, moment: SystemTime| {
        let before = cosigned.iter().rev().find(|(_, when)| *when < moment);
        let known = before.map_or(0, |(size, _)| *size);
        let left = scratch.path().join("left");
        disk.lose_power(&left, if random.bool() { Loss::All } else { Loss::Some }, random);
        let serve = serve_witness(&left, &data.logs_path());
        let mut witness = Process::spawn(serve, errors.clone());
        let mut connection = Connection::to(witness.listening().unwrap());
        // From a log that says that it asks for the first time. A conflict tells what is remembered.
        let answer = connection.add_checkpoint(log.request(0, HEADS + 1));
        let remembered: u64 = match answer.status {
            200 => 0,
            409 => answer.body.trim_end().parse().unwrap(),
            _ => panic!("{answer:?}"),
        };
        assert!(
            known <= remembered,
            "{known} was cosigned, {remembered} is remembered"
        );
        witness.kill();
        fs::remove_dir_all(left).unwrap();
    };
    disk.play(&recording, &places, &mut check);
    check(&disk, SystemTime::now());
    disk.assert_is(&recording, &data.path());
}

/// Submits with job tokens, each good for one call, and takes the power away after each: it stays spent. And while a line is written
/// that lies on two pages, of which the second is left and not the first: that keeps no server from its start.
pub async fn lose_power_after_tokens_are_spent(random: &mut Rng) {
    // In one of twenty they are left so.
    const DRAWS: usize = 300;
    const SPENT: &str = "spent-tokens";
    let (data, _) = Data::with_main_log();
    let key = JwtKey::p256("k1");
    let issuer = Issuer::start(&[&key]);
    let access = format!(
        "[[oidc]]\nissuer = \"{}\"\n[[oidc.rule]]\nmatch = {{ repository_id = \"482139077\" }}\nroles = [\"submit\"]\n\
         source = \"jobs\"\n",
        issuer.url()
    );
    fs::write(data.path().join("access.toml"), access).unwrap();
    // With 52 lines of 76 bytes, and that of the first token, the second's goes over the end of the first page.
    let until = now_unix_s() + 3_600;
    let lines: String = (0..52).map(|number| format!("{until} {number:064x}\n")).collect();
    let file = data.path().join(SPENT);
    fs::write(&file, lines).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let mut disk = Disk::load(data.path());
    let calls = data.beside("calls");
    let server = Server::try_start_under(&data, &[], &recorder(&calls)).unwrap();
    let mut spent = Vec::new();
    for _ in 0..3 {
        let token = key.token(&issuer.claims("test.example/main"));
        submit_as(&server, &token).await.unwrap();
        spent.push((token, SystemTime::now()));
    }
    let pid = server.pid();
    server.kill();
    let recording = Recording::read(&calls, pid, data.path());

    // Before the first call after each answer, and after all of them; and after a line was written, and not yet synced.
    let written = recording.after_writes_to(SPENT);
    let (mut left, mut before, mut place, mut torn) = (Vec::new(), 0, 0, 0);
    let mut lose_power = |disk: &Disk, moment: SystemTime| {
        let known = spent.iter().filter(|(_, when)| *when < moment).count();
        if before < known {
            before = known;
            for loss in [Loss::All, Loss::Some] {
                let path = data.beside(&format!("left-{}", left.len()));
                disk.lose_power(&path, loss, random);
                left.push((path, known));
            }
        }
        if torn == 0 && written.contains(&place) {
            let path = data.beside(&format!("left-{}", left.len()));
            for _ in 0..DRAWS {
                disk.lose_power(&path, Loss::Some, random);
                let lines = fs::read(path.join(SPENT)).unwrap();
                if lines.contains(&0) && lines.ends_with(b"\n") {
                    torn += 1;
                    left.push((path, known));
                    break;
                }
                fs::remove_dir_all(&path).unwrap();
            }
        }
        place += 1;
    };
    let all: Vec<_> = (0..recording.calls()).collect();
    disk.play(&recording, &all, &mut lose_power);
    lose_power(&disk, SystemTime::now());
    disk.assert_is(&recording, data.path());
    assert_eq!(torn, 1, "one line lies on two pages");
    for (path, known) in left {
        let after = Data::at(path);
        let server = Server::start(&after, &[]);
        for (token, _) in &spent[..known] {
            let status = submit_as(&server, token).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
            assert!(status.message().contains("has submitted before"), "{status:?}");
        }
        server.kill();
    }
}

/// Submits an event under a token.
async fn submit_as(server: &Server, token: &str) -> Result<(), Status> {
    let event = event(format!("{:x}", fastrand::u64(..)), "data");
    let mut request = Request::new(submission(event));
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    server.submitter().submit(request).await.map(drop)
}

/// Submits an event twice while the log is away, the first time cut off anywhere: both ways it is queued, and stays so.
pub fn lose_power_after_an_event_is_queued_again(random: &mut Rng) {
    let (_data, log) = Data::with_main_log();
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    fs::create_dir(&root).unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let client = |root: &Path, arguments: &[&str]| {
        let mut command = client_of(nobody, &log, &root.join("state"), arguments);
        command.arg("--outbox").arg(root.join("outbox"));
        command
    };
    let event = ["--type", "ci.job.finished", "--source", "s", "--id", "build-1"];
    let time = ["--time", "2026-11-22T09:30:00Z"];
    let submit = client(&root, &[&["submit"][..], &event, &time].concat());
    lose_power_after_a_second_try(&submit, &root, random, |left| {
        let listed = json_of(client(left, &["outbox", "list"])).unwrap();
        let waiting = listed["waiting"].as_array().unwrap();
        let ids: Vec<_> = waiting.iter().map(|item| &item["attributes"]["id"]).collect();
        assert_eq!(ids, ["build-1"], "{listed}");
    });
}

/// Revokes a token twice, the first time cut off anywhere. The second time does it or says that it was done before: both
/// ways it is revoked, and stays so.
pub fn lose_power_after_a_token_is_revoked_again(random: &mut Rng) {
    let (data, _) = Data::with_main_log();
    let mut create = counterfoild();
    create
        .args(["token", "create", "--role", "read", "--data"])
        .arg(data.path());
    let token = String::from_utf8(output_of(create).unwrap()).unwrap();
    let mut revoke = counterfoild();
    revoke
        .args(["token", "revoke", token.split('_').nth(1).unwrap(), "--data"])
        .arg(data.path());
    lose_power_after_a_second_try(&revoke, data.path(), random, |left| {
        let mut list = counterfoild();
        list.args(["token", "list", "--data"]).arg(left);
        let tokens = String::from_utf8(output_of(list).unwrap()).unwrap();
        assert!(tokens.contains("REVOKED"), "{tokens}");
    });
}

/// Cuts a command off before each of its calls and after the last, runs it again on what the system then sees, and has all
/// checked that the power could leave of `root` after that.
fn lose_power_after_a_second_try(command: &Command, root: &Path, random: &mut Rng, check: impl Fn(&Path)) {
    let scratch = tempfile::tempdir().unwrap();
    let before = Disk::load(root);
    let first = Recording::of(command, &scratch.path().join("calls"), root);
    assert!(first.calls() > 0, "it changes files");
    for cut in 0..=first.calls() {
        let mut disk = before.clone();
        disk.play_first(cut, &first);
        fs::remove_dir_all(root).unwrap();
        disk.write(root);
        let calls = scratch.path().join(format!("calls-{cut}"));
        let (second, ended) = Recording::of_any(command, &calls, root);
        println!("cut off before call {cut} of {}, then {ended}", first.calls());
        disk.play(&second, &[], |_, _| {});
        disk.assert_is(&second, root);
        for loss in [Loss::All, Loss::Some] {
            let left = scratch.path().join("left");
            disk.lose_power(&left, loss, random);
            check(&left);
            fs::remove_dir_all(left).unwrap();
        }
    }
}

/// Runs a command to its end, and has all that the power could leave of `root` checked, at each of its calls and after the last.
fn lose_power_during(command: &Command, root: &Path, random: &mut Rng, check: impl Fn(&Path, Cut)) {
    let scratch = tempfile::tempdir().unwrap();
    let mut disk = Disk::load(root);
    let recording = Recording::of(command, &scratch.path().join("calls"), root);
    let mut lose_power = |disk: &Disk, cut| {
        for loss in [Loss::All, Loss::Some, Loss::Some] {
            let left = scratch.path().join("left");
            disk.lose_power(&left, loss, random);
            check(&left, cut);
            fs::remove_dir_all(left).unwrap();
        }
    };
    let all: Vec<_> = (0..recording.calls()).collect();
    assert!(!all.is_empty(), "it makes files");
    disk.play(&recording, &all, |disk, _| lose_power(disk, Cut::Meanwhile));
    lose_power(&disk, Cut::Ended);
    disk.assert_is(&recording, root);
}
