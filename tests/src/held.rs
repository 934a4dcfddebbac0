use std::{fs, path::Path};

/// What a process holds on to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Resident memory.
    pub memory_bytes: u64,
    /// Threads, but those that RocksDB writes tables with.
    pub threads: usize,
    /// Open files and connections, but those under the directory of a database.
    pub handles: usize,
    /// Open files under that directory: they grow in number with the log, up to a bound.
    pub database_files: usize,
}

impl Held {
    /// What a process holds now that keeps its data in `data`.
    pub fn by(process: u32, data: &Path) -> Self {
        let mut held = Self {
            memory_bytes: memory_bytes(process, "VmRSS:"),
            ..Self::default()
        };
        // Whatever ends while it is looked at is passed over.
        for thread in fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten() {
            let name = fs::read_to_string(thread.path().join("comm")).unwrap_or_default();
            held.threads += usize::from(!name.is_empty() && !name.starts_with("rocksdb:"));
        }
        for handle in fs::read_dir(format!("/proc/{process}/fd")).unwrap().flatten() {
            match fs::read_link(handle.path()) {
                Ok(file) if file.starts_with(data) => held.database_files += 1,
                Ok(_) => held.handles += 1,
                Err(_) => {}
            }
        }
        held
    }

    /// The largest of each.
    pub fn most(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            threads: self.threads.max(other.threads),
            handles: self.handles.max(other.handles),
            database_files: self.database_files.max(other.database_files),
        }
    }
}

/// A line of a process's status, which the kernel counts in KiB.
pub(crate) fn memory_bytes(process: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let kibibytes: u64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kibibytes * 1024
}
