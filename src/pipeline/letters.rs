//! Dead letters on their way to the writer, bounded, and the limit on their share that stops the process.

use crate::decode::DecodeError;
use crate::sink::{DeadLetter, RecordBuf};
use crate::source::Record;

use super::PipelineError;

/// So many letters at most wait in a worker; beyond, intake pauses until they are flushed.
const LETTERS_MAX: usize = 10_000;
/// So many bytes of letters at most wait in a worker.
const LETTER_BYTES_MAX: usize = 64 << 20;
/// The sliding window of the limit moves on in this many parts.
const PARTS: u64 = 16;
/// So many of a file are no accident any more: one bad row of three says little about the file, and five of forty much.
const A_HANDFUL: u64 = 5;

/// When dead letters stop the process instead of draining the topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeadLetterLimit {
    /// The greatest share of dead letters among the last records, in 0..=1. The window is `at_least / share` records.
    pub share: f64,
    /// Fewer dead letters than this in the window never stop it.
    pub at_least: u64,
}

impl DeadLetterLimit {
    /// None stop it: for records that are judged elsewhere.
    pub const NONE: Self = Self { share: 1.0, at_least: u64::MAX };

    /// Whether so many of the last records of a stream are too many.
    fn is_exceeded(&self, records: u64, dead: u64) -> bool {
        dead >= self.at_least && self.is_beyond_share(records, dead)
    }

    /// Whether so many are too many where all records are known, as at the end of a file. There the share decides: it
    /// has to be a handful that can't be used, or all.
    pub fn is_exceeded_at_end(&self, records: u64, dead: u64) -> bool {
        let is_many = dead >= self.at_least.min(A_HANDFUL) || dead == records;
        is_many && self.is_beyond_share(records, dead)
    }

    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a share of counts")]
    fn is_beyond_share(&self, records: u64, dead: u64) -> bool {
        dead as f64 > records as f64 * self.share
    }
}

impl Default for DeadLetterLimit {
    fn default() -> Self {
        Self { share: 0.1, at_least: 1000 }
    }
}

/// Counts dead letters among the last records.
#[derive(Debug)]
struct Recent {
    limit: DeadLetterLimit,
    part_records: u64,
    /// Records and dead letters of each part of the window, the newest last.
    parts: std::collections::VecDeque<(u64, u64)>,
}

impl Recent {
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a window's length, held to 1e15"
    )]
    fn new(limit: DeadLetterLimit) -> Self {
        let window = (limit.at_least as f64 / limit.share.max(1e-9)).clamp(1.0, 1e15) as u64;
        let parts = std::collections::VecDeque::from([(0, 0)]);
        Self { limit, part_records: window.div_ceil(PARTS), parts }
    }

    /// Counts one record.
    fn count(&mut self, is_dead: bool) {
        let newest = self.parts.back_mut().expect("the window has always a part");
        newest.0 += 1;
        newest.1 += u64::from(is_dead);
        if newest.0 >= self.part_records {
            self.parts.push_back((0, 0));
            if self.parts.len() > usize::try_from(PARTS).expect("16 fits") {
                self.parts.pop_front();
            }
        }
    }

    /// Records and dead letters of the window, when they are beyond the limit.
    fn exceeded(&self) -> Option<(u64, u64)> {
        let sum = |(r, d): (u64, u64), &(records, dead): &(u64, u64)| (r + records, d + dead);
        let (records, dead) = self.parts.iter().fold((0, 0), sum);
        self.limit.is_exceeded(records, dead).then_some((records, dead))
    }
}

/// The dead letters of one worker since its last freeze.
#[derive(Debug)]
pub(super) struct Letters {
    waiting: Vec<DeadLetter>,
    bytes: usize,
    recent: Recent,
}

impl Letters {
    pub(super) fn new(limit: DeadLetterLimit) -> Self {
        Self { waiting: Vec::new(), bytes: 0, recent: Recent::new(limit) }
    }

    /// Counts a record that could be used.
    pub(super) fn good(&mut self) {
        self.recent.count(false);
    }

    /// Keeps a record that could not be used. An error when there are too many of them: then the process stops before
    /// a mark passes this record, so that a restart reads it again.
    pub(super) fn dead(
        &mut self,
        record: &Record<'_>,
        reason: &DecodeError,
    ) -> Result<(), PipelineError> {
        let letter =
            DeadLetter { record: own(record), code: reason.code(), reason: reason.to_string() };
        self.bytes += record_bytes(record) + letter.reason.len() + size_of::<DeadLetter>();
        self.waiting.push(letter);
        self.recent.count(true);
        match self.recent.exceeded() {
            None => Ok(()),
            Some((records, dead)) => Err(PipelineError::DeadLetterLimit {
                topic: record.stream.name(),
                partition: record.partition.0,
                offset: record.offset.0,
                records,
                dead,
                reason: reason.to_string(),
            }),
        }
    }

    /// Whether no more should come before a flush.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= LETTERS_MAX || self.bytes >= LETTER_BYTES_MAX
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take(&mut self) -> Vec<DeadLetter> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }
}

/// A record that owns its bytes.
pub(super) fn own(record: &Record<'_>) -> RecordBuf {
    RecordBuf {
        stream: record.stream,
        partition: record.partition,
        offset: record.offset,
        time: record.time,
        key: record.key.map(<[u8]>::to_vec),
        payload: record.payload.map(<[u8]>::to_vec),
    }
}

/// A record that borrows the bytes of another.
pub(super) fn borrow(record: &RecordBuf) -> Record<'_> {
    Record {
        stream: record.stream,
        partition: record.partition,
        offset: record.offset,
        time: record.time,
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
    }
}

fn record_bytes(record: &Record<'_>) -> usize {
    record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_the_last_records_only() {
        let mut recent = Recent::new(DeadLetterLimit { share: 0.1, at_least: 100 });
        for _ in 0..90 {
            recent.count(true);
        }
        assert_eq!(recent.exceeded(), None, "fewer than at_least");
        for _ in 0..2000 {
            recent.count(false);
        }
        for _ in 0..90 {
            recent.count(true);
        }
        assert_eq!(recent.exceeded(), None, "the first ones are out of the window");
        for _ in 0..20 {
            recent.count(true);
        }
        assert!(recent.exceeded().is_some());
    }

    #[test]
    fn a_steady_share_below_the_limit_never_stops() {
        let mut recent = Recent::new(DeadLetterLimit { share: 0.1, at_least: 100 });
        for i in 0..100_000 {
            recent.count(i % 20 == 0);
            assert_eq!(recent.exceeded(), None);
        }
    }

    #[test]
    fn at_the_end_of_a_file_the_share_decides_from_a_handful_on() {
        let limit = DeadLetterLimit::default();
        for (records, dead) in [(1000, 999), (1000, 101), (50, 6), (40, 5), (3, 3), (1, 1)] {
            assert!(limit.is_exceeded_at_end(records, dead), "{dead} of {records}");
        }
        for (records, dead) in [(1000, 100), (50, 5), (5, 4), (3, 1), (3, 0), (0, 0)] {
            assert!(!limit.is_exceeded_at_end(records, dead), "{dead} of {records}");
        }
        let strict = DeadLetterLimit { share: 0.0, at_least: 1 };
        assert!(strict.is_exceeded_at_end(1000, 1) && !strict.is_exceeded_at_end(1000, 0));
        assert!(!DeadLetterLimit::NONE.is_exceeded(1000, 1000));
    }
}
