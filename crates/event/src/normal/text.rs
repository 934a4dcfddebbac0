//! The values in a normalised event. Each can be held only if it fits.

use std::{fmt, ops::Deref};

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::validate::{self, Problem};

/// Longest text, in bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 512;
/// Largest integer: 2^53, up to which doubles are exact.
pub const MAX_INTEGER: u64 = 1 << 53;
/// What a text ends with that was longer.
pub const CUT_MARK: char = '\u{2026}';

/// A name, an id, a word: 1 to [`MAX_TEXT_BYTES`] bytes without control characters and noncharacters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Text(String);

impl Text {
    /// What there is of a text that somebody else wrote. One that is too long is cut and ends with [`CUT_MARK`], so it can't be
    /// taken for the whole; a character that no text may have becomes U+FFFD. None if it is empty.
    pub fn cut(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if let Ok(text) = Self::try_from(text) {
            return Some(text);
        }
        let room = MAX_TEXT_BYTES - CUT_MARK.len_utf8();
        let mut clean = String::with_capacity(MAX_TEXT_BYTES);
        for c in text.chars() {
            let c = if validate::is_text(c) {
                c
            } else {
                char::REPLACEMENT_CHARACTER
            };
            if clean.len() + c.len_utf8() > room {
                clean.push(CUT_MARK);
                break;
            }
            clean.push(c);
        }
        Some(Self(clean))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<&str> for Text {
    type Error = Problem;

    fn try_from(text: &str) -> Result<Self, Problem> {
        check_text(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Text {
    type Error = Problem;

    fn try_from(text: String) -> Result<Self, Problem> {
        check_text(&text)?;
        Ok(Self(text))
    }
}

fn check_text(text: &str) -> Result<(), Problem> {
    if text.is_empty() {
        return Err(Problem::Missing);
    }
    validate::text(text, MAX_TEXT_BYTES)
}

/// A number that counts or orders: 0 to [`MAX_INTEGER`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct Integer(u64);

impl Integer {
    /// The number, if it is not too large.
    pub fn new(number: u64) -> Option<Self> {
        (number <= MAX_INTEGER).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Integer {
    type Error = Problem;

    fn try_from(number: u64) -> Result<Self, Problem> {
        Self::new(number).ok_or(Problem::TooLarge)
    }
}

impl From<u32> for Integer {
    fn from(number: u32) -> Self {
        Self(number.into())
    }
}

/// A moment, in RFC 3339 with at most nine digits of fraction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Time(String);

impl Time {
    /// A moment in seconds since 1970. None if no year of four digits has it.
    pub fn from_unix_s(seconds: i64) -> Option<Self> {
        Self::from_timestamp(Timestamp::from_second(seconds).ok()?)
    }

    /// A moment in milliseconds since 1970. None if no year of four digits has it.
    pub fn from_unix_ms(millis: i64) -> Option<Self> {
        Self::from_timestamp(Timestamp::from_millisecond(millis).ok()?)
    }

    fn from_timestamp(time: Timestamp) -> Option<Self> {
        Self::try_from(time.to_string()).ok()
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<&str> for Time {
    type Error = Problem;

    fn try_from(time: &str) -> Result<Self, Problem> {
        validate::time(time)?;
        Ok(Self(time.to_owned()))
    }
}

impl TryFrom<String> for Time {
    type Error = Problem;

    fn try_from(time: String) -> Result<Self, Problem> {
        validate::time(&time)?;
        Ok(Self(time))
    }
}

/// The value of a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Setting {
    /// On or off.
    Flag(bool),
    /// A number, −[`MAX_INTEGER`] to [`MAX_INTEGER`].
    Integer(SignedInteger),
    /// Anything else, as text.
    Text(Text),
}

/// A number of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SignedInteger(i64);

impl SignedInteger {
    /// The number, if it is not too large or too small.
    pub fn new(number: i64) -> Option<Self> {
        (number.unsigned_abs() <= MAX_INTEGER).then_some(Self(number))
    }

    /// The number.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl Setting {
    /// A text that somebody else wrote, [cut](Text::cut) where it has to be.
    pub fn cut(text: &str) -> Option<Self> {
        Text::cut(text).map(Self::Text)
    }
}

impl From<bool> for Setting {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Text> for Setting {
    fn from(text: Text) -> Self {
        Self::Text(text)
    }
}

impl<'de> Deserialize<'de> for Setting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SettingVisitor)
    }
}

struct SettingVisitor;

impl de::Visitor<'_> for SettingVisitor {
    type Value = Setting;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a boolean or an integer")
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Setting, E> {
        Ok(flag.into())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Setting, E> {
        let number = SignedInteger::new(number).ok_or_else(|| E::custom(Problem::TooLarge))?;
        Ok(Setting::Integer(number))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Setting, E> {
        let number = i64::try_from(number).map_err(|_| E::custom(Problem::TooLarge))?;
        self.visit_i64(number)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Setting, E> {
        Text::try_from(text).map(Setting::Text).map_err(E::custom)
    }
}
