//! What librdkafka calls back: group changes are kept for the control thread, statistics and errors go to the health.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};

use super::health::{KafkaHealth, LogReport};
use crate::engine::event::{PartitionId, Stream};

/// The names of the two topics, by [`Stream::index`].
pub(super) type TopicNames = [Option<String>; 2];

/// What the group did to this instance.
#[derive(Debug)]
pub(super) enum Change {
    Assigned(Vec<(Stream, PartitionId)>),
    Revoked,
    Lost,
}

/// Receives librdkafka's callbacks, all of them on the control thread.
#[derive(Debug)]
pub(super) struct GroupContext {
    topics: TopicNames,
    health: KafkaHealth,
    changes: Mutex<Vec<Change>>,
    closing: AtomicBool,
}

impl GroupContext {
    pub(super) fn new(topics: TopicNames, health: KafkaHealth) -> Self {
        Self { topics, health, changes: Mutex::default(), closing: AtomicBool::new(false) }
    }

    /// From now on partitions that are taken away are given back at once: nobody is left to ask.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    fn stream_of(&self, topic: &str) -> Option<Stream> {
        Stream::BOTH
            .into_iter()
            .find(|stream| self.topics[stream.index()].as_deref() == Some(topic))
    }

    /// What the group did since the last call, in order.
    pub(super) fn take_changes(&self) -> Vec<Change> {
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client_line(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") {
            self.health.reached();
        }
        for topic in statistics.topics.values() {
            let Some(stream) = self.stream_of(&topic.topic) else { continue };
            for partition in topic.partitions.values() {
                if partition.fetch_state == "active" {
                    let known = |offset: i64| (offset >= 0).then_some(offset);
                    let log = LogReport {
                        end: known(partition.ls_offset),
                        position: known(partition.app_offset),
                        next_fetch: partition.next_offset,
                    };
                    self.health.report(stream, PartitionId(partition.partition), log);
                }
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.health.lost(reason),
            Some(RDKafkaErrorCode::Fatal) => self.health.fail(reason),
            Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve) => {
                tracing::debug!(reason, "a Kafka broker can't be reached");
            }
            _ => self.health.refused(reason),
        }
    }
}

/// What librdkafka logs: its errors repeat, and the health says once what matters.
pub fn log_client_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::info!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(target: "librdkafka", facility, "{message}");
        }
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::Acquire) {
            if let Err(error) = consumer.unassign() {
                tracing::warn!(%error, "can't give partitions back to the group");
            }
            return;
        }
        let change = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let named = partitions.elements();
            let of =
                |topic: &str, partition| Some((self.stream_of(topic)?, PartitionId(partition)));
            Change::Assigned(
                named.iter().filter_map(|named| of(named.topic(), named.partition())).collect(),
            )
        } else if consumer.assignment_lost() {
            Change::Lost
        } else {
            Change::Revoked
        };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "offsets for lag tools were not committed; a partition's next mark brings its own");
        }
    }
}
