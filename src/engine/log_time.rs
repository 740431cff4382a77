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
        let is_full = self.greatest.len() == self.k;
        if is_full && time.0 <= self.greatest[0] {
            return;
        }
        // Most records have the greatest timestamp so far.
        let at = match self.greatest.last() {
            Some(&last) if time.0 < last => self.greatest.partition_point(|&t| t <= time.0),
            _ => self.greatest.len(),
        };
        if is_full {
            // The least one falls out.
            self.greatest.copy_within(1..at, 0);
            self.greatest[at - 1] = time.0;
        } else {
            self.greatest.insert(at, time.0);
        }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_the_greatest_of_all(
            k in 0..6_usize,
            times in prop::collection::vec(prop_oneof![0..20_i64, any::<i64>()], 0..40),
            climb in any::<bool>(),
        ) {
            let mut times = times;
            if climb {
                times.sort_unstable();
            }
            let mut clock = LogClock::new(k);
            for read in 1..=times.len() {
                clock.read(RecordTime(times[read - 1]));
                let mut sorted = times[..read].to_vec();
                sorted.sort_unstable();
                let greatest = &sorted[read.saturating_sub(k.max(1))..];
                prop_assert_eq!(clock.stamps(), greatest);
                let now = (read >= k.max(1)).then(|| LogTime(greatest[0]));
                prop_assert_eq!(clock.now(), now);
            }
        }
    }
}
