//! Events that come over HTTP as CloudEvents and by Splunk's event collector protocol, and what is on record afterwards.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{fs, io::Write as _, net::SocketAddr};

use counterfoil_event::Attributes;
use counterfoil_proto::v1;
use counterfoil_tests::{
    Connection, Data, HttpResponse, Server, TestLog, entry_at, http_get, http_post, http_request,
};
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = (
    "content-type",
    "application/cloudevents-batch+json; charset=utf-8",
);
const EVENTS: &str = "/logs/main/events";

fn json_of(response: &HttpResponse) -> Value {
    assert_eq!(response.header("content-type"), "application/json");
    serde_json::from_slice(&response.body).unwrap()
}

fn cloud_event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "https://ci.example", "type": "ci.run.finished", "data": {"run": id}})
}

fn post(server: &Server, header: (&str, &str), body: &Value) -> (u16, Value) {
    let response = http_post(server.address(), EVENTS, &[header], body.to_string().as_bytes());
    (response.status, json_of(&response))
}

async fn recorded(server: &Server, log: &TestLog, index: u64) -> (Attributes, Vec<u8>) {
    let entry: v1::GetEntryResponse = entry_at(&mut server.reader(), log, index).await.unwrap();
    let payload = entry.payload.unwrap();
    (
        Attributes::decode_canonical(&payload.attributes).unwrap(),
        payload.data.to_vec(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cloudevents_are_recorded_in_every_mode() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let recorded_at = |index| json!({"leaf_index": index, "duplicate": false});
    let place =
        |answer: &Value| json!({"leaf_index": answer["leaf_index"], "duplicate": answer["duplicate"]});

    // Structured; sent again it is the same event.
    let (status, answer) = post(&server, STRUCTURED, &cloud_event("1"));
    assert_eq!((status, place(&answer)), (201, recorded_at(1)));
    assert_eq!(answer["origin"], "test.example/main");
    assert_eq!(answer["receipt"], "counterfoil receipt 1 --log main");
    let (status, again) = post(&server, STRUCTURED, &cloud_event("1"));
    assert_eq!(
        (status, place(&again)),
        (200, json!({"leaf_index": 1, "duplicate": true}))
    );
    assert_eq!(again["leaf_hash"], answer["leaf_hash"]);
    let (attributes, payload) = recorded(&server, &log, 1).await;
    assert_eq!(
        (attributes.id.as_str(), attributes.event_type.as_str()),
        ("1", "ci.run.finished")
    );
    assert_eq!(payload, br#"{"run":"1"}"#);

    // Binary, and what is in its headers.
    let headers = [
        ("content-type", "text/plain"),
        ("ce-specversion", "1.0"),
        ("CE-Id", "2"),
        ("ce-source", "https://ci.example/%C3%A9"),
        ("ce-type", "ci.run.started"),
        ("ce-attempt", "3"),
    ];
    let response = http_post(server.address(), EVENTS, &headers, b"\0binary");
    assert_eq!(
        (response.status, place(&json_of(&response))),
        (201, recorded_at(2))
    );
    let (attributes, payload) = recorded(&server, &log, 2).await;
    assert_eq!(attributes.source, "https://ci.example/é");
    assert_eq!(attributes.extensions["attempt"], "3");
    assert_eq!(
        (attributes.data_content_type.as_str(), payload.as_slice()),
        ("text/plain", &b"\0binary"[..])
    );

    // A batch in which some are wrong, and the same bytes under another name are another event.
    let mut conflict = cloud_event("1");
    conflict["data"] = json!("other");
    let mut wrong = cloud_event("wrong");
    wrong["type"] = json!("two words");
    let (status, answer) = post(
        &server,
        BATCH,
        &json!([
            cloud_event("3"),
            wrong,
            cloud_event("1"),
            conflict,
            cloud_event("4")
        ]),
    );
    assert_eq!(status, 207);
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results[0], recorded_at(3));
    assert_eq!(results[1]["error"]["reason"], "INVALID_EVENT");
    assert_eq!(results[1]["error"]["fields"][0]["field"], "type");
    assert_eq!(results[2], json!({"leaf_index": 1, "duplicate": true}));
    assert_eq!(results[3]["error"]["reason"], "EVENT_CONFLICT");
    assert_eq!(results[3]["error"]["existing_leaf_index"], 1);
    assert_eq!(results[4], recorded_at(4));
    assert_eq!(post(&server, BATCH, &json!([])), (200, json!({"results": []})));

    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_cloudevent_is_refused_for_the_reason_that_it_deserves() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let good = cloud_event("1").to_string();
    let refused = |path: &str, headers: &[(&str, &str)], body: &[u8]| {
        let response = http_post(server.address(), path, headers, body);
        let reason = json_of(&response)["error"]["reason"].as_str().unwrap().to_owned();
        (response.status, reason)
    };
    let expected = |status: u16, reason: &str| (status, reason.to_owned());
    let structured = |body: &str| refused(EVENTS, &[STRUCTURED], body.as_bytes());

    assert_eq!(structured("{"), expected(400, "INVALID_EVENT"));
    assert_eq!(structured("{}"), expected(400, "INVALID_EVENT"));
    assert_eq!(structured(&format!("[{good}]")), expected(400, "INVALID_EVENT"));
    assert_eq!(
        refused(EVENTS, &[BATCH], good.as_bytes()),
        expected(400, "INVALID_EVENT")
    );
    assert_eq!(
        refused("/logs/other/events", &[STRUCTURED], good.as_bytes()),
        expected(404, "UNKNOWN_LOG")
    );
    assert_eq!(
        refused("/logs/..%2f/events", &[STRUCTURED], good.as_bytes()),
        expected(404, "UNKNOWN_LOG")
    );
    for unsupported in [
        "application/json",
        "application/cloudevents+avro",
        "application/cloudevents-batch+xml",
    ] {
        let unsupported = refused(EVENTS, &[("content-type", unsupported)], good.as_bytes());
        assert_eq!(unsupported, expected(415, "WRONG_MEDIA_TYPE"));
    }
    assert_eq!(
        refused(EVENTS, &[], good.as_bytes()),
        expected(415, "WRONG_MEDIA_TYPE")
    );
    let encoded = [STRUCTURED, ("content-encoding", "gzip")];
    assert_eq!(
        refused(EVENTS, &encoded, good.as_bytes()),
        expected(415, "WRONG_ENCODING")
    );

    // By its head alone, before anything is read.
    let huge = [STRUCTURED, ("content-length", "999999999999")];
    let response = http_request(server.address(), "POST", EVENTS, &huge);
    assert_eq!(response.status, 413);
    // Past the limit of a payload, and not of a body.
    let long = vec![b'x'; (25 << 20) + 1];
    let headers = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "s"),
        ("ce-type", "t"),
    ];
    assert_eq!(refused(EVENTS, &headers, &long), expected(400, "INVALID_EVENT"));
    let most = http_post(server.address(), EVENTS, &headers, &long[1..]);
    assert_eq!(most.status, 201);

    for path in [
        "/logs/main/events/",
        "/logs/main/checkpoint",
        "/logs/main/tile/0/000",
        "/logs/main",
    ] {
        assert!(
            [404, 405].contains(&http_post(server.address(), path, &[STRUCTURED], good.as_bytes()).status)
        );
    }
    assert_eq!(http_get(server.address(), EVENTS).status, 404);
    let delete = http_request(server.address(), "DELETE", EVENTS, &[]);
    assert_eq!((delete.status, delete.header("allow")), (405, "POST"));
    // Nothing of all this is on record but what was taken.
    assert!(entry_at(&mut server.reader(), &log, 1).await.is_ok());
    assert!(entry_at(&mut server.reader(), &log, 2).await.is_err());
}

fn collect(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (u16, Value) {
    let response = http_post(address, &format!("/services/collector{path}"), headers, body);
    (response.status, json_of(&response))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const DOCUMENT: &str =
    r#"{"@timestamp":1770000000000,"_document_id":"Xy-1","action":"org.add_member","org":"acme"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_log_stream_lands_once_however_often_it_is_sent() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let success = (200, json!({"text": "Success", "code": 0}));
    let body = format!(
        r#"{{"event":{DOCUMENT}}}{{"event":{}}}"#,
        DOCUMENT.replace("Xy-1", "Xy-2")
    );
    let gzipped = [("content-encoding", "gzip")];
    for _ in 0..3 {
        assert_eq!(
            collect(server.address(), "", &gzipped, &gzip(body.as_bytes())),
            success
        );
        assert_eq!(
            collect(server.address(), "/event/1.0", &[], body.as_bytes()),
            success
        );
        assert_eq!(
            collect(server.address(), "/raw?sourcetype=x", &[], DOCUMENT.as_bytes()).0,
            200
        );
    }
    let (attributes, payload) = recorded(&server, &log, 1).await;
    assert_eq!(
        (attributes.id.as_str(), attributes.event_type.as_str()),
        ("Xy-1", "config.member.added")
    );
    assert_eq!(
        (attributes.subject.as_str(), attributes.time.as_str()),
        ("acme", "2026-02-02T02:40:00Z")
    );
    assert_eq!(payload, DOCUMENT.as_bytes());
    assert_eq!(recorded(&server, &log, 2).await.0.id, "Xy-2");
    assert!(entry_at(&mut server.reader(), &log, 3).await.is_err());

    // The same name for other bytes is a finding; to the sender a success, since it could only send them again.
    let other = DOCUMENT.replace("acme", "other");
    assert_eq!(collect(server.address(), "/raw", &[], other.as_bytes()), success);
    assert_eq!(recorded(&server, &log, 3).await.0.event_type, "log.conflict");

    // Events without a name are new each time.
    assert_eq!(
        collect(server.address(), "/event", &[], br#"{"event":"x"}{"event":"x"}"#),
        success
    );
    assert_eq!(recorded(&server, &log, 5).await.1, b"x");
    server.stop();
    data.assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collector_answers_with_splunk_s_numbers() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let address = server.address();
    let answer = |text: &str, code: u16| json!({"text": text, "code": code});
    let health = http_get(address, "/services/collector/health/1.0");
    assert_eq!(
        (health.status, json_of(&health)),
        (200, answer("HEC is healthy", 17))
    );

    assert_eq!(collect(address, "", &[], b""), (400, answer("No data", 5)));
    let second = |text: &str, code: u16| {
        (
            400,
            json!({"text": text, "code": code, "invalid-event-number": 1}),
        )
    };
    let event = |second: &str| {
        collect(
            address,
            "/event",
            &[],
            format!(r#"{{"event":1}}{second}"#).as_bytes(),
        )
    };
    assert_eq!(event("{"), second("Invalid data format", 6));
    assert_eq!(event("{}"), second("Event field is required", 12));
    assert_eq!(
        event(r#"{"event":""}"#),
        second("Event field cannot be blank", 13)
    );
    assert_eq!(
        event(r#"{"event":1,"fields":1}"#),
        second("Error in handling indexed fields", 15)
    );
    // An audit document that no event can be made of.
    let long = DOCUMENT.replace("Xy-1", &"x".repeat(300));
    assert_eq!(
        event(&format!(r#"{{"event":{long}}}"#)),
        second("Invalid data format", 6)
    );
    assert_eq!(
        collect(address, "/ack", &[], b"{}"),
        (400, answer("ACK is disabled", 14))
    );
    let bomb = gzip(&vec![b' '; 64 << 20]);
    let refused = collect(address, "", &[("content-encoding", "gzip")], &bomb);
    assert_eq!(refused, (413, answer("Request entity too large", 27)));
    assert_eq!(collect(address, "", &[("content-encoding", "br")], b"x").0, 400);
    // What the query says twice, it does not say.
    let twice = collect(address, "?host=a&host=b", &[], br#"{"event":1}"#);
    let first = json!({"text": "Invalid data format", "code": 6, "invalid-event-number": 0});
    assert_eq!(twice, (400, first));
    assert_eq!(http_get(address, "/services/collector/event").status, 405);
    assert_eq!(http_get(address, "/services/collector/other").status, 404);
    // A request is taken as a whole or not at all.
    assert!(entry_at(&mut server.reader(), &log, 1).await.is_err());
}

/// Who may not submit is told so in the path's own words, and counted, whoever finds it out.
#[test]
fn who_is_turned_away_is_told_so_in_the_protocol_s_words() {
    let (data, _log) = Data::with_main_log();
    fs::write(data.path().join("access.toml"), "").unwrap();
    let server = Server::start(&data, &["--metrics-listen", "127.0.0.1:0"]);
    let address = server.address();
    let wrong = format!("Splunk cft_{}_{}", "0".repeat(16), "0".repeat(64));
    let wrong = [("authorization", wrong.as_str())];
    let basic = [("authorization", "Basic eDp5")];
    let invalid = (403, json!({"text": "Invalid token", "code": 4}));
    for path in ["", "/event", "/raw"] {
        assert_eq!(
            collect(address, path, &[], b"x"),
            (401, json!({"text": "Token is required", "code": 2}))
        );
        for header in [&wrong, &basic] {
            assert_eq!(collect(address, path, header, b"x"), invalid);
        }
    }
    for headers in [&[][..], &wrong, &basic] {
        let response = http_post(address, EVENTS, headers, cloud_event("1").to_string().as_bytes());
        assert_eq!(
            (response.status, response.header("www-authenticate")),
            (401, "Bearer")
        );
        assert_eq!(json_of(&response)["error"]["reason"], "UNAUTHENTICATED");
    }
    let metrics = http_get(server.metrics_address(), "/metrics").body;
    let metrics = String::from_utf8(metrics).unwrap();
    for (path, count) in [("Hec", 9), ("CloudEvents", 3)] {
        let line =
            format!("counterfoil_intake_total{{path=\"{path}\",outcome=\"unauthenticated\"}} {count}\n");
        assert!(metrics.contains(&line), "no {line}in {metrics}");
    }
}

/// A forwarder that is answered with 400 and code 6 drops its batch for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_does_not_arrive_whole_may_be_sent_again() {
    let (data, log) = Data::with_main_log();
    let server = Server::start(&data, &[]);
    let begun = |header: &str, body: &str| {
        let mut connection = Connection::to(server.address());
        let head = "POST /services/collector HTTP/1.1\r\nhost: test.example";
        connection
            .write(format!("{head}\r\n{header}\r\n\r\n{body}").as_bytes())
            .unwrap();
        connection
    };
    let silent = begun("content-length: 11", r#"{"event":"#);
    // What comes after the first chunk is none.
    let broken = begun("transfer-encoding: chunked", "9\r\n{\"event\":\r\nnothing\r\n");
    for mut connection in [broken, silent] {
        let answer = connection.answer().unwrap();
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
        let told: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(told, json!({"text": "Server is busy", "code": 9}));
    }
    assert!(entry_at(&mut server.reader(), &log, 1).await.is_err());
    assert_eq!(collect(server.address(), "", &[], br#"{"event":1}"#).0, 200);
    assert_eq!(recorded(&server, &log, 1).await.1, b"1");
}
