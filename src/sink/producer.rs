//! A Kafka producer whose records are acknowledged one by one.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use tokio::sync::oneshot;

use crate::source::kafka::{log_client_line, without_values};

/// The result of one send, when the broker has said so.
pub(crate) type Acknowledgement = oneshot::Receiver<Result<(), KafkaError>>;

/// Passes acknowledgements on.
pub(crate) struct Acknowledging;

impl ClientContext for Acknowledging {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client_line(level, facility, message);
    }

    fn stats(&self, _statistics: Statistics) {} // the default logs them

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a producer reports an error");
    }
}

impl ProducerContext for Acknowledging {
    type DeliveryOpaque = Box<oneshot::Sender<Result<(), KafkaError>>>;

    fn delivery(&self, result: &DeliveryResult<'_>, sender: Self::DeliveryOpaque) {
        let result = result.as_ref().map(drop).map_err(|(error, _)| error.clone());
        drop(sender.send(result)); // nobody waits for it any more after a stop
    }
}

/// An idempotent producer. One that has met an error that librdkafka calls fatal sends nothing any more, whatever
/// becomes of the cause: a right that was missing when the client started, for instance. So it is made anew then.
pub(crate) struct Producer {
    config: ClientConfig,
    client: Mutex<Arc<ThreadedProducer<Acknowledging>>>,
}

impl Producer {
    /// Connects by itself, later.
    pub(crate) fn new(mut config: ClientConfig) -> Result<Self, KafkaError> {
        config.set("acks", "all").set("enable.idempotence", "true");
        let client = Mutex::new(Arc::new(config.create_with_context(Acknowledging)?));
        Ok(Self { config, client })
    }

    /// What sends.
    pub(crate) fn client(&self) -> Result<Arc<ThreadedProducer<Acknowledging>>, KafkaError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, reason)) = client.client().fatal_error() {
            tracing::warn!(reason, "a producer can't go on: a new one takes its place");
            *client = Arc::new(self.config.create_with_context(Acknowledging)?);
        }
        Ok(Arc::clone(&client))
    }

    /// Why a record was not taken, without secrets: where the producer can't go on, why that is.
    pub(crate) fn reason(&self, error: &KafkaError, topic: &str) -> String {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let fatal = client.client().fatal_error();
        let code = fatal.as_ref().map(|(code, _)| *code).or_else(|| error.rdkafka_error_code());
        let reason = fatal.map_or_else(|| without_values(error), |(_, reason)| reason);
        match code {
            Some(
                RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed,
            ) => format!("{reason}. Allow this client to write to topic {topic}"),
            _ => reason,
        }
    }
}

/// Waits for the broker's word.
pub(crate) async fn acknowledged(acknowledgement: Acknowledgement) -> Result<(), KafkaError> {
    acknowledgement.await.unwrap_or(Err(KafkaError::Canceled))
}

/// Whether the topic takes no record as large as that.
pub(crate) fn too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}
