//! Package URLs of what registries publish: `pkg:type/namespace/name@version`.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::normal::Text;

/// What a package URL writes as it is, within one of its parts.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// The URL of a version of a package, for the kinds of registry whose names say all that it takes.
pub(super) fn purl(kind: &str, name: &str, version: &str) -> Option<Text> {
    let purl_type = match kind.to_ascii_lowercase().as_str() {
        "npm" => "npm",
        "nuget" => "nuget",
        "rubygems" | "gem" => "gem",
        "pypi" => "pypi",
        "cargo" => "cargo",
        _ => return None,
    };
    if name.is_empty() || version.is_empty() {
        return None;
    }
    let encode = |part: &str| utf8_percent_encode(part, ENCODED).to_string();
    // npm's scopes are namespaces.
    let name: Vec<String> = name.split('/').map(encode).collect();
    Text::cut(&format!("pkg:{purl_type}/{}@{}", name.join("/"), encode(version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_encoded_as_the_specification_has_it() {
        let purl = |kind, name, version| purl(kind, name, version).map(|purl| purl.to_string());
        assert_eq!(
            purl("NPM", "@acme/widgets", "1.0.0").unwrap(),
            "pkg:npm/%40acme/widgets@1.0.0"
        );
        assert_eq!(
            purl("rubygems", "rails", "8.0.0+x").unwrap(),
            "pkg:gem/rails@8.0.0%2Bx"
        );
        assert_eq!(purl("container", "widgets", "1"), None);
        assert_eq!(purl("npm", "", "1"), None);
    }
}
