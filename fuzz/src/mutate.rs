//! Blind mutation, for where libFuzzer is not.

use fastrand::Rng;

use crate::Target;

/// Most changes to one input.
const MAX_CHANGES: usize = 6;
/// Numbers about which parsers go wrong.
const NUMBERS: [&str; 12] = [
    "0",
    "00",
    "-1",
    "+1",
    "1e9",
    "255",
    "256",
    "65536",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
];
/// Texts that look like others, change how a line reads, or are no characters at all.
const TEXTS: [&[u8]; 12] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    "\u{feff}".as_bytes(),
    "\u{202e}".as_bytes(),
    "\u{200b}".as_bytes(),
    "\u{fffe}".as_bytes(),
    "e\u{301}".as_bytes(),
    b"../",
];

/// Makes inputs out of a target's seeds. The same seed number makes the same inputs, in the same order.
pub struct Mutator {
    random: Rng,
    seeds: Vec<Vec<u8>>,
    words: &'static [&'static str],
    max_bytes: usize,
}

impl Mutator {
    /// For the seeds of a target.
    pub fn new(target: &Target, seed: u64) -> Self {
        Self {
            random: Rng::with_seed(seed),
            seeds: (target.seeds)(),
            words: target.words,
            max_bytes: target.max_bytes,
        }
    }

    /// A seed with a few changes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seed();
        for _ in 0..self.random.usize(1..=MAX_CHANGES) {
            self.change(&mut input);
        }
        input.truncate(self.max_bytes);
        input
    }

    fn seed(&mut self) -> Vec<u8> {
        let at = self.random.usize(..self.seeds.len());
        self.seeds[at].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.random.usize(..=input.len());
        let end = (at + self.random.usize(..=16)).min(input.len());
        match self.random.u8(..9) {
            0 if at < input.len() => input[at] ^= 1 << self.random.u8(..8),
            1 if at < input.len() => input[at] = self.random.u8(..),
            2 => drop(input.drain(at..end)),
            3 => input.truncate(at),
            4 => {
                let again = input[at..end].repeat(self.random.usize(1..=64));
                input.splice(at..at, again);
            }
            5 if !self.words.is_empty() => {
                let word = self.words[self.random.usize(..self.words.len())];
                input.splice(at..at, word.bytes());
            }
            6 => {
                let text = TEXTS[self.random.usize(..TEXTS.len())];
                input.splice(at..end, text.iter().copied());
            }
            7 => self.change_number(input, at),
            _ => {
                let other = self.seed();
                let from = self.random.usize(..=other.len());
                input.splice(at..end, other[from..].iter().copied());
            }
        }
    }

    /// Puts another number in the place of the next one, if there is one.
    fn change_number(&mut self, input: &mut Vec<u8>, from: usize) {
        let Some(start) = input[from..].iter().position(u8::is_ascii_digit) else {
            return;
        };
        let start = from + start;
        let digits = input[start..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let number = NUMBERS[self.random.usize(..NUMBERS.len())];
        input.splice(start..start + digits, number.bytes());
    }
}
