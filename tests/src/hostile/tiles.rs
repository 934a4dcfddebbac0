//! C2SP tlog-tiles, as the attack has it.

use std::io::Write as _;

use axum::{
    extract::{Path, State},
    http::{StatusCode, header::CONTENT_ENCODING},
    response::{IntoResponse, Response},
};
use counterfoil_merkle::{NodeId, TilePath, TileWidth};
use flate2::{Compression, write::GzEncoder};

use super::{Attack, Door, HostileLog, history::History};

/// What a bomb has inside.
const BOMB_MIB: usize = 256;

pub(super) async fn answer(State(log): State<HostileLog>, Path(path): Path<String>) -> Response {
    if path == "checkpoint" {
        return log.note(Door::Http).into_response();
    }
    let Ok(path) = path.parse::<TilePath>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let attack = log.current();
    if attack == Attack::CompressionBomb {
        return ([(CONTENT_ENCODING, "gzip")], bomb()).into_response();
    }
    let history = log.shown(Door::Http);
    let bytes = match path {
        TilePath::Entries { .. } if attack == Attack::Withhold => None,
        TilePath::Tile { .. } if attack == Attack::NoProofs => None,
        TilePath::Entries { bundle, width } => entries(&history, bundle, width, attack),
        TilePath::Tile { tile, width } => hashes(&history, tile.level, tile.index, width).map(|mut bytes| {
            if matches!(attack, Attack::WrongTiles | Attack::WrongProofs) {
                bytes[0] ^= 1;
            }
            bytes
        }),
    };
    bytes.map_or_else(
        || StatusCode::NOT_FOUND.into_response(),
        IntoResponse::into_response,
    )
}

fn entries(history: &History, bundle: u64, width: TileWidth, attack: Attack) -> Option<Vec<u8>> {
    let first = usize::try_from(bundle).ok()?.checked_mul(256)?;
    let leaves = history.leaves.get(first..first + usize::from(width.get()))?;
    let mut entries: Vec<_> = leaves.iter().map(|leaf| leaf.entry.clone()).collect();
    spoil_entries(&mut entries, attack);
    let bytes = entries.iter().flat_map(|entry| {
        let length = u16::try_from(entry.len()).unwrap();
        [&length.to_be_bytes()[..], entry].concat()
    });
    Some(bytes.collect())
}

fn hashes(history: &History, level: u8, index: u64, width: TileWidth) -> Option<Vec<u8>> {
    let level = level.checked_mul(8).filter(|level| *level < 64)?;
    let first = index.checked_mul(256)?;
    let end = first + u64::from(width.get());
    if end.checked_mul(1 << level)? > history.size() {
        return None;
    }
    let hashes = (first..end).flat_map(|index| *history.node(NodeId { level, index }).as_bytes());
    Some(hashes.collect())
}

/// Changes entries on their way out: those of a bundle, or of an answer.
pub(super) fn spoil_entries(entries: &mut [Vec<u8>], attack: Attack) {
    match (attack, entries) {
        // The highest byte of the time: the entry stays well-formed.
        (Attack::AlteredEntries, [.., last]) => last[10] ^= 1,
        (Attack::ReorderedEntries, [.., one, other]) => std::mem::swap(one, other),
        _ => {}
    }
}

fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let mebibyte = vec![0; 1 << 20];
    (0..BOMB_MIB).for_each(|_| encoder.write_all(&mebibyte).unwrap());
    encoder.finish().unwrap()
}
