//! Entries are found by what their normal form says, and by nothing else.

use counterfoil_event::{Event, IndexAttribute, IndexKey};
use counterfoil_log::{Log, rebuild_search_index};
use counterfoil_merkle::LeafIndex;

use crate::support::*;

/// A build of a commit, with some artifacts.
fn build(id: usize, commit: &str, artifacts: &[&str]) -> Event {
    let artifacts: Vec<_> = artifacts
        .iter()
        .map(|digest| format!(r#"{{"digest":"{digest}"}}"#))
        .collect();
    let normalised = format!(
        r#"{{"id":"{id}","type":"artifact.built","commit":"{commit}","artifacts":[{}]}}"#,
        artifacts.join(",")
    );
    event(id, id.to_string())
        .with_normal_form("native/1", normalised.into_bytes())
        .unwrap()
}

async fn find(
    log: &Log,
    attribute: IndexAttribute,
    value: &str,
    first: u64,
    limit: usize,
) -> (Vec<u64>, bool) {
    let key = IndexKey::new(attribute, value);
    let first = LeafIndex::new(first).unwrap();
    let found = log.find_entries(key, first, limit).await.unwrap();
    assert_eq!(found.size, log.commit_head().size);
    (
        found.indices.into_iter().map(LeafIndex::get).collect(),
        found.more,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_are_found_by_each_of_their_terms() {
    for suite in SUITES {
        let place = Place::new(suite);
        let log = place.open();
        let mut builds = vec![
            build(1, "aaaa", &["sha256:01", "sha256:02"]),
            event(2, "no normal form"),
            build(3, "bbbb", &["sha256:02", "SHA256:02"]),
            build(4, "AAAA", &[]),
        ];
        record(&log, &builds).await;
        let commit = IndexAttribute::Commit;
        let artifact = IndexAttribute::Artifact;
        assert_eq!(find(&log, commit, "aaaa", 0, 9).await, (vec![1, 4], false));
        assert_eq!(find(&log, commit, "aaaa", 0, 1).await, (vec![1], true));
        assert_eq!(find(&log, commit, "aaaa", 2, 9).await, (vec![4], false));
        assert_eq!(find(&log, artifact, "sha256:02", 0, 9).await, (vec![1, 3], false));
        assert_eq!(find(&log, artifact, "sha256:0", 0, 9).await, (vec![], false));
        assert_eq!(find(&log, commit, "sha256:01", 0, 9).await, (vec![], false));

        // Sent again it is the same entry, and found once.
        submit(&log, &builds).await.unwrap();
        assert_eq!(find(&log, commit, "aaaa", 0, 9).await, (vec![1, 4], false));

        // More than fit one batch of rows, and after opening again.
        builds = (10..5_000).map(|id| build(id, "cccc", &[])).collect();
        record(&log, &builds).await;
        drop(log);
        let log = place.open();
        let (found, more) = find(&log, commit, "cccc", 7, 5_000).await;
        assert_eq!((found.len(), more), (4_988, false));
        assert!(found.is_sorted_by(|a, b| a < b));

        // What an honest log has needs no mending.
        drop(log);
        let report = rebuild_search_index(&place.data(), &name(), |_| {}).unwrap();
        assert_eq!((report.rows, report.added, report.removed), (4_996, 0, 0));
    }
}
