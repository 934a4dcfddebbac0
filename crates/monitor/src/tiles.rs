//! A log as C2SP tlog-tiles over HTTP.

use std::collections::HashMap;

use bytes::Bytes;
use counterfoil_client::BearerToken;
use counterfoil_event::limits::MAX_ENTRY_BYTES;
use counterfoil_merkle::{
    Digest, LeafIndex, NodeId, ProveError, Suite, Tile, TileId, TilePath, TileWidth, TreeSize,
    consistency_proof, inclusion_proof,
};
use counterfoil_note::MAX_NOTE_BYTES;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    config::BaseUrl,
    http::Http,
    source::{Entries, SourceError, retry},
};

/// Bundles asked for ahead of the one that is being verified. At most so many are in memory.
const PREFETCHED_BUNDLES: usize = 4;
/// Tiles of one proof asked for at a time.
const TILES_IN_FLIGHT: usize = 8;
/// Entries of a full bundle.
const BUNDLE_ENTRIES: u64 = TileId::FULL_WIDTH as u64;
/// A bundle of entries that all have the greatest length.
const MAX_BUNDLE_BYTES: usize = TileId::FULL_WIDTH as usize * (2 + MAX_ENTRY_BYTES);
/// A full tile.
const MAX_TILE_BYTES: usize = TileId::FULL_WIDTH as usize * Digest::LEN;

#[derive(Clone)]
pub(crate) struct TileSource {
    url: BaseUrl,
    token: Option<BearerToken>,
    http: Http,
}

impl TileSource {
    pub(crate) fn new(url: BaseUrl, token: Option<BearerToken>, http: Http) -> Self {
        Self { url, token, http }
    }

    pub(crate) async fn head(&self) -> Result<Bytes, SourceError> {
        self.get("checkpoint", MAX_NOTE_BYTES).await
    }

    async fn get(&self, path: &str, limit: usize) -> Result<Bytes, SourceError> {
        self.http
            .get(self.url.join(path), self.token.as_ref(), limit)
            .await
    }

    pub(crate) async fn consistency(
        &self,
        suite: Suite,
        first: TreeSize,
        second: TreeSize,
    ) -> Result<Vec<Digest>, SourceError> {
        self.prove(suite, second, |read| {
            consistency_proof(suite, first, second, read)
        })
        .await
    }

    pub(crate) async fn inclusion(
        &self,
        suite: Suite,
        index: LeafIndex,
        size: TreeSize,
    ) -> Result<(Digest, Vec<Digest>), SourceError> {
        self.prove(suite, size, |read| {
            let leaf = read(NodeId::leaf(index)).map_err(ProveError::Read)?;
            Ok((leaf, inclusion_proof(suite, index, size, read)?))
        })
        .await
    }

    /// Makes a proof twice: first to learn which tiles it takes, then from those tiles.
    async fn prove<T>(
        &self,
        suite: Suite,
        size: TreeSize,
        make: impl Fn(&mut dyn FnMut(NodeId) -> Result<Digest, SourceError>) -> Result<T, ProveError<SourceError>>,
    ) -> Result<T, SourceError> {
        let mut needed = Vec::new();
        let placeholder = Digest::from([0; Digest::LEN]);
        make(&mut |node| {
            let tile = TileId::containing(node);
            if !needed.contains(&tile) {
                needed.push(tile);
            }
            Ok(placeholder)
        })
        .map_err(unprovable)?;
        // At most 125 nodes make a proof, so at most so many tiles.
        let tiles: HashMap<TileId, Tile> = stream::iter(needed)
            .map(|id| async move { Ok::<_, SourceError>((id, self.tile(suite, id, size).await?)) })
            .buffer_unordered(TILES_IN_FLIGHT)
            .try_collect()
            .await?;
        make(&mut |node| {
            let tile = tiles.get(&TileId::containing(node));
            tile.and_then(|tile| tile.lookup(node))
                .ok_or_else(|| SourceError::Invalid("a tile lacks a hash that the tree has".to_owned()))
        })
        .map_err(unprovable)
    }

    /// A tile as wide as the tree of `size` has it.
    async fn tile(&self, suite: Suite, id: TileId, size: TreeSize) -> Result<Tile, SourceError> {
        let absent = || SourceError::Invalid("a proof asks for a tile that the tree has not".to_owned());
        let width = TileWidth::new(id.width_at(size)).ok_or_else(absent)?;
        let path = |width| TilePath::Tile { tile: id, width };
        let bytes = self.partial_or_full(width, path, MAX_TILE_BYTES).await?;
        let wanted = usize::from(width.get()) * Digest::LEN;
        let Some(hashes) = bytes.get(..wanted) else {
            let problem = format!(
                "{} has {} bytes and should have {wanted}",
                path(width),
                bytes.len()
            );
            return Err(SourceError::Invalid(problem));
        };
        Tile::from_bytes(suite, hashes).map_err(|error| SourceError::Invalid(error.to_string()))
    }

    /// The entries `[first, end)`, a bundle at a time, the next few fetched meanwhile.
    pub(crate) fn entries(&self, first: u64, end: TreeSize) -> Entries {
        let source = self.clone();
        let end = end.get();
        let bundles = first / BUNDLE_ENTRIES..end.div_ceil(BUNDLE_ENTRIES);
        stream::iter(bundles)
            .map(move |index| {
                let source = source.clone();
                async move {
                    let start = index * BUNDLE_ENTRIES;
                    let width = u16::try_from((end - start).min(BUNDLE_ENTRIES)).expect("at most 256");
                    let width = TileWidth::new(width).expect("the range ends after the bundle's start");
                    let mut entries = source.bundle(index, width).await?;
                    if first > start {
                        entries.drain(..usize::try_from(first - start).expect("below 256"));
                    }
                    Ok(entries)
                }
            })
            .buffered(PREFETCHED_BUNDLES)
            .boxed()
    }

    /// One entry, out of the bundle as the tree of `size` has it: a log may serve no narrower one.
    pub(crate) async fn entry(&self, index: LeafIndex, size: TreeSize) -> Result<Bytes, SourceError> {
        let absent = || SourceError::Invalid(format!("leaf {index} is not below the size {size}"));
        let bundle = index.get() / BUNDLE_ENTRIES;
        let width = size.get().saturating_sub(bundle * BUNDLE_ENTRIES);
        let width = u16::try_from(width.min(BUNDLE_ENTRIES)).expect("at most 256");
        let width = TileWidth::new(width).ok_or_else(absent)?;
        let entries = self.bundle(bundle, width).await?;
        let at = usize::try_from(index.get() % BUNDLE_ENTRIES).expect("below 256");
        entries.into_iter().nth(at).ok_or_else(absent)
    }

    /// The first `width` entries of a bundle.
    async fn bundle(&self, bundle: u64, width: TileWidth) -> Result<Vec<Bytes>, SourceError> {
        let path = |width| TilePath::Entries { bundle, width };
        let bytes = retry(|| self.partial_or_full(width, path, MAX_BUNDLE_BYTES)).await?;
        split_bundle(&bytes, width).ok_or_else(|| {
            let problem = format!("{} does not begin with {} entries", path(width), width.get());
            SourceError::Invalid(problem)
        })
    }

    /// A partial tile or bundle may be gone once the full one is there, which begins with it.
    async fn partial_or_full(
        &self,
        width: TileWidth,
        path: impl Fn(TileWidth) -> TilePath,
        limit: usize,
    ) -> Result<Bytes, SourceError> {
        let get = async |width| self.get(&path(width).to_string(), limit).await;
        match get(width).await {
            Err(SourceError::NotServed(problem)) if !width.is_full() => {
                get(TileWidth::FULL).await.map_err(|error| match error {
                    SourceError::NotServed(_) => SourceError::NotServed(problem),
                    other => other,
                })
            }
            answer => answer,
        }
    }
}

/// The first `width` entries of a bundle; none if it has fewer, or if anything but whole entries follows.
pub(crate) fn split_bundle(bundle: &Bytes, width: TileWidth) -> Option<Vec<Bytes>> {
    let width = usize::from(width.get());
    let mut entries = Vec::with_capacity(width);
    let mut at = 0;
    while at < bundle.len() {
        let (length, _) = bundle[at..].split_first_chunk()?;
        let start = at + length.len();
        at = start + usize::from(u16::from_be_bytes(*length));
        if at > bundle.len() || entries.len() == usize::from(TileId::FULL_WIDTH) {
            return None;
        }
        entries.push(bundle.slice(start..at));
    }
    entries.truncate(width);
    (entries.len() == width).then_some(entries)
}

fn unprovable(error: ProveError<SourceError>) -> SourceError {
    match error {
        ProveError::Read(error) => error,
        other => SourceError::Invalid(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_whole_entries_and_nothing_else() {
        let bundle = Bytes::from_static(&[0, 1, b'a', 0, 0, 0, 2, b'b', b'c']);
        let entries: [&[u8]; 3] = [b"a", b"", b"bc"];
        let split_bundle = |bundle: &Bytes, width| split_bundle(bundle, TileWidth::new(width).unwrap());
        assert_eq!(split_bundle(&bundle, 3).unwrap(), entries);
        assert_eq!(split_bundle(&bundle, 2).unwrap(), entries[..2]);
        assert_eq!(split_bundle(&bundle, 4), None);
        for cut in [1, 2, 4, 6, 7, 8] {
            assert_eq!(split_bundle(&bundle.slice(..cut), 1), None, "cut at {cut}");
        }
        assert_eq!(split_bundle(&Bytes::from(vec![0; 2 * 257]), 256), None);
    }
}
