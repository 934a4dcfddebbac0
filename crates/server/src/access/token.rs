//! API tokens: `cft_<id>_<secret>`, and what a server keeps of them in `tokens/<id>.toml`.

use std::{fmt, str::FromStr, sync::Arc};

use anyhow::Context as _;
use counterfoil_event::SourceId;
use counterfoil_log::LogName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Grant, Role};

/// What every token begins with, so that scanners for leaked secrets find it.
pub(super) const PREFIX: &str = "cft_";
/// Enough for ids to differ; they are no secret.
const ID_BYTES: usize = 8;
const SECRET_BYTES: usize = 32;
/// What the hash of a secret is for.
const HASH_CONTEXT: &str = "counterfoil 2026-11-23 api token";
/// What the hash is called in files, before the digits.
const HASH_NAME: &str = "blake3:";
/// The longest note, in bytes.
pub(crate) const MAX_NOTE_BYTES: usize = 200;

/// A token's public name: 16 hexadecimal digits, and the name of its file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenId(String);

impl TokenId {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text that is no token, or no id of one. It is not told, as it may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no token of Counterfoil's: those are cft_, 16 digits, _, and 64 digits, hexadecimal in lower case"
)]
pub(crate) struct NoToken;

/// Text that is no id of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token's id is 16 hexadecimal digits in lower case, the part between cft_ and the next _")]
pub(crate) struct NoTokenId;

impl FromStr for TokenId {
    type Err = NoTokenId;

    fn from_str(text: &str) -> Result<Self, NoTokenId> {
        let is_id =
            text.len() == 2 * ID_BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_id.then(|| Self(text.to_owned())).ok_or(NoTokenId)
    }
}

/// A whole token. Only its holder has one; the server keeps [`TokenRecord`]s.
#[derive(ZeroizeOnDrop)]
pub(crate) struct Token {
    #[zeroize(skip)]
    id: TokenId,
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// A new one.
    pub(crate) fn random() -> Result<Self, getrandom::Error> {
        let mut id = [0; ID_BYTES];
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut id)?;
        getrandom::fill(&mut secret)?;
        let token = Self {
            id: TokenId(hex::encode(id)),
            secret,
        };
        secret.zeroize();
        Ok(token)
    }

    pub(crate) fn id(&self) -> &TokenId {
        &self.id
    }

    /// All of it, to be shown once.
    pub(crate) fn reveal(&self) -> Zeroizing<String> {
        let secret = Zeroizing::new(hex::encode(self.secret));
        Zeroizing::new(format!("{PREFIX}{}_{}", self.id, *secret))
    }

    /// The secret has 256 random bits: nothing is gained by a slow hash.
    fn hash(&self) -> blake3::Hash {
        blake3::Hasher::new_derive_key(HASH_CONTEXT)
            .update(&self.secret)
            .finalize()
    }
}

impl FromStr for Token {
    type Err = NoToken;

    fn from_str(text: &str) -> Result<Self, NoToken> {
        let (id, digits) = text
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once('_'))
            .ok_or(NoToken)?;
        let id = id.parse().map_err(|NoTokenId| NoToken)?;
        let mut secret = [0; SECRET_BYTES];
        // One spelling of each token.
        if digits.bytes().any(|byte| byte.is_ascii_uppercase())
            || hex::decode_to_slice(digits, &mut secret).is_err()
        {
            secret.zeroize();
            return Err(NoToken);
        }
        let token = Self { id, secret };
        secret.zeroize();
        Ok(token)
    }
}

/// What a server knows of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenRecord {
    /// Compared in constant time, which `blake3::Hash` does by itself.
    hash: blake3::Hash,
    pub(crate) grant: Arc<Grant>,
    pub(crate) created: Timestamp,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) revoked: Option<Timestamp>,
    pub(crate) note: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordToml {
    hash: String,
    roles: Vec<Role>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logs: Option<Vec<String>>,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    note: String,
}

impl TokenRecord {
    pub(crate) fn new(
        token: &Token,
        grant: Grant,
        created: Timestamp,
        expires: Option<Timestamp>,
        note: String,
    ) -> Self {
        Self {
            hash: token.hash(),
            grant: Arc::new(grant),
            created,
            expires,
            revoked: None,
            note,
        }
    }

    /// Whether the token is good for anything at this time. Says nothing of its secret.
    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|expires| now < expires)
    }

    /// Whether this is the token's secret.
    pub(crate) fn is_of(&self, token: &Token) -> bool {
        self.hash == token.hash()
    }

    /// Whether both are of one token.
    pub(super) fn has_secret_of(&self, other: &Self) -> bool {
        self.hash == other.hash
    }

    pub(crate) fn from_toml(text: &str) -> anyhow::Result<Self> {
        let file: RecordToml = toml::from_str(text)?;
        let hash = file
            .hash
            .strip_prefix(HASH_NAME)
            .and_then(|digits| blake3::Hash::from_hex(digits).ok())
            .with_context(|| format!("`hash` is not {HASH_NAME} and 64 hexadecimal digits"))?;
        Ok(Self {
            hash,
            grant: Arc::new(grant(file.roles, file.source, file.logs)?),
            created: file.created,
            expires: file.expires,
            revoked: file.revoked,
            note: file.note,
        })
    }

    pub(crate) fn to_toml(&self) -> String {
        let file = RecordToml {
            hash: format!("{HASH_NAME}{}", self.hash),
            roles: self.grant.roles().iter().copied().collect(),
            source: self.grant.source().map(SourceId::to_string),
            logs: self
                .grant
                .logs()
                .map(|logs| logs.iter().map(LogName::to_string).collect()),
            created: self.created,
            expires: self.expires,
            revoked: self.revoked,
            note: self.note.clone(),
        };
        toml::to_string(&file).expect("strings and lists of them can be written as TOML")
    }
}

/// A grant as files spell it.
pub(super) fn grant(
    roles: Vec<Role>,
    source: Option<String>,
    logs: Option<Vec<String>>,
) -> anyhow::Result<Grant> {
    let source = source
        .map(|source| {
            source
                .parse::<SourceId>()
                .with_context(|| format!("`source` is {source:?}"))
        })
        .transpose()?;
    let logs = logs
        .map(|logs| {
            logs.iter()
                .map(|log| log.parse())
                .collect::<Result<Vec<LogName>, _>>()
        })
        .transpose()?;
    Ok(Grant::new(roles, source, logs)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(token: &Token) -> TokenRecord {
        let grant = Grant::new(
            [Role::Submit],
            Some("ci".parse().unwrap()),
            Some(["main".parse().unwrap()]),
        );
        let created = "2026-11-23T01:02:03Z".parse().unwrap();
        let expires = "2026-12-23T00:00:00Z".parse().unwrap();
        TokenRecord::new(
            token,
            grant.unwrap(),
            created,
            Some(expires),
            "the \"build\" farm".to_owned(),
        )
    }

    #[test]
    fn a_token_reads_back_and_has_one_spelling() {
        let token = Token::random().unwrap();
        let text = token.reveal();
        let read: Token = text.parse().unwrap();
        assert_eq!((read.id(), read.hash()), (token.id(), token.hash()));
        for wrong in [
            "",
            "cft_",
            &text[..text.len() - 1],
            &format!("{}0", *text),
            &format!(" {}", *text),
            &text.to_uppercase(),
            &text.replace("cft_", "cft-"),
            &format!("cft_../../etc/passwd_{}", "0".repeat(64)),
            &format!("cft_{}_{}", "0".repeat(16), "A".repeat(64)),
        ] {
            assert!(wrong.parse::<Token>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_record_knows_its_token_and_not_its_secret() {
        let (token, other) = (Token::random().unwrap(), Token::random().unwrap());
        let record = record(&token);
        assert!(record.is_of(&token));
        assert!(!record.is_of(&other));
        let secret = token.reveal();
        let secret = secret.rsplit('_').next().unwrap();
        assert!(!record.to_toml().contains(secret));
        assert!(!format!("{record:?}").contains(secret));
    }

    #[test]
    fn a_record_reads_back_from_its_file() {
        let record = record(&Token::random().unwrap());
        assert_eq!(TokenRecord::from_toml(&record.to_toml()).unwrap(), record);
        for (what, with) in [
            ("blake3:", "sha256:"),
            ("\"submit\"", "\"root\""),
            ("source = ", "sauce = "),
            ("source = \"ci\"", ""),
            ("\"main\"", "\"Main\""),
        ] {
            let broken = record.to_toml().replace(what, with);
            assert_ne!(broken, record.to_toml());
            assert!(TokenRecord::from_toml(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_token_lives_until_it_expires_or_is_revoked() {
        let mut record = record(&Token::random().unwrap());
        let at = |text: &str| text.parse().unwrap();
        assert!(record.is_live(at("2026-12-22T23:59:59Z")));
        assert!(!record.is_live(at("2026-12-23T00:00:00Z")));
        record.expires = None;
        assert!(record.is_live(at("2099-01-01T00:00:00Z")));
        record.revoked = Some(at("2026-11-24T00:00:00Z"));
        assert!(!record.is_live(at("2026-11-24T00:00:00Z")));
    }
}
