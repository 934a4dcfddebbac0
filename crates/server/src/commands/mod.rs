//! The commands, one file each.

pub(crate) mod dsse_key;
pub(crate) mod export;
pub(crate) mod fsck;
pub(crate) mod init;
pub(crate) mod serve;
pub(crate) mod setup;
pub(crate) mod source;
pub(crate) mod token;
