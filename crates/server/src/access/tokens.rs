//! Callers with API tokens.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use serde_json::json;

use super::{
    Denied, Grant,
    token::{Token, TokenId, TokenRecord},
};
use crate::watched::{File, Watched};

/// The tokens of a data directory, as its files have them now.
#[derive(Debug, Clone)]
pub(super) struct Tokens(Watched<TokenRecord>);

impl Tokens {
    /// Follows `<data>/tokens`, which need not be there. Has to be called within a runtime.
    pub(super) fn start(directory: &Path) -> anyhow::Result<Self> {
        let parse = |file: File<'_>| {
            file.name.parse::<TokenId>()?;
            ensure!(
                !file.exposed,
                "others than its owner can read it or change it: chmod 600"
            );
            TokenRecord::from_toml(file.text).context("this is no token's file")
        };
        Ok(Self(Watched::start(directory, parse)?))
    }

    /// Whoever shows this text after `Bearer` or `Splunk`.
    pub(super) fn holder(&self, text: &str, now: Timestamp) -> Result<TokenHolder, Denied> {
        let token: Token = text
            .parse()
            .map_err(|error| Denied::Unauthenticated(format!("{error}")))?;
        let record = self.0.get(token.id().as_str());
        let record = record.filter(|record| record.is_of(&token) && record.is_live(now));
        let record = record.ok_or_else(refused)?;
        Ok(TokenHolder {
            id: token.id().clone(),
            shown: record,
            tokens: self.clone(),
        })
    }
}

/// The same for all, so that nothing is told about tokens that one does not hold.
fn refused() -> Denied {
    Denied::Unauthenticated("this token is unknown, revoked or expired".to_owned())
}

/// Who showed a token.
pub(super) struct TokenHolder {
    id: TokenId,
    /// As it was when the secret was compared.
    shown: Arc<TokenRecord>,
    tokens: Tokens,
}

impl TokenHolder {
    /// What the token is good for now.
    pub(super) fn grant(&self, now: Timestamp) -> Result<Arc<Grant>, Denied> {
        self.tokens
            .0
            .get(self.id.as_str())
            .filter(|record| record.has_secret_of(&self.shown) && record.is_live(now))
            .map(|record| record.grant.clone())
            .ok_or_else(refused)
    }

    /// The id alone: the secret goes on being of use.
    pub(super) fn evidence(&self) -> String {
        json!({ "token": self.id.as_str() }).to_string()
    }
}
