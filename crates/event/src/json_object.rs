//! Reading JSON of others: values out of objects and arrays alone, and in few words what is wrong.
//!
//! Where an object or array is due, serde_json quotes a string whole, a byte as up to six. So what may be long is read by
//! [`structure`], and of what is wrong with the rest [`told`] leaves as much as there is room for.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{
        Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use crate::normal::Text;

/// Reads what a visitor of objects or arrays expects. A string is no more than named.
pub(crate) fn structure<'de, D: Deserializer<'de>, V: Visitor<'de>>(
    deserializer: D,
    visitor: V,
) -> Result<V::Value, D::Error> {
    deserializer.deserialize_any(Unquoted(visitor))
}

/// What is wrong, as long as any other text may be: it may repeat some of what was sent.
pub(crate) fn told(problem: impl fmt::Display) -> String {
    Text::cut(&problem.to_string()).map_or_else(String::new, |text| text.to_string())
}

struct Unquoted<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Unquoted<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<V::Value, E> {
        Err(E::invalid_type(Unexpected::Other("string"), &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(array)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(object)
    }
}

/// What was read out of a JSON object. Without it, structs that derive `Deserialize` take an array too, item by item in the order of
/// their fields: a shape in which no other reader knows them.
pub(crate) struct JsonObject<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = JsonObject<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
            }
        }

        structure(deserializer, Members(PhantomData))
    }
}

/// The items of a JSON array.
pub(crate) struct JsonArray<T>(pub(crate) Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for JsonArray<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = JsonArray<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON array")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, array: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(array)).map(JsonArray)
            }
        }

        structure(deserializer, Items(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::normal::MAX_TEXT_BYTES;

    #[derive(Deserialize)]
    struct Outer<'a> {
        name: String,
        #[serde(borrow)]
        inner: Option<&'a RawValue>,
    }

    fn read(json: &str) -> Result<Outer<'_>, serde_json::Error> {
        serde_json::from_str(json).map(|JsonObject(outer)| outer)
    }

    #[test]
    fn an_array_is_no_object() {
        let outer = read(r#" {"name":"a","more":1,"inner":[ 1 ]} "#).unwrap();
        assert_eq!((&*outer.name, outer.inner.unwrap().get()), ("a", "[ 1 ]"));
        let array = r#"["a",1]"#;
        for bad in [array, "[]", r#""a""#, "null", "{}", r#"{"name":"a"} {}"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        // As it would be read otherwise.
        assert!(serde_json::from_str::<Outer<'_>>(array).is_ok());
    }

    #[test]
    fn a_string_is_named_and_not_quoted() {
        let long = "\u{7f}".repeat(1_000);
        let text = serde_json::to_string(&long).unwrap();
        let object = read(&text).map(|_| ()).unwrap_err();
        let array: Result<JsonArray<u8>, _> = serde_json::from_str(&text);
        let array = array.map(|_| ()).unwrap_err();
        assert_eq!(
            [object, array].map(|error| error.to_string()),
            ["object", "array"]
                .map(|it| format!("invalid type: string, expected a JSON {it} at line 1 column 1002"))
        );
        let JsonArray(items) = serde_json::from_str::<JsonArray<u8>>(" [1, 2] ").unwrap();
        assert_eq!(items, [1, 2]);

        // Elsewhere it is quoted.
        let quoted = serde_json::from_str::<Vec<u8>>(&text).unwrap_err().to_string();
        assert!(quoted.len() > 6_000);
        let told = told(quoted);
        assert!(told.starts_with("invalid type: string") && told.len() <= MAX_TEXT_BYTES);
    }
}
