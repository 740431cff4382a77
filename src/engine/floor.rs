//! What a job knows of a partition, and where a replay of it must start: one row of table `marks`.

use super::dead_schemas::DeadSchemas;
use super::event::{PartitionId, Positions, Stream};
use super::log_time::LogClock;
use super::outcome::Tally;
use super::time::EventTime;

/// Where reading begins, and the clocks there. A start from a floor rebuilds all that is not sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Floor {
    /// First offsets to read.
    pub positions: Positions,
    /// The clock of the inference topic before its first offset to read.
    pub inferences: LogClock,
    /// The clock of the label topic before its first offset to read.
    pub labels: LogClock,
    /// Windows that end at or before this are done: a replay does not fold them again.
    pub sealed_until: EventTime,
}

/// What is known of a partition at the end of a flush. Every mark ever written is safe to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The partition number, the same for both topics.
    pub partition: PartitionId,
    /// Next offsets to count. Records between the floor and these only rebuild memory.
    pub positions: Positions,
    /// Where a replay must start.
    pub floor: Floor,
    /// The clocks at `positions`: how far the partition has come.
    pub clocks: [LogClock; 2],
    /// Outcomes of the records before `positions`.
    pub tally: Tally,
    /// Which schemas of the records between the floor and `positions` made them dead: inferences, labels.
    pub dead_schemas: [DeadSchemas; 2],
}

impl Mark {
    /// The mark of a partition of which nothing has been read. `k` is the clocks' number of timestamps.
    pub fn start(partition: PartitionId, positions: Positions, k: usize) -> Self {
        let clock = LogClock::new(k);
        Self {
            partition,
            positions,
            floor: Floor {
                positions,
                inferences: clock.clone(),
                labels: clock.clone(),
                sealed_until: EventTime(i64::MIN),
            },
            clocks: [clock.clone(), clock],
            tally: Tally::default(),
            dead_schemas: [DeadSchemas::default(), DeadSchemas::default()],
        }
    }

    /// Whether the records that were counted up to it begin there. Where offsets without records lie between, as the
    /// markers of transactions, this says no.
    pub fn has_begun_at(&self, begin: Positions) -> bool {
        let is_begin =
            |stream| self.positions.of(stream) - self.tally.records(stream) == begin.of(stream);
        Stream::BOTH.into_iter().all(is_begin)
    }

    /// Of several marks of a partition the one with the greatest sum is the newest.
    pub fn order(&self) -> i64 {
        self.positions.inferences.saturating_add(self.positions.labels)
    }
}
