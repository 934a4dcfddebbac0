use std::fmt;
use std::str::FromStr;

/// A 32-byte hash: of a leaf, a node, a tree, or a commitment. Which suite made it is known from elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Bytes in a digest, in either suite.
    pub const LEN: usize = 32;

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Digest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl From<Digest> for [u8; 32] {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Digest {
    type Error = DigestLength;

    fn try_from(bytes: &[u8]) -> Result<Self, DigestLength> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| DigestLength { got: bytes.len() })
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let mut bytes = [0; Self::LEN];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseDigestError(()))?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 2 * Self::LEN];
        hex::encode_to_slice(self.0, &mut text).expect("the buffer holds two digits a byte");
        f.pad(str::from_utf8(&text).expect("hex digits are ASCII"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes that should have been a digest have another length than 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 32 bytes, not {got}")]
pub struct DigestLength {
    /// The length found, in bytes.
    pub got: usize,
}

/// Text that should have been a digest is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written as 64 hexadecimal digits")]
pub struct ParseDigestError(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_other_lengths_or_letters_are_refused() {
        let text = "00112233445566778899aabbccddeeff0123456789abcdef0123456789abcdef";
        let digest: Digest = text.parse().unwrap();
        assert_eq!(digest.to_string(), text);
        assert_eq!(format!("{digest:?}"), text);
        assert_eq!(text.to_uppercase().parse::<Digest>().unwrap(), digest);
        for bad in [
            "",
            &text[1..],
            &text[2..],
            &format!("{text}00"),
            &text.replace('f', "g"),
            &text.replace("00", " 0"),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseDigestError(())), "{bad:?}");
        }
    }

    #[test]
    fn only_thirty_two_bytes_make_a_digest() {
        for len in 0..=65 {
            let bytes = vec![7; len];
            let expected = if len == 32 {
                Ok(Digest([7; 32]))
            } else {
                Err(DigestLength { got: len })
            };
            assert_eq!(Digest::try_from(bytes.as_slice()), expected);
        }
    }
}
