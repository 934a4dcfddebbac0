//! Absolute URIs, as far as forms tell of them.

use crate::normal::Text;

/// The host, and its port if there is one, of an absolute URI. A source may also be a path, or a name.
pub(super) fn host(uri: &str) -> Option<Text> {
    let (scheme, rest) = uri.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    if !is_scheme {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    Text::cut(authority.rsplit('@').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_their_port_and_nobody_s_name() {
        for (uri, expected) in [
            (
                "git+https://git.example/acme/widgets.git@refs/heads/main",
                "git.example",
            ),
            ("git+ssh://git@git.example:2222/acme/widgets", "git.example:2222"),
            ("https://git.example@evil.example/acme/widgets", "evil.example"),
            ("https://evil.example?@git.example/acme/widgets", "evil.example"),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
        ] {
            assert_eq!(host(uri).unwrap().as_str(), expected, "{uri}");
        }
        for none in [
            "",
            "/acme/widgets",
            "acme",
            "urn:acme:widgets",
            "://git.example",
            "file:///acme",
        ] {
            assert_eq!(host(none), None, "{none}");
        }
    }
}
