//! How far each topic partition has been delivered, and so which records may still be.

use std::collections::VecDeque;
use std::sync::Arc;

use super::health::KafkaHealth;
use crate::engine::event::{Offset, PartitionId, Stream};

/// The end offsets of a bounded run, by [`Stream::index`] and partition.
pub(super) type Ends = [Vec<i64>; 2];

/// How far each topic partition has been delivered.
#[derive(Debug, Default)]
pub(super) struct Progress {
    ends: Option<Arc<Ends>>,
    next: [Vec<Option<Next>>; 2],
    /// Ends reached and not yet told.
    ended: VecDeque<(Stream, PartitionId, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    offset: i64,
    end: i64,
    ended: bool,
}

impl Progress {
    pub(super) fn new(ends: Option<Arc<Ends>>) -> Self {
        Self { ends, ..Self::default() }
    }

    pub(super) fn clear(&mut self) {
        self.next = [Vec::new(), Vec::new()];
        self.ended.clear();
    }

    /// Records of this topic partition count from here on.
    pub(super) fn start(&mut self, stream: Stream, partition: PartitionId, offset: i64) {
        let index = usize::try_from(partition.0).unwrap_or(0);
        let ends = self.ends.as_ref().map(|ends| ends[stream.index()].get(index).copied());
        let next = &mut self.next[stream.index()];
        if next.len() <= index {
            next.resize(index + 1, None);
        }
        next[index] = Some(Next { offset, end: ends.flatten().unwrap_or(i64::MAX), ended: false });
        if ends.is_some_and(|end| end.is_none_or(|end| offset >= end)) {
            self.end(stream, partition);
        }
    }

    fn get(&mut self, stream: Stream, partition: PartitionId) -> Option<&mut Next> {
        self.next[stream.index()].get_mut(usize::try_from(partition.0).ok()?)?.as_mut()
    }

    pub(super) fn position(&self, stream: Stream, partition: PartitionId) -> Option<i64> {
        let next = self.next[stream.index()].get(usize::try_from(partition.0).ok()?)?;
        next.map(|next| next.offset)
    }

    /// Whether a record is to be delivered: of a started partition, not before its position, not at or after its end.
    pub(super) fn keep(&mut self, stream: Stream, partition: PartitionId, offset: Offset) -> bool {
        let Some(next) = self.get(stream, partition) else { return false };
        if offset.0 < next.offset {
            return false;
        }
        next.offset = offset.0 + 1;
        let keep = offset.0 < next.end;
        if next.offset >= next.end {
            self.end(stream, partition);
        }
        keep
    }

    /// Partitions that have not ended here, but of which the client has fetched all up to the end.
    pub(super) fn reached(&self, stream: Stream, health: &KafkaHealth) -> Vec<PartitionId> {
        if self.ends.is_none() {
            return Vec::new();
        }
        let open = (0..).zip(&self.next[stream.index()]);
        let open = open.filter_map(|(partition, next)| Some((PartitionId(partition), (*next)?)));
        let fetched = |partition, end| {
            let log = health.log(stream, partition);
            log.is_some_and(|log| log.next_fetch >= end && log.repeats > 0)
        };
        open.filter(|&(partition, next)| !next.ended && fetched(partition, next.end))
            .map(|(partition, _)| partition)
            .collect()
    }

    /// The next end to tell.
    pub(super) fn take_ended(&mut self) -> Option<(Stream, PartitionId, i64)> {
        self.ended.pop_front()
    }

    /// Whether there is an end to tell.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Tells the end of a topic partition, once.
    pub(super) fn end(&mut self, stream: Stream, partition: PartitionId) {
        if let Some(next) = self.get(stream, partition)
            && !next.ended
        {
            next.ended = true;
            let end = next.end;
            self.ended.push_back((stream, partition, end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::health::LogReport;
    use Stream::{Inferences, Labels};

    const P1: PartitionId = PartitionId(1);

    fn bounded(end: i64) -> Progress {
        Progress::new(Some(Arc::new([vec![0, end], vec![0, end]])))
    }

    #[test]
    fn records_of_unstarted_partitions_are_dropped() {
        let mut progress = Progress::new(None);
        assert!(!progress.keep(Inferences, P1, Offset(0)));
        progress.start(Inferences, P1, 5);
        assert!(!progress.keep(Labels, P1, Offset(5)));
        assert!(!progress.keep(Inferences, PartitionId(0), Offset(5)));
        assert!(progress.keep(Inferences, P1, Offset(5)));
        progress.clear();
        assert!(!progress.keep(Inferences, P1, Offset(6)));
    }

    #[test]
    fn records_before_the_position_are_dropped_and_holes_passed() {
        let mut progress = Progress::new(None);
        progress.start(Inferences, P1, 5);
        assert!(!progress.keep(Inferences, P1, Offset(4)));
        assert!(progress.keep(Inferences, P1, Offset(9)));
        assert!(!progress.keep(Inferences, P1, Offset(9)));
        assert_eq!(progress.position(Inferences, P1), Some(10));
    }

    #[test]
    fn end_is_told_once_and_nothing_behind_it_kept() {
        let mut progress = bounded(7);
        progress.start(Inferences, P1, 5);
        assert!(progress.keep(Inferences, P1, Offset(6)));
        assert!(!progress.keep(Inferences, P1, Offset(7)));
        assert_eq!(progress.ended, [(Inferences, P1, 7)]);
    }

    #[test]
    fn empty_partition_has_ended_at_its_start() {
        let mut progress = bounded(7);
        progress.start(Labels, P1, 7);
        assert_eq!(progress.ended, [(Labels, P1, 7)]);
    }

    #[test]
    fn tail_without_records_is_reached_by_fetching() {
        let health = KafkaHealth::default();
        let mut progress = bounded(7);
        progress.start(Inferences, P1, 5);
        let log = LogReport { end: None, position: None, next_fetch: 7 };
        health.started(Inferences, P1, 5);
        health.report(Inferences, P1, log);
        assert!(progress.reached(Inferences, &health).is_empty());
        health.report(Inferences, P1, log);
        assert_eq!(progress.reached(Inferences, &health), [P1]);
        progress.end(Inferences, P1);
        assert!(progress.reached(Inferences, &health).is_empty());
    }
}
