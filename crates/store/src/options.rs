//! How RocksDB is set up, and why.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ChecksumType, ColumnFamilyDescriptor, DBCompactionStyle,
    DBCompressionType, DBRecoveryMode, LogLevel, Options, UniversalCompactOptions, WriteBufferManager,
};

use crate::{
    keys::Family,
    payload::{HEADER_BYTES, MIN_COMPRESSED_BYTES, ZSTD_LEVEL},
};

const MIB: usize = 1024 * 1024;

/// Payload records from here on live in blob files, so that compaction does not copy them. Shorter ones are left to their block to
/// compress, which a blob file has none of.
const MIN_BLOB_BYTES: usize = HEADER_BYTES + MIN_COMPRESSED_BYTES;

/// RocksDB's log grows to about this before it is written to tables: what a start after a crash has to replay, at some
/// hundred MB/s.
const MAX_REPLAY_BYTES: usize = 40 * MIB;

/// A small buffer stays in the processor's cache, where inserting a random key is half as dear.
const INDEX_BUFFER_BYTES: usize = 8 * MIB;

/// At 100 million entries this takes a third more events than RocksDB's 4; 16 and 24 are no better.
const MAX_TABLES_SIDE_BY_SIDE: i32 = 10;

/// Families whose keys ascend have tables that do not overlap: a lookup asks one of them, however many there are. A merge of random
/// keys takes as long as they are many, and the others' tables wait for it.
const MAX_NEW_TABLES: i32 = 256;

/// A look for a new event asks the filters of some ten tables, and one that errs costs a read in vain. A Bloom filter of so many bits
/// a key errs for one key in a thousand; a ribbon filter errs as seldom with 10 bits. It takes longer to make, so what a flush writes,
/// which is merged soon, has a Bloom filter.
const FILTER_BITS: f64 = 15.0;

/// What a log may choose about its database.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Memory for blocks, indexes, filters and write buffers together, in bytes. What does not fit is read
    /// again, and writes wait for a flush; what is in use at a moment may lie a little above.
    pub memory_bytes: usize,
    /// Files that may be open at a time. A look at a table that is not open reads where its parts are before it reads what is
    /// sought; an open one holds some KiB. There are 40 tables to a million entries.
    pub open_files: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            memory_bytes: 256 * MIB,
            open_files: 1_024,
        }
    }
}

impl StoreOptions {
    /// Write buffers' share of the budget: no more than what is not yet written out can fill.
    fn write_buffer_bytes(&self) -> usize {
        (self.memory_bytes / 2).min(2 * MAX_REPLAY_BYTES)
    }

    /// The options of the database, and `families` with theirs.
    pub(crate) fn build(
        &self,
        families: &[Family],
        recovery: DBRecoveryMode,
    ) -> (Options, Vec<ColumnFamilyDescriptor>) {
        // Apart from write buffers: memory that blocks gave up, here and there, has no room for a buffer in one piece.
        let cache = Cache::new_lru_cache(self.memory_bytes - self.write_buffer_bytes());
        let families = families
            .iter()
            .map(|&family| ColumnFamilyDescriptor::new(family.name(), self.family(family, &cache)))
            .collect();
        (self.database(recovery), families)
    }

    fn database(&self, recovery: DBRecoveryMode) -> Options {
        let mut options = Options::default();
        // A crash leaves an incomplete record at the end of RocksDB's log, and that is passed over: nothing acknowledged is
        // in it. Damage anywhere else stops the open. A log cut short at a record shows when the tree is compared with the
        // anchors.
        options.set_wal_recovery_mode(recovery);
        options.set_paranoid_checks(true);
        // A batch whose sync failed may stand in RocksDB's log, and not in the rows. If then some families were flushed, and the
        // process killed before the others were, a start would replay it for those others alone. All together, it is replayed
        // whole or not at all.
        options.set_atomic_flush(true);
        options.set_max_total_wal_size(MAX_REPLAY_BYTES as u64);
        // Past it, each write has one family flushed; it must not stall as well. The stall ends when usage is below the
        // budget, but a stalled writer starts no flush, and that of one family may free too little: then it never ends
        // (facebook/rocksdb#11780).
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(
            self.write_buffer_bytes(),
            false,
        ));
        options.set_max_background_jobs(2);
        options.set_max_open_files(i32::try_from(self.open_files).unwrap_or(i32::MAX));
        options.set_bytes_per_sync(MIB as u64);
        options.set_log_level(LogLevel::Warn);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 * MIB);
        options
    }

    fn family(&self, family: Family, cache: &Cache) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_checksum_type(ChecksumType::XXH3);
        table.set_format_version(6);
        // A table has an index, and of random keys a filter, of up to some megabytes. Read whole, they push each other out of a
        // cache that is smaller than all of them, and then every lookup reads megabytes; in parts, it reads the few kilobytes
        // that it needs.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_metadata_block_size(4 * 1024);
        table.set_pin_top_level_index_and_filter(true);

        let mut options = match family {
            Family::EventIds | Family::LeafHashes | Family::Attributes => inserting_in_order(),
            _ => Options::default(),
        };
        options.set_write_buffer_size(self.write_buffer_bytes() / 2);
        never_slow_writes_down(&mut options, MAX_NEW_TABLES);
        match family {
            // A head is mostly base64, and repeats its origin.
            Family::Entries | Family::Heads => compress_once(&mut options, &mut table),
            Family::Payloads => {
                compress_once(&mut options, &mut table);
                options.set_enable_blob_files(true);
                options.set_min_blob_size(MIN_BLOB_BYTES as u64);
                // Long records are compressed before they come here.
                options.set_blob_compression_type(DBCompressionType::None);
                options.set_enable_blob_gc(true);
            }
            // Digests do not compress.
            Family::Tiles => options.set_compression_type(DBCompressionType::None),
            // Random keys: every level down is a rewrite, so few levels; most lookups are for what is not there.
            Family::EventIds | Family::LeafHashes => {
                table.set_hybrid_ribbon_filter(FILTER_BITS, 1);
                table.set_partition_filters(true);
                table.set_optimize_filters_for_memory(true);
                options.set_compression_type(DBCompressionType::None);
                options.set_write_buffer_size(INDEX_BUFFER_BYTES);
                options.set_memtable_prefix_bloom_ratio(0.02);
                options.set_memtable_whole_key_filtering(true);
                merge_rarely(&mut options);
            }
            // As random, but read by scans, and a value that is common repeats its hash, which zstd takes out again.
            Family::Attributes => {
                options.set_compression_type(DBCompressionType::Lz4);
                options.set_bottommost_compression_type(DBCompressionType::Zstd);
                options.set_write_buffer_size(INDEX_BUFFER_BYTES);
                merge_rarely(&mut options);
            }
            Family::Meta => {}
        }
        options.set_block_based_table_factory(&table);
        options
    }
}

/// For random keys that a batch has in order: each row's place in the memory table is looked for from where the one before it
/// went, not from the top. RocksDB keeps such a place for each prefix; one of no bytes is that of all keys. Its C interface has
/// no call for this.
fn inserting_in_order() -> Options {
    Options::default()
        .get_options_from_string("memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.0")
        .expect("RocksDB has this option")
}

/// For ascending keys: tables never overlap, so compaction moves them instead of rewriting them, and what a flush compresses is done.
fn compress_once(options: &mut Options, table: &mut BlockBasedOptions) {
    table.set_block_size(16 * 1024);
    options.set_compression_type(DBCompressionType::Zstd);
    // RocksDB's own defaults but for the level.
    let (window_bits, level, strategy, dictionary_bytes) = (-14, ZSTD_LEVEL, 0, 0);
    options.set_compression_options(window_bits, level, strategy, dictionary_bytes);
}

/// Tables of random keys are merged until few are left, and each merge writes all that it merges. The more may lie side by side,
/// the rarer that is; a lookup asks each table's filter.
fn merge_rarely(options: &mut Options) {
    options.set_compaction_style(DBCompactionStyle::Universal);
    options.set_universal_compaction_options(&UniversalCompactOptions::default());
    options.set_level_zero_file_num_compaction_trigger(MAX_TABLES_SIDE_BY_SIDE);
    never_slow_writes_down(options, 4 * MAX_TABLES_SIDE_BY_SIDE);
}

/// Writes stop at `tables` that wait to be merged, and go on as ever until then. RocksDB would slow them down before, and takes
/// a writer that asks again and again, as ours does, for one that has waited: each time it asks it has to wait longer.
fn never_slow_writes_down(options: &mut Options, tables: i32) {
    options.set_level_zero_slowdown_writes_trigger(tables);
    options.set_level_zero_stop_writes_trigger(tables);
    // As far as the limit at which they stop.
    options.set_soft_pending_compaction_bytes_limit(256 * 1024 * MIB);
}
