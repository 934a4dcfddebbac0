//! CloudEvents as senders write them, and as they must not.
#![allow(clippy::unwrap_used, missing_docs)]

use bytes::Bytes;
use counterfoil_event::{
    Event,
    cloudevents::{
        AttributeProblem, CloudEventError, MAX_BATCH_EVENTS, batch_from_json, from_headers, from_json,
    },
};

/// An event with more members, each written as JSON.
fn json(members: &str) -> Result<Event, CloudEventError> {
    from_json(
        format!(r#"{{"specversion":"1.0","id":"42","source":"https://ci.example","type":"ci.run.finished"{members}}}"#)
            .as_bytes(),
    )
}

fn attribute(name: &str, problem: AttributeProblem) -> CloudEventError {
    CloudEventError::Attribute {
        attribute: name.to_owned(),
        problem,
    }
}

#[test]
fn structured_mode_keeps_the_payload_as_it_was_written() {
    let event = json(
        r#","subject":"widgets","time":"2026-11-22T09:30:00Z","data":{"b" : 1.0, "a":1e3,"a":"\u00e9"}"#,
    );
    let event = event.unwrap();
    assert_eq!((event.id(), event.source()), ("42", "https://ci.example"));
    assert_eq!(event.subject(), Some("widgets"));
    assert_eq!(event.time(), Some("2026-11-22T09:30:00Z"));
    assert_eq!(event.data_content_type(), "application/json");
    assert_eq!(&event.data()[..], br#"{"b" : 1.0, "a":1e3,"a":"\u00e9"}"#);
}

#[test]
fn what_data_means_depends_on_its_media_type() {
    let data = |members: &str| json(members).map(|event| event.data().clone());
    assert_eq!(
        data(r#","datacontenttype":"text/xml","data":"<a b=\"c\"/>""#).unwrap(),
        r#"<a b="c"/>"#
    );
    assert_eq!(
        data(r#","datacontenttype":"Application/Problem+JSON; a=b","data":"x""#).unwrap(),
        r#""x""#
    );
    assert_eq!(data(r#","data":null"#).unwrap(), "null");
    assert_eq!(data("").unwrap(), "");
    assert_eq!(data(r#","data_base64":"AAH/""#).unwrap(), &[0, 1, 255][..]);
    assert_eq!(
        json(r#","data_base64":"""#).unwrap().data_content_type(),
        "application/octet-stream"
    );
    assert_eq!(
        data(r#","datacontenttype":"text/xml","data":{}"#),
        Err(attribute("data", AttributeProblem::NotAString))
    );
    assert_eq!(
        data(r#","data":1,"data_base64":"AA==""#),
        Err(attribute("data_base64", AttributeProblem::TwoPayloads))
    );
    for bad in ["AA", "A A=", "AB==", "*"] {
        let bad = data(&format!(r#","data_base64":"{bad}""#));
        assert_eq!(bad, Err(attribute("data_base64", AttributeProblem::NotBase64)));
    }
}

#[test]
fn extensions_are_text_whatever_type_they_came_in() {
    let event =
        json(r#","attempt":-7,"tagged":true,"dataschema":"https://s.example","gone":null,"words":"a\nb""#);
    // A line break is no character of an attribute; the error has the extension's own name.
    let error = event.unwrap_err();
    assert_eq!(error.fields().len(), 1);
    assert_eq!(error.fields()[0].0, "words");

    let event = json(r#","attempt":-7,"tagged":true,"dataschema":"https://s.example","gone":null"#).unwrap();
    let extensions: Vec<_> = event
        .extensions()
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str()))
        .collect();
    assert_eq!(
        extensions,
        [
            ("attempt", "-7"),
            ("dataschema", "https://s.example"),
            ("tagged", "true")
        ]
    );
    for value in ["2147483648", "1.0", "1e1", "{}", "[]"] {
        let wrong = json(&format!(r#","attempt":{value}"#));
        assert_eq!(
            wrong,
            Err(attribute("attempt", AttributeProblem::NotAScalar)),
            "{value}"
        );
    }
}

#[test]
fn what_is_no_cloudevent_is_refused_with_the_attribute_that_is_wrong() {
    assert_eq!(
        from_json(b"{}"),
        Err(attribute("specversion", AttributeProblem::Missing))
    );
    let other = br#"{"specversion":"0.3","id":"42","source":"s","type":"t"}"#;
    assert_eq!(
        from_json(other),
        Err(attribute("specversion", AttributeProblem::UnknownVersion))
    );
    let missing =
        from_json(br#"{"specversion":"1.0","source":"s","type":"two words","datacontenttype":"x"}"#);
    let fields: Vec<_> = missing
        .unwrap_err()
        .fields()
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(fields, ["id", "type", "datacontenttype"]);
    assert_eq!(
        json(r#","subject":7"#),
        Err(attribute("subject", AttributeProblem::NotAString))
    );
    for malformed in [
        &b""[..],
        b"[]",
        b"7",
        b"{\"id\":\"\xff\"}",
        br#"{"id":"1","id":"2"}"#,
        br#"{"id":"1","i\u0064":"2"}"#,
        br#"{"id":"1"} {}"#,
    ] {
        assert!(
            matches!(from_json(malformed), Err(CloudEventError::Json(_))),
            "{malformed:?}"
        );
    }
    let many: String = (0..80).map(|number| format!(r#","x{number}":1"#)).collect();
    assert!(json(&many).is_err());
}

/// serde_json would repeat a string that stands where none may be, a byte as six.
#[test]
fn what_is_wrong_is_not_repeated() {
    let long = "\u{7f}".repeat(10_000);
    let text = format!(r#""{long}""#);
    let name = json(&format!(r#","{long}":"\u0001""#));
    let in_batch = batch_from_json(format!("[{text}]").as_bytes()).unwrap().remove(0);
    let whole = [from_json(text.as_bytes()), name, in_batch].map(Result::unwrap_err);
    let batch = batch_from_json(text.as_bytes()).unwrap_err();
    for wrong in whole.into_iter().chain([batch]) {
        assert!(matches!(wrong, CloudEventError::Json(_)), "{wrong}");
        assert!(wrong.to_string().len() < 400, "{wrong}");
    }
    // A name that could be meant for an attribute's is told with what is wrong with it.
    let name = "x".repeat(64);
    assert_eq!(json(&format!(r#","{name}":1"#)).unwrap_err().fields()[0].0, name);
}

#[test]
fn a_batch_has_a_result_for_each_event() {
    let good = r#"{"specversion":"1.0","id":"42","source":"s","type":"t"}"#;
    let batch = batch_from_json(format!(r#"[{good}, {{}}, 7, {good}]"#).as_bytes()).unwrap();
    let fine: Vec<_> = batch.iter().map(Result::is_ok).collect();
    assert_eq!(fine, [true, false, false, true]);
    assert_eq!(batch_from_json(b"[]"), Ok(vec![]));
    assert!(matches!(
        batch_from_json(good.as_bytes()),
        Err(CloudEventError::Json(_))
    ));
    let most = |events: usize| format!("[{}]", vec!["{}"; events].join(","));
    assert_eq!(
        batch_from_json(most(MAX_BATCH_EVENTS).as_bytes()).unwrap().len(),
        MAX_BATCH_EVENTS
    );
    let many = batch_from_json(most(MAX_BATCH_EVENTS + 1).as_bytes());
    assert_eq!(many, Err(CloudEventError::TooManyEvents));
}

fn binary(headers: &[(&str, &str)]) -> Result<Event, CloudEventError> {
    let required = [
        ("ce-specversion", "1.0"),
        ("ce-id", "42"),
        ("ce-source", "https://ci.example"),
        ("ce-type", "ci.run.finished"),
        ("host", "log.example"),
    ];
    let all = required
        .iter()
        .chain(headers)
        .map(|(name, value)| (*name, value.as_bytes()));
    from_headers(all, Some("text/plain"), Bytes::from_static(b"\0 as it is"))
}

#[test]
fn binary_mode_decodes_headers_as_the_binding_says() {
    let event = binary(&[
        ("ce-subject", "Euro%20%E2%82%AC%20%F0%9F%98%80"),
        ("ce-attempt", "1"),
    ])
    .unwrap();
    assert_eq!(event.subject(), Some("Euro € 😀"));
    assert_eq!(event.extensions()["attempt"], "1");
    assert_eq!(event.data_content_type(), "text/plain");
    assert_eq!(&event.data()[..], b"\0 as it is");

    let subject =
        |value: &str| binary(&[("ce-subject", value)]).map(|event| event.subject().unwrap().to_owned());
    // Decoded once; what is no escape stays; quotes of older senders come off.
    assert_eq!(subject("%2541%zz%").unwrap(), "%41%zz%");
    assert_eq!(subject(r#""a \"b\" %41 \\""#).unwrap(), r#"a "b" A \"#);
    for bad in ["%ff", r#""no end"#, r#""a" b"#, r#""\"#] {
        assert_eq!(
            subject(bad),
            Err(attribute("subject", AttributeProblem::BadEncoding)),
            "{bad}"
        );
    }
    assert_eq!(
        binary(&[("ce-id", "43")]),
        Err(attribute("id", AttributeProblem::Repeated))
    );
    assert_eq!(
        binary(&[("ce-datacontenttype", "text/xml")]),
        Err(attribute("datacontenttype", AttributeProblem::InContentType))
    );
    // A header that would put a line break into an attribute.
    assert!(subject("a%0ab").is_err());
    let many: Vec<_> = (0..100).map(|number| format!("ce-x{number}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(binary(&many), Err(CloudEventError::TooManyAttributes));
}
