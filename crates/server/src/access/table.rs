//! What each call needs: the one table. `docs/ACCESS.md` shows it to people, and a test keeps the two alike.
//!
//! A path that is not in it does not exist: the layer answers for it, whatever lies behind. Handlers name no right; they ask
//! the [`Caller`](super::Caller) that the layer made, which knows its row.

use std::{fmt, sync::LazyLock};

use matchit::Router;

use super::Right;

/// What it takes to be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing. A credential is not looked at.
    Nothing,
    /// A signature by a secret of the source's, over what is sent: `hooks` checks it. A credential is not looked at.
    Signature,
    /// A right on the log that the call is about.
    Right(Right),
    /// The first right; the second if the call asks for what entries commit to, or finds them by it.
    RightOrPrivate(Right, Right),
}

impl Needs {
    /// The right that a call needs. None if it needs no right, and then it has none to ask for.
    pub(super) fn right(self, private: bool) -> Option<Right> {
        match self {
            Self::Nothing | Self::Signature => None,
            Self::Right(right) => (!private).then_some(right),
            Self::RightOrPrivate(right, of_private) => Some(if private { of_private } else { right }),
        }
    }
}

const SUBMIT: Needs = Needs::Right(Right::Submit);
const CHECK: Needs = Needs::Right(Right::Check);
const READ: Needs = Needs::Right(Right::Read);
const AUDIT: Needs = Needs::Right(Right::Audit);
const READ_OR_AUDIT: Needs = Needs::RightOrPrivate(Right::Read, Right::Audit);

impl fmt::Display for Needs {
    /// As the table for people has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Signature => f.write_str("signature"),
            Self::Right(right) => right.fmt(f),
            Self::RightOrPrivate(right, private) => write!(f, "{right}; {private} for what is private"),
        }
    }
}

/// Paths, in the syntax of axum's router, and what they need.
pub(super) const TABLE: &[(&str, Needs)] = &[
    ("/counterfoil.v1.SubmitService/Submit", SUBMIT),
    ("/counterfoil.v1.SubmitService/SubmitBatch", SUBMIT),
    ("/counterfoil.v1.SubmitService/SubmitStream", SUBMIT),
    ("/counterfoil.v1.ReadService/GetTreeHead", CHECK),
    ("/counterfoil.v1.ReadService/WatchTreeHeads", CHECK),
    ("/counterfoil.v1.ReadService/GetConsistencyProof", CHECK),
    // To find a leaf by its event's source and id is a search.
    ("/counterfoil.v1.ReadService/GetInclusionProof", READ_OR_AUDIT),
    ("/counterfoil.v1.ReadService/GetEntry", READ_OR_AUDIT),
    ("/counterfoil.v1.ReadService/ReadEntries", READ_OR_AUDIT),
    ("/counterfoil.v1.ReadService/FindEntries", AUDIT),
    // A receipt holds the salt, with which one can check guesses at payload and attributes.
    ("/counterfoil.v1.ReadService/GetReceipt", AUDIT),
    ("/logs/{log}/checkpoint", CHECK),
    ("/logs/{log}/tile/{*tile}", READ),
    ("/logs/{log}/events", SUBMIT),
    ("/services/collector", SUBMIT),
    ("/services/collector/1.0", SUBMIT),
    ("/services/collector/event", SUBMIT),
    ("/services/collector/event/1.0", SUBMIT),
    ("/services/collector/raw", SUBMIT),
    ("/services/collector/raw/1.0", SUBMIT),
    ("/services/collector/ack", Needs::Nothing),
    ("/services/collector/health", Needs::Nothing),
    ("/services/collector/health/1.0", Needs::Nothing),
    ("/hooks/{source}", Needs::Signature),
    ("/health", Needs::Nothing),
    ("/grpc.health.v1.Health/Check", Needs::Nothing),
    ("/grpc.health.v1.Health/Watch", Needs::Nothing),
    (
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        Needs::Nothing,
    ),
    // On a port of its own.
    ("/metrics", Needs::Nothing),
];

/// Health checks, in every protocol.
pub(crate) const HEALTH: [&str; 4] = [
    "/health",
    "/grpc.health.v1.Health/Check",
    "/services/collector/health",
    "/services/collector/health/1.0",
];

/// Calls that stay open for as long as whoever makes them likes, and need no right, or one that is often everybody's. One that
/// breaks off in a crowd can be begun again.
pub(crate) const HOLD_NO_SEAT: [&str; 3] = [
    "/counterfoil.v1.ReadService/WatchTreeHeads",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
];

/// The row of a path as it came.
pub(super) fn needs(path: &str) -> Option<Needs> {
    static ROUTES: LazyLock<Router<Needs>> = LazyLock::new(|| {
        let mut routes = Router::new();
        for (path, needs) in TABLE {
            routes
                .insert(*path, *needs)
                .expect("no path is there twice or in another syntax");
        }
        routes
    });
    ROUTES.at(path).ok().map(|found| *found.value)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::grpc::methods;

    #[test]
    fn every_method_has_a_row_and_every_row_of_a_method_has_one() {
        let rows = TABLE.iter().map(|(path, _)| *path);
        let of_methods: BTreeSet<_> = rows
            .filter(|path| path[1..].split('/').next().unwrap().contains('.'))
            .map(ToOwned::to_owned)
            .collect();
        let methods: BTreeSet<_> = methods().into_iter().map(|(path, _)| path).collect();
        assert_eq!(of_methods, methods);
    }

    #[test]
    fn health_needs_nothing_and_what_holds_no_seat_has_a_row() {
        for path in HEALTH {
            assert_eq!(needs(path), Some(Needs::Nothing), "{path}");
        }
        for path in HOLD_NO_SEAT {
            assert!(needs(path).is_some(), "{path}");
        }
    }

    /// The end-to-end test reads the same table, and calls everything in it.
    #[test]
    fn the_table_for_people_is_this_one() {
        let text = include_str!("../../../../docs/ACCESS.md");
        let rows = text.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let call = cells.next()?.trim_end_matches('`');
            let path = &call[call.find('/')?..];
            Some((path.to_owned(), cells.next()?.trim_end_matches(" |").to_owned()))
        });
        let mut rows: Vec<_> = rows.collect();
        let mut expected: Vec<_> = TABLE
            .iter()
            .map(|(path, needs)| ((*path).to_owned(), needs.to_string()))
            .collect();
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_path_has_its_row_and_no_other() {
        assert_eq!(needs("/logs/main/checkpoint"), Some(CHECK));
        assert_eq!(needs("/logs/main/tile/entries/x001/000"), Some(READ));
        assert_eq!(needs("/hooks/github"), Some(Needs::Signature));
        for none in [
            "",
            "*",
            "/",
            "/logs/main",
            "/logs/main/",
            "/logs/main/tile",
            "/logs/main/tile/",
            "/logs/main/events/",
            "/logs/a/b/checkpoint",
            "/hooks/",
            "/hooks/a/b",
            "/Health",
            "//health",
            "/health/",
            "/counterfoil.v1.ReadService",
            "/counterfoil.v1.ReadService/GetEntry/",
            "/counterfoil.v1.ReadService/getentry",
            "/admin",
        ] {
            assert_eq!(needs(none), None, "{none}");
        }
    }

    #[test]
    fn private_parts_take_a_right_that_is_named_for_them() {
        assert_eq!(READ.right(false), Some(Right::Read));
        assert_eq!(READ.right(true), None);
        assert_eq!(READ_OR_AUDIT.right(false), Some(Right::Read));
        assert_eq!(READ_OR_AUDIT.right(true), Some(Right::Audit));
        for nothing in [Needs::Nothing, Needs::Signature] {
            assert_eq!((nothing.right(false), nothing.right(true)), (None, None));
        }
    }
}
