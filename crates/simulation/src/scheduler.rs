//! Who runs next.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// Chance decides; how much it is inclined to leave things as they are is another choice for each seed.
#[derive(Debug)]
pub(crate) struct Chance {
    seed: u64,
    chance: fastrand::Rng,
    /// One switch in so many takes place.
    one_in: u8,
    done: bool,
}

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = fastrand::Rng::with_seed(!seed);
        Self {
            seed,
            one_in: 1 << chance.u8(..4),
            chance,
            done: false,
        }
    }
}

impl Scheduler for Chance {
    fn new_execution(&mut self) -> Option<Schedule> {
        let first = !std::mem::replace(&mut self.done, true);
        first.then(|| Schedule::new(self.seed))
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, _: bool) -> Option<TaskId> {
        if self.chance.u8(..self.one_in) > 0
            && let Some(current) = current
            && runnable.iter().any(|task| task.id() == current)
        {
            return Some(current);
        }
        self.chance.choice(runnable).map(|task| task.id())
    }

    fn next_u64(&mut self) -> u64 {
        self.chance.u64(..)
    }
}
