use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process,
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

/// Long enough for any answer that a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port of the loopback interface, which the system chooses, at an address that no other test uses. Given back, it can be taken
/// again: nobody else has listened there meanwhile, or called from there.
pub fn own_port() -> SocketAddr {
    static CALLS: AtomicU8 = AtomicU8::new(0);
    // 127.0.x.y has what all others use.
    let number = 1 + CALLS.fetch_add(1, Ordering::Relaxed) % 254;
    let [.., high, low] = process::id().to_be_bytes();
    SocketAddr::from((Ipv4Addr::new(127, number, high, low), 0))
}

/// A connection for plain HTTP/1.1, where a test decides about every byte.
pub struct Connection(BufReader<TcpStream>);

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|header| header.0 == name)
            .map(|header| header.1.as_str())
    }
}

impl Connection {
    /// Connects.
    pub fn to(address: SocketAddr) -> Self {
        Self::try_to(address).unwrap()
    }

    /// Connects to what may have gone away.
    pub fn try_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request and reads the answer. Fails when the other side goes away first.
    pub fn try_send(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<Answer> {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: test.example\r\ncontent-length: {length}\r\n\r\n");
        self.write(&[head.as_bytes(), body].concat())?;
        self.answer()
    }

    /// Sends a request and reads the answer.
    pub fn send(&mut self, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.try_send(method, path, body.as_ref()).unwrap()
    }

    /// Asks a witness for a cosignature.
    pub fn add_checkpoint(&mut self, body: impl AsRef<[u8]>) -> Answer {
        self.send("POST", "/add-checkpoint", body)
    }

    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// Reads one answer, which has to tell its length.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let mut line = || {
            let mut line = String::new();
            match self.0.read_line(&mut line)? {
                0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                _ => Ok(line.trim_end().to_owned()),
            }
        };
        let status = line()?;
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = vec![];
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let length: u64 = answer.header("content-length").unwrap().parse().unwrap();
        (&mut self.0).take(length).read_to_string(&mut answer.body)?;
        Ok(answer)
    }

    /// Waits to be told to go on with a body: the other side has begun with the request.
    pub fn is_continued(&mut self) -> bool {
        let mut lines = String::new();
        let read = (0..2).all(|_| self.0.read_line(&mut lines).is_ok());
        read && lines == "HTTP/1.1 100 Continue\r\n\r\n"
    }

    /// Whether the other side closes the connection without another byte.
    pub fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0) | Err(_))
    }
}
