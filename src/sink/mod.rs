//! Where rows and dead letters go. `Ok` means acknowledged.
#![warn(missing_docs)]

pub mod ddl;
pub mod tables;
pub(crate) mod catalogue;
pub mod views;
mod rowbinary;
pub mod row;
mod insert;
mod connection;
mod read;
pub mod rows;
pub mod alerts;
pub mod definitions;
pub mod summary;
pub mod migrate;
pub mod job;
pub mod files;
pub mod clickhouse;
pub(crate) mod producer;
pub mod dead_letter;
pub mod rejected;

use bytes::Bytes;

#[doc(hidden)] // for the fuzz targets
pub use read::{marks_in, states_in};

use crate::engine::event::{Offset, PartitionId, Stream};
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::{EventTime, RecordTime};
use crate::engine::window::Window;

/// The database, as the writer sees it. Every attempt of a write sends the same bytes; repeating one is harmless,
/// since versions decide.
pub trait Sink: Send {
    /// Inserts and waits for the acknowledgement.
    fn write(&mut self, batch: &RowBatch) -> impl Future<Output = Result<(), SinkError>> + Send;
    /// The greatest version of every state row of the job whose window lies within `span`.
    fn state_versions(
        &mut self,
        span: Window,
    ) -> impl Future<Output = Result<Vec<StateVersion>, SinkError>> + Send;
    /// When the windows start that have a state row of the job, ascending.
    fn window_starts(&mut self) -> impl Future<Output = Result<Vec<EventTime>, SinkError>> + Send;
    /// The newest row of each of these keys and partitions; one that does not exist is left out.
    fn states(
        &mut self,
        wanted: &[(Key, PartitionId)],
    ) -> impl Future<Output = Result<Vec<StateRow>, SinkError>> + Send;
    /// The newest mark of each of these partitions; one that has none is left out.
    fn marks(
        &mut self,
        partitions: &[PartitionId],
    ) -> impl Future<Output = Result<Vec<Mark>, SinkError>> + Send;
    /// The greatest seal mark of each partition of the job that has one.
    fn seals(
        &mut self,
    ) -> impl Future<Output = Result<Vec<(PartitionId, EventTime)>, SinkError>> + Send;
    /// How far the newest mark of each of these partitions is ([`Mark::order`]); one that has none is left out.
    fn mark_orders(
        &mut self,
        partitions: &[PartitionId],
    ) -> impl Future<Output = Result<Vec<(PartitionId, i64)>, SinkError>> + Send;
    /// The greatest version of every metric row of these windows in these tables.
    fn metric_versions(
        &mut self,
        tables: &[MetricTable],
        windows: &[Window],
    ) -> impl Future<Output = Result<Vec<MetricVersion>, SinkError>> + Send;
}

/// One state row's key, partition and version.
#[derive(Clone, Debug, PartialEq)]
pub struct StateVersion {
    /// The key.
    pub key: Key,
    /// The partition.
    pub partition: PartitionId,
    /// The greatest version in the table.
    pub version: Version,
}

/// One metric row's table, key and version.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricVersion {
    /// The table.
    pub table: MetricTable,
    /// The key; the window's size is the grain.
    pub key: Key,
    /// The greatest version in the table.
    pub version: Version,
}

/// Encoded rows of one table: `RowBinaryWithNamesAndTypes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowBatch {
    /// Where they go.
    pub table: tables::Table,
    /// How many there are.
    pub rows: usize,
    /// The bytes of every attempt.
    pub body: Bytes,
}

/// Why a write or a read did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// No answer, a cut connection, a time-out, or a server that is starting or overloaded.
    #[error("ClickHouse does not answer: {0}")]
    Unavailable(String),
    /// Wrong password, missing right, disk full, read-only: a person has to act, then it goes on by itself.
    #[error("ClickHouse refuses: {0}")]
    Refused(String),
    /// A table is missing or has other columns than expected.
    #[error("the tables in ClickHouse are not those of this version: {0}")]
    Schema(String),
    /// Rows in the database that this program did not write.
    #[error("ClickHouse holds rows that can't be read: {0}")]
    Unreadable(String),
    /// Kafka did not take the dead letters.
    #[error("the dead-letter topic does not take records: {0}")]
    Letters(String),
    /// The file of rejected records can't be written.
    #[error("rejected records can't be written to {0}")]
    Rejected(String),
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Try again by itself, with growing pauses.
    Retry,
    /// The same, and say on `/readyz` that a person has to act.
    WaitForOperator,
    /// Stop the process.
    Final,
}

impl SinkError {
    /// The same, with what it is about before what was said.
    pub(crate) fn about(self, what: &str) -> Self {
        let with = |said: String| format!("{what}: {said}");
        match self {
            Self::Unavailable(said) => Self::Unavailable(with(said)),
            Self::Refused(said) => Self::Refused(with(said)),
            Self::Schema(said) => Self::Schema(with(said)),
            Self::Unreadable(said) => Self::Unreadable(with(said)),
            Self::Letters(said) => Self::Letters(with(said)),
            Self::Rejected(said) => Self::Rejected(with(said)),
        }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "clickhouse_unavailable",
            Self::Refused(_) => "clickhouse_refused",
            Self::Schema(_) => "clickhouse_schema",
            Self::Unreadable(_) => "clickhouse_unreadable",
            Self::Letters(_) => "dead_letters_unavailable",
            Self::Rejected(_) => "rejected_unwritable",
        }
    }

    /// What to do about it.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Unavailable(_) | Self::Letters(_) => FailureClass::Retry,
            Self::Refused(_) | Self::Schema(_) => FailureClass::WaitForOperator,
            Self::Unreadable(_) | Self::Rejected(_) => FailureClass::Final,
        }
    }
}

/// Where records go that can't be used. `Ok` means acknowledged.
pub trait DeadLetters: Send {
    /// Sends these and waits for all acknowledgements.
    fn send(
        &mut self,
        letters: &[DeadLetter],
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// One record that can't be used, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The record.
    pub record: RecordBuf,
    /// The stable code of the reason.
    pub code: &'static str,
    /// The reason in words: names the field and the remedy, never more than a few bytes of the payload.
    pub reason: String,
}

/// A record that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBuf {
    /// Which topic.
    pub stream: Stream,
    /// Which partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp.
    pub time: RecordTime,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub payload: Option<Vec<u8>>,
}
