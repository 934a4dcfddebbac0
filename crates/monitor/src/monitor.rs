//! The monitor: a task for each log, one for each webhook, and one that serves metrics.

use std::{
    fs::{self, File, TryLockError},
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use futures_util::future::join_all;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{self, Instant},
};
use tracing::{error, info, warn};

use crate::{
    Change, Config, Event, Finding, LogRound, StateError, clock,
    desk::Desk,
    http::Http,
    log::FollowedLog,
    metrics::{self, Metrics},
    outbox::{Outbox, UNFINISHED},
    state::StateFile,
    webhook::Webhook,
};
use counterfoil_files::{FileError, create_directory};

/// The shortest pause between two rounds of a log that has more to read.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Follows logs; see the [crate's documentation](crate).
pub struct Monitor {
    logs: Vec<FollowedLog>,
    webhooks: Vec<Webhook>,
    desk: Arc<Desk>,
    interval: Duration,
    metrics_listen: Option<SocketAddr>,
    /// Locked as long as the monitor lives.
    _lock: File,
}

/// Why a monitor can't start or go on.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The state directory can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// HTTPS can't be set up on this machine.
    #[error("can't set up HTTP: {0}")]
    Http(#[from] reqwest::Error),
    /// The metrics port can't be opened.
    #[error("can't serve metrics on {address}: {source}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

impl Monitor {
    /// Opens the state directory and continues where the last monitor on it stopped. `report` is called once for each
    /// finding that opens or resolves, after that is saved; after a crash in between, once more.
    pub fn open(
        config: Config,
        report: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Result<Self, MonitorError> {
        let directory = &config.state_dir;
        create_directory(directory).map_err(StateError::from)?;
        let lock = lock(&config)?;
        let evidence = directory.join("evidence");
        create_directory(&evidence).map_err(StateError::from)?;
        let logs_directory = directory.join("logs");
        create_directory(&logs_directory).map_err(StateError::from)?;

        let http = Http::new(config.timeouts)?;
        let mut webhooks = Vec::with_capacity(config.webhooks.len());
        let queues = directory.join("webhooks");
        for webhook in config.webhooks {
            let name = blake3::hash(webhook.url.as_str().as_bytes()).to_hex();
            let outbox = Outbox::new(queues.join(&name[..16]));
            webhooks.push(Webhook {
                url: webhook.url,
                secret: webhook.secret,
                http: http.clone(),
                outbox: Arc::new(outbox),
            });
        }
        let outboxes: Vec<_> = webhooks
            .iter()
            .map(|webhook| Arc::clone(&webhook.outbox))
            .collect();
        warn_of_abandoned(&queues, &outboxes)?;
        let desk = Arc::new(Desk::new(evidence, outboxes, report, Metrics::new()));
        let mut logs = Vec::with_capacity(config.logs.len());
        for log in config.logs {
            let file = StateFile::new(&logs_directory, &log.name, log.origin.clone());
            logs.push(FollowedLog::open(log, &http, file, Arc::clone(&desk))?);
        }
        for webhook in &webhooks {
            // A receiver that is new, or has another URL now, was not told what opened before.
            let open = logs.iter().flat_map(FollowedLog::open_findings);
            let open = open.map(|finding| Event {
                change: Change::Opened,
                finding: finding.clone(),
            });
            desk.metrics.add_dropped(webhook.outbox.create(open)?);
        }
        Ok(Self {
            logs,
            webhooks,
            desk,
            interval: config.interval,
            metrics_listen: config.metrics_listen,
            _lock: lock,
        })
    }

    /// The findings that are open.
    pub fn open_findings(&self) -> impl Iterator<Item = &Finding> {
        self.logs.iter().flat_map(FollowedLog::open_findings)
    }

    /// One round of every log, all at once.
    pub async fn run_round(&mut self) -> Vec<LogRound> {
        let now = clock::unix_millis();
        join_all(self.logs.iter_mut().map(|log| log.round(now))).await
    }

    /// Delivers what waits for webhooks, for at most `limit`. Returns how many messages are left; the next start goes on
    /// with them.
    pub async fn deliver(&self, limit: Duration) -> Result<usize, MonitorError> {
        let all = join_all(self.webhooks.iter().map(Webhook::drain));
        // Time is up, or all is delivered: what is left says which.
        let _ = time::timeout(limit, all).await;
        let mut left = 0;
        for webhook in &self.webhooks {
            left += webhook.outbox.len()?;
        }
        Ok(left)
    }

    /// Follows all logs until `stop`. Logs do not wait for each other. Stopping loses no verified work but that of the
    /// last moment, which the next start does again.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), MonitorError> {
        let mut tasks = JoinSet::new();
        if let Some(address) = self.metrics_listen {
            let failed = |source| MonitorError::Metrics { address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            info!(%address, "serving metrics");
            let metrics = serve_metrics(Arc::clone(&self.desk));
            tasks.spawn(async move {
                if let Err(problem) = axum::serve(listener, metrics).await {
                    error!(%problem, "metrics are no longer served");
                }
            });
        }
        for webhook in self.webhooks {
            tasks.spawn(async move { webhook.run().await });
        }
        for log in self.logs {
            tasks.spawn(follow(log, self.interval));
        }
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                ended = tasks.join_next() => match ended {
                    // No task ends by itself. One that failed must not take the others with it.
                    Some(Err(problem)) => error!(%problem, "a task failed; the others go on"),
                    Some(Ok(())) => {}
                    None => break,
                },
            }
        }
        tasks.shutdown().await;
        Ok(())
    }
}

/// Rounds of one log, for ever.
async fn follow(mut log: FollowedLog, interval: Duration) {
    loop {
        let started = Instant::now();
        let round = log.round(clock::unix_millis()).await;
        if let Some(problem) = &round.error {
            error!(log = round.log, problem, "nothing could be saved; trying again");
        }
        let goes_on = round.is_behind() && round.new_entries > 0 && round.error.is_none();
        // Whoever gives few entries at a time must not open and resolve findings at that pace.
        let next = match goes_on && round.events.is_empty() {
            true => Instant::now() + LEAST_PAUSE,
            false => started + interval,
        };
        time::sleep_until(next.max(Instant::now() + LEAST_PAUSE)).await;
    }
}

fn serve_metrics(desk: Arc<Desk>) -> Router {
    let metrics = move || {
        let text = desk.metrics.render();
        async move { ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text) }
    };
    Router::new().route("/metrics", get(metrics))
}

/// Says where messages wait for a URL that is configured no longer.
fn warn_of_abandoned(queues: &Path, outboxes: &[Arc<Outbox>]) -> Result<(), StateError> {
    let directories = match fs::read_dir(queues) {
        // There never was a webhook.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read.map_err(FileError::at("read", queues))?,
    };
    for directory in directories {
        let path = directory.map_err(FileError::at("read", queues))?.path();
        let is_unfinished = path.extension().is_some_and(|extension| extension == UNFINISHED);
        if !path.is_dir() || is_unfinished || outboxes.iter().any(|outbox| outbox.directory() == path) {
            continue;
        }
        let messages = Outbox::new(path.clone()).len()?;
        if messages > 0 {
            warn!(path = %path.display(), messages, "messages wait for a webhook that is configured no longer");
        }
    }
    Ok(())
}

fn lock(config: &Config) -> Result<File, StateError> {
    let path = config.state_dir.join("lock");
    let file = File::create(&path).map_err(FileError::at("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StateError::InUse {
            path: config.state_dir.clone(),
        }),
        Err(TryLockError::Error(source)) => Err(FileError::at("lock", &path)(source).into()),
    }
}
