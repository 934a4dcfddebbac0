//! Trust policies: whose heads to accept, and by how many witnesses cosigned. C2SP tlog-policy.

mod error;
mod parse;

use std::fmt;

use crate::cosigner::{Cosignature, CosignatureError, CosignerKey};
use crate::head::{HeadError, SignedHead, UnverifiedHead};
use crate::key::VerifierKey;
use crate::origin::Origin;

pub use error::{CosignedHeadError, NoQuorum, PolicyError, PolicyProblem};

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
    ///
    /// # Errors
    /// The first line that is wrong, or what is missing at the end.
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
    ///
    /// # Errors
    /// If the log is not listed, none of its listed keys signed the head, or a line that claims to be by one of them does not
    /// verify; or if it is no head.
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
    ///
    /// # Errors
    /// If they are fewer.
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
    ///
    /// # Errors
    /// Those of [`verify_head`](Self::verify_head) and [`cosignatures`](Self::cosignatures), or that there is no quorum.
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
