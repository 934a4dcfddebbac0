//! The golden vectors of the other crates, as seeds.

use serde_json::Value;

/// The files, each by the crate that it is of.
#[derive(Clone, Copy)]
pub(crate) enum Vectors {
    Cosignatures,
    Entries,
    Evidence,
    Notes,
    Receipts,
}

impl Vectors {
    fn text(self) -> &'static str {
        match self {
            Self::Cosignatures => include_str!("../../crates/note/tests/vectors/cosignatures.json"),
            Self::Entries => include_str!("../../crates/event/tests/vectors/entries.json"),
            Self::Evidence => include_str!("../../crates/verify/tests/vectors/evidence.json"),
            Self::Notes => include_str!("../../crates/note/tests/vectors/note.json"),
            Self::Receipts => include_str!("../../crates/verify/tests/vectors/receipts.json"),
        }
    }

    /// All texts that stand under this name, wherever in the file. A name that ends in `_hex` gives what it stands for.
    pub(crate) fn all(self, name: &str) -> Vec<Vec<u8>> {
        let file: Value = serde_json::from_str(self.text()).expect("the vectors are JSON");
        let mut found = Vec::new();
        collect(&file, name, &mut found);
        assert!(!found.is_empty(), "the vectors have no {name}");
        found
    }
}

fn collect(value: &Value, name: &str, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        Value::Object(members) => {
            for (key, member) in members {
                match member.as_str() {
                    Some(text) if key == name && name.ends_with("_hex") => {
                        found.push(hex::decode(text).expect("it is hexadecimal"));
                    }
                    Some(text) if key == name => found.push(text.as_bytes().to_vec()),
                    _ => collect(member, name, found),
                }
            }
        }
        _ => {}
    }
}
