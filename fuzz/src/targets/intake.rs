//! Events that come over HTTP in the formats of others.

use bytes::Bytes;
use counterfoil_event::{
    cloudevents::{batch_from_json, from_headers, from_json},
    hec::{HecError, MAX_EVENTS, Metadata, parse_events, parse_raw},
};
use serde_json::Value;

use super::{event::check_event, head_and_body, text};
use crate::Target;

pub(super) const CLOUDEVENTS: Target = Target {
    name: "cloudevents",
    about: "CloudEvents in JSON, one and in batches",
    seeds: cloudevents_seeds,
    words: &[
        "\"specversion\":\"1.0\"",
        "\"id\":",
        "\"source\":",
        "\"type\":",
        "\"subject\":",
        "\"time\":\"2026-11-22T09:30:00Z\"",
        "\"datacontenttype\":\"application/json\"",
        "\"data\":",
        "\"data_base64\":",
        "null",
        "\\u0000",
        "\\ud800",
    ],
    max_bytes: 64 << 10,
    run: cloudevents,
};

const STRUCTURED: [&str; 7] = [
    r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#,
    r#"{"specversion":"1.0","id":"42","source":"https://ci.example","type":"ci.run.finished","subject":"refs/heads/main","time":"2026-11-22T09:30:00.25+01:00","datacontenttype":"application/json","attempt":2,"dry":false,"traceparent":"00-4b-00","data": {"outcome": "success", "n": 18446744073709551615}}"#,
    r#"{"specversion":"1.0","id":"a","source":"s","type":"t","datacontenttype":"text/plain","data":"Grüße\n"}"#,
    r#"{"specversion":"1.0","id":"a","source":"s","type":"t","data_base64":"AAECAw=="}"#,
    r#"{"specversion":"1.0","id":"a","source":"s","type":"t","data":null,"subject":null}"#,
    r#"{"specversion":"1.0","id":"\u0061","source":"s","type":"t","datacontenttype":"application/cloudevents+json; charset=utf-8","data":[1,2,{"a":[]}]}"#,
    r#"{"specversion":"0.3","id":"a","source":"s","type":"t","id":"b"}"#,
];

fn cloudevents_seeds() -> Vec<Vec<u8>> {
    let batch = format!("[{}]", STRUCTURED.join(",\n"));
    STRUCTURED
        .into_iter()
        .map(|seed| seed.as_bytes().to_vec())
        .chain([batch.into_bytes(), b"[]".to_vec(), b"[1]".to_vec()])
        .collect()
}

/// An event is the same alone and in a batch, it can be recorded, and what it says is what its JSON says to others.
fn cloudevents(input: &[u8]) {
    let alone = from_json(input);
    if let Ok(event) = &alone {
        check_event(event);
        let batch = [b"[", input, b"]"].concat();
        assert_eq!(batch_from_json(&batch).unwrap(), [Ok(event.clone())]);
        // Where serde_json's own tree can be made: it goes no deeper than 128 levels.
        if let Ok(value) = serde_json::from_slice::<Value>(input) {
            assert_eq!(value["id"], event.id());
            assert_eq!(value["source"], event.source());
            assert_eq!(value["type"], event.event_type());
            assert_eq!(
                value["subject"].as_str().unwrap_or_default(),
                event.subject().unwrap_or_default()
            );
            match (&value["data"], &value["data_base64"]) {
                (Value::Null, Value::String(_)) => {}
                (Value::String(text), _) if event.data().first() != Some(&b'"') => {
                    assert_eq!(text.as_bytes(), &event.data()[..]);
                }
                (data, _) if !event.data().is_empty() => {
                    assert_eq!(serde_json::from_slice::<Value>(event.data()).unwrap(), *data);
                }
                (data, _) => assert!(data.is_null() || data == ""),
            }
        }
    }
    if let Ok(events) = batch_from_json(input) {
        events.iter().flatten().for_each(check_event);
    } else if let Err(problem) = alone {
        let _told = (problem.to_string(), problem.fields());
    }
}

pub(super) const CLOUDEVENTS_HEADERS: Target = Target {
    name: "cloudevents_headers",
    about: "CloudEvents in headers: lines of `name: value`, an empty line, the payload",
    seeds: cloudevents_headers_seeds,
    words: &[
        "ce-id: ",
        "ce-source: ",
        "ce-type: ",
        "ce-specversion: 1.0",
        "ce-time: ",
        "content-type: ",
        "%25",
        "%C3%A9",
        "\"",
        "\\",
    ],
    max_bytes: 16 << 10,
    run: cloudevents_headers,
};

fn cloudevents_headers_seeds() -> Vec<Vec<u8>> {
    [
        "ce-specversion: 1.0\nce-id: 1\nce-source: s\nce-type: t\n\n",
        "ce-specversion: 1.0\nce-id: %E2%82%AC\nce-source: \"a \\\"b\\\"\"\nce-type: scm.push\nce-time: 2026-11-22T09:30:00Z\nce-subject: refs/heads/main\nce-attempt: 2\ncontent-type: application/json; charset=utf-8\nhost: a\n\n{\"a\": 1}",
        "ce-specversion: 1.0\nce-id: 1\nce-id: 2\nce-datacontenttype: text/plain\n\nx",
        "ce-id: %ff\nce-type: %\n\n",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// What is accepted can be recorded, its payload is the body, and percent signs are decoded once.
fn cloudevents_headers(input: &[u8]) {
    let (head, body) = head_and_body(input);
    let mut content_type = None;
    let mut headers: Vec<(&str, &[u8])> = Vec::new();
    for line in head.split(|byte| *byte == b'\n') {
        let colon = line.windows(2).position(|pair| pair == b": ");
        let Some((name, value)) = colon.map(|at| (&line[..at], &line[at + 2..])) else {
            return;
        };
        let Some(name) = text(name) else { return };
        if name == "content-type" {
            content_type = text(value);
        }
        headers.push((name, value));
    }
    let Ok(event) = from_headers(
        headers.iter().copied(),
        content_type,
        Bytes::copy_from_slice(body),
    ) else {
        return;
    };
    check_event(&event);
    assert_eq!(&event.data()[..], body);
    let plain = |name: &str| {
        headers
            .iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| *value)
    };
    let id = plain("ce-id").unwrap();
    if !id.contains(&b'%') && !id.starts_with(b"\"") {
        assert_eq!(event.id().as_bytes(), id);
    }
}

pub(super) const HEC: Target = Target {
    name: "hec",
    about: "Splunk's event collector: a line with four names, parted by tabs, then events in JSON or lines",
    seeds: hec_seeds,
    words: &[
        "{\"event\":",
        "\"time\":1795340000.25",
        "\"fields\":{",
        "\"host\":\"",
        "\"source\":\"",
        "\"sourcetype\":\"",
        "\"index\":\"",
        "\"_document_id\":\"",
        "\"action\":\"git.push\"",
        "\"@timestamp\":",
        "\"repo\":\"",
    ],
    max_bytes: 128 << 10,
    run: hec,
};

fn hec_seeds() -> Vec<Vec<u8>> {
    let document = r#"{"_document_id":"abc","action":"protected_branch.destroy","actor":"octocat","repo":"acme/widgets","@timestamp":1795340000123,"org":"acme"}"#;
    let names = "web-1\t/var/log/build\t_json\tmain\n";
    [
        r#"{"event":"started"}"#.to_owned(),
        format!(r#"{{"time":1795340000.25,"host":"a","source":"b","sourcetype":"c","index":"d","fields":{{"k":"v"}},"event":{document}}}"#),
        format!("{{\"event\":{{\"a\":1}}}}{{\"event\":[1,2],\"time\":\"1795340000\"}}\n{{\"event\":{document}}}"),
        format!("line one\n{document}\n\n  line three"),
        r#"{"time":1}"#.to_owned(),
        r#"{"event":"  "}"#.to_owned(),
        r#"{"event":1,"fields":[]}"#.to_owned(),
    ]
    .into_iter()
    .flat_map(|body| [format!("\n{body}"), format!("{names}{body}")])
    .chain([format!("{}\n{}", "x".repeat(1_024), "{\"event\":1}".repeat(900))])
    .map(String::into_bytes)
    .collect()
}

/// There are as many events as the body has, each can be recorded, and each payload is what was sent.
fn hec(input: &[u8]) {
    let end = input
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(input.len());
    let (Some(names), body) = (text(&input[..end]), &input[(end + 1).min(input.len())..]) else {
        return;
    };
    let mut names = names
        .split('\t')
        .map(|name| (!name.is_empty()).then(|| name.to_owned()));
    let metadata = Metadata {
        host: names.next().flatten(),
        source: names.next().flatten(),
        sourcetype: names.next().flatten(),
        index: names.next().flatten(),
    };
    let source = "collector".parse().unwrap();
    if let Ok(events) = parse_events(body, &metadata) {
        assert!((1..=MAX_EVENTS).contains(&events.len()));
        let sent: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(body).into_iter().collect();
        if let Ok(sent) = &sent {
            assert_eq!(sent.len(), events.len());
        }
        for (place, event) in events.into_iter().enumerate() {
            let Ok(event) = event.into_event(&source, || "new".to_owned()) else {
                continue;
            };
            check_event(&event);
            let Some(sent) = sent.as_ref().ok().map(|sent| &sent[place]["event"]) else {
                continue;
            };
            match sent.as_str() {
                Some(text) => assert_eq!(text.as_bytes(), &event.data()[..]),
                None => assert_eq!(serde_json::from_slice::<Value>(event.data()).unwrap(), *sent),
            }
        }
    }
    match parse_raw(body, &metadata) {
        Ok(events) => {
            for event in events {
                if let Ok(event) = event.into_event(&source, || "new".to_owned()) {
                    check_event(&event);
                    assert!(
                        body.windows(event.data().len())
                            .any(|window| window == event.data())
                    );
                }
            }
        }
        Err(HecError::NoData) => assert!(body.trim_ascii().is_empty()),
        Err(_) => {}
    }
}
