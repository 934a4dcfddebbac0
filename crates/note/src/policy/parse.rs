//! Reading policies.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;

use counterfoil_merkle::Suite;

use crate::cosigner::CosignerKey;
use crate::key::{KeyError, KeyId, VerifierKey};
use crate::origin::Origin;

use super::{
    Group, MAX_POLICY_BYTES, MAX_POLICY_GROUPS, MAX_POLICY_LOGS, MAX_POLICY_NAME_BYTES, MAX_POLICY_WITNESSES,
    Member, Policy, PolicyError, PolicyLog, PolicyName, PolicyProblem, PolicyWitness,
};

const LOG_FORM: &str = "log <vkey> [<url>]";
const WITNESS_FORM: &str = "witness <name> <vkey> [<url>]";
const GROUP_FORM: &str = "group <name> all|any|<k> <member>...";
const QUORUM_FORM: &str = "quorum <name>|none";

pub(super) fn parse(bytes: &[u8]) -> Result<Policy, PolicyError> {
    if bytes.len() > MAX_POLICY_BYTES {
        let line = 1 + bytes[..MAX_POLICY_BYTES]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        let problem = PolicyProblem::TooLong { bytes: bytes.len() };
        return Err(PolicyError { line, problem });
    }
    let mut reader = Reader::default();
    let mut last = 1;
    for (line, text) in (1..).zip(bytes.split_inclusive(|&byte| byte == b'\n')) {
        last = line;
        reader
            .read_line(line, text)
            .map_err(|problem| PolicyError { line, problem })?;
    }
    match reader.quorum {
        Some((quorum, _)) => Ok(Policy {
            logs: reader.logs,
            witnesses: reader.witnesses,
            groups: reader.groups,
            quorum,
        }),
        None => Err(PolicyError {
            line: last,
            problem: PolicyProblem::QuorumMissing,
        }),
    }
}

/// What was read so far, and what later lines are checked against.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<Group>,
    /// With the number of its line.
    quorum: Option<(Option<Member>, usize)>,
    /// Witnesses and groups.
    names: HashMap<PolicyName, Member>,
    /// Names that are a member of some group.
    members: HashSet<PolicyName>,
    /// Public keys of logs and witnesses, each with the number of its line.
    keys: HashMap<[u8; 32], usize>,
    /// What a signature line says of its key, likewise.
    signers: HashMap<(Origin, KeyId), usize>,
    /// The first key of each log, with the number of its line.
    origins: HashMap<Origin, (Suite, usize)>,
}

impl Reader {
    fn read_line(&mut self, line: usize, text: &[u8]) -> Result<(), PolicyProblem> {
        let text = text.strip_suffix(b"\n").ok_or(PolicyProblem::NoFinalNewline)?;
        let is_control = |byte: u8| (byte < 0x20 && byte != b'\t') || byte == 0x7f;
        if let Some(&byte) = text.iter().find(|&&byte| is_control(byte)) {
            return Err(PolicyProblem::ControlCharacter { byte });
        }
        let words = text.split(|&byte| byte == b' ' || byte == b'\t');
        let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
        match words[..] {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", ref rest @ ..] => self.read_log(line, rest),
            [b"witness", ref rest @ ..] => self.read_witness(line, rest),
            [b"group", ref rest @ ..] => self.read_group(rest),
            [b"quorum", ref rest @ ..] => self.read_quorum(line, rest),
            [word, ..] => Err(PolicyProblem::UnknownKeyword {
                word: String::from_utf8_lossy(word).into_owned(),
            }),
        }
    }

    fn read_log(&mut self, line: usize, words: &[&[u8]]) -> Result<(), PolicyProblem> {
        let (vkey, url) = match *words {
            [vkey] => (vkey, None),
            [vkey, url] => (vkey, Some(url)),
            _ => return Err(PolicyProblem::Form { form: LOG_FORM }),
        };
        let key: VerifierKey = key(vkey)?;
        self.add_key(key.key().as_bytes(), (key.name(), key.id()), line)?;
        match self.origins.get(key.name()) {
            Some(&(suite, line)) if suite != key.suite() => {
                let origin = key.name().clone();
                return Err(PolicyProblem::SuiteTwice { line, origin });
            }
            Some(_) => {}
            None => {
                self.origins.insert(key.name().clone(), (key.suite(), line));
            }
        }
        if self.logs.len() == MAX_POLICY_LOGS {
            return Err(PolicyProblem::TooManyLogs);
        }
        self.logs.push(PolicyLog {
            key,
            url: url.map(text),
        });
        Ok(())
    }

    fn read_witness(&mut self, line: usize, words: &[&[u8]]) -> Result<(), PolicyProblem> {
        let (name, vkey, url) = match *words {
            [name, vkey] => (name, vkey, None),
            [name, vkey, url] => (name, vkey, Some(url)),
            _ => return Err(PolicyProblem::Form { form: WITNESS_FORM }),
        };
        let key: CosignerKey = key(vkey)?;
        self.add_key(key.key().as_bytes(), (key.name(), key.id()), line)?;
        if self.witnesses.len() == MAX_POLICY_WITNESSES {
            return Err(PolicyProblem::TooManyWitnesses);
        }
        let name = self.define(name, Member::Witness(self.witnesses.len()))?;
        self.witnesses.push(PolicyWitness {
            name,
            key,
            url: url.map(text),
        });
        Ok(())
    }

    fn read_group(&mut self, words: &[&[u8]]) -> Result<(), PolicyProblem> {
        let &[name, threshold, ref listed @ ..] = words else {
            return Err(PolicyProblem::Form { form: GROUP_FORM });
        };
        if listed.is_empty() {
            return Err(PolicyProblem::Form { form: GROUP_FORM });
        }
        if self.groups.len() == MAX_POLICY_GROUPS {
            return Err(PolicyProblem::TooManyGroups);
        }
        let members = listed
            .iter()
            .map(|member| self.add_member(member))
            .collect::<Result<Vec<_>, _>>()?;
        let threshold = match threshold {
            b"all" => members.len(),
            b"any" => 1,
            digits => number(digits)
                .filter(|number| (1..=members.len()).contains(number))
                .ok_or(PolicyProblem::Threshold {
                    members: members.len(),
                })?,
        };
        let name = self.define(name, Member::Group(self.groups.len()))?;
        self.groups.push(Group {
            name,
            threshold,
            members,
        });
        Ok(())
    }

    fn read_quorum(&mut self, line: usize, words: &[&[u8]]) -> Result<(), PolicyProblem> {
        let &[word] = words else {
            return Err(PolicyProblem::Form { form: QUORUM_FORM });
        };
        if let Some((_, line)) = self.quorum {
            return Err(PolicyProblem::QuorumTwice { line });
        }
        let quorum = match word {
            b"none" => None,
            name => Some(self.find(name)?.1),
        };
        self.quorum = Some((quorum, line));
        Ok(())
    }

    fn add_key(
        &mut self,
        key: &[u8; 32],
        (name, id): (&Origin, KeyId),
        line: usize,
    ) -> Result<(), PolicyProblem> {
        if let Some(line) = self.keys.insert(*key, line) {
            return Err(PolicyProblem::KeyTwice { line });
        }
        match self.signers.insert((name.clone(), id), line) {
            Some(line) => Err(PolicyProblem::IdTwice { line }),
            None => Ok(()),
        }
    }

    fn define(&mut self, name: &[u8], member: Member) -> Result<PolicyName, PolicyProblem> {
        let name = policy_name(name)?;
        match self.names.insert(name.clone(), member) {
            Some(_) => Err(PolicyProblem::NameTwice { name }),
            None => Ok(name),
        }
    }

    fn add_member(&mut self, name: &[u8]) -> Result<Member, PolicyProblem> {
        let (name, member) = self.find(name)?;
        match self.members.insert(name.clone()) {
            true => Ok(member),
            false => Err(PolicyProblem::MemberTwice { name }),
        }
    }

    fn find(&self, name: &[u8]) -> Result<(PolicyName, Member), PolicyProblem> {
        let name = policy_name(name)?;
        match self.names.get(&name) {
            Some(&member) => Ok((name, member)),
            None => Err(PolicyProblem::UnknownName { name }),
        }
    }
}

fn key<K: FromStr<Err = KeyError>>(vkey: &[u8]) -> Result<K, KeyError> {
    str::from_utf8(vkey).map_err(|_| KeyError::Format)?.parse()
}

fn policy_name(name: &[u8]) -> Result<PolicyName, PolicyProblem> {
    if name.len() > MAX_POLICY_NAME_BYTES {
        return Err(PolicyProblem::NameTooLong { bytes: name.len() });
    }
    if name == b"none" {
        return Err(PolicyProblem::NameReserved);
    }
    Ok(PolicyName(name.to_vec()))
}

/// A decimal number without sign and leading zeros.
fn number(digits: &[u8]) -> Option<usize> {
    let number: usize = str::from_utf8(digits).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == digits).then_some(number)
}

fn text(url: &[u8]) -> String {
    String::from_utf8_lossy(url).into_owned()
}
