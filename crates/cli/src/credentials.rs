//! Who we say we are: an API token, an OIDC token of a CI system, or a client certificate.

use std::{
    env,
    fmt::Display,
    panic,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use clap::Args;
use counterfoil_client::{BearerToken, ClientCertificate, MAX_TOKEN_BYTES, is_this_machine};
use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    task::{self, JoinHandle},
};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    failure::{Exit, Failure},
    files,
};

/// An API token, in the environment.
const TOKEN_VARIABLE: &str = "COUNTERFOIL_TOKEN";
/// An ID token that GitLab made for the job: the name that the job's `id_tokens` gives it.
const ID_TOKEN_VARIABLE: &str = "COUNTERFOIL_ID_TOKEN";
/// Where GitHub Actions gives out ID tokens, and what it wants to see for one.
const GITHUB_URL_VARIABLE: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const GITHUB_TOKEN_VARIABLE: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Longest certificate chain or key file.
const MAX_PEM_BYTES: usize = 256 << 10;
/// Longest answer to a request for an ID token.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// How long the CI system may take to give an ID token.
const ID_TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

// What to show the server. No documentation, as in `options`.
#[derive(Args)]
#[command(next_help_heading = "Credentials")]
pub(crate) struct Credentials {
    /// A file with an API token of the server [env: COUNTERFOIL_TOKEN, the token itself]
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_audience")]
    token_file: Option<PathBuf>,
    /// In GitHub Actions: get an ID token for this audience, which the server's administrator names
    #[arg(long, value_name = "AUDIENCE")]
    oidc_audience: Option<String>,
    /// A client certificate in PEM, for https
    #[arg(long, value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// Its private key in PEM
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    // A pipe, such as a shell's `<(…)`, gives it once.
    #[arg(skip)]
    piped_token: OnceLock<BearerToken>,
    // It may take its time: whoever gave up waiting, and asks again, goes on waiting for the same.
    #[arg(skip)]
    reading: Mutex<Option<Reading>>,
}

/// What is being read of the file of a token.
type Reading = JoinHandle<Result<Zeroizing<Vec<u8>>, Failure>>;

impl Credentials {
    /// The token: of --token-file, of --oidc-audience, or of the environment, in this order. ID tokens live for
    /// minutes: each call gets a new one.
    pub(crate) async fn token(&self) -> Result<Option<BearerToken>, Failure> {
        if let Some(token) = self.piped_token.get() {
            return Ok(Some(token.clone()));
        }
        if let Some(path) = &self.token_file {
            let text = self.read_token(path).await?;
            let text = str::from_utf8(&text).unwrap_or("\u{fffd}");
            let token = parse(text, &path.display().to_string())?;
            // A file may be renewed while a long job runs.
            if !path.is_file() {
                return Ok(Some(self.piped_token.get_or_init(|| token).clone()));
            }
            return Ok(Some(token));
        }
        if let Some(audience) = &self.oidc_audience {
            return github_id_token(audience).await.map(Some);
        }
        for name in [TOKEN_VARIABLE, ID_TOKEN_VARIABLE] {
            if let Some(token) = secret(name) {
                return parse(&token, name).map(Some);
            }
        }
        Ok(None)
    }

    /// What is in the token's file. Where that takes its time, signals and deadlines come meanwhile.
    async fn read_token(&self, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut reading = self.reading.lock().await;
        let read = reading.get_or_insert_with(|| {
            let path = path.to_owned();
            // Room for the end of a line.
            task::spawn_blocking(move || files::read(&path, MAX_TOKEN_BYTES + 2).map(Zeroizing::new))
        });
        let read = read.await;
        *reading = None;
        read.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
    }

    /// The certificate of --client-cert.
    pub(crate) fn certificate(&self) -> Result<Option<ClientCertificate>, Failure> {
        let (Some(chain), Some(key)) = (&self.client_cert, &self.client_key) else {
            return Ok(None);
        };
        Ok(Some(ClientCertificate {
            chain: files::read(chain, MAX_PEM_BYTES)?,
            key: Zeroizing::new(files::read(key, MAX_PEM_BYTES)?),
        }))
    }
}

/// A variable that holds a secret. CI systems set it to nothing where the secret is absent.
fn secret(name: &str) -> Option<Zeroizing<String>> {
    let value = env::var_os(name).filter(|value| !value.is_empty())?;
    // What is not UTF-8 is no token; it must not count as absent.
    let value = value.into_string().unwrap_or_else(|_| "\u{fffd}".to_owned());
    Some(Zeroizing::new(value))
}

/// A token, with or without the end of its line. The error says where it came from, and nothing of it.
fn parse(text: &str, what: &str) -> Result<BearerToken, Failure> {
    text.trim_end_matches(['\r', '\n'])
        .parse()
        .map_err(|problem| Failure::usage(format!("{what}: {problem}")))
}

/// Gets an ID token from the runner: <https://docs.github.com/actions/reference/security/oidc>.
async fn github_id_token(audience: &str) -> Result<BearerToken, Failure> {
    let required = |name| {
        secret(name).ok_or_else(|| {
            Failure::usage(format!("--oidc-audience: {name} is not set"))
                .hint("it works in a job of GitHub Actions that has `permissions: id-token: write`")
        })
    };
    let url = id_token_url(&required(GITHUB_URL_VARIABLE)?, audience)?;
    let request_token = required(GITHUB_TOKEN_VARIABLE)?;
    let token = tokio::time::timeout(ID_TOKEN_TIMEOUT, fetch_id_token(url, &request_token)).await;
    let token = token.map_err(|_| no_id_token(format!("no answer within {ID_TOKEN_TIMEOUT:?}")))??;
    parse(&token, "the ID token")
}

/// The runner's URL has a query already. Its token goes to it encrypted, or stays on this machine.
fn id_token_url(url: &str, audience: &str) -> Result<Url, Failure> {
    let invalid = || Failure::usage(format!("{GITHUB_URL_VARIABLE} is no https URL"));
    let mut url: Url = url.parse().map_err(|_| invalid())?;
    let host = url.host_str().unwrap_or_default();
    if url.scheme() != "https" && !(url.scheme() == "http" && is_this_machine(host)) {
        return Err(invalid());
    }
    url.query_pairs_mut().append_pair("audience", audience);
    Ok(url)
}

/// What the runner answers.
#[derive(Deserialize)]
struct IdToken {
    value: String,
}

/// The runner's service is away, for now.
fn no_id_token(problem: impl Display) -> Failure {
    let message = format!("GitHub Actions gives no ID token: {problem}");
    Failure::new(Exit::Unavailable, message).hint("try again")
}

async fn fetch_id_token(url: Url, request_token: &str) -> Result<Zeroizing<String>, Failure> {
    // The request's URL tells which job this is: no error repeats it.
    let plain = |error: reqwest::Error| no_id_token(error.without_url());
    let builder = Client::builder().redirect(redirect::Policy::none());
    // On this machine it is asked in the clear, which a proxy would see.
    let builder = match url.scheme() {
        "http" => builder.no_proxy(),
        _ => builder,
    };
    let client = builder.build().map_err(plain)?;
    let request = client.get(url).bearer_auth(request_token);
    let mut answer = request.send().await.map_err(plain)?;
    let status = answer.status();
    // Request Timeout and Too Many Requests are nothing against the job.
    let is_busy = matches!(status.as_u16(), 408 | 429);
    if status.is_client_error() && !is_busy {
        let message = format!("GitHub Actions refuses an ID token: HTTP status {status}");
        return Err(Failure::new(Exit::Refused, message)
            .detail("kind", "denied")
            .hint("give the job `permissions: id-token: write`"));
    }
    if !status.is_success() {
        return Err(no_id_token(format!("HTTP status {status}")));
    }
    let mut body = Zeroizing::new(Vec::new());
    while let Some(mut chunk) = answer.chunk().await.map_err(plain)?.map(Vec::from) {
        body.extend_from_slice(&chunk);
        chunk.zeroize();
        if body.len() > MAX_ANSWER_BYTES {
            return Err(no_id_token(format!(
                "the answer is longer than {MAX_ANSWER_BYTES} bytes"
            )));
        }
    }
    let answer: IdToken = serde_json::from_slice(&body).map_err(|_| no_id_token("the answer has none"))?;
    Ok(Zeroizing::new(answer.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runner_is_asked_encrypted_and_for_one_audience() {
        let asked = id_token_url("https://run.example/token?api-version=2", "log & co").unwrap();
        assert_eq!(
            asked.as_str(),
            "https://run.example/token?api-version=2&audience=log+%26+co"
        );
        assert!(id_token_url("http://127.0.0.1:1/", "a").is_ok());
        for bad in ["http://run.example/", "file:///etc/passwd", "run.example", ""] {
            let refused = id_token_url(bad, "a").unwrap_err();
            assert_eq!(refused.message(), "ACTIONS_ID_TOKEN_REQUEST_URL is no https URL");
        }
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        credentials: Credentials,
    }

    /// A job may run for longer than a token is good.
    #[tokio::test]
    async fn a_token_file_that_is_renewed_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        std::fs::write(&path, "abc").unwrap();
        let line = <Line as clap::Parser>::parse_from([Path::new("x"), Path::new("--token-file"), &path]);
        assert!(line.credentials.token().await.is_ok());
        std::fs::write(&path, "a b").unwrap();
        assert!(line.credentials.token().await.is_err());
    }

    #[test]
    fn a_bad_token_is_not_repeated() {
        assert!(parse("abc\r\n", "f").is_ok());
        let refused = parse("hush hush", "COUNTERFOIL_TOKEN").unwrap_err();
        assert_eq!(
            refused.message(),
            "COUNTERFOIL_TOKEN: the token holds a space, a line break, or a character that is not ASCII"
        );
    }
}
