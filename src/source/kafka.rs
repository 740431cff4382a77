//! Kafka: the settings, the topics, and the way to one source per worker.

use std::time::Duration;

use rdkafka::ClientConfig;

use super::SourceError;
pub use super::group::KafkaCommits;
pub use super::health::KafkaHealth;
pub use super::share::KafkaSource;

/// Which topics to read, and how.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Any librdkafka property; those that would break correctness are refused.
    pub properties: Vec<(String, String)>,
    /// The consumer group: the job's name.
    pub group: String,
    /// The inference topic.
    pub inferences: String,
    /// The label topic, if any.
    pub labels: Option<String>,
    /// How many sources to make, at least 1; partition p goes to number p modulo this.
    pub workers: usize,
    /// Where a partition without a mark begins.
    pub start: Start,
    /// Whether to end at the end offsets seen by [`open`].
    pub until_end: bool,
    /// How long a revocation waits for the workers' answers.
    pub drain_budget: Duration,
}

/// Where a partition without a mark begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record that is there.
    Earliest,
    /// After the last record that is there.
    Latest,
}

/// What the brokers say of the topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// The number of partitions, of both topics.
    pub partitions: i32,
    /// The inference topic.
    pub inferences: TopicIdentity,
    /// The label topic, if any.
    pub labels: Option<TopicIdentity>,
    /// The cluster's id; empty where the brokers give none.
    pub cluster: String,
    /// Whether all topics are stamped by the broker (`message.timestamp.type=LogAppendTime`).
    pub append_time: bool,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicIdentity {
    /// The name.
    pub name: String,
    /// The id, which changes when a topic is deleted and created anew; empty where the brokers give none.
    pub id: String,
}

/// The sources of an instance. When all of it is dropped the group is left.
#[derive(Debug)]
pub struct Opened {
    /// One for each worker.
    pub sources: Vec<KafkaSource>,
    /// For the writer.
    pub commits: KafkaCommits,
    /// For telemetry and `/readyz`.
    pub health: KafkaHealth,
}

/// The one place that sets Kafka defaults; the user's properties override them.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn client_config(brokers: &str, properties: &[(String, String)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("client.id", "tidegauge");
    for (name, value) in properties {
        config.set(name, value);
    }
    config
}

/// Asks the brokers about the topics.
pub fn inspect(settings: &KafkaSettings) -> Result<Topics, SourceError> {
    Err(SourceError::Client(format!("{} can't be inspected", settings.inferences)))
}

/// Joins the group: one source per worker.
pub fn open(settings: &KafkaSettings, _topics: &Topics) -> Result<Opened, SourceError> {
    Err(SourceError::Client(format!("{} can't be opened", settings.inferences)))
}
