//! Whether the log takes events, and if not, why. One state: the commit path and the publisher turn it, and all who ask see
//! the same.

use tokio::sync::watch;

/// Whether a log takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// It does.
    Open,
    /// Its disk is nearly full. It takes them again when there is room.
    Full,
    /// A write found no room. It takes them again when there is some and the log was recovered.
    Mending,
    /// It takes no more: it was stopped, or a write failed for good.
    Closed,
}

/// Keeps the state. Each turn leads from certain states only, so no thread undoes what another one said.
pub(crate) struct Gate(watch::Sender<Intake>);

impl Gate {
    /// An open one.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Intake::Open))
    }

    pub(crate) fn state(&self) -> Intake {
        *self.0.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Intake> {
        self.0.subscribe()
    }

    /// Somebody looked at the disk. Tells whether that changed the state.
    pub(crate) fn see_room(&self, has_room: bool) -> bool {
        match has_room {
            true => self.turn(&[Intake::Full], Intake::Open),
            false => self.turn(&[Intake::Open], Intake::Full),
        }
    }

    /// A write found no room: from here on room alone opens nothing.
    pub(crate) fn begin_mending(&self) {
        self.turn(&[Intake::Open, Intake::Full], Intake::Mending);
    }

    pub(crate) fn end_mending(&self) {
        self.turn(&[Intake::Mending], Intake::Open);
    }

    /// For good.
    pub(crate) fn close(&self) {
        self.turn(&[Intake::Open, Intake::Full, Intake::Mending], Intake::Closed);
    }

    fn turn(&self, from: &[Intake], to: Intake) -> bool {
        self.0.send_if_modified(|state| {
            let turns = from.contains(state);
            if turns {
                *state = to;
            }
            turns
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_comes_and_goes_turns_the_gate_once_each_time() {
        let gate = Gate::new();
        assert!(!gate.see_room(true));
        for _ in 0..3 {
            assert!(gate.see_room(false));
            assert_eq!(gate.state(), Intake::Full);
            assert!(!gate.see_room(false));
            assert!(gate.see_room(true));
            assert_eq!(gate.state(), Intake::Open);
            assert!(!gate.see_room(true));
        }
    }

    #[test]
    fn room_alone_ends_no_mending() {
        for was_full in [false, true] {
            let gate = Gate::new();
            gate.see_room(!was_full);
            gate.begin_mending();
            for has_room in [false, true] {
                assert!(!gate.see_room(has_room));
                assert_eq!(gate.state(), Intake::Mending);
            }
            gate.end_mending();
            assert_eq!(gate.state(), Intake::Open);
        }
    }

    #[test]
    fn what_was_not_mending_is_not_opened_by_its_end() {
        let gate = Gate::new();
        gate.see_room(false);
        gate.end_mending();
        assert_eq!(gate.state(), Intake::Full);
    }

    #[test]
    fn a_closed_gate_stays_closed() {
        let gate = Gate::new();
        let seen = gate.watch();
        gate.close();
        for has_room in [false, true] {
            gate.see_room(has_room);
            gate.begin_mending();
            gate.end_mending();
            assert_eq!(gate.state(), Intake::Closed);
        }
        assert_eq!(*seen.borrow(), Intake::Closed);
    }
}
