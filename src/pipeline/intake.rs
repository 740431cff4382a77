//! Records in: decode, observe, count. What a worker does with each record of the partitions that it owns.

use std::collections::{BTreeMap, VecDeque};

use super::letters::{Letters, borrow, own};
use super::{PipelineError, PipelineSettings};
use crate::decode::{Batch, DecodeError, Decoder, NotDecoded, SchemaId};
use crate::engine::Shard;
use crate::engine::dead_schemas::Judged;
use crate::engine::event::{Arrival, Event, PartitionId, Positions, RequestId, Stream};
use crate::engine::names::Names;
use crate::engine::outcome::Outcome;
use crate::engine::prefetch::prefetch;
use crate::failpoint;
use crate::sink::RecordBuf;
use crate::source::Record;
use crate::telemetry::BatchCounts;

/// Records that are decoded before the first of them is folded in, and whose places in memory are asked for together.
const AHEAD: usize = 16;
/// Payloads that are decoded together have at most so many bytes, unless one alone has more: what they say is in memory
/// at once.
const AHEAD_BYTES: usize = 1 << 20;

/// Decoders, names and the shards of the partitions that a worker owns.
#[derive(Debug)]
pub(super) struct Intake {
    /// None of a topic that is not read, and while it decodes.
    decoders: [Option<Box<Decoder>>; 2],
    pub(super) names: Names,
    pub(super) shards: BTreeMap<PartitionId, Shard>,
    pub(super) letters: Letters,
    /// How far this process has read each partition that it gave up.
    reached: BTreeMap<PartitionId, Positions>,
    /// Records behind one whose schema is not known yet: at most a batch.
    pending: VecDeque<RecordBuf>,
    pending_bytes: usize,
    waiting: Option<Wait>,
    counts: BatchCounts,
}

/// What records wait for.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) schema: SchemaId,
    /// What is wrong by now with a schema that the record was decoded with before: without it the row would change.
    pub(super) lost: Option<DecodeError>,
}

impl Wait {
    /// For a schema that the registry had when the record was counted. Told whenever the registry has said anew that it
    /// has it no more.
    #[cold]
    fn again(
        before: Option<&Self>,
        record: &Record<'_>,
        schema: SchemaId,
        reason: DecodeError,
    ) -> Self {
        if before.is_none_or(|before| before.lost.is_none()) {
            tracing::warn!(
                schema = schema.0,
                topic = record.stream.name(),
                partition = record.partition.0,
                offset = record.offset.0,
                %reason,
                "a record that was decoded before can't be decoded again: it waits for its schema"
            );
        }
        Self { schema, lost: Some(reason) }
    }
}

/// Whether a record was dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Done,
    Waits,
}

impl Intake {
    pub(super) fn new(settings: &PipelineSettings) -> Result<Self, PipelineError> {
        let decoder = |index: usize| {
            let settings_of = settings.decoders[index].as_ref();
            let new = |of| Decoder::new(of, settings.schemas.clone()).map(Box::new);
            settings_of.map(new).transpose()
        };
        Ok(Self {
            decoders: [decoder(0)?, decoder(1)?],
            names: Names::default(),
            shards: BTreeMap::new(),
            letters: Letters::new(settings.dead_letter_limit),
            reached: BTreeMap::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            waiting: None,
            counts: BatchCounts::default(),
        })
    }

    /// Takes in a batch. From the first record on whose schema is not known, the rest is put aside.
    pub(super) fn take_in(&mut self, records: &[Record<'_>]) -> Result<(), PipelineError> {
        let mut rest = records;
        while !rest.is_empty() && self.pending.is_empty() {
            let some = &rest[..self.alike(rest)];
            self.prefetch(some, &rest[some.len()..]);
            let done = self.some(some)?;
            rest = &rest[done..];
            if done < some.len() {
                break;
            }
        }
        for record in rest {
            let record = own(record);
            self.pending_bytes += bytes_of(&record);
            self.pending.push_back(record);
        }
        Ok(())
    }

    /// How many of the first records are of one topic and schema, so that they can be decoded together; at least one.
    fn alike(&self, records: &[Record<'_>]) -> usize {
        let schema = |record: &Record<'_>| {
            let decoder = self.decoders[record.stream.index()].as_ref();
            (record.stream, decoder.and_then(|decoder| decoder.schema(record.payload)))
        };
        let first = records.first().map(schema);
        let mut bytes = 0;
        let is_alike = |record: &&Record<'_>| {
            bytes += record.payload.map_or(0, <[u8]>::len);
            bytes <= AHEAD_BYTES && Some(schema(record)) == first
        };
        records.iter().take(AHEAD).take_while(is_alike).count().max(1)
    }

    /// Asks for what the next records need, and for the bytes of those behind them. Keys are request IDs as a rule, since
    /// records are joined by partition; where they are not, nothing is won.
    fn prefetch(&self, next: &[Record<'_>], behind: &[Record<'_>]) {
        for record in behind.iter().take(AHEAD) {
            let bytes = [record.key, record.payload].into_iter().flatten();
            bytes.filter_map(<[u8]>::first).for_each(prefetch);
        }
        for record in next {
            if let (Some(shard), Some(key)) = (self.shards.get(&record.partition), record.key) {
                shard.prefetch(RequestId::of(key));
            }
        }
    }

    /// Takes in records that are alike, at most [`AHEAD`]. How many were dealt with: the one behind them waits.
    fn some(&mut self, records: &[Record<'_>]) -> Result<usize, PipelineError> {
        let Some(first) = records.first() else { return Ok(0) };
        let stream = first.stream.index();
        let Some(mut decoder) = self.decoders[stream].take() else { return Ok(records.len()) };
        let done = self.decode_and_fold(&mut decoder, records);
        self.decoders[stream] = Some(decoder);
        done
    }

    fn decode_and_fold(
        &mut self,
        decoder: &mut Decoder,
        records: &[Record<'_>],
    ) -> Result<usize, PipelineError> {
        let schema = records.first().and_then(|first| decoder.schema(first.payload));
        let mut batch = decoder.batch(schema);
        let mut read = records.iter().map(|record| self.read(&mut batch, schema, record));
        // To decode them all first needs less of the processor's cache for code than one after the other.
        let read: [_; AHEAD] = std::array::from_fn(|_| read.next());
        for (done, (record, read)) in records.iter().zip(read.into_iter().flatten()).enumerate() {
            if self.fold(record, schema, read)? == Step::Waits {
                return Ok(done);
            }
        }
        Ok(records.len())
    }

    /// Tries the records again that wait for a schema.
    pub(super) fn retry_pending(&mut self) -> Result<(), PipelineError> {
        while let Some(record) = self.pending.pop_front() {
            if self.some(&[borrow(&record)])? == 0 {
                self.pending.push_front(record);
                return Ok(());
            }
            self.pending_bytes -= bytes_of(&record);
        }
        self.waiting = None;
        Ok(())
    }

    /// The schema that records wait for.
    pub(super) fn waits_for(&self) -> Option<&Wait> {
        self.waiting.as_ref().filter(|_| !self.pending.is_empty())
    }

    /// Takes a shard out, and forgets the records of its partition that were put aside: whoever gets the partition
    /// next reads them again.
    pub(super) fn remove(&mut self, partition: PartitionId) -> Option<Shard> {
        self.pending.retain(|record| record.partition != partition);
        self.pending_bytes = self.pending.iter().map(bytes_of).sum();
        if self.pending.is_empty() {
            self.waiting = None;
        }
        let shard = self.shards.remove(&partition)?;
        let reached = self.reached.entry(partition).or_default();
        for stream in Stream::BOTH {
            reached.set(stream, reached.of(stream).max(shard.positions().of(stream)));
        }
        Some(shard)
    }

    /// What was counted since the last call.
    pub(super) fn take_counts(&mut self) -> BatchCounts {
        let orphaned = self.shards.values_mut().map(Shard::take_orphaned).sum();
        BatchCounts { orphaned, ..std::mem::take(&mut self.counts) }
    }

    /// Bytes beside those of the shards.
    pub(super) fn bytes(&self) -> usize {
        self.names.bytes() + self.letters.bytes() + self.pending_bytes
    }

    /// What a record says, and what was decided of its schema when it was counted; nothing of one that is not taken in.
    fn read<'a>(
        &mut self,
        batch: &mut Batch<'a>,
        schema: Option<SchemaId>,
        record: &Record<'a>,
    ) -> Option<(Judged, Result<Event<'a>, NotDecoded>)> {
        let shard = self.shards.get(&record.partition).filter(|shard| is_new(shard, record))?;
        let judged = schema.map_or(Judged::Open, |schema| shard.judged(arrival(record), schema));
        let read = match (judged, schema) {
            // It may be registered by now, and would change rows, but not the accounts.
            (Judged::Dead, Some(SchemaId(id))) => {
                Err(NotDecoded::Bad(DecodeError::UnknownSchema { id }))
            }
            _ => batch.decode(record.payload, &mut self.names),
        };
        Some((judged, read))
    }

    /// Folds in what a record says.
    fn fold(
        &mut self,
        record: &Record<'_>,
        schema: Option<SchemaId>,
        read: Option<(Judged, Result<Event<'_>, NotDecoded>)>,
    ) -> Result<Step, PipelineError> {
        let shard = self.shards.get_mut(&record.partition).filter(|shard| is_new(shard, record));
        let Some((shard, (judged, read))) = shard.zip(read) else { return Ok(Step::Done) };
        let at = arrival(record);
        let is_replay = shard.is_replay(at);
        let (outcome, reason) = match read {
            Ok(event) => {
                let event = failpoint::event(record.partition, record.offset, event);
                let outcome = shard.observe(at, &event, &mut self.names);
                if let Some(schema) = schema {
                    shard.usable(record.stream, schema);
                }
                (outcome, (outcome == Outcome::Dead).then_some(DecodeError::TimestampInFuture))
            }
            Err(NotDecoded::Bad(reason)) => match reason.schema() {
                Some(schema) if judged == Judged::Usable => {
                    let before = self.waiting.as_ref();
                    self.waiting = Some(Wait::again(before, record, schema, reason));
                    return Ok(Step::Waits);
                }
                Some(schema) => (shard.dead_by_schema(at, schema), Some(reason)),
                None => (shard.dead(at), Some(reason)),
            },
            Err(NotDecoded::Waiting(schema)) => {
                self.waiting = Some(Wait { schema, lost: None });
                return Ok(Step::Waits);
            }
        };
        self.counts.count(record.stream, outcome, is_replay);
        let reached = self.reached.get(&record.partition).filter(|_| is_replay);
        if reached.is_some_and(|reached| record.offset.0 < reached.of(record.stream)) {
            self.counts.reread[record.stream.index()] += 1;
        }
        match reason {
            Some(reason) if !is_replay => self.letters.dead(record, &reason)?,
            Some(_) => {}
            None => self.letters.good(),
        }
        Ok(Step::Done)
    }

    /// Whether a topic is read at all.
    pub(super) fn reads(&self, stream: Stream) -> bool {
        self.decoders[stream.index()].is_some()
    }
}

/// Whether a shard has not read a record before.
fn is_new(shard: &Shard, record: &Record<'_>) -> bool {
    record.offset.0 >= shard.positions().of(record.stream)
}

fn arrival(record: &Record<'_>) -> Arrival {
    Arrival { stream: record.stream, offset: record.offset, time: record.time }
}

fn bytes_of(record: &RecordBuf) -> usize {
    let key = record.key.as_ref().map_or(0, Vec::len);
    size_of::<RecordBuf>() + key + record.payload.as_ref().map_or(0, Vec::len)
}
