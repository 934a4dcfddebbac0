//! Trust policies: whose heads to accept, and by how many witnesses cosigned. C2SP tlog-policy.

mod parse;

use std::fmt;

use thiserror::Error;

use crate::cosigner::{Cosignature, CosignatureError, CosignerKey};
use crate::head::{HeadError, SignedHead, UnverifiedHead};
use crate::key::{KeyError, VerifierKey};
use crate::origin::Origin;

/// Longest policy that is read, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;
/// Most `log` lines of a policy.
pub const MAX_POLICY_LOGS: usize = 64;
/// Most `witness` lines of a policy: as many lines fit in a note beside the log's own.
pub const MAX_POLICY_WITNESSES: usize = 48;
/// Most `group` lines of a policy.
pub const MAX_POLICY_GROUPS: usize = 64;
/// Longest name of a witness or group in a policy, in bytes.
pub const MAX_POLICY_NAME_BYTES: usize = 255;

/// Which logs to believe, which witnesses to know, and which of them have to cosign a head.
///
/// ```text
/// log <vkey> [<url>]
/// witness <name> <vkey> [<url>]
/// group <name> all|any|<k> <member>...
/// quorum <name>|none
/// ```
///
/// Names count within the policy only. A witness that is not listed counts for nothing, so a policy without witnesses
/// has no cosignatures, whatever lines a head bears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// A group's members stand before it.
    groups: Vec<Group>,
    quorum: Option<Member>,
}

/// A log that a policy lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// The key. Its name is the log's origin.
    pub key: VerifierKey,
    /// How to reach the log; what it means is up to the reader. Bytes that are not UTF-8 are replaced.
    pub url: Option<String>,
}

/// A witness that a policy lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// What the policy calls it. The witness itself may know nothing of the name.
    pub name: PolicyName,
    /// The key.
    pub key: CosignerKey,
    /// How to reach the witness: by convention its submission prefix. Bytes that are not UTF-8 are replaced.
    pub url: Option<String>,
}

/// The name of a witness or group within a policy: bytes, compared as they are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PolicyName(Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: PolicyName,
    /// 1 to the number of members.
    threshold: usize,
    members: Vec<Member>,
}

/// A place in `Policy::witnesses` or `Policy::groups`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    Witness(usize),
    Group(usize),
}

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
    /// What the policy asks for, as [`Quorum`] writes it.
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

/// A head that a listed log signed and a quorum cosigned: made by [`Policy::verify_cosigned`] only. Where the policy has
/// `quorum none`, there may be no cosignature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignedHead {
    head: SignedHead,
    cosignatures: Vec<Cosignature>,
}

impl CosignedHead {
    /// The head.
    pub fn head(&self) -> &SignedHead {
        &self.head
    }

    /// The cosignatures by listed witnesses, in the order of the policy: all there are, not only as many as it takes.
    pub fn cosignatures(&self) -> &[Cosignature] {
        &self.cosignatures
    }

    /// Both parts.
    pub fn into_parts(self) -> (SignedHead, Vec<Cosignature>) {
        (self.head, self.cosignatures)
    }
}

impl Policy {
    /// Reads a policy: lines ended by newlines, words parted by spaces and tabs, comments in lines of their own.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        parse::parse(bytes)
    }

    /// The policy that believes one key of one log and asks for no witness.
    pub fn for_log(key: VerifierKey) -> Self {
        Self {
            logs: vec![PolicyLog { key, url: None }],
            witnesses: Vec::new(),
            groups: Vec::new(),
            quorum: None,
        }
    }

    /// The logs. Several may be keys of one log. There may be none: such a policy accepts no head.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The same policy, but of the logs the one of this name alone.
    pub fn for_origin(&self, origin: &Origin) -> Self {
        let mut policy = self.clone();
        policy.logs.retain(|log| log.key.name() == origin);
        policy
    }

    /// The witnesses, whether or not the quorum asks for them.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Which witnesses have to cosign.
    pub fn quorum(&self) -> Quorum<'_> {
        Quorum(self)
    }

    /// Whether a head needs any cosignature.
    pub fn requires_cosignatures(&self) -> bool {
        self.quorum.is_some()
    }

    /// Verifies that a listed log signed a head, and that each signature by a listed key of it holds. Says nothing of
    /// witnesses.
    pub fn verify_head(&self, note: &[u8]) -> Result<SignedHead, HeadError> {
        let head = UnverifiedHead::parse(note)?;
        let origin = head.checkpoint.origin();
        let keys = self.logs.iter().map(|log| &log.key);
        let keys: Vec<_> = keys.filter(|key| key.name() == origin).collect();
        if keys.is_empty() {
            let found = origin.clone();
            return Err(match &self.logs[..] {
                [only] => HeadError::OtherOrigin {
                    expected: only.key.name().clone(),
                    found,
                },
                _ => HeadError::UnlistedLog { found },
            });
        }
        head.verify(&keys)
    }

    /// The cosignatures of a head by listed witnesses, in the order of the policy.
    ///
    /// # Errors
    /// A line that claims to be by a listed witness and does not verify.
    pub fn cosignatures(&self, head: &SignedHead) -> Result<Vec<Cosignature>, CosignatureError> {
        let found = self
            .witnesses
            .iter()
            .map(|witness| witness.key.verify_cosignature(head));
        found.filter_map(Result::transpose).collect()
    }

    /// Whether these cosignatures, all of one head, are as many as the policy asks for.
    pub fn is_quorum(&self, cosignatures: &[Cosignature]) -> bool {
        self.quorum.is_none_or(|member| self.is_met(member, cosignatures))
    }

    /// The same, with what is missing.
    pub fn check_quorum(&self, cosignatures: &[Cosignature]) -> Result<(), NoQuorum> {
        if self.is_quorum(cosignatures) {
            return Ok(());
        }
        let mut asked = Vec::new();
        self.quorum
            .into_iter()
            .for_each(|member| self.collect_witnesses(member, &mut asked));
        let (cosigned, missing): (Vec<_>, Vec<_>) = asked
            .into_iter()
            .partition(|witness| cosignatures.iter().any(|by| *by.key() == witness.key));
        let names = |witnesses: Vec<&PolicyWitness>| witnesses.iter().map(|by| by.name.clone()).collect();
        Err(NoQuorum {
            quorum: self.quorum().to_string(),
            cosigned: names(cosigned),
            missing: names(missing),
        })
    }

    /// Verifies that a listed log signed a head and that a quorum of witnesses cosigned it.
    pub fn verify_cosigned(&self, note: &[u8]) -> Result<CosignedHead, CosignedHeadError> {
        let head = self.verify_head(note)?;
        let cosignatures = self.cosignatures(&head).map_err(HeadError::from)?;
        self.check_quorum(&cosignatures)?;
        Ok(CosignedHead { head, cosignatures })
    }

    /// What the policy calls the witness that has this key.
    pub fn witness(&self, key: &CosignerKey) -> Option<&PolicyWitness> {
        self.witnesses.iter().find(|witness| witness.key == *key)
    }

    /// Each name is a member once at most, so this visits each group and witness once at most.
    fn is_met(&self, member: Member, cosignatures: &[Cosignature]) -> bool {
        match member {
            Member::Witness(at) => {
                let key = &self.witnesses[at].key;
                cosignatures.iter().any(|cosignature| cosignature.key() == key)
            }
            Member::Group(at) => {
                let Group {
                    threshold, members, ..
                } = &self.groups[at];
                let met = members
                    .iter()
                    .filter(|&&member| self.is_met(member, cosignatures));
                met.count() >= *threshold
            }
        }
    }

    fn collect_witnesses<'a>(&'a self, member: Member, into: &mut Vec<&'a PolicyWitness>) {
        match member {
            Member::Witness(at) => into.push(&self.witnesses[at]),
            Member::Group(at) => {
                let members = self.groups[at].members.iter();
                members.for_each(|&member| self.collect_witnesses(member, into));
            }
        }
    }

    fn write_member(&self, f: &mut fmt::Formatter<'_>, member: Member) -> fmt::Result {
        let Group {
            name,
            threshold,
            members,
        } = match member {
            Member::Witness(at) => return write!(f, "{}", self.witnesses[at].name),
            Member::Group(at) => &self.groups[at],
        };
        write!(f, "{name} ({threshold} of ")?;
        for (number, &member) in members.iter().enumerate() {
            if number > 0 {
                f.write_str(", ")?;
            }
            self.write_member(f, member)?;
        }
        f.write_str(")")
    }
}

/// Which witnesses a policy asks for, to be shown: `none`, the name of a witness, or a group and how many of whom it
/// takes, as in `majority (2 of X1, X2, X3)`.
#[derive(Clone, Copy, Debug)]
pub struct Quorum<'a>(&'a Policy);

impl fmt::Display for Quorum<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.quorum {
            None => f.write_str("none"),
            Some(member) => self.0.write_member(f, member),
        }
    }
}

impl PolicyName {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// As text: what would act on a terminal is escaped, what is not UTF-8 replaced.
impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(&self.0);
        text.chars().try_for_each(|c| match c.is_control() {
            true => write!(f, "{}", c.escape_unicode()),
            false => write!(f, "{c}"),
        })
    }
}

impl fmt::Debug for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyName({self})")
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, names: &[PolicyName]) -> fmt::Result {
    for (number, name) in names.iter().enumerate() {
        let comma = if number == 0 { "" } else { ", " };
        write!(f, "{comma}{name}")?;
    }
    Ok(())
}
