//! `docs/schema/event.json` says what normalised events are: all that adapters make keep to it, what breaks it is not read, and it
//! knows the members that the types know, no more and no fewer.

use std::fmt;

use boon::{Compiler, SchemaIndex, Schemas};
use counterfoil_event::normal::{ActorKind, NormalEvent, Outcome, Word};
use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor},
};
use serde_json::{Value, json, value::RawValue};

use crate::{read, recorded};

const TEXT: &str = include_str!("../../../../docs/schema/event.json");

/// The schema, and whether members that it does not name are refused.
struct Schema(Schemas, SchemaIndex);

impl Schema {
    fn new(strict: bool) -> Self {
        let mut json: Value = serde_json::from_str(TEXT).unwrap();
        if strict {
            close(&mut json);
        }
        let mut schemas = Schemas::new();
        let mut compiler = Compiler::new();
        compiler.add_resource("urn:schema", json).unwrap();
        let index = compiler.compile("urn:schema", &mut schemas).unwrap();
        Self(schemas, index)
    }

    fn check(&self, event: &Value) -> Result<(), String> {
        self.0.validate(event, self.1).map_err(|error| error.to_string())
    }
}

/// Lets no object have members that it does not name.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if members.contains_key("properties") {
                members.insert("additionalProperties".to_owned(), false.into());
            }
            members.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// An event with every member that the schema names.
fn full() -> Value {
    let schema: Value = serde_json::from_str(TEXT).unwrap();
    let mut event = example(&schema, &schema);
    event["type"] = "ci.run.finished".into();
    event
}

fn example(schema: &Value, root: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return example(root.pointer(reference.trim_start_matches('#')).unwrap(), root);
    }
    if let Some(words) = schema["enum"].as_array() {
        return words[0].clone();
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        return example(&choices[0], root);
    }
    match schema["type"].as_str().unwrap() {
        "object" => {
            let members = schema["properties"].as_object().unwrap().iter();
            members
                .map(|(name, member)| (name.clone(), example(member, root)))
                .collect()
        }
        "array" => json!([example(&schema["items"], root)]),
        "boolean" => true.into(),
        "integer" => 7.into(),
        _ if schema.get("pattern").is_some() => "2026-11-22T09:30:00Z".into(),
        _ => "text".into(),
    }
}

#[test]
fn everything_that_adapters_make_keeps_to_the_schema() {
    let schema = Schema::new(true);
    for recorded in recorded::all() {
        let form = read(recorded.adapter, &recorded.event, &recorded.body).unwrap();
        let form: Value = serde_json::from_slice(&form.into_json()).unwrap();
        schema
            .check(&form)
            .unwrap_or_else(|error| panic!("{}: {error}\n{form}", recorded.name()));
    }
}

#[test]
fn schema_and_types_know_the_same_members() {
    let full = full();
    Schema::new(true).check(&full).unwrap();
    // Nothing of it is unknown to the types: what they do not know they keep apart, at any level.
    let event: NormalEvent = serde_json::from_value(full.clone()).unwrap();
    let debug = format!("{event:?}");
    assert_eq!(
        debug.matches("other: ").count(),
        debug.matches("other: {}").count(),
        "{debug}"
    );
    assert_eq!(serde_json::from_slice::<Value>(&event.into_json()).unwrap(), full);
    // And the types write nothing that the schema does not name: a debug form has all fields, a JSON form those with values.
    let fields = debug.matches("None").count();
    assert_eq!(
        fields, 0,
        "the types have members that the schema does not name: {debug}"
    );
}

/// The names of an object's members in the order in which they are written, and the text of each.
struct Written<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Written<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Written<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    members.push(member);
                }
                Ok(Written(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

fn written(json: &str) -> Vec<(String, &str)> {
    let Written(members) = serde_json::from_str(json).unwrap();
    members
        .into_iter()
        .map(|(name, value)| (name, value.get()))
        .collect()
}

fn member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let members = written(json).into_iter();
    members
        .filter(|(found, _)| found == name)
        .map(|(_, value)| value)
        .next()
}

fn assert_in_order(schema: &str, event: &str) {
    let described = written(member(schema, "properties").unwrap());
    let members = written(event);
    let names: Vec<_> = members.iter().map(|(name, _)| name).collect();
    assert_eq!(names, described.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for ((_, value), (_, described)) in members.iter().zip(&described) {
        if value.starts_with('{') && described.contains("\"properties\"") {
            assert_in_order(described, value);
        }
    }
}

#[test]
fn members_are_written_in_the_order_of_the_schema() {
    let event: NormalEvent = serde_json::from_value(full()).unwrap();
    assert_in_order(TEXT, &String::from_utf8(event.into_json()).unwrap());
}

#[test]
fn schema_and_types_know_the_same_words() {
    let schema: Value = serde_json::from_str(TEXT).unwrap();
    let words = |pointer: &str| -> Vec<String> {
        let words = schema.pointer(pointer).unwrap().as_array().unwrap().iter();
        words.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let known: Vec<_> = Word::ALL.iter().map(|word| word.as_str()).collect();
    assert_eq!(words("/properties/type/anyOf/0/enum"), known);
    let known: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
    assert_eq!(words("/properties/outcome/enum"), known);
    let known: Vec<_> = ActorKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert_eq!(words("/$defs/actor/properties/kind/enum"), known);
}

#[test]
fn what_breaks_the_schema_is_not_read_and_the_other_way_round() {
    let schema = Schema::new(false);
    let change = |path: &str, value: Value| {
        let mut event = full();
        *event.pointer_mut(path).unwrap() = value;
        event
    };
    let bad = [
        change("/id", json!("")),
        change("/id", json!(7)),
        change("/type", json!("ci.run.finised")),
        change("/type", json!("two words")),
        change("/type", json!("deploy")),
        change("/outcome", json!("passed")),
        change("/occurred_at", json!("yesterday")),
        change("/actor/kind", json!("robot")),
        change("/repo", json!("acme/widgets")),
        change("/ref/forced", json!("no")),
        change("/commit", json!("c".repeat(513))),
        change("/commits/0", json!(5)),
        change("/run/number", json!(-1)),
        change("/run/number", json!(9_007_199_254_740_994_u64)),
        change("/artifacts", json!({"name": "a"})),
        change("/config_change/0/to", json!([1])),
        change("/config_change/0/from", json!(9_007_199_254_740_994_u64)),
        change("/decision/reviewers", json!(["a"])),
        change("/omitted/0/count", json!("all")),
        change("/omitted/0", json!({"path": "commits"})),
    ];
    for event in bad {
        let read = NormalEvent::parse(event.to_string().as_bytes());
        assert!(
            schema.check(&event).is_err() && read.is_err(),
            "{event}: {read:?}"
        );
    }
    for event in [
        full(),
        json!({"id": "1", "type": "x", "outcome": "unknown"}),
        json!({"id": "1", "type": "github.fork", "outcome": "denied", "more": {"a": [1, null]}, "repo": {"more": true}}),
        change("/config_change/0/to", json!(-5)),
    ] {
        schema.check(&event).unwrap();
        NormalEvent::parse(event.to_string().as_bytes()).unwrap();
    }
}
