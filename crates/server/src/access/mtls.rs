//! Callers with client certificates. TLS has checked by then that an authority of ours vouches for the certificate, and that
//! the caller has its key.

use std::{path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{
    Denied, Grant, Settings,
    config::{CertificateName, Config},
    granted::Granted,
};

/// The longest certificate, in DER: in base64 it has to fit into an entry's evidence.
const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;
/// The longest subject, as text.
const MAX_SUBJECT_BYTES: usize = 1024;

/// What a peer showed when the connection was made, if anything. In the extensions of each of its requests.
#[derive(Clone)]
pub(crate) struct PeerCertificate(pub(crate) Option<Arc<Certificate>>);

/// A client certificate that an authority of ours vouches for.
pub(crate) struct Certificate {
    names: Vec<CertificateName>,
    expires: Timestamp,
    evidence: String,
    /// The file of the authorities that it was checked by.
    authorities: Arc<Path>,
}

/// Why a certificate can't be used, although it is good for TLS.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("the client certificate is longer than {MAX_CERTIFICATE_BYTES} bytes")]
    TooLong,
    #[error("the client certificate can't be read")]
    Malformed,
}

impl Certificate {
    /// Reads what rules and entries need of one that an authority of that file vouches for.
    pub(crate) fn from_der(der: &[u8], authorities: Arc<Path>) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(CertificateError::TooLong);
        }
        let malformed = || CertificateError::Malformed;
        let (rest, certificate) = X509Certificate::from_der(der).map_err(|_| malformed())?;
        let subject = certificate.subject().to_string();
        if !rest.is_empty() || subject.len() > MAX_SUBJECT_BYTES {
            return Err(malformed());
        }
        let expires = certificate.validity().not_after.timestamp();
        let names = names(&certificate).ok_or_else(malformed)?;
        let spiffe = names.iter().find_map(|name| match name {
            CertificateName::Spiffe(uri) => Some(uri),
            CertificateName::Dns(_) => None,
        });
        let evidence = json!({
            "certificate": STANDARD.encode(der),
            "certificate_sha256": hex::encode(Sha256::digest(der)),
            "serial": certificate.tbs_certificate.raw_serial_as_string(),
            "spiffe": spiffe,
            "subject": subject,
        });
        Ok(Self {
            // One without an end says the year 9999 (RFC 5280, section 4.1.2.5), beyond what a timestamp has.
            expires: Timestamp::from_second(expires.min(Timestamp::MAX.as_second()))
                .map_err(|_| malformed())?,
            evidence: evidence.to_string(),
            names,
            authorities,
        })
    }

    /// What the first rule that matches gives. Rules of other authorities say nothing of it.
    fn grant(&self, config: &Config) -> Result<Arc<Grant>, Denied> {
        let mtls = config.mtls.as_ref().filter(|mtls| *mtls.ca == *self.authorities);
        let rules = mtls.map_or(&[][..], |mtls| &mtls.rules);
        let rule = rules.iter().find(|rule| self.names.contains(&rule.name));
        rule.map(|rule| rule.grant.clone()).ok_or_else(|| {
            Denied::Forbidden(
                "the client certificate is right, and no rule of this server is for its names".to_owned(),
            )
        })
    }
}

/// The subject alternative names that rules know. `None` if the extension is malformed.
fn names(certificate: &X509Certificate<'_>) -> Option<Vec<CertificateName>> {
    let Some(extension) = certificate.subject_alternative_name().ok()? else {
        return Some(Vec::new());
    };
    let all = &extension.value.general_names;
    let uris = all
        .iter()
        .filter(|name| matches!(name, GeneralName::URI(_)))
        .count();
    let names = all.iter().filter_map(|name| match name {
        // A certificate with more URIs than one is no SPIFFE ID's (X.509-SVID, section 2).
        GeneralName::URI(uri) if uri.starts_with("spiffe://") && uris == 1 => {
            Some(CertificateName::Spiffe((*uri).to_owned()))
        }
        GeneralName::DNSName(name) => Some(CertificateName::Dns(name.to_ascii_lowercase())),
        _ => None,
    });
    Some(names.collect())
}

/// Who showed a certificate that a rule is for.
pub(super) struct Certified {
    granted: Granted,
    certificate: Arc<Certificate>,
}

impl Certified {
    pub(super) fn new(
        certificate: &Arc<Certificate>,
        settings: &Arc<Settings>,
        now: Timestamp,
    ) -> Result<Self, Denied> {
        let certified = Self {
            granted: Granted::new(settings),
            certificate: certificate.clone(),
        };
        certified.grant(now)?;
        Ok(certified)
    }

    /// What the certificate is good for by the rules that hold now, unless it has expired since the connection was made.
    pub(super) fn grant(&self, now: Timestamp) -> Result<Arc<Grant>, Denied> {
        if now > self.certificate.expires {
            return Err(Denied::Unauthenticated(
                "the client certificate has expired".to_owned(),
            ));
        }
        self.granted.now(|config| self.certificate.grant(config))
    }

    pub(super) fn evidence(&self) -> String {
        self.certificate.evidence.clone()
    }
}
