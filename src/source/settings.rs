//! What the configuration says about Kafka, and the librdkafka properties that follow from it.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::SourceError;
use super::retention::Retention;

/// Which topics to read, and how.
#[derive(Clone, Debug)]
pub struct KafkaSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// Any librdkafka property that this build has; those that would break correctness are refused.
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
    /// Whether to end at the end offsets seen by [`open`](super::kafka::open).
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
    /// How long records are kept, inferences first; none where the brokers do not say.
    pub retention: [Option<Retention>; 2],
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicIdentity {
    /// The name.
    pub name: String,
    /// The id, which changes when a topic is deleted and created anew; empty where the brokers give none.
    pub id: String,
}

/// Properties that are set here because results depend on them, and why they can't be changed.
const FIXED: &[(&str, &str, &str)] = &[
    ("auto.offset.reset", "error", "where a partition begins is `start` and the marks"),
    ("enable.auto.commit", "false", "what counts is the mark; offsets are committed behind it"),
    (
        "enable.auto.offset.store",
        "false",
        "what counts is the mark; offsets are committed behind it",
    ),
    (
        "enable.partition.eof",
        "false",
        "it moves positions within a batch; ends are known otherwise",
    ),
    ("group.protocol", "classic", "only the classic protocol assigns by `range`"),
    ("isolation.level", "read_committed", "records of aborted transactions never happened"),
    ("partition.assignment.strategy", "range", "it alone pairs the partitions of both topics"),
];

/// Properties that other options set.
const ELSEWHERE: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.brokers"),
    ("metadata.broker.list", "set kafka.brokers"),
    ("group.id", "the group is the job's name: set job"),
    ("test.mock.num.brokers", "`tidegauge demo` starts a broker in process"),
];

/// What differs from librdkafka's defaults for a consumer, and may be overridden.
const DEFAULTS: &[(&str, &str)] = &[
    ("fetch.queue.backoff.ms", "10"), // the default 1000 stalls a fast consumer for up to a second
    // A fetch leaves out the partitions whose queue is full. Where all that is left has no records, such as labels that
    // do not come yet, the broker keeps the answer back so long, and no other fetch is sent. The default is 500.
    ("fetch.wait.max.ms", "50"),
    ("fetch.max.bytes", "16777216"),
    ("queued.min.messages", "100000"),
    ("queued.max.messages.kbytes", "32768"), // counts per worker and topic
    ("session.timeout.ms", "15000"), // rows stand still so long after a crash; the default is 45000
    ("heartbeat.interval.ms", "3000"),
    ("max.poll.interval.ms", "300000"),
    ("allow.auto.create.topics", "false"),
];

/// The one place that sets Kafka defaults, for consumers and producers alike; the user's properties override them.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn client_config(brokers: &str, properties: &[(String, String)]) -> ClientConfig {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    super::steady::keep();
    let mut config = ClientConfig::new();
    config.set("client.id", "tidegauge").set("socket.keepalive.enable", "true");
    for (name, value) in properties {
        config.set(name, value);
    }
    config.set("bootstrap.servers", brokers);
    config
}

/// Why a client was not made. The client crate's own text shows the value of the wrong property, which may be a secret.
pub fn without_values(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, said, name, value) => {
            let said =
                if value.is_empty() { said.clone() } else { said.replace(&**value, "(value)") };
            format!("kafka.properties: `{name}`: {said}")
        }
        other => other.to_string(),
    }
}

/// Refuses properties that would break correctness, each with the reason.
pub fn check_properties(properties: &[(String, String)]) -> Result<(), SourceError> {
    let refused = |name: &str, value: &str| {
        let fixed =
            FIXED.iter().filter(|(_, is, _)| *is != value).map(|&(fixed, _, why)| (fixed, why));
        let mut all = fixed.chain(ELSEWHERE.iter().copied());
        all.find(|(refused, _)| *refused == name).map(|(_, reason)| reason)
    };
    for (name, value) in properties {
        if name == "statistics.interval.ms" && value == "0" {
            let reason = "lag and ends come with the statistics; choose a longer interval instead";
            return Err(SourceError::Property { name: name.clone(), reason });
        }
        if let Some(reason) = refused(name, value) {
            return Err(SourceError::Property { name: name.clone(), reason });
        }
    }
    Ok(())
}

/// The configuration of a consumer that reads the topics.
pub(super) fn consumer_config(settings: &KafkaSettings) -> Result<ClientConfig, SourceError> {
    check_properties(&settings.properties)?;
    let named = |name: &str| settings.properties.iter().any(|(given, _)| given == name);
    let mut config = client_config(&settings.brokers, &settings.properties);
    for (name, value) in DEFAULTS {
        if !named(name) {
            config.set(*name, *value);
        }
    }
    if !named("statistics.interval.ms") {
        // Lag, and the ends of partitions whose last offsets hold no record.
        config.set("statistics.interval.ms", if settings.until_end { "1000" } else { "5000" });
    }
    for (name, value, _) in FIXED {
        config.set(*name, *value);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(properties: &[(&str, &str)]) -> KafkaSettings {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        KafkaSettings {
            brokers: "localhost:1".to_owned(),
            properties: properties.iter().map(owned).collect(),
            group: "job".to_owned(),
            inferences: "inferences".to_owned(),
            labels: Some("labels".to_owned()),
            workers: 2,
            start: Start::Earliest,
            until_end: false,
            drain_budget: Duration::from_secs(1),
        }
    }

    #[test]
    fn properties_override_defaults() {
        let given = [("session.timeout.ms", "9000"), ("group.instance.id", "a"), ("debug", "cgrp")];
        let config = consumer_config(&settings(&given)).unwrap();
        assert_eq!(config.get("session.timeout.ms"), Some("9000"));
        assert_eq!(config.get("group.instance.id"), Some("a"));
        assert_eq!(config.get("debug"), Some("cgrp"));
        assert_eq!(config.get("fetch.queue.backoff.ms"), Some("10"));
        assert_eq!(config.get("bootstrap.servers"), Some("localhost:1"));
    }

    #[test]
    fn properties_that_results_depend_on_are_refused() {
        for (name, value) in [
            ("enable.auto.commit", "true"),
            ("isolation.level", "read_uncommitted"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("statistics.interval.ms", "0"),
            ("group.id", "other"),
            ("bootstrap.servers", "elsewhere:9092"),
        ] {
            let error = consumer_config(&settings(&[(name, value)])).unwrap_err();
            assert_eq!(error.code(), "kafka_property");
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn fixed_property_may_be_named_with_its_value() {
        consumer_config(&settings(&[("isolation.level", "read_committed")])).unwrap();
    }

    #[test]
    fn no_value_of_a_wrong_property_is_shown() {
        for (name, value) in [("linger.ms", "hunter2"), ("no.such", "hunter2"), ("acks", "hunter2")]
        {
            let config = consumer_config(&settings(&[(name, value)])).unwrap();
            let client: Result<rdkafka::consumer::BaseConsumer, _> = config.create();
            let said = without_values(&client.map(drop).unwrap_err());
            assert!(said.contains(name) && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn librdkafka_knows_every_property() {
        let consumer: Result<rdkafka::consumer::BaseConsumer, _> =
            consumer_config(&settings(&[])).unwrap().set("group.id", "job").create();
        consumer.map(drop).unwrap();
    }
}
