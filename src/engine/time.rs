//! The kinds of time. Two of them are never mixed: event time decides the window, log time decides progress.

/// A span of time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub i64);

/// When something happened, as the record itself says: milliseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(pub i64);

/// The Kafka timestamp of one record: milliseconds since 1970-01-01 UTC. It may be wrong by any amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordTime(pub i64);

/// How far a topic partition has come, or when a record arrived in it: milliseconds since 1970-01-01 UTC.
/// Made by [`LogClock`](super::log_time::LogClock) only; compared with event time in
/// [`lateness`](super::lateness) only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogTime(pub i64);

impl EventTime {
    /// 2299-12-31: greater than every time that a record may bear, and the greatest that the database shows.
    pub const LATEST: Self = Self(10_413_705_600_000);

    /// This time moved by `by`, held to the range of `i64`.
    #[must_use]
    pub fn plus(self, by: Millis) -> Self {
        Self(self.0.saturating_add(by.0))
    }

    /// This time moved back by `by`, held to the range of `i64`.
    #[must_use]
    pub fn minus(self, by: Millis) -> Self {
        Self(self.0.saturating_sub(by.0))
    }
}

impl Millis {
    /// The sum of two spans, held to the range of `i64`.
    #[must_use]
    pub fn plus(self, by: Self) -> Self {
        Self(self.0.saturating_add(by.0))
    }

    /// This span `n` times, held to the range of `i64`.
    #[must_use]
    pub fn times(self, n: i64) -> Self {
        Self(self.0.saturating_mul(n))
    }
}
