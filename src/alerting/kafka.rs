//! Changes as records of a Kafka topic: the JSON of webhooks as value, the alert as key, so that all changes of one
//! alert stand in one partition and in order.

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use serde_json::Value as Json;
use tokio::sync::oneshot;

use super::message::{NotTaken, alert_of};
use crate::sink::producer::{Producer, acknowledged, too_large};
use crate::source::kafka::{client_config, without_values};

/// As with webhooks: whoever has seen it drops the repetition.
const KEY_HEADER: &str = "idempotency-key";

/// A topic of Kafka.
#[derive(Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Where the cluster is.
    pub brokers: String,
    /// librdkafka properties; may hold secrets.
    pub properties: Vec<(String, String)>,
}

/// Sends changes to a topic.
pub(super) struct Publisher {
    producer: Producer,
    topic: String,
}

impl Publisher {
    /// Connects by itself, later. One attempt takes at most `timeout`.
    pub(super) fn new(topic: &Topic, timeout: Duration) -> Result<Self, String> {
        let mut config = client_config(&topic.brokers, &topic.properties);
        let timeout_ms = timeout.as_millis().max(1).to_string();
        config.set("linger.ms", "0").set("message.timeout.ms", timeout_ms);
        let producer = Producer::new(config).map_err(|error| without_values(&error))?;
        Ok(Self { producer, topic: topic.name.clone() })
    }

    /// Sends one, and waits until all replicas have it.
    pub(super) async fn send(&self, change: &Json) -> Result<String, NotTaken> {
        let key = change["idempotency_key"].as_str().unwrap_or_default();
        let body = change.to_string();
        let headers = [(KEY_HEADER, key), ("content-type", "application/json")];
        let headers = headers.into_iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header { key, value: Some(value) })
        });
        let (sender, acknowledgement) = oneshot::channel();
        let record = BaseRecord::<str, str, _>::with_opaque_to(&self.topic, Box::new(sender));
        let record = record.key(alert_of(key)).payload(&body).headers(headers);
        let failed = |error: KafkaError| {
            let reason =
                format!("topic {}: {}", self.topic, self.producer.reason(&error, &self.topic));
            if too_large(&error) { NotTaken::Change(reason) } else { NotTaken::Target(reason) }
        };
        let producer = self.producer.client().map_err(failed)?;
        producer.send(record).map_err(|(error, _)| failed(error))?;
        acknowledged(acknowledgement).await.map_err(failed)?;
        Ok(format!("topic {} has it", self.topic))
    }
}
