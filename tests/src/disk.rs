use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use tempfile::{NamedTempFile, TempDir};

use crate::skip;

const MIB: usize = 1024 * 1024;

/// A file system of its own, small enough to be filled. Unmounted when dropped.
pub struct SmallDisk {
    directory: TempDir,
}

impl SmallDisk {
    /// Mounts a tmpfs. `None`, with a line on standard error, where that is not allowed: it takes root. Under CI it has to be.
    pub fn mount(mib: usize) -> Option<Self> {
        let directory = TempDir::with_prefix("counterfoil-disk-").unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(directory.path())
            .stderr(Stdio::null())
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            skip("this test mounts a tmpfs, which takes root");
            return None;
        }
        Some(Self { directory })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What is free, in bytes.
    pub fn free_bytes(&self) -> u64 {
        let file_system = rustix::fs::statvfs(self.path()).unwrap();
        file_system.f_bavail * file_system.f_frsize
    }

    /// Takes up room until about `mib` are free; with 0, until nothing is.
    pub fn fill_to(&self, mib: usize) -> Ballast {
        let mut file = NamedTempFile::new_in(self.path()).unwrap();
        let block = vec![1; MIB / 4];
        while self.free_bytes() > (mib * MIB) as u64 {
            // Whoever else writes may have taken the rest: full is full.
            let room = usize::try_from(self.free_bytes()).unwrap() - mib * MIB;
            if file.write_all(&block[..room.min(block.len())]).is_err() {
                break;
            }
        }
        Ballast { _file: file }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: if a test failed, its server may still be about to end.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

/// A file that only takes up room. Gives it back when dropped.
pub struct Ballast {
    _file: NamedTempFile,
}
