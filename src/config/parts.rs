//! The settings of each part, built from the checked ones.

use std::sync::Arc;

use super::{Secret, Settings, TopicSettings};
use crate::decode::DecoderSettings;
use crate::decode::registry::{RegistryError, RegistrySettings, Schemas};
use crate::engine::event::Stream;
use crate::engine::window::Window;
use crate::pipeline::{DeadLetterLimit, PipelineSettings};
use crate::sink::clickhouse::ClickHouseSettings;
use crate::sink::job::{BoundTopic, JobBinding};
use crate::source::kafka::{KafkaSettings, TopicIdentity, Topics};

impl Settings {
    /// What the Kafka source goes by.
    pub fn kafka(&self, until_end: bool) -> KafkaSettings {
        KafkaSettings {
            brokers: self.brokers.clone(),
            properties: self.exposed_properties(),
            group: self.job.clone(),
            inferences: self.inferences.name.clone(),
            labels: self.labels.as_ref().map(|labels| labels.name.clone()),
            workers: self.workers,
            start: self.start,
            until_end,
            drain_budget: self.drain_budget,
        }
    }

    /// The same for a look at the topic of the dead letters.
    pub fn kafka_of_letters(&self) -> KafkaSettings {
        let inferences = self.dead_letters.topic.clone();
        KafkaSettings { inferences, labels: None, ..self.kafka(true) }
    }

    /// librdkafka properties with their secrets.
    pub fn exposed_properties(&self) -> Vec<(String, String)> {
        let expose = |(name, value): &(String, Secret)| (name.clone(), value.expose().to_owned());
        self.properties.iter().map(expose).collect()
    }

    /// What the decoders go by: inferences, then labels if there are any.
    pub fn decoders(&self) -> [Option<DecoderSettings>; 2] {
        let decoder = |stream, topic: &TopicSettings| DecoderSettings {
            stream,
            format: topic.format.clone(),
            fields: topic.fields.clone(),
            segments: self.shard.dimensions.clone(),
        };
        [
            Some(decoder(Stream::Inferences, &self.inferences)),
            self.labels.as_ref().map(|labels| decoder(Stream::Labels, labels)),
        ]
    }

    /// The cache of writer schemas.
    pub fn schemas(&self) -> Result<Arc<Schemas>, RegistryError> {
        let Some(registry) = &self.registry else {
            return Ok(Arc::new(Schemas::none()));
        };
        let mut settings = RegistrySettings::new(&registry.url);
        settings.user.clone_from(&registry.user);
        settings.password = registry.password.as_ref().map(|secret| secret.expose().to_owned());
        Ok(Arc::new(Schemas::new(settings)?))
    }

    /// What the ClickHouse sink goes by.
    pub fn clickhouse(&self) -> ClickHouseSettings {
        let database = &self.clickhouse;
        let mut settings = ClickHouseSettings::new(&database.url, &database.database, &self.job);
        settings.user.clone_from(&database.user);
        if let Some(password) = &database.password {
            password.expose().clone_into(&mut settings.password);
        }
        settings.engine.clone_from(&database.engine);
        settings.insert_settings.clone_from(&database.insert_settings);
        settings.read_settings.clone_from(&database.read_settings);
        settings.timeout = database.timeout;
        settings
    }

    /// What the pipeline goes by, for so many partitions of each topic.
    pub fn pipeline(&self, partitions: i32) -> Result<PipelineSettings, RegistryError> {
        Ok(PipelineSettings {
            shard: Arc::new(self.shard.clone()),
            decoders: self.decoders(),
            schemas: self.schemas()?,
            job: self.job.clone(),
            partitions,
            grains: self.grains.clone(),
            rows_within: Window::ALL,
            flush_interval: self.clickhouse.flush_interval,
            state_budget_bytes: self.state_budget_bytes,
            drain_budget: self.drain_budget,
            dead_letter_limit: self.dead_letter_limit(),
        })
    }

    /// When records that can't be used stop the process.
    pub fn dead_letter_limit(&self) -> DeadLetterLimit {
        let letters = &self.dead_letters;
        DeadLetterLimit { share: letters.limit, at_least: letters.limit_after }
    }

    /// What the job's name is bound to.
    pub fn binding(&self, topics: &Topics) -> JobBinding {
        let bound =
            |topic: &TopicIdentity| BoundTopic { name: topic.name.clone(), id: topic.id.clone() };
        JobBinding {
            cluster: topics.cluster.clone(),
            inferences: bound(&topics.inferences),
            labels: topics.labels.as_ref().map(bound),
            partitions: topics.partitions,
            configuration: self.digest(),
            window: self.shard.window,
        }
    }
}
