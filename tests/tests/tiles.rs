//! A log as C2SP tlog-tiles, read by software that was written for others: `tlog_tiles` and `signed_note` know nothing of
//! Counterfoil.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, missing_docs)]

use std::{cell::RefCell, collections::HashMap, net::SocketAddr};

use counterfoil_proto::v1;
use counterfoil_tests::{Data, Server, TestLog, event, head, http_get};
use signed_note::{Note, NoteError, StandardVerifier, VerifierList};
use tlog_tiles::{
    Checkpoint, Error, Hash, HashReader as _, Tile, TileHashReader, TileReader, check_record, check_tree,
    prove_record, prove_tree, record_hash, stored_hash_index,
};

/// Reads tiles over HTTP; the oracle checks them against the root before it uses them.
struct Reader {
    address: SocketAddr,
    prefix: String,
    cache: RefCell<HashMap<String, Vec<u8>>>,
}

impl Reader {
    fn new(server: &Server, log: &TestLog) -> Self {
        Self {
            address: server.address(),
            prefix: format!("/logs/{}/", log.name),
            cache: RefCell::default(),
        }
    }

    fn get(&self, path: &str) -> Option<Vec<u8>> {
        if let Some(body) = self.cache.borrow().get(path) {
            return Some(body.clone());
        }
        let response = http_get(self.address, &format!("{}{path}", self.prefix));
        if response.status != 200 {
            return None;
        }
        self.cache
            .borrow_mut()
            .insert(path.to_owned(), response.body.clone());
        Some(response.body)
    }

    fn checkpoint(&self) -> Note {
        Note::from_bytes(&self.get("checkpoint").unwrap()).unwrap()
    }

    /// The oracle's paths are those of Go's checksum database: they name the height, and say `data`.
    fn tile(&self, tile: &Tile) -> Option<Vec<u8>> {
        let path = tile.path().replacen("tile/8/", "tile/", 1);
        self.get(&path.replacen("tile/data/", "tile/entries/", 1))
    }

    fn entries(&self, bundle: u64, width: u32) -> Vec<Vec<u8>> {
        let bytes = self.tile(&Tile::new(8, 0, bundle, width, true)).unwrap();
        let mut rest = bytes.as_slice();
        let mut entries = Vec::new();
        while let Some((length, after)) = rest.split_first_chunk() {
            let (entry, after) = after.split_at(u16::from_be_bytes(*length).into());
            entries.push(entry.to_vec());
            rest = after;
        }
        assert!(rest.is_empty());
        entries
    }
}

impl TileReader for Reader {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, Error> {
        tiles
            .iter()
            .map(|tile| self.tile(tile).ok_or(Error::InvalidTile))
            .collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}

fn verifiers(key: impl ToString) -> VerifierList {
    VerifierList::new(vec![Box::new(StandardVerifier::new(&key.to_string()).unwrap())])
}

/// Submits events in batches until the log has so many entries. Returns the size and root after each batch.
async fn fill(server: &Server, log: &TestLog, leaves: u64) -> Vec<(u64, Hash)> {
    let mut heads = Vec::new();
    let mut size = head(&mut server.reader(), log, 0).await.size().get();
    while size < leaves {
        let end = leaves.min(size + 4096);
        let request = v1::SubmitBatchRequest {
            log: log.name.clone(),
            events: (size..end)
                .map(|number| event(number.to_string(), format!("data {number}")))
                .collect(),
        };
        let response = server
            .submitter()
            .submit_batch(request)
            .await
            .unwrap()
            .into_inner();
        let head = log.key().verify_head(&response.tree_heads[0].checkpoint).unwrap();
        size = head.size().get();
        assert_eq!(size, end);
        heads.push((size, Hash(*head.root().as_bytes())));
    }
    head(&mut server.reader(), log, leaves).await;
    heads
}

/// Large enough for three levels: 70,000 is the specification's own example.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_read_a_sha256_log() {
    const SIZE: u64 = 70_000;
    let data = Data::temporary();
    let log = data.init("main", "sha256");
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    let heads = fill(&server, &log, SIZE).await;
    let reader = Reader::new(&server, &log);

    let note = reader.checkpoint();
    let (verified, _) = note.verify(&verifiers(&log.keys[1])).unwrap();
    assert_eq!(verified.len(), 1);
    let checkpoint = Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(
        (checkpoint.origin(), checkpoint.size()),
        ("test.example/main", SIZE)
    );
    let root = *checkpoint.hash();

    // Each tile that the tree has, and nothing beside it. Those above are made of those below.
    let tiles = Tile::new_tiles(8, 0, SIZE);
    let shape: Vec<_> = (0..3)
        .map(|level| {
            tiles
                .iter()
                .filter(|tile| tile.level() == level)
                .map(Tile::width)
                .sum::<u32>()
        })
        .collect();
    assert_eq!(shape, [70_000, 273, 1]);
    for tile in &tiles {
        let hashes = reader.tile(tile).unwrap();
        assert_eq!(hashes.len(), tile.width() as usize * 32);
        if let (256, Some(parent)) = (tile.width(), tile.parent(1, SIZE)) {
            let place = (tile.level_index() % 256) as usize * 32;
            let parent = reader.tile(&parent).unwrap();
            assert_eq!(parent[place..place + 32], Tile::subtree_hash(&hashes).0);
        }
    }

    let verified = TileHashReader::new(SIZE, root, &reader);
    for bundle in 0..=SIZE / 256 {
        let first = bundle * 256;
        let width = (SIZE - first).min(256);
        let indices: Vec<_> = (first..first + width)
            .map(|index| stored_hash_index(0, index))
            .collect();
        let entries = reader.entries(bundle, width as u32);
        let hashes: Vec<_> = entries.iter().map(|entry| record_hash(entry)).collect();
        assert_eq!(verified.read_hashes(&indices).unwrap(), hashes);
    }
    let edges = [0, 1, 255, 256, 257, 65_535, 65_536, 69_887, 69_888, SIZE - 1];
    for index in (0..SIZE).step_by(199).chain(edges) {
        let hash = verified.read_hashes(&[stored_hash_index(0, index)]).unwrap()[0];
        let proof = prove_record(SIZE, index, &verified).unwrap();
        check_record(&proof, SIZE, root, index, hash).unwrap();
    }
    for (size, old_root) in heads {
        let proof = prove_tree(SIZE, size, &verified).unwrap();
        check_tree(&proof, SIZE, root, size, old_root).unwrap();
    }
    // The oracle does look: under another root it takes nothing.
    let other = TileHashReader::new(SIZE, Hash([7; 32]), &reader);
    assert!(other.read_hashes(&[stored_hash_index(0, 3)]).is_err());
    server.stop();
}

/// What was asked for at one size is answered for ever, when the log has long grown past it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partial_tiles_of_every_width() {
    let data = Data::temporary();
    let log = data.init("main", "sha256");
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    fill(&server, &log, 300).await;
    let reader = Reader::new(&server, &log);
    for (index, widest) in [(0, 256), (1, 44)] {
        let hashes = reader.tile(&Tile::new(8, 0, index, widest, false)).unwrap();
        let entries = reader.entries(index, widest);
        for width in 1..widest {
            let partial = reader.tile(&Tile::new(8, 0, index, width, false));
            assert_eq!(partial.unwrap(), hashes[..width as usize * 32]);
            assert_eq!(reader.entries(index, width), entries[..width as usize]);
        }
        for (width, is_entries) in [(widest + 1, false), (widest + 1, true)] {
            if width < 256 {
                assert_eq!(reader.tile(&Tile::new(8, 0, index, width, is_entries)), None);
            }
        }
    }
    server.stop();
}

/// The shapes are the same in both suites. Software that knows one of them must not take the other for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_refuse_a_blake3_log() {
    let data = Data::temporary();
    let log = data.init("main", "blake3");
    let server = Server::start(&data, &["--publish-interval-ms", "20"]);
    fill(&server, &log, 300).await;
    let reader = Reader::new(&server, &log);
    // There is no key of theirs, and ours is none that they know.
    assert_eq!(log.keys.len(), 1);
    assert!(StandardVerifier::new(&log.key().to_string()).is_err());
    let note = reader.checkpoint();
    let stranger = data.init("other", "sha256");
    assert!(matches!(
        note.verify(&verifiers(&stranger.keys[1])),
        Err(NoteError::UnverifiedNote)
    ));
    // Whoever went on all the same would find a tree that does not hash to its root.
    let checkpoint = Checkpoint::from_bytes(note.text()).unwrap();
    let verified = TileHashReader::new(checkpoint.size(), *checkpoint.hash(), &reader);
    assert!(verified.read_hashes(&[stored_hash_index(0, 3)]).is_err());
    assert!(prove_record(checkpoint.size(), 3, &verified).is_err());
    let leaf_hashes = reader.tile(&Tile::new(8, 0, 0, 256, false)).unwrap();
    assert_ne!(record_hash(&reader.entries(0, 256)[3]).0, leaf_hashes[96..128]);
    server.stop();
}
