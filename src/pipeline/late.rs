//! Notices topics whose history was loaded later: by log time nearly all of their inferences are late.

use std::sync::{Mutex, PoisonError};

use crate::engine::event::Stream;
use crate::engine::outcome::Outcome;
use crate::telemetry::{BatchCounts, outcome_index};

/// So many inferences at least: a share of a few says nothing.
const LEAST: u64 = 1000;
/// Above this count the older half is forgotten, so that the share follows what comes.
const MOST: u64 = 20_000;

/// The inferences of the recent past, of all workers.
#[derive(Debug, Default)]
pub(super) struct RecentlyLate(Mutex<Recent>);

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    late: u64,
    of: u64,
}

impl RecentlyLate {
    /// Counts a batch. Late ones and all, where more than nine tenths of the recent ones are late; records that can't
    /// be used and those read again don't count.
    pub(super) fn count(&self, counts: &BatchCounts) -> Option<(u64, u64)> {
        let outcomes = &counts.outcomes[Stream::Inferences.index()];
        let number = |outcome| outcomes[outcome_index(outcome)];
        let late = number(Outcome::Late);
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.late += late;
        recent.of += late + number(Outcome::Accepted) + number(Outcome::Duplicate);
        let is_mostly_late = recent.of >= LEAST && recent.late * 10 > recent.of * 9;
        let said = is_mostly_late.then_some((recent.late, recent.of));
        while recent.of > MOST {
            *recent = Recent { late: recent.late / 2, of: recent.of / 2 };
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(late: u64, accepted: u64) -> BatchCounts {
        let mut counts = BatchCounts::default();
        let inferences = &mut counts.outcomes[Stream::Inferences.index()];
        inferences[outcome_index(Outcome::Late)] = late;
        inferences[outcome_index(Outcome::Accepted)] = accepted;
        inferences[outcome_index(Outcome::Dead)] = 5;
        counts
    }

    #[test]
    fn only_many_and_nearly_all_are_told() {
        let recent = RecentlyLate::default();
        assert_eq!(recent.count(&batch(999, 0)), None);
        assert_eq!(recent.count(&batch(1, 0)), Some((1000, 1000)));
        assert_eq!(recent.count(&batch(0, 111)), Some((1000, 1111)));
        assert_eq!(recent.count(&batch(0, 1)), None);
    }

    #[test]
    fn the_recent_past_counts() {
        let recent = RecentlyLate::default();
        assert_eq!(recent.count(&batch(0, 1_000_000)), None);
        let told = (0..200).filter(|_| recent.count(&batch(1000, 0)).is_some()).count();
        assert!(told > 100, "{told}");
        assert_eq!(recent.count(&batch(0, 20_000)), None);
    }
}
