//! The files of an outbox at every point where a process can end. Delivery is tested with real logs, end to end.

use std::{fs, os::unix::fs::symlink, time::Duration};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::{record::tests::event, spool::Limits, *};
use crate::outbox::spool::ReadError;

fn outbox(root: &Path) -> Outbox {
    Outbox::new(root, &"http://127.0.0.1:7480".parse().unwrap(), "main")
}

fn now(ms: u64) -> UnixMillis {
    UnixMillis::new(ms)
}

fn waiting_ids(outbox: &Outbox) -> Vec<String> {
    let listing = outbox.list().unwrap();
    listing
        .waiting
        .iter()
        .map(|item| item.event.id().to_owned())
        .collect()
}

#[test]
fn events_wait_in_order_and_outlive_the_process() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("a/b");
    assert_eq!(outbox(&root).waiting().unwrap(), 0);
    assert!(!root.exists());
    for (place, id) in (1..).zip(["z", "a", "m"]) {
        let queued = outbox(&root).enqueue(&event(id), now(place)).unwrap();
        assert_eq!(
            (queued.number.get(), queued.waiting as u64, queued.already),
            (place, place, false)
        );
    }
    let listing = outbox(&root).list().unwrap();
    assert_eq!(waiting_ids(&outbox(&root)), ["z", "a", "m"]);
    assert_eq!(listing.waiting[1].queued, now(2));
    assert_eq!(listing.waiting[1].event, event("a"));
}

#[test]
fn logs_and_servers_have_outboxes_of_their_own() {
    let root = Path::new("r");
    let path = |server: &str, log: &str| Outbox::new(root, &server.parse().unwrap(), log).path().to_owned();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let main = path("https://log.example", "main");
    assert!(name(&main).starts_with("log.example-main-"));
    assert_eq!(main, path("https://log.example/", "main"));
    for other in [
        path("http://log.example", "main"),
        path("https://log.example:1", "main"),
        path("https://log.example", "other"),
        path("https://log.example", "../main"),
    ] {
        assert_ne!(main, other);
        assert_eq!(other.parent(), Some(root));
    }
}

#[test]
fn an_event_waits_once() {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(scratch.path());
    let first = outbox.enqueue(&event("a"), now(1)).unwrap();
    let again = outbox.enqueue(&event("a"), now(2)).unwrap();
    assert_eq!(
        (again.number, again.waiting, again.already),
        (first.number, 1, true)
    );

    // Another event under the same id is for the log to judge.
    let mut parts = counterfoil_event::EventParts {
        id: "a".to_owned(),
        source: event("a").source().to_owned(),
        event_type: "build.finished".to_owned(),
        data: "other".into(),
        ..Default::default()
    };
    let other = Event::try_from(parts.clone()).unwrap();
    assert!(!outbox.enqueue(&other, now(3)).unwrap().already);
    parts.time = "2026-11-22T09:31:00Z".to_owned();
    let with_time = Event::try_from(parts).unwrap();
    assert!(outbox.enqueue(&with_time, now(4)).unwrap().already);
    assert_eq!(outbox.waiting().unwrap(), 2);
}

#[test]
fn a_full_outbox_says_so_and_takes_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut outbox = outbox(scratch.path());
    outbox.spool.limits.events = 2;
    outbox.enqueue(&event("a"), now(1)).unwrap();
    outbox.enqueue(&event("b"), now(1)).unwrap();
    let stored = outbox.spool.waiting().unwrap();
    // What is set aside takes room too.
    outbox.spool.put_aside(&stored[0], "bad").unwrap();
    let full = outbox.enqueue(&event("c"), now(1)).unwrap_err();
    assert!(matches!(full, OutboxError::Full { events: 2, .. }), "{full}");
    assert_eq!(waiting_ids(&outbox), ["b"]);
    outbox.drop_set_aside(stored[0].number).unwrap();
    outbox.enqueue(&event("c"), now(1)).unwrap();

    let two = fs::metadata(
        outbox
            .path()
            .join(file_names(outbox.path(), ".event")[0].as_str()),
    )
    .unwrap()
    .len();
    outbox.spool.limits = Limits {
        events: 9,
        bytes: 3 * two - 1,
        ..outbox.spool.limits
    };
    assert!(matches!(
        outbox.enqueue(&event("d"), now(1)),
        Err(OutboxError::Full { .. })
    ));
    outbox.spool.limits.bytes += 1;
    outbox.enqueue(&event("d"), now(1)).unwrap();
}

fn file_names(directory: &Path, end: &str) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(end))
        .collect();
    names.sort();
    names
}

/// A process can end with any part of the new file written, before or after it was renamed.
#[test]
fn what_a_crash_while_adding_leaves_is_the_old_state_or_the_new_one() {
    let scratch = tempfile::tempdir().unwrap();
    let whole = outbox(&scratch.path().join("whole"));
    whole.enqueue(&event("a"), now(1)).unwrap();
    let name = file_names(whole.path(), ".event").remove(0);
    let bytes = fs::read(whole.path().join(&name)).unwrap();
    for cut in (0..=bytes.len()).step_by(7).chain([bytes.len()]) {
        let crashed = outbox(&scratch.path().join(format!("{cut}")));
        crashed.enqueue(&event("before"), now(1)).unwrap();
        let unfinished = crashed.path().join(".new-x7Fk2a");
        fs::write(&unfinished, &bytes[..cut]).unwrap();
        assert_eq!(waiting_ids(&crashed), ["before"]);
        crashed.enqueue(&event("after"), now(2)).unwrap();
        assert_eq!(waiting_ids(&crashed), ["before", "after"]);
        assert_eq!(crashed.list().unwrap().damaged.len(), 0);
        assert!(!unfinished.exists());
    }
}

#[test]
fn what_a_crash_while_setting_aside_leaves_is_one_event_in_one_place() {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(scratch.path());
    outbox.enqueue(&event("a"), now(1)).unwrap();
    let stored = outbox.spool.waiting().unwrap().remove(0);
    let reason = outbox.path().join("set-aside");
    fs::create_dir(&reason).unwrap();
    fs::write(
        reason.join(file_names(outbox.path(), ".event")[0].replace(".event", ".reason")),
        "from before",
    )
    .unwrap();
    assert_eq!(waiting_ids(&outbox), ["a"]);
    assert!(outbox.list().unwrap().set_aside.is_empty());

    outbox.spool.put_aside(&stored, "a conflict").unwrap();
    assert!(matches!(outbox.spool.read(&stored), Err(ReadError::Gone)));
    let listing = outbox.list().unwrap();
    assert!(listing.waiting.is_empty());
    assert_eq!(listing.set_aside[0].reason, "a conflict");
    assert_eq!(listing.set_aside[0].item.as_ref().unwrap().event, event("a"));
    // Its number is not given to another while it is there.
    assert_eq!(outbox.enqueue(&event("b"), now(1)).unwrap().number.get(), 2);
    outbox.drop_set_aside(stored.number).unwrap();
    assert!(matches!(
        outbox.drop_set_aside(stored.number),
        Err(OutboxError::NotSetAside { .. })
    ));
}

#[test]
fn what_was_set_aside_is_queued_again_behind_all_others() {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(scratch.path());
    let absent = outbox.retry(ItemNumber(1));
    assert!(matches!(absent, Err(OutboxError::NotSetAside { .. })));
    assert!(!outbox.path().exists());
    for id in ["a", "b"] {
        outbox.enqueue(&event(id), now(1)).unwrap();
    }
    let waiting = outbox.spool.waiting().unwrap();
    outbox.spool.put_aside(&waiting[0], "bad").unwrap();
    let number = waiting[0].number;
    assert_eq!(outbox.retry(number).unwrap().get(), 3);
    assert_eq!(waiting_ids(&outbox), ["b", "a"]);
    assert_eq!(outbox.list().unwrap().waiting[1].queued, now(1));
    assert!(outbox.list().unwrap().set_aside.is_empty());
    assert_eq!(file_names(&outbox.path().join("set-aside"), ""), [""; 0]);
    assert!(outbox.retry(number).is_err());
}

#[test]
fn what_is_kept_aside_is_there_once_and_takes_room() {
    let scratch = tempfile::tempdir().unwrap();
    let mut outbox = outbox(scratch.path());
    outbox.spool.limits.events = 2;
    outbox.enqueue(&event("a"), now(1)).unwrap();
    for time in 2..4 {
        let number = outbox.keep_aside(&event("b"), now(time), "no such word").unwrap();
        assert_eq!(number.get(), 2);
    }
    let listing = outbox.list().unwrap();
    assert_eq!(waiting_ids(&outbox), ["a"]);
    let [aside] = &listing.set_aside[..] else {
        panic!("{listing:?}")
    };
    assert_eq!((aside.number.get(), &*aside.reason), (2, "no such word"));
    let item = aside.item.as_ref().unwrap();
    assert_eq!((&item.event, item.queued), (&event("b"), now(2)));
    let full = outbox.keep_aside(&event("c"), now(4), "no");
    assert!(matches!(full, Err(OutboxError::Full { events: 2, .. })));

    // A process can be killed between the event and the reason.
    let directory = outbox.path().join("set-aside");
    let reason = &file_names(&directory, ".reason")[0];
    fs::remove_file(directory.join(reason)).unwrap();
    assert_eq!(outbox.list().unwrap().set_aside[0].reason, "");
    assert_eq!(outbox.retry(ItemNumber(2)).unwrap().get(), 3);
    assert_eq!(waiting_ids(&outbox), ["a", "b"]);
}

/// Whoever shares an outbox may leave any name in it.
#[test]
fn no_number_is_so_large_that_what_comes_behind_it_is_lost() {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(scratch.path());
    outbox.enqueue(&event("a"), now(1)).unwrap();
    for (last, id, number) in [
        ("999999999999", "b", 1_000_000_000_000),
        ("18446744073709551615", "c", u64::MAX),
    ] {
        let name = format!("{last}-{}.event", "0".repeat(64));
        fs::write(outbox.path().join(name), "").unwrap();
        let waiting = outbox.spool.waiting().unwrap();
        let foreign = waiting.last().unwrap();
        assert_eq!(foreign.number.to_string(), last);
        outbox.spool.put_aside(foreign, "damaged").unwrap();
        assert_eq!(outbox.enqueue(&event(id), now(1)).unwrap().number.get(), number);
    }
    assert_eq!(waiting_ids(&outbox), ["a", "b", "c"]);
    // Nor does another spelling of a number lead to a file that is not there.
    for spelling in ["0000000000004", "+00000000004", "4"] {
        let name = format!("{spelling}-{}.event", "0".repeat(64));
        fs::write(outbox.path().join(name), "").unwrap();
    }
    assert_eq!(outbox.waiting().unwrap(), 3);
}

#[test]
fn damaged_and_foreign_files_are_told_apart_from_events() {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(scratch.path());
    for id in ["a", "b"] {
        outbox.enqueue(&event(id), now(1)).unwrap();
    }
    let names = file_names(outbox.path(), ".event");
    fs::write(outbox.path().join("notes.event"), "mine").unwrap();
    fs::write(outbox.path().join(&names[0]), "counterfoil outbox 1\n").unwrap();
    // One event's file under another's name.
    fs::copy(
        outbox.path().join(&names[1]),
        outbox
            .path()
            .join(names[0].replace("000000000001", "000000000003")),
    )
    .unwrap();
    let listing = outbox.list().unwrap();
    assert_eq!(waiting_ids(&outbox), ["b"]);
    let damaged: Vec<_> = listing.damaged.iter().map(|item| item.number.get()).collect();
    assert_eq!(damaged, [1, 3]);

    // What is no file is no event, whatever its name.
    let name = |number: u64| format!("{number:012}-{}.event", "0".repeat(64));
    let place = |number| outbox.path().join(name(number));
    symlink("nowhere", place(4)).unwrap();
    symlink(&names[1], place(5)).unwrap();
    mkfifoat(CWD, place(6), Mode::RUSR | Mode::WUSR).unwrap();
    fs::create_dir(place(7)).unwrap();
    assert_eq!(outbox.waiting().unwrap(), 3);
}

#[test]
fn many_processes_may_add_at_once() {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(scratch.path());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let outbox = outbox.clone();
            scope.spawn(move || {
                for number in 0..10 {
                    outbox
                        .enqueue(&event(&format!("{worker}-{number}")), now(1))
                        .unwrap();
                }
            });
        }
    });
    let ids = waiting_ids(&outbox);
    assert_eq!(ids.len(), 40);
    for worker in 0..4 {
        let own: Vec<_> = ids
            .iter()
            .filter(|id| id.starts_with(&format!("{worker}-")))
            .collect();
        let expected: Vec<_> = (0..10).map(|number| format!("{worker}-{number}")).collect();
        assert_eq!(own, expected.iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn one_process_delivers_at_a_time() {
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(scratch.path());
    let lock = outbox.lock_delivery(None).await.unwrap().unwrap();
    let soon = Some(tokio::time::Instant::now());
    assert!(outbox.lock_delivery(soon).await.unwrap().is_none());
    // Adding needs no right to deliver.
    outbox.enqueue(&event("a"), now(1)).unwrap();
    drop(lock);
    assert!(outbox.lock_delivery(soon).await.unwrap().is_some());
}

#[test]
fn a_lock_that_nobody_lets_go_of_is_not_waited_for_without_end() {
    let scratch = tempfile::tempdir().unwrap();
    let mut outbox = outbox(scratch.path());
    outbox.enqueue(&event("a"), now(1)).unwrap();
    let lock = fs::File::open(outbox.path().join("lock")).unwrap();
    lock.lock().unwrap();
    outbox.spool.limits.lock_time = Duration::from_millis(100);
    let held = outbox.enqueue(&event("b"), now(1)).unwrap_err();
    assert!(
        matches!(&held, OutboxError::Io(error) if error.action == "lock"),
        "{held}"
    );
    drop(lock);
    outbox.enqueue(&event("b"), now(1)).unwrap();
    assert_eq!(waiting_ids(&outbox), ["a", "b"]);
}

#[test]
fn an_outbox_is_its_users_own() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = tempfile::tempdir().unwrap();
    let outbox = outbox(&scratch.path().join("state"));
    outbox.enqueue(&event("a"), now(1)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(outbox.path()), 0o700);
    assert_eq!(
        mode(&outbox.path().join(&file_names(outbox.path(), ".event")[0])),
        0o600
    );
}
