//! Why policies and heads are refused.

use std::fmt;

use thiserror::Error;

use crate::head::HeadError;
use crate::key::KeyError;
use crate::origin::Origin;

use super::{
    MAX_POLICY_BYTES, MAX_POLICY_GROUPS, MAX_POLICY_LOGS, MAX_POLICY_NAME_BYTES, MAX_POLICY_WITNESSES,
    PolicyName,
};

/// Why a text is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line} of the policy: {problem}")]
pub struct PolicyError {
    /// Which line, from 1. What is missing is missed at the last one.
    pub line: usize,
    /// What is wrong with it.
    #[source]
    pub problem: PolicyProblem,
}

/// What is wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyProblem {
    /// Longer than [`MAX_POLICY_BYTES`].
    #[error("the policy has {bytes} bytes; {MAX_POLICY_BYTES} is the most")]
    TooLong {
        /// The length of the policy.
        bytes: usize,
    },
    /// The last line is cut off, so its last word may be too.
    #[error("the line does not end in a newline; is the file cut off?")]
    NoFinalNewline,
    /// A control character other than tab and newline.
    #[error("it holds the control character {byte:#04x}; lines end in a newline alone, without 0x0d")]
    ControlCharacter {
        /// The first such byte.
        byte: u8,
    },
    /// The line begins with another word than `log`, `witness`, `group`, `quorum` and `#`.
    #[error("{word:?} is none of `log`, `witness`, `group` and `quorum`")]
    UnknownKeyword {
        /// The word.
        word: String,
    },
    /// The line has too few words or too many.
    #[error("it is not of the form `{form}`")]
    Form {
        /// What it should look like.
        form: &'static str,
    },
    /// What should be a vkey is not one that fits.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// Another line has the same public key, under whatever name and role.
    #[error("line {line} has the same public key; a policy lists a key once")]
    KeyTwice {
        /// The other line.
        line: usize,
    },
    /// Another line has another key of the same name and id. An id has 32 bits, so whoever makes the keys can have it so.
    #[error("line {line} has another key of the same name and id; a signature line could be by either")]
    IdTwice {
        /// The other line.
        line: usize,
    },
    /// Another line lists the same log with a key of the other hash suite. A log has one suite for ever.
    #[error("line {line} has a key of another hash suite for the log {origin}; a log has one")]
    SuiteTwice {
        /// The other line.
        line: usize,
        /// The log.
        origin: Origin,
    },
    /// A name is longer than [`MAX_POLICY_NAME_BYTES`].
    #[error("the name has {bytes} bytes; {MAX_POLICY_NAME_BYTES} is the most")]
    NameTooLong {
        /// Its length.
        bytes: usize,
    },
    /// `none` as the name of a witness or group, or as a member.
    #[error("the name `none` is reserved for `quorum none`")]
    NameReserved,
    /// A witness or group of that name is defined above.
    #[error("the name {name} is defined already; witnesses and groups share their names")]
    NameTwice {
        /// The name.
        name: PolicyName,
    },
    /// No witness or group of that name is defined above.
    #[error("no witness or group {name} is defined above this line")]
    UnknownName {
        /// The name.
        name: PolicyName,
    },
    /// The name is a member already, of this group or another: a witness would count twice.
    #[error("{name} is a member of a group already; each witness and group is a member once at most")]
    MemberTwice {
        /// The name.
        name: PolicyName,
    },
    /// Neither `all` nor `any` nor a number from 1 to the number of members.
    #[error("how many of the {members} members are needed is `all`, `any` or a number from 1 to {members}")]
    Threshold {
        /// How many members the line lists.
        members: usize,
    },
    /// More than [`MAX_POLICY_LOGS`].
    #[error("the policy lists more than {MAX_POLICY_LOGS} logs")]
    TooManyLogs,
    /// More than [`MAX_POLICY_WITNESSES`].
    #[error("the policy lists more than {MAX_POLICY_WITNESSES} witnesses")]
    TooManyWitnesses,
    /// More than [`MAX_POLICY_GROUPS`].
    #[error("the policy defines more than {MAX_POLICY_GROUPS} groups")]
    TooManyGroups,
    /// There is a `quorum` line above.
    #[error("line {line} is a `quorum` line already; a policy has one")]
    QuorumTwice {
        /// The other line.
        line: usize,
    },
    /// There is no `quorum` line.
    #[error("the policy ends without a `quorum` line; `quorum none` asks for no witness")]
    QuorumMissing,
}

/// A head without the cosignatures that the policy asks for. The log may just be slow to gather them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoQuorum {
    /// What the policy asks for, as [`Quorum`](super::Quorum) writes it.
    pub quorum: String,
    /// The witnesses of the quorum that cosigned.
    pub cosigned: Vec<PolicyName>,
    /// Those that did not.
    pub missing: Vec<PolicyName>,
}

impl std::error::Error for NoQuorum {}

impl fmt::Display for NoQuorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            quorum,
            cosigned,
            missing,
        } = self;
        write!(
            f,
            "the tree head lacks witnesses: the policy asks for {quorum}; cosigned by "
        )?;
        match cosigned.is_empty() {
            true => f.write_str("none of them")?,
            false => write_list(f, cosigned)?,
        }
        f.write_str("; not by ")?;
        write_list(f, missing)
    }
}

/// Why bytes are not a head that a policy accepts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CosignedHeadError {
    /// No listed log signed it, or a line that claims to be by a listed key does not verify.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Too few witnesses cosigned it.
    #[error(transparent)]
    NoQuorum(#[from] NoQuorum),
}

fn write_list(f: &mut fmt::Formatter<'_>, names: &[PolicyName]) -> fmt::Result {
    for (number, name) in names.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(f, "{comma}{name}")?;
    }
    Ok(())
}
