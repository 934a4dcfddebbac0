//! Options. Those that decide what survives are looked at; the others are for RocksDB's speed.

use crate::Error;

macro_rules! ignored {
    ($type:ty { $($name:ident($($argument:ty),*);)* }) => {
        impl $type {
            $(pub fn $name(&mut self, $(_: $argument),*) {})*
        }
    };
}

pub enum DBRecoveryMode {
    TolerateCorruptedTailRecords,
    AbsoluteConsistency,
    PointInTime,
    SkipAnyCorruptedRecord,
}

pub enum ChecksumType {
    XXH3,
}

pub enum DBCompactionStyle {
    Universal,
}

pub enum DBCompressionType {
    None,
    Zstd,
    Lz4,
}

pub enum LogLevel {
    Warn,
}

#[derive(Default)]
pub struct Options {
    pub(crate) recovery: Option<DBRecoveryMode>,
    pub(crate) create: bool,
    pub(crate) must_be_new: bool,
}

impl Options {
    pub fn set_wal_recovery_mode(&mut self, mode: DBRecoveryMode) {
        self.recovery = Some(mode);
    }

    pub fn create_if_missing(&mut self, create: bool) {
        self.create = create;
    }

    pub fn get_options_from_string(&mut self, _: &str) -> Result<Options, Error> {
        Ok(Options::default())
    }

    pub fn set_error_if_exists(&mut self, must_be_new: bool) {
        self.must_be_new = must_be_new;
    }
}

ignored!(Options {
    create_missing_column_families(bool);
    set_blob_compression_type(DBCompressionType);
    set_block_based_table_factory(&BlockBasedOptions);
    set_bottommost_compression_type(DBCompressionType);
    set_bytes_per_sync(u64);
    set_compaction_style(DBCompactionStyle);
    set_compression_options(i32, i32, i32, i32);
    set_compression_type(DBCompressionType);
    set_enable_blob_files(bool);
    set_enable_blob_gc(bool);
    set_keep_log_file_num(usize);
    set_level_zero_file_num_compaction_trigger(i32);
    set_level_zero_slowdown_writes_trigger(i32);
    set_level_zero_stop_writes_trigger(i32);
    set_log_level(LogLevel);
    set_max_background_jobs(i32);
    set_max_log_file_size(usize);
    set_max_open_files(i32);
    set_max_total_wal_size(u64);
    set_memtable_prefix_bloom_ratio(f64);
    set_memtable_whole_key_filtering(bool);
    set_min_blob_size(u64);
    set_atomic_flush(bool);
    set_paranoid_checks(bool);
    set_universal_compaction_options(&UniversalCompactOptions);
    set_write_buffer_manager(&WriteBufferManager);
    set_write_buffer_size(usize);
    set_soft_pending_compaction_bytes_limit(usize);
});

#[derive(Default)]
pub struct BlockBasedOptions(());

ignored!(BlockBasedOptions {
    set_block_cache(&Cache);
    set_block_size(usize);
    set_hybrid_ribbon_filter(f64, i32);
    set_cache_index_and_filter_blocks(bool);
    set_checksum_type(ChecksumType);
    set_format_version(i32);
    set_index_type(BlockBasedIndexType);
    set_metadata_block_size(usize);
    set_optimize_filters_for_memory(bool);
    set_partition_filters(bool);
    set_pin_l0_filter_and_index_blocks_in_cache(bool);
    set_pin_top_level_index_and_filter(bool);
});

pub enum BlockBasedIndexType {
    TwoLevelIndexSearch,
}

#[derive(Default)]
pub struct UniversalCompactOptions(());

#[derive(Clone)]
pub struct Cache;

impl Cache {
    pub fn new_lru_cache(_bytes: usize) -> Self {
        Self
    }
}

pub struct WriteBufferManager;

impl WriteBufferManager {
    pub fn new_write_buffer_manager(_bytes: usize, _stall: bool) -> Self {
        Self
    }
}

#[derive(Default)]
pub struct FlushOptions(());

pub struct ColumnFamilyDescriptor(pub(crate) String);

impl ColumnFamilyDescriptor {
    pub fn new(name: impl Into<String>, _options: Options) -> Self {
        Self(name.into())
    }
}

#[derive(Default)]
pub struct ReadOptions {
    pub(crate) in_memory: bool,
}

pub enum ReadTier {
    BlockCache,
}

impl ReadOptions {
    pub fn set_read_tier(&mut self, tier: ReadTier) {
        self.in_memory = matches!(tier, ReadTier::BlockCache);
    }
}

ignored!(ReadOptions {
    fill_cache(bool);
    set_async_io(bool);
    set_readahead_size(usize);
});

#[derive(Default)]
pub struct WriteOptions {
    pub(crate) sync: bool,
    pub(crate) no_slowdown: bool,
}

impl WriteOptions {
    pub fn set_sync(&mut self, sync: bool) {
        self.sync = sync;
    }

    pub fn set_no_slowdown(&mut self, no_slowdown: bool) {
        self.no_slowdown = no_slowdown;
    }
}
