//! Commands that make files, while the power goes.

use std::{fs, path::Path, process::Command};

use fastrand::Rng;

use crate::{
    Data, Server, counterfoil, counterfoild, output_of,
    power::{Disk, Loss, Recording},
    process::Process,
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
            let mut serve = counterfoil();
            serve
                .args(["witness", "serve", "--listen", "127.0.0.1:0", "--data"])
                .arg(data)
                .arg("--logs")
                .arg(&logs);
            let mut witness = Process::spawn(serve, scratch.path().join("errors"));
            witness.listening().unwrap();
            witness.kill();
        } else {
            assert_eq!(cut, Cut::Meanwhile, "the key was given out");
        }
    });
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
    disk.assert_is(root);
}
