//! Where a log is and whom to believe about it.

use std::{fmt, net::IpAddr, num::NonZeroUsize, str::FromStr, time::Duration};

use counterfoil_note::Policy;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Uri};

use crate::{BearerToken, ClientCertificate, Error, StateDir, Timeouts};

/// How long to wait for a connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a silent connection is asked for a sign of life, and how long the answer to that may take.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// What a server may send ahead of being read: on one stream, and on all of a connection.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// What a server may send in one piece. Receipts of a batch fill more than the 16 KiB that HTTP/2 begins with.
const FRAME_BYTES: u32 = 64 * 1024;

/// Longest headers of an answer. The details of a refusal are among them.
const MAX_HEADER_BYTES: u32 = 256 << 10;

/// What a [`Client`](crate::Client) needs to know.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the log is served.
    pub server: Server,
    /// The log's name on that server.
    pub log: String,
    /// Whose heads to believe, and which witnesses have to cosign those that the log publishes: all that the client
    /// trusts. [`Policy::for_log`] believes one key of one log. If several logs are listed, the client is of the one
    /// that the server presents.
    pub policy: Policy,
    /// Where the largest verified head is kept. Without it, heads are compared only while the client lives.
    pub state: Option<StateDir>,
    /// Certificates in PEM to trust instead of the machine's own, for `https` servers.
    pub tls_ca: Option<Vec<u8>>,
    /// What every call carries so as to be let in. Goes to `https` servers, and to `http` ones on this machine only.
    pub token: Option<BearerToken>,
    /// By what an `https` server knows the client, beside a token or instead of one.
    pub client_certificate: Option<ClientCertificate>,
    /// How many HTTP/2 connections to spread calls over. One saturates before a fast server does.
    pub connections: NonZeroUsize,
    /// How long a server may take.
    pub timeouts: Timeouts,
}

impl Options {
    /// The log `main` of a server, over one connection, with no memory on disk.
    pub fn new(server: Server, policy: Policy) -> Self {
        Self {
            server,
            log: "main".to_owned(),
            policy,
            state: None,
            tls_ca: None,
            token: None,
            client_certificate: None,
            connections: NonZeroUsize::MIN,
            timeouts: Timeouts::default(),
        }
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, Error> {
        self.check_credentials()?;
        self.check_authorities()?;
        let endpoint = Endpoint::from(self.server.0.clone())
            .user_agent(concat!("counterfoil/", env!("CARGO_PKG_VERSION")))
            .and_then(|endpoint| match self.tls() {
                Some(tls) => endpoint.tls_config(tls),
                None => Ok(endpoint),
            })
            .map_err(|error| Error::Options(crate::error::with_causes(&error)))?;
        // No timeout for calls: each is given one where it is made.
        Ok(endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .max_frame_size(FRAME_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
    }

    /// No credential leaves this machine where others can read it, and none is left behind unnoticed.
    fn check_credentials(&self) -> Result<(), Error> {
        if self.server.is_encrypted() {
            return Ok(());
        }
        let server = &self.server;
        if self.client_certificate.is_some() {
            let problem = format!("a client certificate can't be shown to {server}: it needs https");
            return Err(Error::Options(problem));
        }
        if self.token.is_some() && !server.is_private() {
            let problem = format!("the token is not sent to {server} in the clear: use https");
            return Err(Error::Options(problem));
        }
        Ok(())
    }

    /// With no certificate at all, such as in a log's key, nobody would be trusted, and every server called unknown.
    fn check_authorities(&self) -> Result<(), Error> {
        let Some(pem) = &self.tls_ca else { return Ok(()) };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let problem = match certificates {
            Ok(certificates) if !certificates.is_empty() => return Ok(()),
            Ok(_) => "there is none".to_owned(),
            Err(problem) => problem.to_string(),
        };
        Err(Error::Options(format!(
            "the certificates to trust have to be PEM: {problem}"
        )))
    }

    fn tls(&self) -> Option<ClientTlsConfig> {
        if !self.server.is_encrypted() {
            return None;
        }
        let tls = ClientTlsConfig::new();
        let tls = match &self.tls_ca {
            Some(pem) => tls.ca_certificate(Certificate::from_pem(pem)),
            None => tls.with_native_roots(),
        };
        Some(match &self.client_certificate {
            Some(certificate) => tls.identity(Identity::from_pem(&certificate.chain, &*certificate.key)),
            None => tls,
        })
    }
}

/// The address of a server: `http://HOST:PORT` or `https://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server(Uri);

impl Server {
    /// Whether a token may be sent there: nobody on a network reads along.
    pub fn is_private(&self) -> bool {
        self.is_encrypted() || is_this_machine(self.0.host().unwrap_or_default())
    }

    fn is_encrypted(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }
}

/// Whether the host of a URL is a loopback address or `localhost`, so that nobody on a network reads along.
pub fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// Text that is not a server's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a server is written as http://HOST:PORT or https://HOST:PORT, with no path")]
pub struct InvalidServer(());

impl FromStr for Server {
    type Err = InvalidServer;

    fn from_str(text: &str) -> Result<Self, InvalidServer> {
        // The parser drops a fragment without a word.
        if text.contains('#') {
            return Err(InvalidServer(()));
        }
        let uri: Uri = text.parse().map_err(|_| InvalidServer(()))?;
        let plain = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|authority| !authority.as_str().contains('@'))
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none();
        if plain {
            Ok(Self(uri))
        } else {
            Err(InvalidServer(()))
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_string().trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_stays_on_the_machine_or_goes_encrypted() {
        let with = |server: &str, token: Option<&str>, certificate: bool| {
            let policy = Policy::parse(b"quorum none\n").unwrap();
            let mut options = Options::new(server.parse().unwrap(), policy);
            options.token = token.map(|token| token.parse().unwrap());
            options.client_certificate = certificate.then(|| ClientCertificate {
                chain: vec![],
                key: vec![].into(),
            });
            options.check_credentials()
        };
        for fine in [
            "http://127.0.0.1:1",
            "http://localhost",
            "http://[::1]:1",
            "https://log.example",
        ] {
            with(fine, Some("secret"), false).unwrap();
        }
        for exposed in [
            "http://log.example",
            "http://10.0.0.1:1",
            "http://localhost.example",
            "http://[fe80::1]",
        ] {
            with(exposed, None, false).unwrap();
            let refused = with(exposed, Some("secret"), false).unwrap_err().to_string();
            assert!(
                refused.contains("in the clear") && !refused.contains("secret"),
                "{refused}"
            );
        }
        with("https://log.example", None, true).unwrap();
        assert!(with("http://127.0.0.1:1", None, true).is_err());
    }

    #[test]
    fn certificates_to_trust_are_there_and_in_pem() {
        let with = |pem: &str| {
            let mut options = Options::new(
                "https://log.example".parse().unwrap(),
                Policy::parse(b"quorum none\n").unwrap(),
            );
            options.tls_ca = Some(pem.as_bytes().to_vec());
            options.endpoint()
        };
        let pem = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        assert!(with(&pem("CERTIFICATE")).is_ok());
        for useless in ["", "log.example/builds+87131018+/2Nv", &pem("PRIVATE KEY")] {
            let refused = with(useless).unwrap_err().to_string();
            assert!(refused.contains("PEM: there is none"), "{refused}");
        }
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(with(broken).unwrap_err().to_string().contains("PEM"));
    }

    #[test]
    fn a_server_has_a_scheme_and_a_host_and_nothing_more() {
        for good in ["http://127.0.0.1:7480", "https://log.example", "http://[::1]:1"] {
            assert_eq!(good.parse::<Server>().unwrap().to_string(), good);
        }
        assert_eq!("http://a:1/".parse::<Server>().unwrap().to_string(), "http://a:1");
        for bad in [
            "",
            "127.0.0.1:7480",
            "ftp://a",
            "http://a/b",
            "http://a?b",
            "http://a#b",
            "http://u:p@a",
            "http://",
        ] {
            assert_eq!(bad.parse::<Server>(), Err(InvalidServer(())), "{bad:?}");
        }
    }
}
