//! The time limits, and the only comparisons between event time and log time. One predicate for one question.

use super::time::{EventTime, LogTime, Millis};
use super::window::Window;

/// The time limits of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long after its event an inference may arrive.
    pub lateness: Millis,
    /// How long after the event a label may arrive. At least `lateness`.
    pub label_wait: Millis,
    /// How far before its event an inference may arrive (producers' clocks differ).
    pub max_future: Millis,
    /// How far beyond the clock one record's own timestamp counts.
    pub max_gap: Millis,
}

impl Limits {
    /// After this log time nothing can reach the window: `end + label_wait + 2 * lateness`.
    pub fn horizon(&self, window: Window) -> LogTime {
        LogTime(window.end.plus(self.label_wait).plus(self.lateness.times(2)).0)
    }

    /// An inference that arrived too long after its event.
    pub fn is_late(&self, arrival: LogTime, time: EventTime) -> bool {
        arrival.0.saturating_sub(time.0) > self.lateness.0
    }

    /// An inference that claims to be from too far in the future.
    pub fn is_future(&self, arrival: LogTime, time: EventTime) -> bool {
        time.0 > arrival.0.saturating_add(self.max_future.0)
    }

    /// Whether a label that arrived then belongs to an inference of that time:
    /// `-lateness <= arrival - time <= label_wait`.
    pub fn may_match(&self, label_arrival: LogTime, inference: EventTime) -> bool {
        let delay = label_arrival.0.saturating_sub(inference.0);
        -self.lateness.0 <= delay && delay <= self.label_wait.0
    }

    /// Until the inference clock has passed this, another inference may still match the label.
    pub fn kept_until(&self, label_arrival: LogTime) -> LogTime {
        LogTime(label_arrival.0.saturating_add(self.lateness.times(2).0))
    }

    /// Whether a window may seal: both clocks have passed its horizon.
    pub fn may_seal(&self, window: Window, clocks: [Option<LogTime>; 2]) -> bool {
        let horizon = self.horizon(window);
        clocks.into_iter().all(|clock| has_passed(clock, horizon))
    }

    /// Windows that end before this are of no use to a replay of what is not sealed: no inference of theirs can be
    /// the first occurrence of a duplicate in an unsealed window.
    pub fn replay_bound(&self, sealed_until: EventTime) -> EventTime {
        sealed_until.minus(self.label_wait).minus(self.lateness.times(2)).minus(self.max_future)
    }
}

/// Whether a clock is beyond a log time; a clock before its k-th record has passed nothing.
pub fn has_passed(clock: Option<LogTime>, limit: LogTime) -> bool {
    clock.is_some_and(|now| now > limit)
}

/// `arrival - time`, at least 0: freshness of an inference, delay of a label.
pub fn delay_ms(arrival: LogTime, time: EventTime) -> u64 {
    u64::try_from(arrival.0.saturating_sub(time.0)).unwrap_or(0)
}
