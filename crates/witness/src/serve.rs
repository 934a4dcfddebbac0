//! A running witness: opens, listens, drains, stops.

use std::{io, net::SocketAddr, path::PathBuf, pin::pin, sync::Arc, thread, time::Duration};

use axum::Router;
use counterfoil_seats::{Seat, Seats};
use counterfoil_tls::{Tls, TlsError, TlsFiles};
use hyper::{Request, body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
    task::{self, AbortHandle},
    time::{sleep, timeout},
};
use tower::ServiceExt as _;
use tracing::{debug, info, warn};

use crate::{
    committer,
    directory::{DataDirectory, DirectoryError},
    http::router,
    state::StateError,
    watch::{LogsFile, LogsFileError, follow},
    witness::Witness,
};

/// Connections at once; each has one request under way at most. For one more, the one that has been silent longest is closed.
/// Below the usual limit of 1,024 open files.
pub const MAX_CONNECTIONS: u32 = 768;
/// A connection is closed if the next request's headers take longer, and so also if it idles for so long.
const HEADER_TIME: Duration = Duration::from_secs(30);
/// What is agreed on over TLS.
const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];
/// Longest time for a TLS handshake.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// A connection is closed after its current request when it is older: one that never reads its answers ends too.
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(600);
/// How long requests under way may take once their connection is told to close.
const DRAIN: Duration = Duration::from_secs(10);
/// What a connection buffers of what it reads, in bytes; a request's headers have to fit.
const READ_BUFFER_BYTES: usize = 32 * 1024;
/// Pause after a connection could not be accepted, for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a witness serves, and where.
pub struct ServeOptions {
    /// Its key and state.
    pub data: DataDirectory,
    /// The file of the logs that it knows; see [`LogList`](crate::LogList).
    pub logs: PathBuf,
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// A certificate and its key, which are followed. Plain HTTP without them.
    pub tls: Option<TlsFiles>,
}

/// Why a witness does not start, or stopped by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    /// Its data directory can't be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Its logs file can't be used.
    #[error("the logs file {}: {problem}", path.display())]
    Logs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: LogsFileError,
    },
    /// The address can't be listened on.
    #[error("can't listen on {address}: {problem}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What happened.
        problem: io::Error,
    },
    /// Its certificate can't be used.
    #[error("the TLS certificate or key can't be used: {0}")]
    Tls(#[from] TlsError),
    /// The system refused something that a server needs.
    #[error("can't start: {0}")]
    System(io::Error),
    /// State could not be read or written; nothing was cosigned after that.
    #[error("the state failed: {0}")]
    State(StateError),
}

/// Serves until `stop` ends, then lets requests under way end. Calls `listening` with the address once it listens.
///
/// # Errors
/// If it can't start; or if the state can't be written, after which it answers nobody.
pub async fn serve(
    options: ServeOptions,
    listening: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let tls = options
        .tls
        .map(|files| Tls::start(files, PROTOCOLS, || None))
        .transpose()?;
    let (signer, state) = options.data.open()?;
    let mut logs_file = LogsFile::new(options.logs);
    let logs = logs_file
        .read(signer.verifier_key())
        .map_err(|problem| ServeError::Logs {
            path: logs_file.path().to_owned(),
            problem,
        })?;
    info!(
        witness = %signer.verifier_key(),
        logs = logs.len(),
        remembered = state.logs().map_err(ServeError::State)?,
        "open"
    );
    let reload = signal(SignalKind::hangup()).map_err(ServeError::System)?;
    let failed = |problem| ServeError::Listen {
        address: options.listen,
        problem,
    };
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;

    let state = Arc::new(state);
    let (witness, updates) = Witness::new(signer, state.clone(), logs);
    let witness = Arc::new(witness);
    let (ended, mut committer_ended) = oneshot::channel();
    let runtime = Handle::current();
    let committer = thread::Builder::new()
        .name("committer".to_owned())
        .spawn(move || {
            // The other end is there until this has ended.
            let _ = ended.send(runtime.block_on(committer::run(state, updates)));
        })
        .map_err(ServeError::System)?;
    let following = task::spawn(follow(logs_file, witness.clone(), reload));
    let following = AbortOnDrop(following.abort_handle());
    listening(address);

    let connections = Connections::new(router(witness), tls);
    tokio::select! {
        never = connections.accept(listener) => match never {},
        () = stop => info!("stopping: requests under way have {} s to end", DRAIN.as_secs()),
        result = &mut committer_ended => {
            // Witness and queue outlive this, so only a failure ends the committer.
            return result.unwrap_or(Ok(())).map_err(ServeError::State);
        }
    }
    connections.drain().await;
    // Nobody is left to send updates: the committer ends, and the state is closed.
    drop(following);
    let result = committer_ended.await;
    let _ = task::spawn_blocking(move || committer.join()).await;
    result.unwrap_or(Ok(())).map_err(ServeError::State)
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What every connection shares.
struct Connections {
    router: Router,
    tls: Option<Tls>,
    seats: Arc<Seats>,
    stopping: watch::Sender<bool>,
}

impl Connections {
    fn new(router: Router, tls: Option<Tls>) -> Self {
        Self {
            router,
            tls,
            seats: Seats::new(MAX_CONNECTIONS, Duration::ZERO),
            stopping: watch::Sender::new(false),
        }
    }

    async fn accept(&self, listener: TcpListener) -> std::convert::Infallible {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    // Answers are one small write each. A connection that is gone already shows at its first read.
                    let _ = stream.set_nodelay(true);
                    debug!(%peer, "connected");
                    self.spawn(stream, self.seats.wait().await);
                }
                Err(error) => {
                    warn!(%error, "can't accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, seat: Seat) {
        let (router, stopping, tls) = (self.router.clone(), self.stopping.subscribe(), self.tls.clone());
        task::spawn(async move {
            let talk = async {
                match tls {
                    None => converse(stream, router, seat.clone(), stopping).await,
                    Some(tls) => match timeout(HANDSHAKE_TIME, tls.acceptor().0.accept(stream)).await {
                        Ok(Ok(stream)) => converse(stream, router, seat.clone(), stopping).await,
                        Ok(Err(error)) => debug!(%error, "no TLS"),
                        Err(_) => debug!("no TLS in time"),
                    },
                }
            };
            tokio::select! {
                // What was asked is seen before the connection goes.
                biased;
                () = talk => {}
                () = seat.asked_to_leave() => debug!("silent for longest, closed for another"),
            }
        });
    }

    /// Ends when the last connection has.
    async fn drain(self) {
        self.stopping.send_replace(true);
        // Each connection gives itself DRAIN, and a handshake its own limit.
        if timeout(DRAIN + HANDSHAKE_TIME, self.seats.emptied())
            .await
            .is_err()
        {
            warn!("some connections did not end in time and are cut off");
        }
    }
}

/// Answers the requests of one connection.
async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    seat: Seat,
    mut stopping: watch::Receiver<bool>,
) {
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(seat.clone());
        request
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(READ_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%error, "a connection broke");
            }
            return;
        }
        // A sender that is gone means the same.
        _ = stopping.wait_for(|stopping| *stopping) => {}
        () = sleep(MAX_CONNECTION_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    if timeout(DRAIN, connection).await.is_err() {
        debug!("a connection was cut off");
    }
}
