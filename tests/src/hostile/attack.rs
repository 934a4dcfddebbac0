/// What a hostile log does. It was honest up to the moment when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// Nothing: it grows on as an honest log does.
    None,
    /// Shows another history of the same size.
    Fork,
    /// Shows one history over gRPC and another over HTTP, each consistent in itself.
    SplitView,
    /// Changes its history and grows on, consistent in itself.
    Rewrite,
    /// Drops its newest entries and signs the tree that is left anew.
    RollBack,
    /// Serves a head again that it signed earlier.
    Replay,
    /// Signs nothing any more: its newest head is a day old.
    Freeze,
    /// Serves heads and proofs, but no entries.
    Withhold,
    /// Serves entries without their payloads.
    NoPayloads,
    /// Hands out receipts with a salt that the entry was not made with.
    FalseSalt,
    /// Serves changed hashes in tiles.
    WrongTiles,
    /// Serves proofs with a changed hash.
    WrongProofs,
    /// Serves no proofs.
    NoProofs,
    /// Serves an entry with a changed byte.
    AlteredEntries,
    /// Serves entries in another order.
    ReorderedEntries,
    /// Records a leaf that is no entry.
    InvalidEntry,
    /// Records an entry with an earlier time than the one before.
    DecreasingTime,
    /// Records an entry with a normal form that no adapter makes of its payload.
    FalseForm,
    /// Answers without end.
    Huge,
    /// Begins each answer and never finishes it.
    Slow,
    /// Signs with a key that is not the log's.
    WrongKey,
    /// Serves the heads of another log.
    ForeignOrigin,
    /// Serves heads under a key of the other hash suite.
    OtherSuite,
    /// Adds a cosignature that the witness did not make.
    FalseCosignature,
    /// Adds a line by a stranger whose name is a command to a CI runner.
    DeceptiveLine,
    /// Refuses every event, as one that no log takes.
    RefusedEvents,
    /// Answers every HTTP request with 304, as if it had been asked conditionally.
    NotModified,
    /// Answers with bytes that are no answer.
    Garbage,
    /// Serves tiles and entries that decompress to far more than they can be.
    CompressionBomb,
}
