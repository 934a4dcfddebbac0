//! Values out of JSON objects alone.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{Deserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

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

        deserializer.deserialize_map(Members(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

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
}
