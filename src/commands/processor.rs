//! The processor's parts, wired: what `run` and `demo` start alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::{Failure, terminal};
use crate::config::Settings;
use crate::decode::Decoder;
use crate::engine::Progress;
use crate::http::Endpoints;
use crate::pipeline::{self, DeadLetterLimit, PipelineSettings, Totals};
use crate::sink::SinkError;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::dead_letter::KafkaLetters;
use crate::source::SourceError;
use crate::source::kafka::{self, KafkaHealth, KafkaSettings, Opened, Topics, client_config};
use crate::telemetry::{Cause, Telemetry};

/// How long a start waits for a ClickHouse that does not answer: a restart of it takes this long at most.
const CLICKHOUSE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions to a ClickHouse that does not answer yet.
const CLICKHOUSE_PAUSE: Duration = Duration::from_millis(250);
/// How often the state of the Kafka client reaches `/readyz` and the meters.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// A processor that has found its topics and tables, and has not begun to read.
pub(crate) struct Processor {
    settings: Settings,
    topics: Topics,
    clickhouse: ClickHouse,
    letters: KafkaLetters,
    opened: Opened,
    endpoints: Endpoints,
    telemetry: Telemetry,
}

impl Processor {
    /// Connects to everything that the configuration names. Waits; not to be called within the runtime.
    pub(crate) fn connect(
        mut settings: Settings,
        until_end: bool,
        runtime: &Runtime,
    ) -> Result<Self, Failure> {
        // What is wrong with the schema files shows before anything is waited for.
        let schemas = settings.schemas()?;
        for decoder in settings.decoders().iter().flatten() {
            Decoder::new(decoder, Arc::clone(&schemas))?;
        }
        let telemetry = Telemetry::new();
        let endpoints = runtime.block_on(Endpoints::bind(settings.listen, telemetry.clone()))?;
        let kafka_settings = settings.kafka(until_end);
        let topics = kafka::inspect(&kafka_settings)?;
        // A dead-letter topic that is not there would show at the first bad record only.
        let letters_topic = settings.dead_letters.topic.clone();
        kafka::inspect(&KafkaSettings {
            inferences: letters_topic,
            labels: None,
            ..kafka_settings.clone()
        })
        .map_err(of_dead_letters)?;
        if topics.append_time && settings.shard.progress == Progress::Log {
            // The broker's stamps are never wrong, so one of them makes the clock. The records' own times can be.
            settings.shard.clock_stamps = 1;
        }
        let clickhouse = ClickHouse::new(settings.clickhouse());
        let bound = runtime.block_on(bind(&clickhouse, &settings, &topics));
        settings.shard.generation = match bound {
            // A first start with a wrong format ends before anything is written: then it may be mended.
            Err(failure)
                if failure.code == "job_other_configuration"
                    && !kafka::has_members(&kafka_settings)? =>
            {
                runtime.block_on(clickhouse.rebind(&settings.binding(&topics)))?
            }
            bound => bound?,
        };
        let config = client_config(&settings.brokers, &settings.exposed_properties());
        let labels = settings.labels.as_ref().map_or("", |labels| labels.name.as_str());
        let sources = [settings.inferences.name.as_str(), labels];
        let letters = KafkaLetters::new(config, &settings.dead_letters.topic, sources)?;
        let opened = kafka::open(&kafka_settings, &topics)?;
        Ok(Self { settings, topics, clickhouse, letters, opened, endpoints, telemetry })
    }

    /// Where `/readyz` and `/metrics` are.
    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoints.address()
    }

    /// Reads until `stop` is ready or the bounded topics have ended.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) -> Result<Totals, Failure> {
        let settings = self.pipeline_settings()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(self.endpoints.serve());
        tasks.spawn(watch_kafka(self.opened.health.clone(), self.telemetry.clone()));
        let totals = pipeline::run(
            settings,
            self.opened.sources,
            self.opened.commits,
            self.clickhouse,
            self.letters,
            self.telemetry,
            stop,
        )
        .await?;
        tasks.shutdown().await;
        Ok(totals)
    }

    fn pipeline_settings(&self) -> Result<PipelineSettings, Failure> {
        let settings = &self.settings;
        Ok(PipelineSettings {
            shard: Arc::new(settings.shard.clone()),
            decoders: settings.decoders(),
            schemas: settings.schemas()?,
            job: settings.job.clone(),
            partitions: self.topics.partitions,
            grains: settings.grains.clone(),
            flush_interval: settings.clickhouse.flush_interval,
            state_budget_bytes: settings.state_budget_bytes,
            drain_budget: settings.drain_budget,
            dead_letter_limit: DeadLetterLimit {
                share: settings.dead_letters.limit,
                at_least: settings.dead_letters.limit_after,
            },
        })
    }
}

/// Says that it is the topic of the dead letters, which newcomers have never heard of.
fn of_dead_letters(error: SourceError) -> Failure {
    match error {
        SourceError::MissingTopic { topic, brokers } => Failure::new(
            "topic_missing",
            format!(
                "topic {topic} (dead_letters.topic, for records that can't be used) does not exist at {brokers}"
            ),
        ),
        other => other.into(),
    }
}

/// Checks the tables and binds the job's name to its topics; the job's generation.
async fn bind(
    clickhouse: &ClickHouse,
    settings: &Settings,
    topics: &Topics,
) -> Result<u16, Failure> {
    let url = &settings.clickhouse.url;
    let give_up = terminal::start() + CLICKHOUSE_PATIENCE;
    let mut is_said = false;
    loop {
        let checked = tokio::time::timeout(CLICKHOUSE_PATIENCE, clickhouse.check_schema()).await;
        let reason = match checked {
            Ok(Ok(())) => break,
            Ok(Err(SinkError::Unavailable(reason))) => reason,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => format!("no answer in {} s", CLICKHOUSE_PATIENCE.as_secs()),
        };
        if terminal::start() >= give_up {
            return Err(SinkError::Unavailable(format!("{url}: {reason}")).into());
        }
        if !std::mem::replace(&mut is_said, true) {
            tracing::info!(%url, %reason, "waiting for ClickHouse");
        }
        tokio::time::sleep(CLICKHOUSE_PAUSE).await;
    }
    Ok(clickhouse.bind(&settings.binding(topics)).await?)
}

/// Passes on how the Kafka client is doing, until dropped.
async fn watch_kafka(health: KafkaHealth, telemetry: Telemetry) {
    let mut tick = tokio::time::interval(HEALTH_INTERVAL);
    loop {
        tick.tick().await;
        match health.outage() {
            Some(reason) => telemetry.not_ready(Cause::Kafka, reason),
            None => telemetry.ready(Cause::Kafka),
        }
        for (stream, partition, records) in health.lags() {
            telemetry.lag(stream, partition, records);
        }
    }
}
