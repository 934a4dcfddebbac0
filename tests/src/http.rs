use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

/// An answer to an HTTP/1.1 request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Names in lower case, as they came.
    pub headers: Vec<(String, String)>,
    /// The body, its chunks joined; still compressed if it was.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// The header's value; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .iter()
            .find(|(other, _)| other == name)
            .map_or("", |(_, value)| value)
    }

    fn parse(method: &str, bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let (head, mut body) = (str::from_utf8(&bytes[..end]).unwrap(), &bytes[end + 4..]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let mut response = Self {
            status,
            headers,
            body: body.to_vec(),
        };
        if response.header("transfer-encoding") == "chunked" && method != "HEAD" {
            response.body.clear();
            loop {
                let line = body.windows(2).position(|window| window == b"\r\n").unwrap();
                let length = str::from_utf8(&body[..line]).unwrap();
                let length = usize::from_str_radix(length, 16).unwrap();
                if length == 0 {
                    break;
                }
                response.body.extend(&body[line + 2..line + 2 + length]);
                body = &body[line + 2 + length + 2..];
            }
        }
        response
    }
}

/// Gets a path as it is written, with nothing made canonical on the way.
pub fn http_get(address: SocketAddr, path: &str) -> HttpResponse {
    http_request(address, "GET", path, &[])
}

/// Sends one request on a connection of its own, in HTTP/1.1 without TLS.
pub fn http_request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> HttpResponse {
    http_over(TcpStream::connect(address).unwrap(), method, path, headers)
}

/// Posts a body on a connection of its own.
pub fn http_post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpResponse {
    let length = body.len().to_string();
    let headers = [headers, &[("content-length", length.as_str())]].concat();
    let mut connection = TcpStream::connect(address).unwrap();
    connection
        .write_all(request("POST", path, &headers).as_bytes())
        .unwrap();
    // A server that refuses by the head alone need not read on.
    let _ = connection.write_all(body);
    let mut response = Vec::new();
    let _ = connection.read_to_end(&mut response);
    HttpResponse::parse("POST", &response)
}

/// Sends one request on a connection that is open already, and reads until its end.
pub fn http_over(
    mut connection: impl Read + Write,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> HttpResponse {
    connection
        .write_all(request(method, path, headers).as_bytes())
        .unwrap();
    let mut response = Vec::new();
    connection.read_to_end(&mut response).unwrap();
    HttpResponse::parse(method, &response)
}

fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: log.test.example\r\nconnection: close\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += "\r\n";
    request
}
