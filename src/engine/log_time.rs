//! How far a topic partition has come in log time.

use super::time::{LogTime, Millis, RecordTime};

/// The clock of one topic partition: the k-th largest Kafka timestamp read so far, and nothing before k records.
/// So k - 1 records with a wrong timestamp can't push it.
///
/// ```
/// use tidegauge::engine::log_time::LogClock;
/// use tidegauge::engine::time::{LogTime, RecordTime};
///
/// let mut clock = LogClock::new(2);
/// clock.read(RecordTime(9_000_000)); // a wrong clock
/// assert_eq!(clock.now(), None);
/// clock.read(RecordTime(1_000));
/// assert_eq!(clock.now(), Some(LogTime(1_000)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogClock {
    /// The greatest timestamps read, at most k, ascending.
    greatest: Vec<i64>,
    k: usize,
}

impl LogClock {
    /// A clock that has read nothing. `k` is at least 1.
    pub fn new(k: usize) -> Self {
        Self { greatest: Vec::with_capacity(k), k: k.max(1) }
    }

    /// A clock as [`stamps`](Self::stamps) gave it.
    pub fn restore(k: usize, stamps: &[i64]) -> Self {
        let mut clock = Self::new(k);
        for &stamp in stamps {
            clock.read(RecordTime(stamp));
        }
        clock
    }

    /// The timestamps that make the clock, ascending, at most k.
    pub fn stamps(&self) -> &[i64] {
        &self.greatest
    }

    /// How many timestamps it needs.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Takes in the timestamp of the next record.
    pub fn read(&mut self, time: RecordTime) {
        if self.greatest.len() == self.k {
            if time.0 <= self.greatest[0] {
                return;
            }
            self.greatest.remove(0);
        }
        let at = self.greatest.partition_point(|&t| t <= time.0);
        self.greatest.insert(at, time.0);
    }

    /// The clock's time; none before k records.
    pub fn now(&self) -> Option<LogTime> {
        (self.greatest.len() == self.k).then(|| LogTime(self.greatest[0]))
    }

    /// When a record with this timestamp arrived, to be asked after [`read`](Self::read) of it: the greater of the
    /// clock and the timestamp, the latter held to clock + `max_gap`.
    pub fn arrival(&self, time: RecordTime, max_gap: Millis) -> LogTime {
        match self.now() {
            None => LogTime(time.0),
            Some(now) => LogTime(now.0.max(time.0.min(now.0.saturating_add(max_gap.0)))),
        }
    }
}
