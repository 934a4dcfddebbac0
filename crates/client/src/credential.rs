//! What a client shows a server so as to be let in.

use std::{fmt, str::FromStr, sync::Arc};

use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
};
use zeroize::Zeroizing;

use crate::channel::Channel;

/// Longest token. OIDC tokens of CI systems have about 2 KiB, and servers limit headers.
pub const MAX_TOKEN_BYTES: usize = 16 << 10;

/// A connection on which every call carries the client's token, if it has one.
pub(crate) type Connection = InterceptedService<Channel, Authorization>;

/// A bearer token: an API token of the log's server, or an OIDC token of a CI system.
///
/// Never shown in `Debug`, and wiped from memory with its last clone. The HTTP stack makes copies of its own for as
/// long as a request is under way; they are marked as sensitive.
#[derive(Clone)]
pub struct BearerToken(Arc<Zeroizing<String>>);

/// Text that can't be a bearer token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Nothing.
    #[error("the token is empty")]
    Empty,
    /// Over [`MAX_TOKEN_BYTES`].
    #[error("the token is longer than {MAX_TOKEN_BYTES} bytes")]
    TooLong,
    /// Something else than printable ASCII without spaces. The text is not repeated: it may be most of a secret.
    #[error("the token holds a space, a line break, or a character that is not ASCII")]
    Character,
}

impl FromStr for BearerToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        if text.is_empty() {
            return Err(InvalidToken::Empty);
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidToken::Character);
        }
        Ok(Self(Arc::new(Zeroizing::new(text.to_owned()))))
    }
}

impl BearerToken {
    /// The token itself, for a request that shows it. Whoever asks for it sends it to nobody else, and not in the clear.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(..)")
    }
}

/// A certificate by which a server knows the client, for `https` servers.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate and those above it, in PEM.
    pub chain: Vec<u8>,
    /// Its private key, in PEM.
    pub key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for ClientCertificate {
    /// Leaves the key out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("chain_bytes", &self.chain.len())
            .finish_non_exhaustive()
    }
}

/// Puts the token into each call.
#[derive(Debug, Clone)]
pub(crate) struct Authorization(Option<BearerToken>);

impl Authorization {
    /// The same connection, with the token.
    pub(crate) fn connection(channel: Channel, token: Option<BearerToken>) -> Connection {
        InterceptedService::new(channel, Self(token))
    }
}

impl Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(BearerToken(token)) = &self.0 {
            let header = Zeroizing::new(format!("Bearer {}", token.as_str()));
            let mut value = MetadataValue::<Ascii>::try_from(header.as_str())
                .expect("a token is printable ASCII, checked when it was made");
            // Kept out of HPACK's tables and of Debug.
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_shows_itself_to_nobody() {
        let token: BearerToken = "cft_7_s3cret".parse().unwrap();
        assert_eq!(format!("{token:?}"), "BearerToken(..)");
        let request = Authorization(Some(token)).call(Request::new(())).unwrap();
        let value = request.metadata().get("authorization").unwrap();
        assert_eq!(value.to_str().unwrap(), "Bearer cft_7_s3cret");
        assert!(!format!("{request:?}").contains("s3cret"));

        let request = Authorization(None).call(Request::new(())).unwrap();
        assert!(request.metadata().is_empty());
        let refused = |text: &str| text.parse::<BearerToken>().unwrap_err();
        assert_eq!(refused(""), InvalidToken::Empty);
        assert_eq!(refused(&"a".repeat(MAX_TOKEN_BYTES + 1)), InvalidToken::TooLong);
        for bad in ["a b", "a\n", "a\r\nx-admin: 1", "ä"] {
            assert_eq!(refused(bad), InvalidToken::Character, "{bad:?}");
        }
    }

    #[test]
    fn a_certificate_does_not_show_its_key() {
        let certificate = ClientCertificate {
            chain: b"public".to_vec(),
            key: Zeroizing::new(b"private".to_vec()),
        };
        assert_eq!(
            format!("{certificate:?}"),
            "ClientCertificate { chain_bytes: 6, .. }"
        );
    }
}
