//! Which topic to read: near the byte budget, while memory is rebuilt, and to keep the topics in step.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::engine::event::{PartitionId, Stream};
use crate::engine::lateness::Limits;
use crate::engine::names::Names;
use crate::engine::time::LogTime;
use crate::telemetry::Largest;

/// Above this share of the budget one topic is left unread.
const NEAR: Share = Share(90);
/// Below this share both are read again.
const CLEAR: Share = Share(85);
/// Above this share nothing is read: a flush frees memory, or the process stops.
const OVER: Share = Share(110);

/// Percent of the byte budget.
#[derive(Clone, Copy, Debug)]
struct Share(usize);

impl Share {
    fn of(self, budget: usize) -> usize {
        budget / 100 * self.0
    }
}

/// How near memory is to the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pressure {
    /// There is room.
    #[default]
    Free,
    /// Only the topic that frees memory is read.
    Near,
    /// Nothing is read.
    Over,
}

/// The memory of all workers.
#[derive(Debug, Default)]
pub(super) struct Memory {
    bytes: AtomicUsize,
    workers: AtomicUsize,
    /// By worker.
    largest: Mutex<BTreeMap<usize, Largest>>,
}

impl Memory {
    /// One more worker shares it.
    pub(super) fn join(&self) {
        self.workers.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a worker that holds so many bytes holds its share of the sum or more. The one that holds the most does.
    pub(super) fn is_large(&self, part: usize) -> bool {
        part.saturating_mul(self.workers.load(Ordering::Relaxed).max(1)) >= self.bytes()
    }

    /// Replaces one worker's part of the sum; gives the new sum.
    pub(super) fn replace(&self, old: usize, new: usize) -> usize {
        // Relaxed: each worker changes only its own part, and the sum may be a batch old.
        let before = self.bytes.fetch_add(new, Ordering::Relaxed) + new;
        self.bytes.fetch_sub(old, Ordering::Relaxed);
        before - old
    }

    /// The sum.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Replaces one worker's largest partition; none where it holds none.
    pub(super) fn replace_largest(&self, worker: usize, largest: Option<Largest>) {
        let mut all = self.largest_lock();
        match largest {
            Some(largest) => {
                all.insert(worker, largest);
            }
            None => {
                all.remove(&worker);
            }
        }
    }

    /// The largest partition of all workers.
    pub(super) fn largest(&self) -> Option<Largest> {
        self.largest_lock().values().max_by_key(|largest| largest.bytes).copied()
    }

    fn largest_lock(&self) -> MutexGuard<'_, BTreeMap<usize, Largest>> {
        self.largest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pressure {
    /// The pressure after a batch; hysteresis keeps it from flickering.
    pub(super) fn next(self, bytes: usize, budget: usize) -> Self {
        if bytes > OVER.of(budget) {
            Self::Over
        } else if bytes > NEAR.of(budget) || (self >= Self::Near && bytes > CLEAR.of(budget)) {
            Self::Near
        } else {
            Self::Free
        }
    }
}

/// The names that a worker holds, where they fill its memory: no topic frees them, however far it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManyNames {
    /// How many.
    pub count: usize,
    /// The memory that they take.
    pub bytes: usize,
}

impl ManyNames {
    /// Those that take more than half of what a worker holds.
    pub(super) fn filling(held: usize, names: &Names) -> Option<Self> {
        let names = Self { count: names.len(), bytes: names.bytes() };
        (names.bytes > held / 2).then_some(names)
    }
}

impl Display for ManyNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} names take {} bytes, and they are kept until the process ends: free text or an ID comes as a model, \
             version, segment, class, label or name of a feature; let it be one of a few values, or leave it out",
            self.count, self.bytes
        )
    }
}

/// One shard's clocks.
pub(super) type Clocks = (PartitionId, [Option<LogTime>; 2]);

/// The partition whose clock of a topic is the least; one before its k-th record comes first.
pub(super) fn least(clocks: &[Clocks], stream: Stream) -> Option<(PartitionId, Option<LogTime>)> {
    let of = |(partition, clocks): &Clocks| (*partition, clocks[stream.index()]);
    clocks.iter().map(of).min_by_key(|&(partition, clock)| (clock, partition))
}

/// Near the budget: the topic that is read, so that memory can be freed, of the shards that hold it and their bytes. A
/// shard seals windows by the lesser of its clocks, so it is the topic whose clock is behind where most memory is. To
/// read on in the other would fill memory with records that nothing can drop: labels of inferences that are not read, for
/// instance.
pub(super) fn frees_memory(holders: impl IntoIterator<Item = (Clocks, usize)>) -> Stream {
    let mut held = [0_usize; 2];
    for ((_, [inferences, labels]), bytes) in holders {
        let behind = if inferences > labels { Stream::Labels } else { Stream::Inferences };
        held[behind.index()] += bytes;
    }
    if held[Stream::Labels.index()] > held[Stream::Inferences.index()] {
        Stream::Labels
    } else {
        Stream::Inferences
    }
}

/// The topic that is more than `lateness` behind the other, by the greatest clock of each over the shards that hold
/// memory: an idle partition holds nobody up.
pub(super) fn behind(clocks: &[Clocks], limits: &Limits) -> Option<Stream> {
    let greatest = |stream: Stream| clocks.iter().filter_map(|(_, c)| c[stream.index()]).max();
    let inferences = greatest(Stream::Inferences)?.0;
    let labels = greatest(Stream::Labels)?.0;
    if inferences.saturating_sub(labels) > limits.lateness.0 {
        Some(Stream::Labels)
    } else if labels.saturating_sub(inferences) > limits.lateness.0 {
        Some(Stream::Inferences)
    } else {
        None
    }
}

/// The topic that keeps what one shard holds: the silent one, or one that is more than `lateness` behind the other.
pub(super) fn keeps(clocks: Clocks, limits: &Limits) -> Option<Stream> {
    match clocks.1 {
        [Some(_), None] => Some(Stream::Labels),
        [None, Some(_)] => Some(Stream::Inferences),
        [Some(_), Some(_)] | [None, None] => behind(&[clocks], limits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::time::Millis;

    const LIMITS: Limits = Limits {
        lateness: Millis(600_000),
        label_wait: Millis(3_600_000),
        max_future: Millis(300_000),
        max_gap: Millis(604_800_000),
    };

    fn clocks(inferences: Option<i64>, labels: Option<i64>) -> Vec<Clocks> {
        vec![(PartitionId(0), [inferences.map(LogTime), labels.map(LogTime)])]
    }

    #[test]
    fn pressure_clears_only_well_below_the_budget() {
        let near = Pressure::Free.next(91_000, 100_000);
        assert_eq!(near, Pressure::Near);
        assert_eq!(near.next(86_000, 100_000), Pressure::Near);
        assert_eq!(near.next(84_000, 100_000), Pressure::Free);
        assert_eq!(Pressure::Free.next(86_000, 100_000), Pressure::Free);
        assert_eq!(near.next(111_000, 100_000), Pressure::Over);
    }

    #[test]
    fn a_topic_keeps_memory_where_it_is_silent_or_late_and_none_where_both_move() {
        let of = |inferences, labels| keeps(clocks(inferences, labels)[0], &LIMITS);
        let (now, lateness) = (10_000_000, LIMITS.lateness.0);
        assert_eq!(of(Some(now), None), Some(Stream::Labels));
        assert_eq!(of(None, Some(now)), Some(Stream::Inferences));
        assert_eq!(of(Some(now), Some(now - lateness)), None);
        assert_eq!(of(Some(now), Some(now - lateness - 1)), Some(Stream::Labels));
        assert_eq!(of(Some(now - lateness - 1), Some(now)), Some(Stream::Inferences));
        assert_eq!(of(None, None), None);
    }

    #[test]
    fn the_topic_that_holds_memory_up_is_read() {
        let one = |inferences, labels| (clocks(inferences, labels)[0], 100);
        let silent = one(Some(10_000_000), None);
        assert_eq!(frees_memory([silent]), Stream::Labels);
        // However long labels are waited for: in step, they take turns.
        let in_step = |labels: i64| one(Some(10_000_000), Some(10_000_000 + labels));
        assert_eq!(frees_memory([in_step(0)]), Stream::Inferences);
        assert_eq!(frees_memory([in_step(-1)]), Stream::Labels);
        assert_eq!(frees_memory([in_step(1)]), Stream::Inferences);
        // Each shard has its own: one where inferences pause holds up what it holds itself.
        let pauses = |bytes| (one(Some(5_000_000), Some(9_000_000)).0, bytes);
        assert_eq!(frees_memory([pauses(99), in_step(-1)]), Stream::Labels);
        assert_eq!(frees_memory([pauses(101), in_step(-1)]), Stream::Inferences);
    }

    #[test]
    fn topics_within_lateness_are_in_step() {
        assert_eq!(behind(&clocks(Some(600_000), Some(0)), &LIMITS), None);
        assert_eq!(behind(&clocks(Some(600_001), Some(0)), &LIMITS), Some(Stream::Labels));
        assert_eq!(behind(&clocks(Some(0), Some(600_001)), &LIMITS), Some(Stream::Inferences));
        assert_eq!(behind(&clocks(Some(0), None), &LIMITS), None);
    }

    #[test]
    fn names_fill_the_memory_where_they_are_most_of_it() {
        let mut names = Names::default();
        for n in 0..100 {
            names.intern(&format!("{n:060}"));
        }
        let bytes = names.bytes();
        assert!(bytes > 100 * 60, "{bytes}");
        assert_eq!(ManyNames::filling(bytes * 2, &names), None);
        // The empty name is always there.
        let many = ManyNames { count: 101, bytes };
        assert_eq!(ManyNames::filling(bytes * 2 - 1, &names), Some(many));
        assert!(many.to_string().contains(&format!("101 names take {bytes} bytes")), "{many}");
    }

    #[test]
    fn memory_is_the_sum_of_the_parts() {
        let memory = Memory::default();
        assert_eq!(memory.replace(0, 70), 70);
        assert_eq!(memory.replace(0, 50), 120);
        assert_eq!(memory.replace(70, 20), 70);
        assert_eq!(memory.bytes(), 70);
    }

    #[test]
    fn the_largest_partition_is_that_of_all_workers() {
        let memory = Memory::default();
        assert_eq!(memory.largest(), None);
        let of = |partition, bytes| {
            Some(Largest { partition: PartitionId(partition), bytes, behind: None })
        };
        memory.replace_largest(0, of(2, 50));
        memory.replace_largest(1, of(5, 70));
        assert_eq!(memory.largest(), of(5, 70));
        memory.replace_largest(1, of(7, 20));
        assert_eq!(memory.largest(), of(2, 50));
        memory.replace_largest(0, None);
        assert_eq!(memory.largest(), of(7, 20));
    }
}
