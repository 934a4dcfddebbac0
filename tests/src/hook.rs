use std::{
    env, fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::{Answer, Connection, Data, counterfoild, now_unix_s, skip};

/// A provider of webhooks: it signs as it is documented to, by its own code.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The source that it posts to.
    pub id: String,
    /// `github`, `gitlab` or `gitea`.
    pub provider: String,
    /// What it signs with.
    pub secret: String,
}

impl Hook {
    /// Makes a source as an operator would, and reads its secret off standard output.
    pub fn add(data: &Data, id: &str, provider: &str, options: &[&str]) -> Self {
        let output = counterfoild()
            .args(["source", "add", id, "--provider", provider, "--data"])
            .arg(data.path())
            .args(options)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Self {
            id: id.to_owned(),
            provider: provider.replace("forgejo", "gitea"),
            secret: String::from_utf8(output.stdout).unwrap().trim_end().to_owned(),
        }
    }

    /// The same with another secret.
    pub fn with_secret(&self, secret: &str) -> Self {
        Self {
            secret: secret.to_owned(),
            ..self.clone()
        }
    }

    /// Where it posts to.
    pub fn path(&self) -> String {
        format!("/hooks/{}", self.id)
    }

    /// The headers of a delivery, the signature among them.
    pub fn headers(&self, event: &str, delivery: &str, body: &[u8]) -> Vec<(String, String)> {
        self.headers_at(now_unix_s(), event, delivery, body)
    }

    /// The same, signed at another time.
    pub fn headers_at(&self, unix_s: u64, event: &str, delivery: &str, body: &[u8]) -> Vec<(String, String)> {
        let mut headers = vec![("content-type", "application/json".to_owned())];
        match self.provider.as_str() {
            "github" => headers.extend([
                ("x-github-event", event.to_owned()),
                ("x-github-delivery", delivery.to_owned()),
                ("x-github-hook-id", "292430182".to_owned()),
                ("x-hub-signature-256", format!("sha256={}", self.hmac(body))),
            ]),
            // It sends the headers of others for software that knows no better.
            "gitea" => headers.extend([
                ("x-gitea-event", event.to_owned()),
                ("x-gitea-delivery", delivery.to_owned()),
                ("x-gitea-signature", self.hmac(body)),
                ("x-github-event", event.to_owned()),
                ("x-github-delivery", delivery.to_owned()),
                ("x-hub-signature-256", format!("sha256={}", self.hmac(body))),
            ]),
            "gitlab" => {
                headers.extend([
                    ("x-gitlab-event", event.to_owned()),
                    (
                        "x-gitlab-webhook-uuid",
                        "6d0d6c0e-9a1c-4d3e-8d3c-2d1f5d4b7a90".to_owned(),
                    ),
                    ("idempotency-key", delivery.to_owned()),
                ]);
                match self.secret.strip_prefix("whsec_") {
                    None => headers.push(("x-gitlab-token", self.secret.clone())),
                    Some(key) => headers.extend(standard(key, delivery, unix_s, body)),
                }
            }
            provider => panic!("no provider {provider}"),
        }
        headers
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    /// Delivers a body, signed, on a connection of its own.
    pub fn deliver(&self, server: SocketAddr, event: &str, delivery: &str, body: &[u8]) -> Answer {
        let headers = self.headers(event, delivery, body);
        Connection::to(server).post(&self.path(), &headers, body)
    }

    fn hmac(&self, body: &[u8]) -> String {
        hex::encode(mac(self.secret.as_bytes(), &[body]))
    }
}

impl Connection {
    /// Posts a body under these headers and reads the answer.
    pub fn post(&mut self, path: &str, headers: &[(String, String)], body: &[u8]) -> Answer {
        self.try_post(path, headers, body).unwrap()
    }

    /// As [`post`](Self::post), where the other side may go away.
    pub fn try_post(&mut self, path: &str, headers: &[(String, String)], body: &[u8]) -> io::Result<Answer> {
        let length = body.len();
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: test.example\r\ncontent-length: {length}\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        self.write(&[head.as_bytes(), b"\r\n", body].concat())?;
        self.answer()
    }
}

/// The headers of Standard Webhooks.
fn standard(key: &str, id: &str, unix_s: u64, body: &[u8]) -> [(&'static str, String); 3] {
    let key = BASE64_STANDARD.decode(key).unwrap();
    let tag = mac(&key, &[format!("{id}.{unix_s}.").as_bytes(), body]);
    [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", unix_s.to_string()),
        ("webhook-signature", format!("v1,{}", BASE64_STANDARD.encode(tag))),
    ]
}

fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    parts.iter().for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// Recorded webhook bodies, each with its place and the folder it is in: those under `kind`, such as `github-webhooks`. `None`,
/// said aloud, where they are not at hand; under CI they have to be.
pub fn recorded(kind: &str) -> Option<Vec<(PathBuf, String, Vec<u8>)>> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data");
    let data = env::var_os("COUNTERFOIL_TEST_DATA").map_or(beside, PathBuf::from);
    let mut directories = vec![data.join(kind)];
    if !directories[0].is_dir() {
        skip(&format!("there is no {}", directories[0].display()));
        return None;
    }
    let mut bodies = Vec::new();
    while let Some(directory) = directories.pop() {
        for file in fs::read_dir(&directory).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let folder = directory.file_name().unwrap().to_str().unwrap().to_owned();
                let body = fs::read(&path).unwrap();
                bodies.push((path, folder, body));
            }
        }
    }
    bodies.sort();
    assert!(!bodies.is_empty());
    Some(bodies)
}
