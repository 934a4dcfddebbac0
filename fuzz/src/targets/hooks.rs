//! Files of webhook sources, and their secrets.

use counterfoil_hooks::{Fingerprint, Provider, Secret, Source};

use super::text;
use crate::Target;

pub(super) const SOURCE: Target = Target {
    name: "hook_source",
    about: "files of webhook sources, their secrets and fingerprints",
    seeds: source_seeds,
    words: &[
        "provider = \"",
        "github",
        "gitlab",
        "gitea",
        "forgejo",
        "log = ",
        "host = ",
        "secrets = [",
        "whsec_",
        "\"\"\"",
        "'''",
    ],
    max_bytes: 8 << 10,
    run: source,
};

fn source_seeds() -> Vec<Vec<u8>> {
    [
        "provider = \"github\"\nlog = \"main\"\nhost = \"github.com\"\nsecrets = [\"0123456789abcdef\"]\n",
        "provider = \"gitlab\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\", 'a-token-of-some-length']\n",
        "provider = \"gitea\"\nlog = \"other\"\nhost = \"git.example:3000\"\nsecrets = [\"fedcba9876543210\"]\n",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "0123456789abcdef",
        "01234567",
    ]
    .map(|seed| seed.as_bytes().to_vec())
    .to_vec()
}

/// What is read says the same when it is written again; no secret is shown by accident.
fn source(input: &[u8]) {
    let Some(text) = text(input) else { return };
    if let Ok(source) = Source::parse(text) {
        let written = source.to_toml();
        let again = Source::parse(&written).unwrap();
        assert_eq!(
            (again.provider, &again.log, &again.host),
            (source.provider, &source.log, &source.host)
        );
        let secrets = |source: &Source| {
            source
                .secrets()
                .iter()
                .map(|it| it.reveal().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(secrets(&again), secrets(&source));
        let shown = format!("{source:?}");
        let is_elsewhere = |secret: &str| source.host.contains(secret) || source.log.contains(secret);
        for secret in secrets(&source) {
            assert!(!shown.contains(&secret) || is_elsewhere(&secret));
        }
    }
    if let Ok(secret) = text.parse::<Secret>() {
        assert_eq!(secret.reveal(), text);
        assert!(secret.is_signing_key() != secret.is(text.as_bytes()));
    }
    if let Ok(fingerprint) = text.parse::<Fingerprint>() {
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }
    if let Ok(provider) = text.parse::<Provider>() {
        assert_eq!(provider.as_str().parse(), Ok(provider));
    }
}
