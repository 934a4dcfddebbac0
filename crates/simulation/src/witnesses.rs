//! Three witnesses elsewhere, of whom two have to cosign a head. They forget nothing when the log crashes.

use std::sync::{Arc, Mutex, MutexGuard};

use counterfoil_log::{Candidate, RememberedHead, WithoutQuorum, Witnessing};
use counterfoil_note::{CosignerSigner, NoteSignature, Policy, SignedHead, UnixSeconds};
use counterfoil_simulated_machine::machine;

use crate::{history::one_in, promises::broken};

pub(crate) struct Witnesses {
    signers: Vec<CosignerSigner>,
    policy: Arc<Policy>,
    without_quorum: WithoutQuorum,
    /// The newest head that each of them cosigned, with its own line.
    newest: Mutex<Vec<Option<SignedHead>>>,
}

impl Witnesses {
    pub(crate) fn new(without_quorum: WithoutQuorum) -> Self {
        let signers: Vec<_> = (1..=3)
            .map(|number: u8| {
                let name = format!("witness.example/w{number}");
                CosignerSigner::generate(name.parse().expect("it is a name"), [number; 32])
            })
            .collect();
        let mut policy = String::new();
        for (number, signer) in signers.iter().enumerate() {
            policy += &format!("witness w{number} {}\n", signer.verifier_key());
        }
        policy += "group two 2 w0 w1 w2\nquorum two\n";
        Self {
            policy: Arc::new(Policy::parse(policy.as_bytes()).expect("it is a policy")),
            newest: Mutex::new(vec![None; signers.len()]),
            signers,
            without_quorum,
        }
    }

    /// What a start of the log is told by those that it reaches.
    pub(crate) fn witnessing(&self) -> Witnessing {
        let mut witnessing = self.all_remember();
        witnessing.remembered.retain(|_| !one_in(3));
        witnessing
    }

    /// What a start is told that reaches all of them.
    pub(crate) fn all_remember(&self) -> Witnessing {
        let newest = self.newest();
        let remembered = newest.iter().flatten().map(|head| RememberedHead {
            witness: "witness".to_owned(),
            note: head.note_bytes().to_vec(),
        });
        Witnessing {
            policy: self.policy.clone(),
            without_quorum: self.without_quorum,
            remembered: remembered.collect(),
        }
    }

    /// The largest size that one of them cosigned.
    pub(crate) fn newest_size(&self) -> u64 {
        let newest = self.newest();
        let sizes = newest.iter().flatten().map(|head| head.size().get());
        sizes.max().unwrap_or(0)
    }

    /// Whether readers may see a head with the lines that it has.
    pub(crate) fn may_be_shown(&self, head: &SignedHead) -> bool {
        match (self.without_quorum, self.policy.cosignatures(head)) {
            (_, Err(problem)) => broken!("a cosignature of the head of size {}: {problem}", head.size()),
            (WithoutQuorum::Publish, Ok(_)) => true,
            (WithoutQuorum::Hold, Ok(cosignatures)) => self.policy.is_quorum(&cosignatures),
        }
    }

    fn newest(&self) -> MutexGuard<'_, Vec<Option<SignedHead>>> {
        self.newest.lock().expect("nobody panics with it")
    }

    /// What those who are reached say of a head that the log signed, which `head` is verified to be.
    pub(crate) fn cosign(&self, candidate: &Candidate, head: &SignedHead) -> Vec<NoteSignature> {
        let seconds = machine(|machine| machine.wall_ns()) / 1_000_000_000;
        let time = UnixSeconds::new(seconds).expect("the clock stands at this century");
        let mut newest = self.newest();
        let mut lines = Vec::new();
        for (signer, newest) in self.signers.iter().zip(newest.iter_mut()) {
            let is_old = newest.as_ref().is_some_and(|newest| newest.size() > head.size());
            if is_old || one_in(4) {
                continue;
            }
            let line = signer.cosign(head, time);
            match head.with_signatures([line.clone()]) {
                Ok(cosigned) => *newest = Some(cosigned),
                Err(problem) => broken!(
                    "the head of size {} takes no line: {problem}",
                    candidate.head().size
                ),
            }
            lines.push(line);
        }
        lines
    }
}
