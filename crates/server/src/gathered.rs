//! What a connection has to say, in as few writes as it takes. HTTP/2 has each frame of data written and flushed before it
//! looks for the next, so that a hundred answers that are ready together were a hundred writes, and as many packets.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf};

/// What is held back of a connection, at most: some ten receipts.
const HELD_BACK_BYTES: usize = 16 * 1024;

/// A stream whose flushes wait for its [`Sender`].
pub(crate) struct Gathered<S>(Arc<Mutex<Held<S>>>);

/// Sends what was written to its stream. Whoever polls the connection has to poll this after it, or nothing may ever leave.
pub(crate) struct Sender<S>(Arc<Mutex<Held<S>>>);

struct Held<S> {
    stream: BufWriter<S>,
    is_flush_due: bool,
}

/// A stream in two halves, both of them for one task.
pub(crate) fn gathered<S: AsyncWrite>(stream: S) -> (Gathered<S>, Sender<S>) {
    let held = Arc::new(Mutex::new(Held {
        stream: BufWriter::with_capacity(HELD_BACK_BYTES, stream),
        is_flush_due: false,
    }));
    (Gathered(held.clone()), Sender(held))
}

impl<S: AsyncWrite + Unpin> Sender<S> {
    /// Polls a connection over the stream, then sends what it wrote. An error of the stream ends both.
    pub(crate) fn poll_after<E: From<io::Error>>(
        &self,
        connection: Pin<&mut impl Future<Output = Result<(), E>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), E>> {
        let ended = connection.poll(cx);
        match self.poll(cx) {
            Poll::Ready(Err(error)) if ended.is_pending() => Poll::Ready(Err(error.into())),
            _ => ended,
        }
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut held = lock(&self.0);
        if held.is_flush_due {
            ready!(Pin::new(&mut held.stream).poll_flush(cx))?;
            held.is_flush_due = false;
        }
        Poll::Ready(Ok(()))
    }
}

fn lock<S>(held: &Mutex<Held<S>>) -> MutexGuard<'_, Held<S>> {
    // A write that panicked left nothing half done here.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(lock(&self.0).stream.get_mut()).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut lock(&self.0).stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut lock(&self.0).stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).is_flush_due = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut lock(&self.0).stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, poll_fn},
        iter,
        pin::pin,
        time::Duration,
    };

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::timeout,
    };

    use super::*;

    /// Takes everything, and counts in how many writes.
    #[derive(Default)]
    struct Counted {
        written: Vec<u8>,
        writes: usize,
        flushes: usize,
        is_broken: bool,
    }

    impl AsyncWrite for Counted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.is_broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.written.extend(bytes);
            self.writes += 1;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn frames(stream: &mut (impl AsyncWrite + Unpin), count: u8, bytes: usize) -> io::Result<()> {
        for frame in 0..count {
            stream.write_all(&vec![frame; bytes]).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    fn expected(count: u8, bytes: usize) -> Vec<u8> {
        (0..count)
            .flat_map(|frame| iter::repeat_n(frame, bytes))
            .collect()
    }

    /// Polls once what then waits for more.
    async fn once<S: AsyncWrite + Unpin>(
        sender: &Sender<S>,
        said: impl Future<Output = io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let mut connection = pin!(async {
            said.await?;
            pending().await
        });
        poll_fn(|cx| Poll::Ready(sender.poll_after(connection.as_mut(), cx))).await
    }

    #[tokio::test]
    async fn what_is_said_in_one_go_is_one_write() {
        let (mut stream, sender) = gathered(Counted::default());
        for round in 1..=3 {
            assert!(once(&sender, frames(&mut stream, 10, 1_500)).await.is_pending());
            let held = lock(&sender.0);
            assert_eq!(
                (held.stream.get_ref().writes, held.stream.get_ref().flushes),
                (round, round)
            );
            assert_eq!(held.stream.get_ref().written, expected(10, 1_500).repeat(round));
        }
        assert!(once(&sender, async { Ok(()) }).await.is_pending());
        assert_eq!(
            lock(&sender.0).stream.get_ref().flushes,
            3,
            "there was nothing to flush"
        );
    }

    #[tokio::test]
    async fn no_more_is_held_back_than_there_is_room_for() {
        let (mut stream, _sender) = gathered(Counted::default());
        for (bytes, held_back) in [
            (HELD_BACK_BYTES - 1, HELD_BACK_BYTES - 1),
            (2, 2),
            (HELD_BACK_BYTES, 0),
        ] {
            stream.write_all(&vec![0; bytes]).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(lock(&stream.0).stream.buffer().len(), held_back);
        }
    }

    #[tokio::test]
    async fn a_peer_that_reads_slowly_gets_all_of_it_in_order() {
        for bytes in [100, HELD_BACK_BYTES / 3, HELD_BACK_BYTES * 2] {
            let (ours, mut theirs) = duplex(1_000);
            let (mut stream, sender) = gathered(ours);
            let mut connection = pin!(async {
                frames(&mut stream, 50, bytes).await?;
                stream.shutdown().await
            });
            let mut received = Vec::new();
            let (sent, read) = tokio::join!(
                poll_fn(|cx| sender.poll_after(connection.as_mut(), cx)),
                theirs.read_to_end(&mut received)
            );
            sent.unwrap();
            read.unwrap();
            assert!(received == expected(50, bytes), "{bytes}");
        }
    }

    /// The connection has nothing more to say, and waits; what it said still has to leave as the peer makes room.
    #[tokio::test]
    async fn what_found_no_room_at_first_is_sent_when_there_is_some() {
        let (ours, mut theirs) = duplex(1_000);
        let (mut stream, sender) = gathered(ours);
        let mut connection = pin!(async {
            frames(&mut stream, 10, 1_000).await?;
            pending().await
        });
        let mut received = vec![0; 10_000];
        let sending = poll_fn(|cx| sender.poll_after::<io::Error>(connection.as_mut(), cx));
        tokio::select! {
            ended = sending => panic!("{ended:?}"),
            read = timeout(Duration::from_secs(10), theirs.read_exact(&mut received)) => drop(read.unwrap().unwrap()),
        }
        assert!(received == expected(10, 1_000));
    }

    #[tokio::test]
    async fn a_broken_stream_ends_the_connection() {
        let (mut stream, sender) = gathered(Counted {
            is_broken: true,
            ..Counted::default()
        });
        let ended = once(&sender, frames(&mut stream, 1, 100)).await;
        assert!(matches!(ended, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe));
    }
}
