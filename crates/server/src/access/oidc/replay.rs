//! Tokens that have submitted once, until they expire.

use std::collections::{BTreeSet, HashSet};

use super::super::Denied;

/// Tokens remembered at a time, of some 100 bytes each. Only tokens that a rule lets in get here.
const MAX_REMEMBERED: usize = 65_536;

/// Names a token among those of all issuers.
pub(super) type TokenName = [u8; 32];

/// The name of an issuer's token with this `jti`.
pub(super) fn token_name(issuer: &str, jti: &str) -> TokenName {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(issuer.len() as u64).to_le_bytes());
    hasher.update(issuer.as_bytes());
    hasher.update(jti.as_bytes());
    *hasher.finalize().as_bytes()
}

/// What was spent. It forgets nothing before its time: when it is full, it lets nothing more be spent.
#[derive(Default)]
pub(super) struct Spent {
    names: HashSet<TokenName>,
    /// When each may be forgotten, in seconds since 1970.
    by_time: BTreeSet<(i64, TokenName)>,
}

impl Spent {
    /// Spends a token that nobody can use from `until` on.
    pub(super) fn spend(&mut self, name: TokenName, until: i64, now: i64) -> Result<(), Denied> {
        while let Some((_, past)) = self.by_time.first().copied().filter(|(until, _)| *until < now) {
            self.by_time.pop_first();
            self.names.remove(&past);
        }
        if self.names.contains(&name) {
            return Err(Denied::Unauthenticated(
                "this token has submitted before: each is good for one call, so ask the job's platform for another".to_owned(),
            ));
        }
        if self.names.len() >= MAX_REMEMBERED {
            return Err(Denied::Undecided(
                "too many job tokens are being used; try again later".to_owned(),
            ));
        }
        self.names.insert(name);
        self.by_time.insert((until, name));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_spent_once_and_forgotten_when_nobody_can_use_it() {
        let mut spent = Spent::default();
        let (one, other) = (token_name("a", "bc"), token_name("ab", "c"));
        assert_ne!(one, other);
        spent.spend(one, 100, 0).unwrap();
        spent.spend(other, 200, 0).unwrap();
        assert!(matches!(
            spent.spend(one, 100, 100),
            Err(Denied::Unauthenticated(_))
        ));
        spent.spend(token_name("a", "d"), 300, 101).unwrap();
        assert_eq!((spent.names.len(), spent.by_time.len()), (2, 2));
        assert!(spent.spend(other, 200, 101).is_err());
    }

    #[test]
    fn when_full_nothing_is_forgotten_and_nothing_more_let_in() {
        let mut spent = Spent::default();
        let name = |number: usize| token_name("issuer", &number.to_string());
        for number in 0..MAX_REMEMBERED {
            spent.spend(name(number), 100, 0).unwrap();
        }
        assert!(matches!(
            spent.spend(name(MAX_REMEMBERED), 100, 0),
            Err(Denied::Undecided(_))
        ));
        assert!(matches!(
            spent.spend(name(0), 100, 0),
            Err(Denied::Unauthenticated(_))
        ));
        spent.spend(name(MAX_REMEMBERED), 200, 101).unwrap();
    }
}
