//! A real witness, which cosigned the honest log and refuses to cosign what contradicts it.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use counterfoil_tests::{Attack, HostileLog, Witness, WitnessData};

use crate::suite_of;

/// Sends a request; returns the status.
fn post(witness: &Witness, body: &str) -> u16 {
    let mut connection = TcpStream::connect(witness.address()).unwrap();
    let head = format!(
        "POST /add-checkpoint HTTP/1.1\r\nhost: witness\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all((head + body).as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_cosigns_nothing_that_contradicts_what_it_saw() {
    for (turn, (attack, refused)) in [
        (Attack::Fork, 422),
        (Attack::SplitView, 422),
        (Attack::Rewrite, 422),
        (Attack::WrongProofs, 422),
        (Attack::RollBack, 400),
        (Attack::Replay, 400),
        (Attack::WrongKey, 403),
        (Attack::OtherSuite, 403),
        (Attack::ForeignOrigin, 404),
    ]
    .into_iter()
    .enumerate()
    {
        let data = WitnessData::init("witness.example/w");
        let log = HostileLog::start(suite_of(turn)).await;
        data.set_logs(&[&log.key()]);
        let witness = Witness::start(&data);
        assert_eq!(post(&witness, &log.add_checkpoint(0)), 200);
        log.attack(attack);
        let size = log.honest_size();
        assert_eq!(post(&witness, &log.add_checkpoint(size)), refused, "{attack:?}");
        // The honest log goes on.
        log.attack(Attack::None);
        assert_eq!(post(&witness, &log.add_checkpoint(size)), 200, "{attack:?}");
    }
}
