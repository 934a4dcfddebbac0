//! What it costs to make a normal form of a webhook: reading the body, writing the form, and the keys of the search index.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeMap, hint::black_box};

use counterfoil_event::{
    IndexKey,
    adapter::{Adapter, Native},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::{Map, Value, json};

/// An object with as many members as providers write beside those that matter.
fn padded(object: Value, members: usize) -> Value {
    let mut padded = Map::new();
    for number in 0..members {
        let url = format!("https://api.forge.example/repos/acme/widgets/things{{/thing_{number}}}");
        padded.insert(format!("a_link_to_something_{number}_url"), url.into());
    }
    padded.extend(object.as_object().unwrap().clone());
    padded.into()
}

fn account(id: u64) -> Value {
    padded(
        json!({"id": id, "login": format!("user-{id}"), "type": "User", "site_admin": false}),
        13,
    )
}

fn repository() -> Value {
    padded(
        json!({"id": 5, "full_name": "acme/widgets", "private": true, "owner": account(9), "pushed_at": 1_795_340_000}),
        75,
    )
}

fn pull_request() -> Value {
    let side = |name: &str| json!({"ref": name, "sha": "a".repeat(40), "label": "acme:main", "user": account(9), "repo": repository()});
    let pull_request = json!({
        "number": 7, "merged": true, "merge_commit_sha": "b".repeat(40), "merged_at": "2026-11-22T09:30:00Z",
        "user": account(1), "head": side("feature"), "base": side("main"), "title": "Make widgets",
        "body": "Some words about what this does.\n".repeat(20),
    });
    json!({
        "action": "closed", "number": 7, "pull_request": padded(pull_request, 20), "repository": repository(),
        "organization": {"id": 9, "login": "acme"}, "sender": account(2),
    })
}

fn push() -> Value {
    let commit = json!({
        "id": "c".repeat(40), "message": "Make widgets", "timestamp": "2026-11-22T09:30:00Z", "added": ["a"], "modified": ["b"],
        "author": {"name": "A", "email": "a@acme.example"}, "committer": {"name": "A", "email": "a@acme.example"},
    });
    json!({
        "ref": "refs/heads/main", "before": "d".repeat(40), "after": "c".repeat(40), "forced": false,
        "commits": [commit, commit, commit], "head_commit": commit, "repository": repository(), "sender": account(2),
    })
}

fn adapters(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("adapter");
    for (event, body) in [("push", push()), ("pull_request", pull_request())] {
        let body = body.to_string();
        let extensions = [("nativeevent", event), ("deliveryid", "d1"), ("hookid", "h1")];
        let extensions: BTreeMap<String, String> = extensions
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let native = Native {
            id: "h1/d1",
            source: "hooks/forge",
            event_type: "",
            time: "",
            media_type: "application/json",
            extensions: &extensions,
            data: body.as_bytes(),
        };
        let form = Adapter::GitHub.read(&native).unwrap();
        let json = form.clone().into_json();
        let name = format!("{event}, {} bytes", body.len());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("read", &name), |bencher| {
            bencher.iter(|| Adapter::GitHub.read(black_box(&native)));
        });
        group.bench_function(BenchmarkId::new("read and write", &name), |bencher| {
            bencher.iter(|| Adapter::GitHub.read(black_box(&native)).unwrap().into_json());
        });
        group.bench_function(BenchmarkId::new("index keys", &name), |bencher| {
            bencher.iter(|| IndexKey::of_normal_form(black_box(&json)));
        });
    }
    group.finish();
}

criterion_group!(benches, adapters);
criterion_main!(benches);
