//! Damage done to bytes and lines, the same for the same seed.

use fastrand::Rng;

/// What parsers trip over: separators, other spellings, the edges of varints.
const TELLING: &[u8] = b"\n \t\r+=-/#0129Aaz\0\x01\x02\x08\x48\x7f\x80\xff";

/// Does between one and three things to `bytes`.
pub(crate) fn mutate(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut mutant = bytes.to_vec();
    for _ in 0..=rng.u8(..8) / 3 {
        match rng.u8(..10) {
            0..3 => mutate_byte(rng, &mut mutant),
            3 => drop(mutant.splice(place(rng, &mutant), [])),
            4 => {
                let at = rng.usize(..=mutant.len());
                mutant.insert(at, telling(rng));
            }
            5 => mutant.truncate(rng.usize(..=mutant.len())),
            6 => mutant.push(telling(rng)),
            _ => mutate_lines(rng, &mut mutant),
        }
    }
    mutant
}

fn telling(rng: &mut Rng) -> u8 {
    TELLING[rng.usize(..TELLING.len())]
}

fn place(rng: &mut Rng, bytes: &[u8]) -> std::ops::Range<usize> {
    let start = rng.usize(..=bytes.len());
    start..bytes.len().min(start + rng.usize(..3))
}

fn mutate_byte(rng: &mut Rng, bytes: &mut [u8]) {
    if bytes.is_empty() {
        return;
    }
    let at = rng.usize(..bytes.len());
    bytes[at] = if rng.bool() {
        bytes[at] ^ 1 << rng.u8(..8)
    } else {
        telling(rng)
    };
}

fn mutate_lines(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let mut lines: Vec<_> = bytes.split_inclusive(|&byte| byte == b'\n').collect();
    if lines.is_empty() {
        return;
    }
    let (at, other) = (rng.usize(..lines.len()), rng.usize(..lines.len()));
    match rng.u8(..4) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(at, lines[other]),
        2 => lines.swap(at, other),
        _ => lines[at] = lines[other],
    }
    *bytes = lines.concat();
}
