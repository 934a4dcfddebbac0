//! The gRPC interface of `proto/counterfoil/v1`, and conversions between its messages and the types of the other
//! crates.
//!
//! Nothing outside this crate reads a digest, a size or an event from a message field by field: what comes from the
//! wire is turned into a type that can't hold a wrong value here, or refused with the name of the field.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod codec;
mod convert;
#[doc(hidden)]
pub mod fuzzing;

pub use convert::{
    InvalidField, digest, digest_field, digests, index_attribute, leaf_index, proof_field, salt, tree_size,
};

/// The descriptors of `counterfoil.v1` as an encoded `FileDescriptorSet`, for gRPC server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages, clients and servers generated from `proto/counterfoil/v1`.
#[allow(
    missing_docs,
    clippy::large_enum_variant,
    reason = "generated; the .proto files hold the documentation"
)]
pub mod v1 {
    tonic::include_proto!("counterfoil.v1");
}
