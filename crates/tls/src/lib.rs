//! TLS of a server whose certificate is renewed while it serves. What renews it replaces files and tells nobody, so they are
//! read again each second.
//!
//! Certificate, key and authorities mean something together only, and are seldom replaced at once. What can't be used is told, and
//! what was before stays in use until all fit again.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    sync::watch,
    task,
    time::{MissedTickBehavior, interval},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject as _},
        },
        server::{VerifierBuilderError, WebPkiClientVerifier},
    },
};
use tracing::{error, field::display, info, warn};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time};
use zeroize::Zeroizing;

/// How often the files are read, and so how long a renewed certificate waits at most.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest file.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Where a server has what it shows to clients. Both files are PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its secret key.
    pub key: PathBuf,
}

/// Why files can't be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read, or is longer than a MiB.
    #[error("can't read {}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: io::Error,
    },
    /// A file is not PEM, or lacks what it should hold.
    #[error("{}: {problem}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: pem::Error,
    },
    /// There is no certificate of an authority that can be used.
    #[error("the authorities of client certificates in {}: {problem}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: VerifierBuilderError,
    },
    /// A certificate of an authority can't be used.
    #[error("an authority of client certificates in {}: {problem}", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: rustls::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("{} and {}: {problem}", certificate.display(), key.display())]
    Pair {
        /// The file of the certificate.
        certificate: PathBuf,
        /// That of the key.
        key: PathBuf,
        /// What is wrong with them.
        problem: rustls::Error,
    },
}

/// TLS as the files have it now. Clones share it.
#[derive(Clone)]
pub struct Tls(watch::Receiver<Current>);

#[derive(Clone)]
struct Current {
    acceptor: TlsAcceptor,
    authorities: Option<Arc<Path>>,
    expires: Option<ASN1Time>,
}

impl Tls {
    /// Reads the files, and goes on doing so for as long as the runtime lives that this has to be called within. Clients agree
    /// on one of `protocols` (RFC 7301), the first of them that they know. If there is a file of `authorities`, a client may
    /// show a certificate, which has to be from one of them.
    ///
    /// # Errors
    /// If the files can't be used as they are now.
    pub fn start(
        files: TlsFiles,
        protocols: &'static [&'static [u8]],
        authorities: impl Fn() -> Option<PathBuf> + Send + 'static,
    ) -> Result<Self, TlsError> {
        let mut followed = Followed {
            files,
            protocols,
            authorities,
            seen: None,
        };
        let current = followed.look().expect("nothing was seen before")?;
        current.tell(&followed.files, "serving TLS");
        let (sender, receiver) = watch::channel(current);
        task::spawn(follow(followed, sender));
        Ok(Self(receiver))
    }

    /// For the next connection; and the file of the authorities of which one vouches for the certificate that a client shows then.
    pub fn acceptor(&self) -> (TlsAcceptor, Option<Arc<Path>>) {
        let current = self.0.borrow();
        (current.acceptor.clone(), current.authorities.clone())
    }

    /// When the certificate expires, in seconds since 1970. `None` if it doesn't say so in a way that can be read.
    pub fn expires_unix_s(&self) -> Option<i64> {
        self.0.borrow().expires.map(|time| time.timestamp())
    }
}

impl Current {
    fn tell(&self, files: &TlsFiles, what: &str) {
        let certificate = files.certificate.display();
        let expires = self.expires.map(display);
        info!(%certificate, expires, "{what}");
    }
}

/// Looks again and again, until nobody wants to know.
async fn follow<A>(mut followed: Followed<A>, sender: watch::Sender<Current>)
where
    A: Fn() -> Option<PathBuf> + Send + 'static,
{
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = period.tick() => {}
            () = sender.closed() => return,
        }
        let looked = task::spawn_blocking(move || {
            let new = followed.look();
            (followed, new)
        });
        let (back, new) = match looked.await {
            Ok(looked) => looked,
            Err(ended) => {
                // Else the runtime is on its way out.
                if ended.is_panic() {
                    error!("reading the TLS files panicked: they are followed no more until a restart");
                }
                return;
            }
        };
        followed = back;
        match new {
            None => {}
            Some(Ok(current)) => {
                current.tell(
                    &followed.files,
                    "the TLS files changed: new connections have the new ones",
                );
                sender.send_replace(current);
            }
            Some(Err(problem)) => {
                warn!(%problem, "the TLS files changed and can't be used as they are: what was before stays in use");
            }
        }
    }
}

struct Followed<A> {
    files: TlsFiles,
    protocols: &'static [&'static [u8]],
    authorities: A,
    /// What tells the last contents, or what was wrong with them.
    seen: Option<blake3::Hash>,
}

impl<A: Fn() -> Option<PathBuf>> Followed<A> {
    /// Reads the files. `None` if they are as they were.
    fn look(&mut self) -> Option<Result<Current, TlsError>> {
        let contents = Contents::read(&self.files, (self.authorities)());
        let seen = match &contents {
            Ok(contents) => contents.digest(),
            Err(problem) => blake3::hash(problem.to_string().as_bytes()),
        };
        if self.seen.replace(seen) == Some(seen) {
            return None;
        }
        Some(contents.and_then(|contents| contents.understood(&self.files, self.protocols)))
    }
}

struct Contents {
    certificate: Zeroizing<Vec<u8>>,
    key: Zeroizing<Vec<u8>>,
    authorities: Option<(PathBuf, Zeroizing<Vec<u8>>)>,
}

impl Contents {
    fn read(files: &TlsFiles, authorities: Option<PathBuf>) -> Result<Self, TlsError> {
        let authorities = authorities.map(|path| {
            let pem = read(&path)?;
            Ok::<_, TlsError>((path, pem))
        });
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            authorities: authorities.transpose()?,
        })
    }

    fn digest(&self) -> blake3::Hash {
        // Those who ask which file vouches for a client tell it by its path.
        let (path, authorities) = match &self.authorities {
            Some((path, pem)) => (Some(path.as_os_str().as_encoded_bytes()), Some(pem.as_slice())),
            None => (None, None),
        };
        let mut hasher = blake3::Hasher::new();
        for part in [
            Some(self.certificate.as_slice()),
            Some(self.key.as_slice()),
            path,
            authorities,
        ] {
            // Each with its length, and one that is not there with none.
            hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        hasher.finalize()
    }

    fn understood(self, files: &TlsFiles, protocols: &[&[u8]]) -> Result<Current, TlsError> {
        let chain = certificates(&files.certificate, &self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(in_file(&files.key))?;
        let expires = chain.first().and_then(|first| {
            let (_, certificate) = X509Certificate::from_der(first).ok()?;
            Some(certificate.validity().not_after)
        });
        // Named, because a program may hold two providers and rustls then has no default.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let clients = match &self.authorities {
            None => WebPkiClientVerifier::no_client_auth(),
            Some((path, pem)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path, pem)? {
                    roots.add(authority).map_err(|problem| TlsError::Authority {
                        path: path.clone(),
                        problem,
                    })?;
                }
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|problem| TlsError::Authorities {
                        path: path.clone(),
                        problem,
                    })?
            }
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(rustls::DEFAULT_VERSIONS)
            .and_then(|config| {
                config
                    .with_client_cert_verifier(clients)
                    .with_single_cert(chain, key)
            });
        let mut config = config.map_err(|problem| TlsError::Pair {
            certificate: files.certificate.clone(),
            key: files.key.clone(),
            problem,
        })?;
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Current {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            authorities: self.authorities.map(|(path, _)| path.into()),
            expires,
        })
    }
}

/// All certificates of a file, which has one at least.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(in_file(path))?;
    if all.is_empty() {
        return Err(in_file(path)(pem::Error::NoItemsFound));
    }
    Ok(all)
}

fn in_file(path: &Path) -> impl FnOnce(pem::Error) -> TlsError {
    let path = path.to_owned();
    move |problem| TlsError::Pem { path, problem }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    // In one piece from the start: what a growing one leaves behind is not zeroized.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES + 1));
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes));
    let problem = match read {
        Ok(length) if length <= MAX_FILE_BYTES => return Ok(bytes),
        Ok(_) => io::Error::new(io::ErrorKind::FileTooLarge, "it is longer than a MiB"),
        Err(problem) => problem,
    };
    Err(TlsError::File {
        path: path.to_owned(),
        problem,
    })
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, fs};

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};
    use tempfile::TempDir;

    use super::*;

    /// A certificate that expires in a year, and its key.
    fn certificate(year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(["log.example".to_owned()]).unwrap();
        parameters.not_after = date_time_ymd(year, 1, 1);
        let certificate = parameters.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    struct Server {
        directory: TempDir,
    }

    impl Server {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            Self { directory }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        }

        fn followed(&self) -> Followed<impl Fn() -> Option<PathBuf> + Send + 'static> {
            let path = |name| self.directory.path().join(name);
            let authorities = path("authorities");
            Followed {
                files: TlsFiles {
                    certificate: path("certificate"),
                    key: path("key"),
                },
                protocols: &[b"h2"],
                authorities: move || authorities.exists().then(|| authorities.clone()),
                seen: None,
            }
        }
    }

    fn year(looked: Option<Result<Current, TlsError>>) -> i64 {
        let expires = looked.unwrap().unwrap().expires.unwrap();
        1970 + expires.timestamp() / 31_556_952
    }

    #[test]
    fn a_renewed_certificate_is_taken_once_its_key_is_there() {
        let server = Server::new();
        let (old, old_key) = certificate(2031);
        server.write("certificate", &old);
        server.write("key", &old_key);
        let mut followed = server.followed();
        assert_eq!(year(followed.look()), 2031);
        assert!(followed.look().is_none());

        let (new, new_key) = certificate(2041);
        server.write("certificate", &new);
        assert!(matches!(followed.look(), Some(Err(TlsError::Pair { .. }))));
        // Said once, not each second.
        assert!(followed.look().is_none());
        server.write("key", &new_key);
        assert_eq!(year(followed.look()), 2041);
    }

    #[test]
    fn authorities_come_and_go() {
        let server = Server::new();
        let (certificate, key) = certificate(2031);
        server.write("certificate", &certificate);
        server.write("key", &key);
        let mut followed = server.followed();
        followed.look().unwrap().unwrap();
        let path = server.write("authorities", &certificate);
        assert!(matches!(followed.look(), Some(Ok(_))));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        server.write("authorities", no_certificate);
        assert!(matches!(followed.look(), Some(Err(TlsError::Authority { .. }))));
        server.write("authorities", "");
        assert!(matches!(followed.look(), Some(Err(TlsError::Pem { .. }))));
        fs::remove_file(path).unwrap();
        assert!(matches!(followed.look(), Some(Ok(_))));
    }

    /// Who asks compares paths: the one before would vouch for nobody.
    #[test]
    fn authorities_in_another_file_are_taken_though_they_are_the_same() {
        let server = Server::new();
        let (certificate, key) = certificate(2031);
        server.write("certificate", &certificate);
        server.write("key", &key);
        let chosen = RefCell::new(server.write("authorities", &certificate));
        let Followed { files, protocols, .. } = server.followed();
        let mut followed = Followed {
            files,
            protocols,
            authorities: || Some(chosen.borrow().clone()),
            seen: None,
        };
        followed.look().unwrap().unwrap();
        assert!(followed.look().is_none());
        let other = server.write("other-authorities", &certificate);
        *chosen.borrow_mut() = other.clone();
        let current = followed.look().unwrap().unwrap();
        assert_eq!(current.authorities.as_deref(), Some(other.as_path()));
    }

    #[test]
    fn what_is_wrong_is_said_of_its_file() {
        let server = Server::new();
        let (certificate, key) = certificate(2031);
        let problem = |server: &Server| {
            let looked = server.followed().look().unwrap();
            looked.err().unwrap().to_string()
        };
        assert!(problem(&server).contains("certificate: No such file"));
        server.write("certificate", &certificate);
        assert!(problem(&server).contains("key: No such file"));
        server.write("key", &certificate);
        assert!(problem(&server).contains("key: "), "{}", problem(&server));
        server.write("key", &key);
        server.write("certificate", &key);
        assert!(problem(&server).contains("certificate: "), "{}", problem(&server));
        server.write("certificate", &"x".repeat(MAX_FILE_BYTES + 1));
        assert!(problem(&server).contains("longer than a MiB"));
    }

    #[tokio::test]
    async fn a_server_follows_its_files() {
        let server = Server::new();
        let (old, old_key) = certificate(2031);
        server.write("certificate", &old);
        server.write("key", &old_key);
        let Followed { files, protocols, .. } = server.followed();
        let tls = Tls::start(files, protocols, || None).unwrap();
        let before = tls.expires_unix_s();
        let (new, new_key) = certificate(2041);
        server.write("key", &new_key);
        server.write("certificate", &new);
        let mut changes = tls.0.clone();
        changes.changed().await.unwrap();
        assert!(tls.expires_unix_s() > before);
    }
}
