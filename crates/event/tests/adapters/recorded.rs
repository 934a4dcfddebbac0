//! The recorded bodies, each with the name of the event that it came as.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use counterfoil_event::adapter::Adapter;
use serde_json::Value;

/// A body.
pub(crate) struct Recorded {
    pub(crate) adapter: Adapter,
    pub(crate) path: PathBuf,
    /// The provider's name for what happened.
    pub(crate) event: String,
    pub(crate) body: Vec<u8>,
    pub(crate) json: Value,
}

impl Recorded {
    /// What an error is about.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// All there are; none, said aloud, where they are not at hand. Under CI they have to be.
pub(crate) fn all() -> Vec<Recorded> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let data = env::var_os("COUNTERFOIL_TEST_DATA").map_or(beside, PathBuf::from);
    let mut all = Vec::new();
    for (adapter, folder) in [
        (Adapter::GitHub, "github-webhooks"),
        (Adapter::GitLab, "gitlab-webhooks"),
        (Adapter::Gitea, "gitea-webhooks"),
    ] {
        let folder = data.join(folder);
        if !folder.is_dir() {
            assert!(env::var_os("CI").is_none(), "there is no {}", folder.display());
            eprintln!("skipped: there is no {}", folder.display());
            continue;
        }
        let before = all.len();
        collect(adapter, &folder, &mut all);
        assert!(all.len() > before, "nothing in {}", folder.display());
    }
    all
}

fn collect(adapter: Adapter, folder: &Path, all: &mut Vec<Recorded>) {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(adapter, &path, all);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            let body = fs::read(&path).unwrap();
            let json: Value = serde_json::from_slice(&body).unwrap();
            let file = path.file_stem().unwrap().to_str().unwrap();
            let event = match adapter {
                Adapter::GitHub => folder.file_name().unwrap().to_str().unwrap().to_owned(),
                Adapter::GitLab => gitlab_header(&json),
                _ => gitea_header(file),
            };
            all.push(Recorded {
                adapter,
                path,
                event,
                body,
                json,
            });
        }
    }
}

fn gitlab_header(body: &Value) -> String {
    let kind = body["object_kind"].as_str().unwrap();
    let words = kind.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.collect::<Vec<_>>().join(" ") + " Hook"
}

fn gitea_header(file: &str) -> String {
    let events = ["issue_comment", "issues", "pull_request_comment", "pull_request"];
    let found = events.into_iter().find(|event| file.starts_with(event));
    found.unwrap_or("create").to_owned()
}
