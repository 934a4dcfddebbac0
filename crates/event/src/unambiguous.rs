//! JSON that no two readers read differently.
//!
//! Of two members with one name most readers take the last, some the first. And some, Go's among them, take `Payload` for
//! `payload`. Whatever is signed has to say one thing to all of them.

use std::{collections::BTreeMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// How many levels of objects have names that formats give them. Below, names may be anybody's: variables of an
/// environment, where `http_proxy` and `HTTP_PROXY` are two.
const NAMED_LEVELS: usize = 2;

/// Checks that a text is JSON in which no object has a member twice; in the outermost two levels of objects neither in
/// another case.
pub(crate) fn check(json: &[u8]) -> Result<(), serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    AnyValue { level: 0 }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// A value, so many objects deep.
#[derive(Clone, Copy)]
struct AnyValue {
    level: usize,
}

impl AnyValue {
    /// What may be there once.
    fn key(self, name: &str) -> String {
        if self.level < NAMED_LEVELS {
            // Both ways: there are letters that are as they are in one of them, such as U+017F, a small S.
            name.to_uppercase().to_lowercase()
        } else {
            name.to_owned()
        }
    }
}

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<(), A::Error> {
        while array.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        let mut names = BTreeMap::new();
        while let Some(name) = object.next_key::<String>()? {
            if let Some(before) = names.insert(self.key(&name), name.clone()) {
                let shown = |name: &str| name.chars().take(40).collect::<String>();
                return Err(match before == name {
                    true => A::Error::custom(format_args!("it has the member {:?} twice", shown(&name))),
                    false => A::Error::custom(format_args!(
                        "its members {:?} and {:?} differ in case alone",
                        shown(&before),
                        shown(&name)
                    )),
                });
            }
            object.next_value_seed(Self {
                level: self.level + 1,
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_has_a_member_twice_at_any_depth() {
        for bad in [
            r#"{"a":1,"b":2,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"[0,[{"a":1,"a":1}]]"#,
            r#"{"a":{"b":{"c":{"d":1,"d":2}}}}"#,
        ] {
            let problem = check(bad.as_bytes()).unwrap_err().to_string();
            assert!(problem.contains("twice"), "{bad}: {problem}");
        }
        for good in [
            r#"[{"a":1},{"a":1}]"#,
            r#"{"a":{"a":{"a":[1,1.5,-1,null,true,"a"]}}}"#,
            " 5 ",
        ] {
            assert!(check(good.as_bytes()).is_ok(), "{good}");
        }
    }

    #[test]
    fn case_makes_no_other_member_where_the_format_names_them() {
        for bad in [
            r#"{"payload":1,"Payload":1}"#,
            r#"{"a":[{"sig":1,"SIG":1}]}"#,
            // As Go's encoding/json folds them.
            r#"{"subject":1,"\u017fubject":1}"#,
            r#"{"keyid":1,"\u212aeyid":1}"#,
        ] {
            let problem = check(bad.as_bytes()).unwrap_err().to_string();
            assert!(problem.contains("differ in case alone"), "{bad}: {problem}");
        }
        let environment = r#"{"predicate":{"environment":{"http_proxy":1,"HTTP_PROXY":1}}}"#;
        assert!(check(environment.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "{",
            "{} {}",
            "{\"a\":1e999}",
            "\u{feff}{}",
            r#"{"\ud800":1}"#,
            &deep,
        ] {
            assert!(check(bad.as_bytes()).is_err());
        }
    }
}
