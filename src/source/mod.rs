//! Where records come from. A rebalance is data, not a callback into the engine.
#![warn(missing_docs)]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod steady;
pub mod batch;
mod health;
mod context;
mod group;
pub mod retention;
pub mod settings;
mod progress;
mod topics;
pub mod watch;
pub mod range;
mod share;
pub mod kafka;
pub mod partitioner;
pub mod sample;
pub mod files;
pub mod feed;

use std::time::Duration;

use crate::engine::event::{Offset, PartitionId, Positions, Stream};
use crate::engine::floor::Mark;
use crate::engine::time::RecordTime;

/// One worker's share of both topics. Each worker thread owns one; nothing in it is shared with another worker but
/// the control thread behind it.
pub trait Source: Send {
    /// Waits up to `wait` for what comes next. Borrowed slices live until the next call.
    fn poll(&mut self, take: Take, wait: Duration) -> Result<SourceEvent<'_>, SourceError>;
    /// Where a partition without a mark begins: at the log's start or end, as configured. One that is left out can't
    /// be asked for at present; it is assigned again later.
    fn beginning(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Positions)>, SourceError>;
    /// Begins to read assigned partitions, each topic from its own position. Nothing is read of an assigned
    /// partition before.
    fn start(&mut self, from: &[StartAt]) -> Result<(), SourceError>;
    /// Asks for the instance's assignment anew: every worker gets its partitions as lost, then as assigned. Several
    /// workers may ask for the same.
    fn reassign(&mut self) -> Result<(), SourceError>;
}

/// Where reading of a partition starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartAt {
    /// The partition.
    pub partition: PartitionId,
    /// The first offsets to read.
    pub from: Positions,
    /// What has counted already, at least `from`: a log that ends before that is not the one that was read.
    pub counted: Positions,
}

/// Offsets in Kafka's group: for lag tools and people only. What counts is the mark.
pub trait Commits: Send {
    /// Commits the positions of these marks. A failure harms nothing. One that is told here is tried again with the next
    /// flush; one that shows later only with a newer mark of the partition.
    fn commit(&self, marks: &[Mark]) -> Result<(), SourceError>;
}

/// Which topics to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Whatever comes.
    Both,
    /// Near the byte budget, or to keep the topics in step: the other topic's queue is left unread.
    Only(Stream),
    /// Neither: only group events are wanted, while a record waits for its schema.
    Nothing,
}

/// What comes next.
#[derive(Debug)]
pub enum SourceEvent<'a> {
    /// At most 1000 records; offsets ascend per topic partition.
    Records(Records<'a>),
    /// New partitions. Nothing is read of them until [`Source::start`].
    Assigned(Vec<PartitionId>),
    /// Freeze, write, mark, put the shards aside, then answer. After the answer nothing more of them comes.
    Revoked(Vec<PartitionId>, Reply),
    /// Put aside at once; nothing more may be written for them.
    Lost(Vec<PartitionId>),
    /// Bounded sources only: this topic partition has no more. Its end offset as seen at the start, which is given
    /// too, was reached.
    Ended(Stream, PartitionId, i64),
    /// `wait` has passed.
    Quiet,
}

/// The answer to a revocation. Dropping it is the answer.
#[derive(Debug)]
pub struct Reply(pub std::sync::mpsc::SyncSender<()>);

/// A batch of records; iterable more than once.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// The records, in the order in which they came.
    pub records: &'a [Record<'a>],
}

/// One record, borrowed from the batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Which topic.
    pub stream: Stream,
    /// Which partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp.
    pub time: RecordTime,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// What can go wrong with Kafka.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// librdkafka says that it can't go on.
    #[error("Kafka client failed: {0}")]
    Client(String),
    /// A property in `kafka.properties` that must not be set.
    #[error("kafka.properties must not set {name}: {reason}")]
    Property {
        /// Its name.
        name: String,
        /// Why not, and what to do instead.
        reason: &'static str,
    },
    /// The brokers can't be reached at start.
    #[error("can't reach Kafka at {brokers}: {reason}")]
    Unreachable {
        /// `kafka.brokers`.
        brokers: String,
        /// What librdkafka says.
        reason: String,
    },
    /// A configured topic does not exist.
    #[error("topic {topic} does not exist at {brokers}")]
    MissingTopic {
        /// Its name.
        topic: String,
        /// `kafka.brokers`.
        brokers: String,
    },
    /// The topics have different numbers of partitions, so records can't be joined by partition.
    #[error(
        "topic {inferences} has {inference_partitions} partitions, topic {labels} has {label_partitions}"
    )]
    UnequalPartitions {
        /// The inference topic.
        inferences: String,
        /// Its partitions.
        inference_partitions: usize,
        /// The label topic.
        labels: String,
        /// Its partitions.
        label_partitions: usize,
    },
    /// A file can't be read on.
    #[error(transparent)]
    File(#[from] files::FileError),
    /// An assignment held a partition of one topic without its twin.
    #[error("the group assigned partition {partition} of one topic only")]
    Unpaired {
        /// The partition number.
        partition: i32,
    },
    /// Another instance has joined the group under this one's `group.instance.id`.
    #[error("another instance has joined the group under this one's group.instance.id")]
    Fenced,
    /// The topics have got more partitions since the start, so keys have moved between partitions.
    #[error(
        "the topics have got partition {partition} since the start: a join across the change would miss pairs"
    )]
    Grown {
        /// The new partition number.
        partition: i32,
    },
    /// A topic has another id than at the start: it was deleted and created again.
    #[error(
        "topic {topic} was created anew (its ID was {was} and is {is}): what was read before is not in it, and its \
         offsets begin again"
    )]
    Replaced {
        /// The topic.
        topic: String,
        /// The id at the start.
        was: String,
        /// The id now.
        is: String,
    },
    /// The brokers delete records before a restart needs them no more.
    #[error(
        "topic {topic} has {setting}={kept_ms}, but a restart may have to read back {needed_ms} ms, which follows from \
         windows.label_wait, lateness, max_future and size: the first restart would miss records. Set {setting} to \
         {needed_ms} or more, or shorten windows.label_wait"
    )]
    ShortRetention {
        /// The topic.
        topic: String,
        /// Which of its settings.
        setting: &'static str,
        /// The setting's value.
        kept_ms: i64,
        /// The least value that does.
        needed_ms: i64,
    },
    /// The log no longer holds what a restart must read.
    #[error(
        "topic {topic} partition {partition} starts at offset {log_start}, but a restart must read from {floor}"
    )]
    FloorBelowLog {
        /// The topic.
        topic: String,
        /// The partition number.
        partition: i32,
        /// The first offset that must be read.
        floor: i64,
        /// The first offset that is still there.
        log_start: i64,
    },
    /// The log no longer holds the first records of a range.
    #[error(
        "topic {topic} partition {partition} starts at offset {log_start}, after {from} where the range begins: \
         those records are gone"
    )]
    RangeTrimmed {
        /// The topic.
        topic: String,
        /// The partition number.
        partition: i32,
        /// Where the range begins.
        from: i64,
        /// The first offset that is still there.
        log_start: i64,
    },
    /// A range without an offset.
    #[error("the range holds no record of topic {topic}, which has offsets {offsets}")]
    RangeEmpty {
        /// The topic.
        topic: String,
        /// First and end of each partition.
        offsets: String,
    },
    /// The log ends before the position that was marked: the topic was created anew, or its brokers have lost records.
    #[error(
        "topic {topic} partition {partition} ends at offset {log_end}, but was read up to offset {position} before"
    )]
    LogShrank {
        /// The topic.
        topic: String,
        /// The partition number.
        partition: i32,
        /// Where reading stood.
        position: i64,
        /// Where the log ends.
        log_end: i64,
    },
}

impl SourceError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Client(_) => "kafka_client",
            Self::Property { .. } => "kafka_property",
            Self::Unreachable { .. } => "kafka_unreachable",
            Self::MissingTopic { .. } => "topic_missing",
            Self::UnequalPartitions { .. } => "partitions_unequal",
            Self::File(error) => error.code(),
            Self::Unpaired { .. } => "assignment_unpaired",
            Self::Fenced => "instance_fenced",
            Self::Grown { .. } => "partitions_changed",
            Self::FloorBelowLog { .. } => "floor_below_log",
            Self::RangeTrimmed { .. } => "range_trimmed",
            Self::RangeEmpty { .. } => "range_empty",
            Self::ShortRetention { .. } => "retention_too_short",
            Self::LogShrank { .. } | Self::Replaced { .. } => "topic_recreated",
        }
    }
}
