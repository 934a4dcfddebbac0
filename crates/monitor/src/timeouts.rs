//! How long those who are asked may take.

use std::time::Duration;

/// How long sources and observers may take. What takes longer is no answer: the finding is `unreachable`.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// For a connection.
    pub connect: Duration,
    /// Between two signs of life within an answer over HTTP.
    pub silence: Duration,
    /// For an answer as a whole, however steadily it drips. An answer of many parts, such as a range of entries over gRPC, has
    /// it for each part.
    pub answer: Duration,
    /// For all the proofs that one source gives in comparing the heads of a round; and for those that name a wrong entry.
    pub proofs: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            silence: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            proofs: Duration::from_secs(60),
        }
    }
}
