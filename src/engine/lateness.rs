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
    /// How long after its end a window can still change: `label_wait + 2 * lateness`.
    fn settling(&self) -> Millis {
        self.label_wait.plus(self.lateness.times(2))
    }

    /// After this log time nothing can reach the window.
    pub fn horizon(&self, window: Window) -> LogTime {
        LogTime(window.end.plus(self.settling()).0)
    }

    /// An inference that arrived too long after its event.
    pub fn is_late(&self, arrival: LogTime, time: EventTime) -> bool {
        arrival.0.saturating_sub(time.0) > self.lateness.0
    }

    /// An inference that claims to be from too far in the future.
    pub fn is_future(&self, arrival: LogTime, time: EventTime) -> bool {
        time.0 > arrival.0.saturating_add(self.max_future.0)
    }

    /// From when on, and before when, inferences arrive whose events lie within `span` and which are neither late nor
    /// from too far in the future. It begins `lateness` early at least: one that was sent before with another time, as
    /// by a producer that retries, makes them duplicates.
    pub fn arrivals(&self, span: Window) -> (LogTime, LogTime) {
        let early = self.max_future.max(self.lateness);
        (LogTime(span.start.minus(early).0), LogTime(span.end.plus(self.lateness).0))
    }

    /// From when on no label arrives that [may match](Self::may_match) an inference within `span`.
    pub fn end_of_labels(&self, span: Window) -> LogTime {
        LogTime(span.end.plus(self.label_wait).0)
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

    /// The end of the newest window of length `size` whose horizon the clock has passed, whether or not it holds
    /// records: with the lesser of both topics' clocks, all windows that end by then are sealed.
    pub fn sealed_until(&self, clock: LogTime, size: Millis) -> EventTime {
        let last = EventTime(clock.0).minus(self.settling()).minus(Millis(1));
        Window::of(last, size).start
    }

    /// Windows that end before this are of no use to a replay of what is not sealed: no inference of theirs can be
    /// the first occurrence of a duplicate in an unsealed window.
    pub fn replay_bound(&self, sealed_until: EventTime) -> EventTime {
        sealed_until.minus(self.settling()).minus(self.max_future)
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        lateness: Millis(10),
        label_wait: Millis(100),
        max_future: Millis(5),
        max_gap: Millis(1000),
    };

    #[test]
    fn limits_are_inclusive_on_the_good_side() {
        assert!(!LIMITS.is_late(LogTime(60), EventTime(50)));
        assert!(LIMITS.is_late(LogTime(61), EventTime(50)));
        assert!(!LIMITS.is_future(LogTime(50), EventTime(55)));
        assert!(LIMITS.is_future(LogTime(50), EventTime(56)));
        assert!(LIMITS.may_match(LogTime(40), EventTime(50)));
        assert!(!LIMITS.may_match(LogTime(39), EventTime(50)));
        assert!(LIMITS.may_match(LogTime(150), EventTime(50)));
        assert!(!LIMITS.may_match(LogTime(151), EventTime(50)));
    }

    #[test]
    fn what_is_accepted_within_a_span_arrives_within_another_one() {
        let span = Window { start: EventTime(60), end: EventTime(120) };
        assert_eq!(LIMITS.arrivals(span), (LogTime(50), LogTime(130)));
        let is_accepted = |arrival, time| {
            let arrival = LogTime(arrival);
            !LIMITS.is_late(arrival, time) && !LIMITS.is_future(arrival, time)
        };
        let last = EventTime(119);
        assert!(is_accepted(129, last) && !is_accepted(130, last));
        let hasty = Limits { max_future: Millis(20), ..LIMITS };
        assert_eq!(hasty.arrivals(span).0, LogTime(40), "as early as an inference may come");
        assert_eq!(LIMITS.arrivals(Window::ALL), (LogTime(i64::MIN), LogTime(i64::MAX)));
        let LogTime(end) = LIMITS.end_of_labels(span);
        assert!(LIMITS.may_match(LogTime(end - 1), last) && !LIMITS.may_match(LogTime(end), last));
        assert_eq!(LIMITS.end_of_labels(Window::ALL), LogTime(i64::MAX));
    }

    #[test]
    fn a_window_is_sealed_exactly_when_its_horizon_is_passed() {
        let size = Millis(60);
        for start in [-120, -60, 0, 60] {
            let window = Window::of(EventTime(start), size);
            let horizon = LIMITS.horizon(window);
            assert!(LIMITS.sealed_until(horizon, size) < window.end);
            assert_eq!(LIMITS.sealed_until(LogTime(horizon.0 + 1), size), window.end);
        }
    }
}
