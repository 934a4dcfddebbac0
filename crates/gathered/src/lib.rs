//! What a connection has to say, in as few writes as it takes.
//!
//! HTTP/2 has each frame of data written and flushed before it looks for the next. A hundred calls or answers that are ready
//! together are then a hundred writes, and as many packets that wake the peer. Over [`gathered`] they are one.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    task,
};

/// Bytes of a connection that wait to be sent, at most: some ten receipts.
pub const CAPACITY_BYTES: usize = 16 * 1024;

/// A stream whose flushes wait until the task that asks for them has nothing more to say. What was written is on its way
/// when that task next waits, or after [`CAPACITY_BYTES`] more; a flush says nothing of whether it arrived there, as with any
/// socket. What is dropped without being shut down loses what the stream has no room for at that moment.
#[derive(Debug)]
pub struct Gathered<S>(Arc<Mutex<Shared<S>>>);

#[derive(Debug)]
struct Shared<S> {
    stream: BufWriter<S>,
    /// Whether anything was written since a flush was last asked for.
    is_written: bool,
    is_flush_due: bool,
    is_dropped: bool,
    /// Why a flush failed that nobody was told of yet.
    failed: Option<io::Error>,
    /// Whoever found no room to write, or waits for a shutdown. A socket wakes the last that asked, and that may be the sender.
    writer: Option<Waker>,
    sender: Option<Waker>,
}

/// Gathers what is written to a stream. Another task sends it, so this has to be called within a runtime.
///
/// # Panics
/// Outside of a runtime of tokio.
pub fn gathered<S: AsyncWrite + Unpin + Send + 'static>(stream: S) -> Gathered<S> {
    let shared = Arc::new(Mutex::new(Shared {
        stream: BufWriter::with_capacity(CAPACITY_BYTES, stream),
        is_written: false,
        is_flush_due: false,
        is_dropped: false,
        failed: None,
        writer: None,
        sender: None,
    }));
    let sent = shared.clone();
    // Whoever is woken while a task runs most often runs after it, when all that it has to say has been written. Where another
    // thread is quicker, it is one write more.
    task::spawn(poll_fn(move |cx| lock(&sent).poll_send(cx)));
    Gathered(shared)
}

fn lock<S>(shared: &Mutex<Shared<S>>) -> MutexGuard<'_, Shared<S>> {
    // Nothing here is left half done by a stream that panics.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S> Shared<S> {
    /// It does what is due when it runs for the first time, too.
    fn wake_sender(&self) {
        if let Some(sender) = &self.sender {
            sender.wake_by_ref();
        }
    }
}

impl<S: AsyncWrite + Unpin> Shared<S> {
    /// Sends what is due, and is ready when there will be no more.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_dropped {
            // What there is room for goes, as what was written to a socket would.
            let _ = Pin::new(&mut self.stream).poll_flush(cx);
            return Poll::Ready(());
        }
        self.sender.get_or_insert_with(|| cx.waker().clone());
        if self.is_flush_due
            && let Poll::Ready(flushed) = Pin::new(&mut self.stream).poll_flush(cx)
        {
            self.is_flush_due = false;
            self.failed = flushed.err();
            if let Some(writer) = self.writer.take() {
                writer.wake();
            }
        }
        Poll::Pending
    }

    /// Writes or shuts down, unless it is known to be in vain.
    fn poll_writer<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut BufWriter<S>>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Err(error));
        }
        let written = write(Pin::new(&mut self.stream), cx);
        self.writer = written.is_pending().then(|| cx.waker().clone());
        if written.is_pending() && self.is_flush_due {
            // The sender may have waited for the same room, and whoever writes may give up.
            self.wake_sender();
        }
        self.is_written = true;
        written
    }
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
        lock(&self.0).poll_writer(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_writer(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        lock(&self.0).stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = lock(&self.0);
        if let Some(error) = shared.failed.take() {
            return Poll::Ready(Err(error));
        }
        // HTTP/2 flushes whenever it was woken, be it for nothing.
        if mem::take(&mut shared.is_written) {
            shared.is_flush_due = true;
            shared.wake_sender();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        lock(&self.0).poll_writer(cx, |stream, cx| stream.poll_shutdown(cx))
    }
}

impl<S> Drop for Gathered<S> {
    fn drop(&mut self) {
        let mut shared = lock(&self.0);
        shared.is_dropped = true;
        shared.wake_sender();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::{iter, time::Duration};

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        sync::oneshot,
        time::timeout,
    };

    use super::*;

    /// Takes everything, and counts in how many writes.
    #[derive(Clone, Default)]
    struct Counted(Arc<Mutex<Count>>);

    #[derive(Default)]
    struct Count {
        written: Vec<u8>,
        writes: usize,
        flushes: usize,
        is_broken: bool,
    }

    impl AsyncWrite for Counted {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            let mut count = self.0.lock().unwrap();
            if count.is_broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            count.written.extend(bytes);
            count.writes += 1;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.0.lock().unwrap().flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn say(stream: &mut (impl AsyncWrite + Unpin), frames: u8, bytes: usize) -> io::Result<()> {
        for frame in 0..frames {
            stream.write_all(&vec![frame; bytes]).await?;
            stream.flush().await?;
        }
        Ok(())
    }

    fn said(frames: u8, bytes: usize) -> Vec<u8> {
        (0..frames)
            .flat_map(|frame| iter::repeat_n(frame, bytes))
            .collect()
    }

    #[tokio::test]
    async fn what_a_task_says_before_it_waits_is_one_write() {
        let counted = Counted::default();
        let mut stream = gathered(counted.clone());
        for round in 1..=3 {
            say(&mut stream, 10, 1_500).await.unwrap();
            task::yield_now().await;
            let count = counted.0.lock().unwrap();
            assert_eq!((count.writes, count.flushes), (round, round));
            assert!(count.written == said(10, 1_500).repeat(round));
        }
        stream.flush().await.unwrap();
        task::yield_now().await;
        assert_eq!(counted.0.lock().unwrap().flushes, 3, "there was nothing to flush");
    }

    #[tokio::test]
    async fn no_more_is_held_back_than_there_is_room_for() {
        let counted = Counted::default();
        let mut stream = gathered(counted.clone());
        for (bytes, sent) in [
            (CAPACITY_BYTES - 1, 0),
            (1, 0),
            (1, CAPACITY_BYTES),
            (CAPACITY_BYTES, 2 * CAPACITY_BYTES + 1),
        ] {
            stream.write_all(&vec![0; bytes]).await.unwrap();
            stream.flush().await.unwrap();
            assert_eq!(counted.0.lock().unwrap().written.len(), sent);
        }
    }

    #[tokio::test]
    async fn a_stream_that_fails_says_so_at_the_next_flush_or_write() {
        for at_flush in [true, false] {
            let counted = Counted::default();
            let mut stream = gathered(counted.clone());
            counted.0.lock().unwrap().is_broken = true;
            say(&mut stream, 1, 100).await.unwrap();
            task::yield_now().await;
            let told = if at_flush {
                stream.flush().await
            } else {
                stream.write_all(b"more").await
            };
            assert_eq!(told.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        }
    }

    #[tokio::test]
    async fn what_was_said_before_the_stream_was_dropped_arrives() {
        for is_flushed in [true, false] {
            let (ours, mut theirs) = duplex(10_000);
            let mut stream = gathered(ours);
            stream.write_all(&[7; 5_000]).await.unwrap();
            if is_flushed {
                stream.flush().await.unwrap();
            }
            drop(stream);
            let mut received = Vec::new();
            let read = timeout(Duration::from_secs(10), theirs.read_to_end(&mut received));
            read.await.unwrap().unwrap();
            assert_eq!(received, [7; 5_000]);
        }
    }

    #[tokio::test]
    async fn a_write_that_is_given_up_does_not_hold_up_what_was_flushed() {
        let (ours, mut theirs) = duplex(1_000);
        let mut stream = gathered(ours);
        say(&mut stream, 1, 5_000).await.unwrap();
        task::yield_now().await;
        let given_up = timeout(Duration::from_millis(10), stream.write_all(&[1; 50_000])).await;
        assert!(given_up.is_err(), "there is no room");
        let mut received = vec![0; 5_000];
        let read = timeout(Duration::from_secs(10), theirs.read_exact(&mut received));
        read.await.unwrap().unwrap();
        assert_eq!(received, said(1, 5_000));
    }

    #[tokio::test]
    async fn a_stream_goes_with_the_last_that_holds_it() {
        let (ours, mut theirs) = duplex(10);
        let mut stream = gathered(ours);
        // More than there is room for: the sender waits.
        say(&mut stream, 1, 100).await.unwrap();
        task::yield_now().await;
        drop(stream);
        let mut received = Vec::new();
        let read = timeout(Duration::from_secs(10), theirs.read_to_end(&mut received));
        read.await.unwrap().unwrap();
        assert!(received.len() < 100);
    }

    /// Writer and sender wait for room by turns, and one of them is woken for it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_peer_that_reads_slowly_gets_all_of_it_in_order() {
        for bytes in [100, CAPACITY_BYTES / 3, CAPACITY_BYTES * 2] {
            for room in [1, 1_000, 50_000] {
                let (ours, mut theirs) = duplex(room.max(bytes / 100));
                let writing = tokio::spawn(async move {
                    let mut stream = gathered(ours);
                    say(&mut stream, 50, bytes).await?;
                    stream.shutdown().await
                });
                let mut received = Vec::new();
                let read = timeout(Duration::from_secs(30), theirs.read_to_end(&mut received));
                read.await.unwrap().unwrap();
                writing.await.unwrap().unwrap();
                assert!(received == said(50, bytes), "{bytes} {room}");
            }
        }
    }

    /// Whoever wrote waits for an answer, and the peer reads later.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_found_no_room_at_first_is_sent_when_there_is_some() {
        for _ in 0..100 {
            let (ours, mut theirs) = duplex(1_000);
            let (answer, answered) = oneshot::channel::<()>();
            let writing = tokio::spawn(async move {
                let mut stream = gathered(ours);
                say(&mut stream, 10, 5_000).await.unwrap();
                answered.await.unwrap();
            });
            let mut received = vec![0; 50_000];
            let read = timeout(Duration::from_secs(30), theirs.read_exact(&mut received));
            read.await.unwrap().unwrap();
            assert!(received == said(10, 5_000));
            answer.send(()).unwrap();
            writing.await.unwrap();
        }
    }
}
