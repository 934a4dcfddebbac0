//! A socket in the data directory by which other commands of this program ask a running server: whoever can open it owns the
//! directory, so nothing else is asked of them.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use axum::{
    Json, Router,
    extract::{self, State},
    routing::get,
};
use counterfoil_event::SourceId;
use counterfoil_files::create_directory;
use reqwest::Client;
use tokio::{net::UnixListener, task};
use tracing::warn;

use crate::deliveries::{Deliveries, Report};

/// The directory, in a data directory. Nobody but its owner gets into it.
const DIRECTORY: &str = "local";
const SOCKET: &str = "counterfoild.sock";
/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

fn socket(data: &Path) -> PathBuf {
    data.join(DIRECTORY).join(SOCKET)
}

/// Answers at the socket of a data directory for as long as the runtime lives. The server has to be the only one on it: what a
/// server before it left is removed.
///
/// Without it `setup` can't see deliveries, and nothing else is amiss: that it can't be made is a warning.
pub(crate) fn serve(data: &Path, deliveries: Deliveries) {
    let listener = match listen(data) {
        Ok(listener) => listener,
        Err(problem) => {
            warn!(problem = %format!("{problem:#}"), "`counterfoild setup` will not see this server");
            return;
        }
    };
    let report = async |State(deliveries): State<Deliveries>,
                        extract::Path(source): extract::Path<String>| {
        Json(deliveries.report(&source))
    };
    let router = Router::new()
        .route("/sources/{source}", get(report))
        .with_state(deliveries);
    task::spawn(async move { axum::serve(listener, router).await });
}

fn listen(data: &Path) -> anyhow::Result<UnixListener> {
    let directory = data.join(DIRECTORY);
    create_directory(&directory)?;
    // Before there is a socket in it.
    fs::set_permissions(&directory, Permissions::from_mode(0o700))
        .with_context(|| format!("can't protect {}", directory.display()))?;
    let path = socket(data);
    match fs::remove_file(&path) {
        Err(problem) if problem.kind() != ErrorKind::NotFound => {
            return Err(problem).with_context(|| format!("can't remove {}", path.display()));
        }
        _ => {}
    }
    UnixListener::bind(&path).with_context(|| format!("can't listen at {}", path.display()))
}

/// Asks the server of a data directory.
pub(crate) struct Local(Client);

/// No server answers there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no server runs on this data directory")]
pub(crate) struct NotRunning;

impl Local {
    pub(crate) fn new(data: &Path) -> anyhow::Result<Self> {
        let client = Client::builder().unix_socket(socket(data)).timeout(TIMEOUT);
        Ok(Self(client.build()?))
    }

    /// What became of the newest deliveries to a source.
    pub(crate) async fn report(&self, source: &SourceId) -> Result<Report, NotRunning> {
        // The host is for HTTP's sake.
        let answer = self
            .0
            .get(format!("http://localhost/sources/{source}"))
            .send()
            .await;
        let answer = answer
            .map_err(|_| NotRunning)?
            .bytes()
            .await
            .map_err(|_| NotRunning)?;
        serde_json::from_slice(&answer).map_err(|_| NotRunning)
    }
}
