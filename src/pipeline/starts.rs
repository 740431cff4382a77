//! Whether the workers of a process have got partitions and go on where these had been left.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Where a worker is with the partitions that it was assigned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Start {
    /// Where others or itself have left off, or it has none.
    #[default]
    GoesOn,
    /// For the marks of some.
    Waits,
    /// What was counted before.
    ReadsAgain,
}

/// Counts the workers that still wait for marks or read again what was counted before.
#[derive(Debug, Default)]
pub(super) struct Starts {
    is_assigned: AtomicBool,
    workers: AtomicUsize,
    /// Since all went on before.
    has_read_again: AtomicBool,
}

impl Starts {
    /// The group has spoken. Whether it did for the first time.
    pub(super) fn assigned(&self) -> bool {
        !self.is_assigned.swap(true, Ordering::Relaxed)
    }

    /// Replaces what one worker does; whether it was the last to go on after something was read again.
    pub(super) fn replace(&self, was: Start, is: Start) -> bool {
        if was == Start::ReadsAgain {
            self.has_read_again.store(true, Ordering::Relaxed);
        }
        match (was == Start::GoesOn, is == Start::GoesOn) {
            (true, false) => {
                self.workers.fetch_add(1, Ordering::Relaxed);
                false
            }
            (false, true) => {
                self.workers.fetch_sub(1, Ordering::Relaxed) == 1
                    && self.has_read_again.swap(false, Ordering::Relaxed)
            }
            (true, true) | (false, false) => false,
        }
    }

    /// Whether the group has spoken, and all workers go on.
    pub(super) fn all_go_on(&self) -> bool {
        self.is_assigned.load(Ordering::Relaxed) && self.workers.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::Start::{GoesOn, ReadsAgain, Waits};
    use super::Starts;

    #[test]
    fn all_go_on_once_the_group_has_spoken_and_the_last_worker_has_caught_up() {
        let starts = Starts::default();
        assert!(!starts.all_go_on(), "nobody has been told anything");
        assert!(starts.assigned());
        assert!(starts.all_go_on(), "it may own nothing");
        assert!(!starts.replace(GoesOn, Waits) && !starts.replace(GoesOn, Waits));
        assert!(!starts.assigned());
        assert!(!starts.all_go_on());
        assert!(!starts.replace(Waits, ReadsAgain));
        assert!(!starts.replace(ReadsAgain, GoesOn), "another one still waits");
        assert!(!starts.all_go_on());
        assert!(starts.replace(Waits, GoesOn), "the last one, and one has read again");
        assert!(starts.all_go_on());
        assert!(!starts.replace(GoesOn, GoesOn), "it was told before");
        assert!(!starts.replace(GoesOn, Waits));
        assert!(!starts.replace(Waits, GoesOn), "nothing was read again");
    }
}
