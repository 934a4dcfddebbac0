//! What the engine asks the system for and `std` does not have: how much room there is.
#![allow(missing_docs)]

pub mod io {
    pub type Result<T> = std::io::Result<T>;
}

pub mod fs {
    use std::path::Path;

    use counterfoil_simulated_machine::{Call, perform};

    pub struct StatVfs {
        pub f_bavail: u64,
        pub f_frsize: u64,
    }

    /// Room enough, or none.
    pub fn statvfs(path: impl AsRef<Path>) -> crate::io::Result<StatVfs> {
        let path = path.as_ref().as_os_str().as_encoded_bytes();
        perform(Call::Room, path, |machine| {
            let full = machine
                .plan()
                .one_fault_in
                .is_some_and(|many| machine.one_in(many));
            let f_bavail = if full { 0 } else { 1 << 30 };
            Ok(StatVfs {
                f_bavail,
                f_frsize: 4096,
            })
        })
    }
}
