//! HTTP/2 by hand, for what no client library sends.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

/// Long enough for anything that a test waits for.
const PATIENCE: Duration = Duration::from_secs(90);

/// What begins a connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (RFC 9113, section 6).
pub mod kind {
    #![allow(missing_docs)]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Nothing more comes on the stream.
pub const END_STREAM: u8 = 1;
/// The headers are complete.
pub const END_HEADERS: u8 = 4;

/// A connection on which a test decides about every frame.
pub struct Frames(TcpStream);

impl Frames {
    /// Connects, and says nothing yet.
    pub fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// Connects as a client does: preface and empty settings.
    pub fn opened(address: SocketAddr) -> Self {
        let mut frames = Self::to(address);
        frames.write(PREFACE).unwrap();
        frames.write(&frame(kind::SETTINGS, 0, 0, &[])).unwrap();
        frames
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    /// Sends the same bytes again and again, until the other side takes no more of them. Returns how often it did.
    pub fn flood(&mut self, bytes: &[u8], times: usize) -> usize {
        (0..times).take_while(|_| self.0.write_all(bytes).is_ok()).count()
    }

    /// Reads and forgets what comes while the connection is used, on a thread of its own.
    pub fn drain(&self) {
        let mut stream = self.0.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while matches!(stream.read(&mut buffer), Ok(1..)) {}
        });
    }

    /// Gives up soon where the other side takes nothing more.
    pub fn set_impatient(&self) {
        self.0
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
    }

    /// Whether the other side closes the connection, whatever it says before.
    pub fn is_closed_within(&mut self, patience: Duration) -> bool {
        self.0.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Reads until the other side closes the connection. Returns the frames that came, by kind, with what they held.
    pub fn until_closed(&mut self) -> Vec<(u8, Vec<u8>)> {
        let _ = self.0.shutdown(Shutdown::Write);
        self.frames(|_| false)
    }

    /// Reads until a frame of that kind came, or the end.
    pub fn until(&mut self, kind: u8) -> Vec<(u8, Vec<u8>)> {
        self.frames(|frame| frame.0 == kind)
    }

    fn frames(&mut self, is_last: impl Fn(&(u8, Vec<u8>)) -> bool) -> Vec<(u8, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut head = [0; 9];
        while self.0.read_exact(&mut head).is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            if self.0.read_exact(&mut payload).is_err() {
                break;
            }
            frames.push((head[3], payload));
            if is_last(frames.last().unwrap()) {
                break;
            }
        }
        frames
    }
}

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The headers of a request, in HPACK without compression. The method is one of GET and POST.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    // Static table: 2 and 3 are the methods, 6 is `:scheme: http`; 4 is the name `:path`, 1 the name `:authority`.
    let mut block = vec![if method == "GET" { 0x82 } else { 0x83 }, 0x86, 0x04];
    block.extend(text(path));
    block.push(0x01);
    block.extend(text("log.test.example"));
    for (name, value) in headers {
        block.push(0);
        block.extend(text(name));
        block.extend(text(value));
    }
    block
}

/// A string's length, in seven bits and then more of them, and the string.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len() {
        short @ 0..127 => bytes.push(u8::try_from(short).unwrap()),
        long => {
            bytes.push(127);
            let mut rest = long - 127;
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128).unwrap() | 0x80);
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).unwrap());
        }
    }
    bytes.extend(text.as_bytes());
    bytes
}
