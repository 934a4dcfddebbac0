//! Reading JSON that may be anything: a member that is missing, or of another type than the one looked for, is absent, and all
//! others are read all the same.
//!
//! Only members that somebody looks for are kept, and those as pieces of the text: memory does not grow with what a body holds
//! beside them. Of members with one name the last counts, as with most readers. How deep it goes does not matter where nobody looks.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::normal::{Integer, MAX_LIST_ITEMS, MAX_TEXT_BYTES, Setting, SignedInteger, Text, Time};

/// Structs of members to look for: each a [`Leaf`], where no other type is named.
macro_rules! objects {
    ($( $(#[$meta:meta])* $name:ident { $( $field:ident $(= $json:literal)? $(: $type:ty)? ),+ $(,)? } )+) => { $(
        $(#[$meta])*
        #[derive(Default)]
        pub(crate) struct $name<'a> {
            $( pub(crate) $field: $crate::adapter::json::objects!(@type $($type)?), )+
        }

        impl<'a> $crate::adapter::json::Object<'a> for $name<'a> {
            fn take<A: serde::de::MapAccess<'a>>(
                &mut self,
                name: &str,
                object: &mut A,
                care: $crate::adapter::json::Care,
            ) -> Result<bool, A::Error> {
                $( if name == $crate::adapter::json::objects!(@name $field $($json)?) {
                    self.$field = object.next_value_seed($crate::adapter::json::Seed::new(care))?;
                    return Ok(true);
                } )+
                Ok(false)
            }
        }
    )+ };
    (@type) => { $crate::adapter::json::Leaf<'a> };
    (@type $type:ty) => { $type };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $json:literal) => { $json };
}
pub(crate) use objects;

/// An object of a body, as far as somebody looks into it.
pub(crate) trait Object<'a>: Default {
    /// Reads the value of a member, if it is one that is looked for.
    fn take<A: MapAccess<'a>>(&mut self, name: &str, object: &mut A, care: Care) -> Result<bool, A::Error>;
}

/// How an object is read: in one go; or, where that failed, by looking first whether there is an object. The only value that
/// the first can't pass over is a number too large for a double.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    None,
    LookFirst,
}

/// Reads a body. `None` if it is no JSON object.
pub(crate) fn read<'a, T: Object<'a>>(body: &'a [u8]) -> Option<T> {
    let text = str::from_utf8(body).ok()?;
    if !text.trim_ascii_start().starts_with('{') {
        return None;
    }
    parse(text, Care::None).or_else(|| parse(text, Care::LookFirst))
}

fn parse<'a, T: Value<'a>>(text: &'a str, care: Care) -> Option<T> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Seed::new(care).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(value)
}

/// What a member may be read as.
pub(crate) trait Value<'a>: Default {
    fn read<D: Deserializer<'a>>(deserializer: D, care: Care) -> Result<Self, D::Error>;
}

/// Reads a [`Value`].
pub(crate) struct Seed<T> {
    care: Care,
    of: PhantomData<T>,
}

impl<T> Seed<T> {
    pub(crate) fn new(care: Care) -> Self {
        Self {
            care,
            of: PhantomData,
        }
    }
}

impl<'a, T: Value<'a>> DeserializeSeed<'a> for Seed<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<T, D::Error> {
        T::read(deserializer, self.care)
    }
}

impl<'a, T: Object<'a>> Value<'a> for T {
    fn read<D: Deserializer<'a>>(deserializer: D, care: Care) -> Result<Self, D::Error> {
        look(deserializer, care, '{', Members(Seed::new(care)))
    }
}

/// The items of a list, as many as an event keeps.
pub(crate) struct List<T> {
    pub(crate) items: Vec<T>,
    /// How many more there are.
    pub(crate) more: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            more: 0,
        }
    }
}

impl<'a, T: Value<'a>> Value<'a> for List<T> {
    fn read<D: Deserializer<'a>>(deserializer: D, care: Care) -> Result<Self, D::Error> {
        look(deserializer, care, '[', Items(Seed::new(care)))
    }
}

/// Reads what begins with `opening` and passes over all else.
fn look<'a, D: Deserializer<'a>, V: Visitor<'a>>(
    deserializer: D,
    care: Care,
    opening: char,
    visitor: V,
) -> Result<V::Value, D::Error>
where
    V::Value: Default,
{
    if care == Care::None {
        return deserializer.deserialize_any(visitor);
    }
    let text = <&RawValue>::deserialize(deserializer)?.get();
    if !text.starts_with(opening) {
        return Ok(V::Value::default());
    }
    let read = serde_json::Deserializer::from_str(text).deserialize_any(visitor);
    read.map_err(D::Error::custom)
}

/// What is there instead is as good as nothing.
macro_rules! pass_over_scalars {
    () => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("any JSON value")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }

        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok(Self::Value::default())
        }
    };
}

struct Members<T>(Seed<T>);

impl<'a, T: Object<'a>> Visitor<'a> for Members<T> {
    type Value = T;

    pass_over_scalars!();

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(name) = object.next_key::<&RawValue>()? {
            if !value.take(&Leaf(name.get()).str(), &mut object, self.0.care)? {
                object.next_value::<IgnoredAny>()?;
            }
        }
        Ok(value)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<T, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(T::default())
    }
}

struct Items<T>(Seed<T>);

impl<'a, T: Value<'a>> Visitor<'a> for Items<T> {
    type Value = List<T>;

    pass_over_scalars!();

    fn visit_map<A: MapAccess<'a>>(self, mut object: A) -> Result<List<T>, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(List::default())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut array: A) -> Result<List<T>, A::Error> {
        let mut list = List::default();
        while list.items.len() < MAX_LIST_ITEMS {
            match array.next_element_seed(Seed::new(self.0.care))? {
                Some(item) => list.items.push(item),
                None => return Ok(list),
            }
        }
        while array.next_element::<IgnoredAny>()?.is_some() {
            list.more += 1;
        }
        Ok(list)
    }
}

/// A value of a body, as it is written.
#[derive(Clone, Copy, Default)]
pub(crate) struct Leaf<'a>(&'a str);

impl<'a> Value<'a> for Leaf<'a> {
    fn read<D: Deserializer<'a>>(deserializer: D, _: Care) -> Result<Self, D::Error> {
        Ok(Self(<&RawValue>::deserialize(deserializer)?.get()))
    }
}

impl<'a> Leaf<'a> {
    /// Whether there is a value that is not null.
    pub(crate) fn is_there(self) -> bool {
        !matches!(self.0, "" | "null")
    }

    /// A string, decoded. Empty if it is none. Of one that is longer than any [`Text`], as much as makes it so.
    pub(crate) fn str(self) -> Cow<'a, str> {
        let quoted = self.0.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match quoted {
            None => Cow::Borrowed(""),
            Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
            Some(escaped) if escaped.len() <= MAX_ENCODED_BYTES => {
                Cow::Owned(serde_json::from_str(self.0).unwrap_or_default())
            }
            Some(escaped) => {
                let beginning = format!("\"{}\"", &escaped[..end_of_beginning(escaped)]);
                Cow::Owned(serde_json::from_str(&beginning).unwrap_or_default())
            }
        }
    }

    /// A string that says something.
    pub(crate) fn text(self) -> Option<Text> {
        Text::cut(&self.str())
    }

    /// An id: a string, or a number from 1 on.
    pub(crate) fn id(self) -> Option<Text> {
        let is_number = (1..=20).contains(&self.0.len()) && self.0.bytes().all(|byte| byte.is_ascii_digit());
        match self.0 {
            "0" => None,
            number if is_number => Text::cut(number),
            _ => self.text(),
        }
    }

    /// The id of a commit.
    pub(crate) fn commit(self) -> Option<Text> {
        commit_id(&self.str())
    }

    /// A number that counts.
    pub(crate) fn integer(self) -> Option<Integer> {
        self.0.parse().ok().and_then(Integer::new)
    }

    pub(crate) fn flag(self) -> Option<bool> {
        self.0.parse().ok()
    }

    /// A moment, as one provider or another writes it.
    pub(crate) fn time(self) -> Option<Time> {
        super::time::read(&self.str())
    }

    /// A moment in seconds since 1970, as a number.
    pub(crate) fn unix_s(self) -> Option<Time> {
        self.0
            .parse()
            .ok()
            .filter(|seconds| *seconds > 0)
            .and_then(Time::from_unix_s)
    }

    /// A moment in milliseconds since 1970, as a number.
    pub(crate) fn unix_ms(self) -> Option<Time> {
        self.0
            .parse()
            .ok()
            .filter(|millis| *millis > 0)
            .and_then(Time::from_unix_ms)
    }

    /// The value of a setting. What is neither flag, nor integer, nor string is its JSON as text.
    pub(crate) fn setting(self) -> Option<Setting> {
        if !self.is_there() {
            return None;
        }
        if self.0.starts_with('"') {
            return self.text().map(Setting::Text);
        }
        if let Some(flag) = self.flag() {
            return Some(flag.into());
        }
        match self.0.parse().ok().and_then(SignedInteger::new) {
            Some(number) => Some(Setting::Integer(number)),
            None => Setting::cut(self.0),
        }
    }

    /// The value, read as an object or a list.
    pub(crate) fn read<T: Value<'a>>(self) -> T {
        parse(self.0, Care::LookFirst).unwrap_or_default()
    }

    /// The members of an object, by name, as many as an event keeps of a list.
    pub(crate) fn members(self) -> Vec<(String, Leaf<'a>)> {
        let mut every: Every<'a> = self.read();
        every.0.truncate(MAX_LIST_ITEMS);
        every.0
    }
}

/// The longest encoding of a text that does not have to be cut: at most six bytes for each of its own.
const MAX_ENCODED_BYTES: usize = 6 * MAX_TEXT_BYTES;

/// Where to end the beginning of a string that is longer than [`MAX_ENCODED_BYTES`], without cutting an escape in two.
fn end_of_beginning(escaped: &str) -> usize {
    let mut end = 0;
    while end <= MAX_ENCODED_BYTES {
        let rest = &escaped[end..];
        end += match rest.as_bytes() {
            // Half of a surrogate pair: its other half follows.
            [
                b'\\',
                b'u',
                b'd' | b'D',
                b'8' | b'9' | b'a' | b'b' | b'A' | b'B',
                ..,
            ] if rest.len() >= 12 => 12,
            [b'\\', b'u', ..] => 6,
            [b'\\', ..] => 2,
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        if !escaped.is_char_boundary(end) {
            // No pair after all, and so no text.
            return 0;
        }
    }
    end
}

/// The id of a commit, in hex. Zeros stand for none.
pub(crate) fn commit_id(text: &str) -> Option<Text> {
    let is_id = matches!(text.len(), 40 | 64)
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte != b'0');
    is_id.then(|| Text::cut(text)).flatten()
}

/// All members of an object, within reason.
#[derive(Default)]
struct Every<'a>(Vec<(String, Leaf<'a>)>);

impl<'a> Object<'a> for Every<'a> {
    fn take<A: MapAccess<'a>>(&mut self, name: &str, object: &mut A, care: Care) -> Result<bool, A::Error> {
        if self.0.len() >= MAX_LIST_ITEMS {
            return Ok(false);
        }
        let value = object.next_value_seed(Seed::new(care))?;
        let name = Text::cut(name).map_or_else(String::new, |name| name.to_string());
        self.0.push((name, value));
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    objects! {
        Outer { text, number, kind = "type", inner: Inner<'a>, list: List<Inner<'a>>, words: List<Leaf<'a>> }
        Inner { name }
    }

    fn outer(json: &str) -> Outer<'_> {
        read(json.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_looked_for_is_found_and_the_rest_passed_over() {
        let read = outer(
            r#"{"text":"a\u00e9","other":{"text":[{}]},"number":7,"type":"User","inner":{"x":1,"name":"n"},
               "list":[{"name":"a"},5,{"name":"b"}],"words":["x","y"]} "#,
        );
        assert_eq!(
            (&*read.text.str(), read.number.integer().unwrap().get()),
            ("aé", 7)
        );
        assert_eq!((&*read.kind.str(), &*read.inner.name.str()), ("User", "n"));
        let names: Vec<_> = read
            .list
            .items
            .iter()
            .map(|inner| inner.name.str().into_owned())
            .collect();
        assert_eq!(
            (names, read.list.more),
            (vec!["a".to_owned(), String::new(), "b".to_owned()], 0)
        );
        assert_eq!(read.words.items[1].id().unwrap().as_str(), "y");
    }

    #[test]
    fn a_wrong_type_is_absent_and_spoils_nothing() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep_object = format!("{}1{}", r#"{"inner":"#.repeat(100_000), "}".repeat(100_000));
        let wrong = [
            "null",
            "true",
            "-1",
            "1.5",
            "1e999",
            r#""\ud800""#,
            "[]",
            "{}",
            r#"[{"name":1}]"#,
            &deep,
        ];
        for wrong in wrong {
            for member in ["text", "number", "type", "inner", "list", "words", "else"] {
                let json =
                    format!(r#"{{"{member}":{wrong},"inner":{{"name":"n"}},"text":"t","{member}":{wrong}}}"#);
                let read = outer(&json);
                if member != "inner" {
                    assert_eq!(&*read.inner.name.str(), "n", "{member}: {:.40}", wrong);
                }
                if member != "text" {
                    assert_eq!(&*read.text.str(), "t", "{member}: {:.40}", wrong);
                }
                assert!(read.number.integer().is_none());
                assert!(read.list.items.len() <= 1);
            }
        }
        assert!(read::<Outer<'_>>(deep_object.as_bytes()).is_some());
    }

    #[test]
    fn the_last_of_two_counts() {
        assert_eq!(&*outer(r#"{"text":"a","text":"b"}"#).text.str(), "b");
        assert_eq!(
            &*outer(r#"{"text":"a","\ud800":1,"t\u0065xt":"b"}"#).text.str(),
            "b"
        );
        assert_eq!(
            &*outer(r#"{"inner":{"name":"a"},"inner":7}"#).inner.name.str(),
            ""
        );
    }

    #[test]
    fn what_is_no_object_is_nothing() {
        for bad in [
            "",
            " ",
            "[]",
            "7",
            "null",
            "{",
            r#"{"a"}"#,
            "{} {}",
            r#"{"text":"a}"#,
            r#"{"a":01}"#,
            "<html>",
        ] {
            assert!(read::<Outer<'_>>(bad.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(read::<Outer<'_>>(b"{\"text\":\"\xff\"}").is_none());
        assert!(read::<Outer<'_>>(b"\xef\xbb\xbf{}").is_none());
    }

    #[test]
    fn long_lists_are_counted_and_not_kept() {
        let json = format!(r#"{{"list":[{}{{}}]}}"#, "{},".repeat(999));
        let read = outer(&json);
        assert_eq!(
            (read.list.items.len(), read.list.more),
            (MAX_LIST_ITEMS, 1000 - MAX_LIST_ITEMS)
        );
    }

    #[test]
    fn the_beginning_of_a_long_string_is_read() {
        for unit in ["\\\"", "\\u00e9", "\\ud83d\\ude00", "é\\n", "\\u0041b"] {
            for shift in 0..12 {
                let json = format!("\"{}{}\"", "x".repeat(shift), unit.repeat(5_000));
                let whole: String = serde_json::from_str(&json).unwrap();
                let read = leaf(&json).str();
                assert!(
                    whole.starts_with(&*read) && read.len() > MAX_TEXT_BYTES,
                    "{unit} {shift}"
                );
                assert_eq!(leaf(&json).text(), Text::cut(&whole), "{unit} {shift}");
            }
        }
        let halves = format!("\"{}\"", "\\ud83dé".repeat(5_000));
        assert_eq!(leaf(&halves).str(), "");
    }

    fn leaf(json: &str) -> Leaf<'_> {
        Leaf(json)
    }

    #[test]
    fn scalars_are_what_they_say() {
        assert_eq!(
            leaf("12345678901234567890").id().unwrap().as_str(),
            "12345678901234567890"
        );
        for none in [
            "0",
            "-1",
            "1.5",
            "null",
            "true",
            "\"\"",
            "[1]",
            "123456789012345678901",
        ] {
            assert_eq!(leaf(none).id(), None, "{none}");
        }
        assert_eq!(leaf("9007199254740993").integer(), None);
        let commit = format!("\"{}\"", "aB".repeat(20));
        assert_eq!(leaf(&commit).commit().unwrap().len(), 40);
        for none in [
            "\"main\"",
            &format!("\"{}\"", "0".repeat(40)),
            &format!("\"{}\"", "g".repeat(40)),
        ] {
            assert_eq!(leaf(none).commit(), None, "{none}");
        }
        assert_eq!(leaf("false").setting(), Some(Setting::Flag(false)));
        assert_eq!(leaf("-5").setting(), SignedInteger::new(-5).map(Setting::Integer));
        assert_eq!(leaf(r#"["a"]"#).setting(), Setting::cut(r#"["a"]"#));
        assert_eq!(leaf("1.5").setting(), Setting::cut("1.5"));
        assert_eq!(leaf("null").setting(), None);
        assert_eq!(leaf(r#"{"b":1,"a":{}}"#).members().len(), 2);
        assert_eq!(leaf("[1]").members().len(), 0);
        assert_eq!(leaf("1500").unix_ms().unwrap().as_str(), "1970-01-01T00:00:01.5Z");
        assert_eq!(leaf("-5").unix_s(), None);
    }
}
