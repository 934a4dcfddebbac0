//! An event's identity is its source and id: the same bytes again are the same record, other bytes are a finding.

use std::{slice, sync::Arc};

use counterfoil_event::{Annotations, Authentication, Entry, Event, EventParts, Protocol, Submitter};
use counterfoil_log::{Log, Outcome};
use counterfoil_merkle::Suite;
use tokio::task::JoinSet;

use crate::support::*;

async fn one(log: &Log, data: &str) -> Outcome {
    submit(log, &[event("run", data)])
        .await
        .unwrap()
        .outcomes
        .remove(0)
}

fn conflict(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Conflict { existing } => existing.get(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_is_recorded_once() {
    for suite in SUITES {
        let place = Place::new(suite);
        let mut log = place.open();
        let event = event("run", "{}");

        // Twice in one call, and again in a call that is in the queue before the first is on disk.
        let first = submit(&log, &[event.clone(), event.clone()]);
        let second = submit(&log, slice::from_ref(&event));
        let first = first.await.unwrap();
        let second = second.await.unwrap();
        assert!(matches!(first.outcomes[0], Outcome::Recorded(_)));
        assert!(matches!(first.outcomes[1], Outcome::Duplicate(_)));
        assert!(matches!(second.outcomes[0], Outcome::Duplicate(_)));
        let original = leaf(&first.outcomes[0]).clone();
        for outcome in [&first.outcomes[1], &second.outcomes[0]] {
            let again = leaf(outcome);
            assert_eq!(
                (again.index, &again.entry, &again.salt),
                (original.index, &original.entry, &original.salt)
            );
        }
        check_receipt(&log, &first.head, &first.outcomes[1], &event);
        check_receipt(&log, &second.head, &second.outcomes[0], &event);

        // After other entries, and after a restart.
        record(&log, &events(0..300)).await;
        for _ in 0..2 {
            let later = submit(&log, slice::from_ref(&event)).await.unwrap();
            assert!(matches!(later.outcomes[0], Outcome::Duplicate(_)));
            assert_eq!(leaf(&later.outcomes[0]).index, original.index);
            assert_eq!(later.head.size, tree_size(302));
            check_receipt(&log, &later.head, &later.outcomes[0], &event);
            assert_eq!(audit(&log).await.size(), 302);
            drop(log);
            log = place.open();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_racing_submissions_one_is_recorded() {
    let place = Place::new(Suite::Blake3);
    let log = Arc::new(place.open());
    for round in 0..30 {
        let mut callers = JoinSet::new();
        for _ in 0..16 {
            let log = log.clone();
            callers.spawn(async move {
                let event = event(round, "{}");
                let submitted = submit(&log, slice::from_ref(&event)).await.unwrap();
                check_receipt(&log, &submitted.head, &submitted.outcomes[0], &event);
                submitted.outcomes.into_iter().next().unwrap()
            });
        }
        let outcomes = callers.join_all().await;
        let recorded = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Recorded(_)));
        assert_eq!(recorded.count(), 1);
        assert!(
            outcomes
                .iter()
                .all(|outcome| leaf(outcome).index == leaf(&outcomes[0]).index)
        );
    }
    assert_eq!(audit(&log).await.size(), 31);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_under_the_same_name_are_refused_and_recorded_once() {
    for suite in SUITES {
        let place = Place::new(suite);
        let mut log = place.open();
        assert_eq!(leaf(&one(&log, "first").await).index, index(1));
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(conflict(&one(&log, "second").await), 1);
            }
            drop(log);
            log = place.open();
        }
        assert_eq!(conflict(&one(&log, "third").await), 1);
        assert_eq!(leaf(&one(&log, "first").await).index, index(1));

        let audited = audit(&log).await;
        assert_eq!(
            audited.size(),
            4,
            "genesis, the event, and one record for each other attempt"
        );
        assert_eq!(audited.of_type("log.conflict").collect::<Vec<_>>(), [2, 3]);
        for place in [2, 3] {
            assert_eq!(audited.attributes[place].source, "log");
            let payload = log.entry(index(place), true).await.unwrap().payload.unwrap().data;
            let text = String::from_utf8(payload).unwrap();
            assert!(text.contains("\"existing_leaf_index\":1"), "{text}");
            assert!(!text.contains("second") && !text.contains("third"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attribute_alone_makes_other_bytes() {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    let original = event("run", "{}");
    record(&log, slice::from_ref(&original)).await;
    let mut parts = counterfoil_event::EventParts {
        id: original.id().to_owned(),
        source: original.source().to_owned(),
        event_type: original.event_type().to_owned(),
        data_content_type: original.data_content_type().to_owned(),
        data: original.data().clone(),
        ..Default::default()
    };
    parts.subject = "other".to_owned();
    let submitted = submit(&log, &[parts.try_into().unwrap()]).await.unwrap();
    assert_eq!(conflict(&submitted.outcomes[0]), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn known_new_and_conflicting_events_of_one_call_keep_their_order() {
    let place = Place::new(Suite::Sha256);
    let log = place.open();
    record(&log, &events(0..3)).await;
    let call = [
        event(0, "0"),
        event("new", "a"),
        event(1, "other"),
        event("new", "b"),
        event("newer", "c"),
        event(1, "other"),
        event(2, "2"),
    ];
    let submitted = submit(&log, &call).await.unwrap();
    let found: Vec<_> = submitted
        .outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Recorded(leaf) => ("recorded", leaf.index.get()),
            Outcome::Duplicate(leaf) => ("duplicate", leaf.index.get()),
            Outcome::Conflict { existing } => ("conflict", existing.get()),
        })
        .collect();
    assert_eq!(
        found,
        [
            ("duplicate", 1),
            ("recorded", 4),
            ("conflict", 2),
            ("conflict", 4),
            ("recorded", 5),
            ("conflict", 2),
            ("duplicate", 3),
        ]
    );
    for (event, outcome) in call.iter().zip(&submitted.outcomes) {
        if !matches!(outcome, Outcome::Conflict { .. }) {
            check_receipt(&log, &submitted.head, outcome, event);
        }
    }
    let audited = audit(&log).await;
    assert_eq!(audited.of_type("log.conflict").count(), 2);
    assert_eq!(audited.size(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_conflicts_of_the_same_bytes_leave_one_record() {
    let place = Place::new(Suite::Blake3);
    let log = Arc::new(place.open());
    record(&log, &[event("run", "first")]).await;
    let mut callers = JoinSet::new();
    for _ in 0..32 {
        let log = log.clone();
        callers.spawn(async move { conflict(&one(&log, "second").await) });
    }
    assert!(callers.join_all().await.into_iter().all(|existing| existing == 1));
    assert_eq!(audit(&log).await.of_type("log.conflict").count(), 1);
}

/// A delivery that no adapter reads.
fn unread(event_type: &str, data: &str) -> Event {
    let parts = EventParts {
        id: "7/72d3162e".to_owned(),
        event_type: event_type.to_owned(),
        data_content_type: "application/json".to_owned(),
        data: data.to_owned().into(),
        extensions: vec![("nativeevent".to_owned(), "push".to_owned())],
        ..EventParts::default()
    };
    Event::received(Protocol::Webhook, &"github".parse().unwrap(), parts).unwrap()
}

/// The same as an adapter reads it.
fn delivery(adapter: &str, event_type: &str, data: &str) -> Event {
    let normalised = format!(r#"{{"type":"{event_type}"}}"#).into_bytes();
    unread(event_type, data)
        .with_normal_form(adapter, normalised)
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_adds_is_committed_to_and_does_not_make_another_event() {
    for suite in SUITES {
        let place = Place::new(suite);
        let log = place.open();
        let submitter = |evidence: &str| {
            let source_id = "github".parse().unwrap();
            Submitter::new(source_id, Authentication::Hmac, evidence.to_owned()).unwrap()
        };
        let submit = async |event: &Event, evidence: &str| {
            let prepared = log.prepare(event.clone(), &submitter(evidence));
            log.submit(vec![prepared]).await.unwrap().outcomes.remove(0)
        };

        let event = delivery("github/1", "scm.push", "{}");
        let recorded = submit(&event, "first secret").await;
        let entry = Entry::decode(&leaf(&recorded).entry).unwrap();
        assert_eq!(
            (entry.source_id(), entry.authentication()),
            ("github", Authentication::Hmac)
        );
        let stored = read_all(&log).await.pop().unwrap().payload.unwrap();
        let annotations = Annotations::decode_canonical(&stored.annotations).unwrap();
        assert_eq!(annotations.adapter, "github/1");
        assert_eq!(annotations.normalised, br#"{"type":"scm.push"}"#);
        assert_eq!(annotations.evidence, "first secret");

        // Another credential, and another version of the adapter that reads another type out of the same bytes.
        assert!(matches!(
            submit(&event, "second secret").await,
            Outcome::Duplicate(_)
        ));
        let upgraded = delivery("github/2", "scm.push.forced", "{}");
        let again = submit(&upgraded, "first secret").await;
        assert!(matches!(again, Outcome::Duplicate(_)));
        assert_eq!(leaf(&again).index, leaf(&recorded).index);

        // Other bytes, whoever read them; and what only the submitter can have changed.
        assert_eq!(
            conflict(&submit(&delivery("github/2", "scm.push", "[]"), "").await),
            1
        );
        assert_eq!(
            conflict(&submit(&delivery("github/1", "scm.tag", "{}"), "").await),
            1
        );
        audit(&log).await;
    }
}

/// What is first on record, and what then comes under its name with the same data.
async fn second(first: &Event, then: &Event) -> Outcome {
    let place = Place::new(Suite::Blake3);
    let log = place.open();
    record(&log, slice::from_ref(first)).await;
    let submitted = submit(&log, slice::from_ref(then)).await.unwrap();
    submitted.outcomes.into_iter().next().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_is_another_version_s_to_change_only_where_the_adapter_gave_it() {
    let cdevent = |version| delivery(version, "dev.cdevents.change.merged.0.2.0", "{}");
    for (one, other) in [
        (cdevent("cdevents/1"), unread("deploy.succeeded", "{}")),
        (
            cdevent("cdevents/1"),
            delivery("cdevents/2", "deploy.succeeded", "{}"),
        ),
        (
            cdevent("cdevents/1"),
            delivery("event/1", "deploy.succeeded", "{}"),
        ),
        (delivery("github/1", "scm.push", "{}"), unread("scm.tag", "{}")),
        (
            delivery("github/1", "scm.push", "{}"),
            delivery("gitea/1", "scm.tag", "{}"),
        ),
    ] {
        for (first, then) in [(&one, &other), (&other, &one)] {
            assert_eq!(conflict(&second(first, then).await), 1, "{first:?} {then:?}");
        }
    }
    let versions = [
        delivery("github/2", "scm.push.forced", "{}"),
        delivery("github/1", "scm.push", "{}"),
    ];
    for (first, then) in [(&versions[0], &versions[1]), (&versions[1], &versions[0])] {
        assert!(matches!(second(first, then).await, Outcome::Duplicate(_)));
    }
}

/// The operator says it, and may say another when a delivery comes again.
#[tokio::test(flavor = "multi_thread")]
async fn where_the_provider_runs_is_no_part_of_a_delivery() {
    let on = |host: &str, native_event: &str, data: &str, adapter: &str| {
        let mut extensions = vec![("nativeevent".to_owned(), native_event.to_owned())];
        if !host.is_empty() {
            extensions.push(("host".to_owned(), host.to_owned()));
        }
        let parts = EventParts {
            id: "7/72d3162e".to_owned(),
            event_type: "scm.push".to_owned(),
            data_content_type: "application/json".to_owned(),
            data: data.to_owned().into(),
            extensions,
            ..EventParts::default()
        };
        let event = Event::received(Protocol::Webhook, &"forge".parse().unwrap(), parts).unwrap();
        let form = br#"{"type":"scm.push"}"#.to_vec();
        event.with_normal_form(adapter, form).unwrap()
    };
    let first = on("git.example.com", "push", "{}", "gitea/3");
    let none = on("", "push", "{}", "gitea/3");
    for then in [
        on("git.example.net", "push", "{}", "gitea/3"),
        on("git.example.net", "push", "{}", "gitea/4"),
        none.clone(),
    ] {
        assert!(
            matches!(second(&first, &then).await, Outcome::Duplicate(_)),
            "{then:?}"
        );
    }
    assert!(matches!(second(&none, &first).await, Outcome::Duplicate(_)));
    for then in [
        on("git.example.net", "push", "[]", "gitea/3"),
        on("git.example.net", "create", "{}", "gitea/3"),
    ] {
        assert_eq!(conflict(&second(&first, &then).await), 1, "{then:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submitter_who_takes_the_name_of_a_delivery_does_not_stand_for_it() {
    let (taken, signed) = (unread("scm.push", "{}"), delivery("github/1", "scm.push", "{}"));
    assert_eq!(conflict(&second(&taken, &signed).await), 1);
    // What the provider signed is on record, and a submitter's receipt for it holds.
    assert!(matches!(second(&signed, &taken).await, Outcome::Duplicate(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_a_later_version_reads_makes_no_other_event_of_what_was_submitted() {
    for adapter in ["event/1", "git/1", "cdevents/3", "in-toto/3"] {
        let recorded = unread("artifact.built", "{}");
        let again = delivery(adapter, "artifact.built", "{}");
        assert!(
            matches!(second(&recorded, &again).await, Outcome::Duplicate(_)),
            "{adapter}"
        );
    }
}
