//! Connections to the one port: accepted up to a limit, encrypted where asked for, served in HTTP/1.1 or HTTP/2 as the
//! client chooses, drained. Beyond the limit, whoever has been silent makes room; where nobody has, newcomers are told at
//! once to come back later.

use std::{
    convert::Infallible,
    future::ready,
    io::{self, ErrorKind},
    net::SocketAddr,
    path::Path,
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{Router, http::Request, middleware};
use counterfoil_gathered::gathered;
use counterfoil_seats::{Seat, Seats};
use counterfoil_tls::Tls;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::{self, Handle},
    sync::{oneshot, watch},
    task,
    time::{sleep, timeout},
};
use tokio_util::either::Either;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use crate::{
    access::{Certificate, CertificateError, HOLD_NO_SEAT, PeerCertificate},
    http,
    metrics::Metrics,
    refusal::Refusal,
    unread::{Answer, Unread},
};

/// Connections at a time, those included that have yet to say what they want.
const MAX_CONNECTIONS: u32 = 1024;
/// When all are taken, one that nothing was asked on for so long makes room for the next.
const SILENCE: Duration = Duration::from_secs(1);
/// Connections beyond those, on which only health is told, and all else put off.
const MAX_PUT_OFF: u32 = 64;
/// Files that connections may take.
pub(crate) const MAX_FILES: u64 = (MAX_CONNECTIONS + MAX_PUT_OFF) as u64;
/// How long such a connection lasts, whatever it takes of its answers.
const PUT_OFF_TIME: Duration = Duration::from_secs(2);
/// How long it may ask.
const PUT_OFF_PATIENCE: Duration = Duration::from_millis(1_500);
/// When there are so many of them too, one that nothing was asked on for so long makes room. It bounds how many come a second,
/// and so what a flood of connections can take from those that are served.
const PUT_OFF_SILENCE: Duration = Duration::from_millis(50);
/// Until it is looked again whether one who is to be put off can be served after all.
const SECOND_LOOK: Duration = Duration::from_millis(20);
/// For TLS to be agreed on, or for the first bytes of a connection without it.
const OPENING_PATIENCE: Duration = Duration::from_secs(10);
/// For the head of an HTTP/1.1 request, and so for the pause before it too.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);
/// The longest head of an HTTP/1.1 request.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// The same in HTTP/2, unpacked, with 32 bytes more for each header (RFC 9113, section 6.5.2).
const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;
/// Streams and calls under way on one connection.
const MAX_CONCURRENT_STREAMS: u32 = 128;
/// What one connection may have under way to us, unread, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// The same for one stream: several that are not read do not hold up the others.
const STREAM_WINDOW_BYTES: u32 = 512 * 1024;
/// What h2 holds of one stream for a peer that has room for it and does not read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long a connection is quiet before it is pinged.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// A peer that does not answer a ping for so long is gone.
const KEEPALIVE_PATIENCE: Duration = Duration::from_secs(20);
/// Connections that wait with the system to be accepted. Who finds that full tries again after a second, then three.
const BACKLOG: u32 = 4096;
/// Until accepting is tried again after it failed: most often for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What begins a connection in HTTP/2, and no request in HTTP/1.1 (RFC 9113, section 3.4).
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How HTTP/2 is called when TLS is agreed on.
const ALPN_HTTP2: &[u8] = b"h2";
/// What is agreed on over TLS: HTTP/2, else HTTP/1.1.
pub(crate) const PROTOCOLS: &[&[u8]] = &[ALPN_HTTP2, b"http/1.1"];

/// Listens at an address.
///
/// # Errors
/// If the system does not let us.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A server that was stopped a moment ago does not keep its successor from the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until told to stop; then accepts nothing more, and returns when what is under way has ended. Requests are answered
/// `inside`, or, if that is left out, by the thread that accepts: whatever there is to do elsewhere, it has time.
///
/// # Errors
/// If the system has no thread for it, or that thread panicked.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    metrics: Metrics,
    stopping: watch::Receiver<bool>,
    inside: Option<Handle>,
) -> io::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let door = Door {
        seats: Seats::new(MAX_CONNECTIONS, SILENCE),
        put_off: Seats::new(MAX_PUT_OFF, PUT_OFF_SILENCE),
        server: Arc::new(Server::new(tls, router, metrics.clone(), stopping.clone())),
        inside: inside.unwrap_or_else(|| runtime.handle().clone()),
        metrics,
    };
    let listener = listener.into_std()?;
    let (closed, door_closed) = oneshot::channel();
    // A thread of its own: however much there is to do inside, whoever is put off, or asks after health then, is answered.
    thread::Builder::new().name("accept".to_owned()).spawn(move || {
        let _ = closed.send(runtime.block_on(door.keep(listener, stopping)));
    })?;
    // The thread says how it ended, unless it panicked.
    let ended = |_| Err(io::Error::other("nothing is accepted any more"));
    door_closed.await.unwrap_or_else(ended)
}

/// Where connections come in.
struct Door {
    seats: Arc<Seats>,
    /// For those there is no seat for.
    put_off: Arc<Seats>,
    server: Arc<Server>,
    /// Where requests are answered.
    inside: Handle,
    metrics: Metrics,
}

impl Door {
    /// Accepts until told to stop, and ends when all who came have gone.
    async fn keep(
        self,
        listener: std::net::TcpListener,
        mut stopping: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let listener = TcpListener::from_std(listener)?;
        let mut stop = pin!(told(&mut stopping));
        let mut crowded = false;
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
                    ) =>
                {
                    continue;
                }
                Err(error) => {
                    warn!(%error, "can't accept connections; trying again");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            // Not said again before there is room.
            crowded &= self.seats.free() <= MAX_CONNECTIONS as usize / 10;
            if self.seats.free() == 0 && !crowded {
                warn!(
                    "{MAX_CONNECTIONS} connections are open; the silent ones make room, and what comes beyond them is put off"
                );
                crowded = true;
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.show(stream) => {}
            }
        }
        drop(listener);
        self.put_off.emptied().await;
        self.seats.emptied().await;
        Ok(())
    }

    /// Shows a connection to its seat.
    async fn show(&self, stream: TcpStream) {
        let server = self.server.clone();
        loop {
            if let Some(seat) = self.seats.take() {
                // Its bytes are waited for where they are read.
                let Ok(stream) = stream.into_std() else { return };
                self.inside.spawn(async move {
                    if let Ok(stream) = TcpStream::from_std(stream) {
                        server.seated(stream, seat, Service::All).await;
                    }
                });
                return;
            }
            // Meanwhile others wait with the system, not in our memory.
            if let Ok(seat) = timeout(SECOND_LOOK, self.put_off.wait()).await {
                self.metrics.count_put_off();
                task::spawn(server.seated(stream, ready(seat), Service::Health));
                return;
            }
        }
    }
}

/// What is done for a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    All,
    /// There are too many: only health is told.
    Health,
}

/// Ready once the server was told to stop.
async fn told(stopping: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// One of the two, as it is served.
struct Protocol {
    server: auto::Builder<TokioExecutor>,
    is_http2: bool,
}

/// What every connection needs.
struct Server {
    tls: Option<Tls>,
    http1: Protocol,
    http2: Protocol,
    router: Router,
    /// What those are answered who come when all connections are taken.
    put_off: Router,
    unread: Arc<Unread>,
    stopping: watch::Receiver<bool>,
}

impl Server {
    fn new(tls: Option<Tls>, router: Router, metrics: Metrics, stopping: watch::Receiver<bool>) -> Self {
        let mut http1 = auto::Builder::new(TokioExecutor::new()).http1_only();
        http1
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .max_buf_size(MAX_HEAD_BYTES);
        let mut http2 = auto::Builder::new(TokioExecutor::new()).http2_only();
        http2
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(MAX_HEADER_LIST_BYTES)
            .max_concurrent_streams(MAX_CONCURRENT_STREAMS)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            .keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_PATIENCE);
        Self {
            tls,
            http1: Protocol {
                server: http1,
                is_http2: false,
            },
            http2: Protocol {
                server: http2,
                is_http2: true,
            },
            put_off: router.clone().layer(middleware::from_fn(http::put_off)),
            router,
            unread: Unread::new(metrics),
            stopping,
        }
    }

    /// Serves a connection once it has its seat, until it ends or has to make room.
    async fn seated(self: Arc<Self>, stream: TcpStream, seat: impl Future<Output = Seat>, service: Service) {
        let seat = seat.await;
        tokio::select! {
            // What was asked is seen before the connection goes.
            biased;
            () = self.converse(stream, seat.clone(), service) => {}
            () = seat.asked_to_leave() => debug!("a silent connection made room for another"),
            () = sleep(PUT_OFF_TIME), if service == Service::Health => {
                debug!("a connection that was put off did not end in time");
            }
        }
    }

    /// Serves one connection to its end.
    async fn converse(&self, stream: TcpStream, seat: Seat, service: Service) {
        let mut stopping = self.stopping.clone();
        let mut stop = pin!(async {
            let put_off = sleep(PUT_OFF_PATIENCE);
            tokio::select! {
                () = told(&mut stopping) => {}
                () = put_off, if service == Service::Health => {}
            }
        });
        let opening = timeout(OPENING_PATIENCE, self.open(stream));
        let opened = tokio::select! {
            () = &mut stop => return,
            opened = opening => opened.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())),
        };
        let router = match service {
            Service::All => &self.router,
            Service::Health => &self.put_off,
        };
        let answers = (router, &self.unread);
        match opened {
            Ok((Stream::Plain(stream), protocol)) => {
                let client = (PeerCertificate(None), seat);
                answer(stream, answers, client, protocol, stop).await;
            }
            Ok((Stream::Tls(stream, authorities), protocol)) => match peer(&stream, authorities) {
                Ok(peer) => answer(*stream, answers, (peer, seat), protocol, stop).await,
                // An authority of ours vouches for it: whoever has it would look for the mistake elsewhere.
                Err(error) => warn!(%error, "a connection was closed"),
            },
            Err(error) => debug!(%error, "a connection did not open"),
        }
    }

    /// Agrees with the client on encryption and protocol.
    async fn open(&self, stream: TcpStream) -> io::Result<(Stream, &Protocol)> {
        stream.set_nodelay(true)?;
        let protocol = |is_http2| if is_http2 { &self.http2 } else { &self.http1 };
        let Some(tls) = &self.tls else {
            let is_http2 = begins_http2(&stream).await?;
            return Ok((Stream::Plain(stream), protocol(is_http2)));
        };
        let (acceptor, authorities) = tls.acceptor();
        let mut stream = acceptor.accept(stream).await?;
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(ALPN_HTTP2);
        // hyper waits for the preface as long as it takes. Reads nothing away; nobody sends so little in pieces.
        if is_http2 && !stream.fill_buf().await?.starts_with(HTTP2_PREFACE) {
            return Err(ErrorKind::InvalidData.into());
        }
        Ok((Stream::Tls(Box::new(stream), authorities), protocol(is_http2)))
    }
}

/// Answers requests until the client leaves, or until those under way are answered after `stop`. They have the client's
/// certificate with them, and whose request is being answered is not asked to make room, unless the client does not take the answer.
async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    (router, unread): (&Router, &Arc<Unread>),
    (peer, seat): (PeerCertificate, Seat),
    protocol: &Protocol,
    stop: impl Future<Output = ()>,
) {
    let service = service_fn(|mut request: Request<Incoming>| {
        // Otherwise whoever opens one of those on every connection keeps everybody out: one with nothing else on it is silent.
        let serving = (!HOLD_NO_SEAT.contains(&request.uri().path())).then(|| seat.serve());
        request.extensions_mut().insert(peer.clone());
        let in_grpc = http::is_grpc(&request);
        let response = router.clone().oneshot(request);
        let unread = unread.clone();
        async move {
            let put_off = || http::refuse(Refusal::no_room_for_answer(), in_grpc);
            Ok::<_, Infallible>(Answer::new(unread, response.await?, serving, put_off).await)
        }
    });
    let stream = if protocol.is_http2 {
        Either::Left(gathered(stream))
    } else {
        // An answer is one write as it is. And what was written counts as sent: a client that does not take it in time would lose
        // what is kept back here.
        Either::Right(stream)
    };
    let mut connection = pin!(protocol.server.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection failed");
    }
}

enum Stream {
    Plain(TcpStream),
    /// And the file of the authorities that a client's certificate is by.
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>, Option<Arc<Path>>),
}

/// What the client showed.
fn peer(
    stream: &tokio_rustls::server::TlsStream<TcpStream>,
    authorities: Option<Arc<Path>>,
) -> Result<PeerCertificate, CertificateError> {
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    // Who asks for none gets none.
    let first = certificates.first().zip(authorities);
    let certificate = first.map(|(der, authorities)| Certificate::from_der(der, authorities));
    Ok(PeerCertificate(certificate.transpose()?.map(Arc::new)))
}

/// Whether the client speaks HTTP/2 from the start, which over TLS it would say before. Waits for all of the preface, since
/// hyper would as long as it takes. Reads nothing away.
async fn begins_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut first = [0; HTTP2_PREFACE.len()];
    loop {
        let seen = stream.peek(&mut first).await?;
        if seen == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if seen == first.len() || !HTTP2_PREFACE.starts_with(&first[..seen]) {
            return Ok(&first == HTTP2_PREFACE);
        }
        // What is there already is there at once when one looks again.
        sleep(Duration::from_millis(10)).await;
    }
}
