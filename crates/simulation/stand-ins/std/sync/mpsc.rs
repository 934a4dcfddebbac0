//! Channels that can be waited at for a time.

use std::time::Duration;

use counterfoil_simulated_machine::machine;
pub use shuttle::sync::mpsc::{Sender, SyncSender};
pub use std::sync::mpsc::{RecvError, RecvTimeoutError, SendError, TryRecvError};

pub struct Receiver<T> {
    channel: shuttle::sync::mpsc::Receiver<T>,
    is_bounded: bool,
}

pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let (sender, channel) = shuttle::sync::mpsc::channel();
    let is_bounded = false;
    (sender, Receiver { channel, is_bounded })
}

pub fn sync_channel<T>(bound: usize) -> (SyncSender<T>, Receiver<T>) {
    let (sender, channel) = shuttle::sync::mpsc::sync_channel(bound);
    let is_bounded = true;
    (sender, Receiver { channel, is_bounded })
}

impl<T> Receiver<T> {
    pub fn recv(&self) -> Result<T, RecvError> {
        self.channel.recv()
    }

    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        let mut waited = crate::time::Waiting::new(timeout);
        loop {
            match self.channel.try_recv() {
                Ok(message) => return Ok(message),
                Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected),
                Err(TryRecvError::Empty) => {}
            }
            if machine(|machine| waited.is_over(machine)) {
                return Err(RecvTimeoutError::Timeout);
            }
            shuttle::thread::yield_now();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        // What nobody received goes with the receiver. Shuttle keeps it until the last sender has gone.
        while !self.is_bounded && self.channel.try_recv().is_ok() {}
    }
}
