//! The processor's parts, wired: what `run` and `demo` start alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::guard::{Guarded, Refusal};
use super::{Failure, terminal};
use crate::alerting::{Alerting, Left};
use crate::config::Settings;
use crate::decode::Decoder;
use crate::engine::Progress;
use crate::http::Endpoints;
use crate::pipeline::{self, Totals};
use crate::sink::SinkError;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::dead_letter::KafkaLetters;
use crate::sink::job::{BindError, JobBinding};
use crate::source::SourceError;
use crate::source::kafka::{
    self, KafkaHealth, KafkaSettings, Opened, Topics, client_config, needed_retention,
};
use crate::telemetry::{Cause, Telemetry};

/// How long a start waits for a service that does not answer: about as long as one takes to start.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long ClickHouse may take for one answer before it is asked again.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two questions to a service that does not answer yet.
const PAUSE: Duration = Duration::from_millis(250);
/// How long an end that another start follows waits for the last rules to be evaluated and told: that start tells what
/// is not told then.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often the state of the Kafka client reaches `/readyz` and the meters.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// A processor that has found its topics and tables, and has not begun to read.
pub(crate) struct Processor {
    settings: Settings,
    topics: Topics,
    binding: JobBinding,
    clickhouse: ClickHouse,
    letters: KafkaLetters,
    opened: Opened,
    address: SocketAddr,
    telemetry: Telemetry,
    /// None where there are no rules.
    alerting: Option<Alerting>,
    /// Endpoints: they answer from the start on.
    tasks: JoinSet<()>,
}

impl Processor {
    /// Connects to everything that the configuration names. Waits; not to be called within the runtime.
    pub(crate) fn connect(
        mut settings: Settings,
        until_end: bool,
        runtime: &Runtime,
    ) -> Result<Self, Failure> {
        settings.check_rules()?;
        // What is wrong with the schema files shows before anything is waited for.
        let schemas = settings.schemas()?;
        for decoder in settings.decoders().iter().flatten() {
            Decoder::new(decoder, Arc::clone(&schemas))?;
        }
        let telemetry = Telemetry::new();
        telemetry.not_ready(Cause::Starting, "connecting to Kafka and ClickHouse");
        let endpoints = runtime.block_on(Endpoints::bind(settings.listen, telemetry.clone()))?;
        let address = endpoints.address();
        let mut tasks = JoinSet::new();
        tasks.spawn_on(endpoints.serve(), runtime.handle());
        let kafka_settings = settings.kafka(until_end);
        let topics = inspect(&kafka_settings, &telemetry)?;
        // A dead-letter topic that is not there would show at the first bad record only.
        inspect(&settings.kafka_of_letters(), &telemetry).map_err(of_dead_letters)?;
        check_retention(&settings, &topics)?;
        let clickhouse = ClickHouse::new(settings.clickhouse());
        let of_kafka = (&topics, &kafka_settings);
        let binding = bind(&clickhouse, &mut settings, of_kafka, &telemetry, runtime)?;
        runtime.block_on(define_in_time(&clickhouse, &settings, &telemetry))?;
        let alerting = alerting(&settings, topics.partitions, &clickhouse, &telemetry)?;
        let config = client_config(&settings.brokers, &settings.exposed_properties());
        let labels = settings.labels.as_ref().map_or("", |labels| labels.name.as_str());
        let sources = [settings.inferences.name.as_str(), labels];
        let letters = KafkaLetters::new(config, &settings.dead_letters.topic, sources)?;
        let opened = kafka::open(&kafka_settings, &topics)?;
        Ok(Self {
            settings,
            topics,
            binding,
            clickhouse,
            letters,
            opened,
            address,
            telemetry,
            alerting,
            tasks,
        })
    }

    /// Where `/readyz` and `/metrics` are.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Reads until `stop` is ready or the bounded topics have ended.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Result<Totals, Failure> {
        let settings = self.settings.pipeline(self.topics.partitions)?;
        self.tasks.spawn(watch_kafka(self.opened.health.clone(), self.telemetry.clone()));
        let refusal = Refusal::default();
        let sink = Guarded::new(
            self.clickhouse,
            (self.opened.watch, self.opened.health),
            (self.binding, self.settings.shard.generation),
            refusal.clone(),
        );
        let (sink, rules) = Rules::beside(sink, self.alerting, &self.telemetry);
        let (sources, commits) = (self.opened.sources, self.opened.commits);
        let ended =
            pipeline::run(settings, sources, commits, sink, self.letters, self.telemetry, stop)
                .await;
        let totals = ended.map_err(|error| refusal.take().unwrap_or_else(|| error.into()))?;
        rules.end().await;
        self.tasks.shutdown().await;
        Ok(totals)
    }
}

/// The rules at work beside a pipeline.
pub(super) struct Rules(JoinSet<Result<Left, Failure>>);

impl Rules {
    /// Evaluates after each flush of the sink.
    pub(super) fn beside(
        sink: Guarded,
        alerting: Option<Alerting>,
        telemetry: &Telemetry,
    ) -> (Guarded, Self) {
        let (say_flushed, flushed) = watch::channel(0);
        let mut task = JoinSet::new();
        if let Some(alerting) = alerting {
            task.spawn(watched(alerting.run(flushed), telemetry.clone()));
        }
        (sink.telling(say_flushed), Self(task))
    }

    /// Waits a while for the last evaluation, and for what is to be sent. The sink is gone by then.
    pub(super) async fn end(mut self) {
        tokio::time::timeout(LAST_WORDS, self.0.join_next()).await.ok();
    }

    /// The same where all is read, and no other start need follow: waits until it is done; false where `stop` was ready
    /// before. Fails where rules are not evaluated over all rows, or people not told.
    pub(super) async fn finish(mut self, stop: impl Future<Output = ()>) -> Result<bool, Failure> {
        let ended = tokio::select! {
            biased;
            ended = self.0.join_next() => ended,
            () = stop => return Ok(false),
        };
        // Without rules there is no task.
        let Some(ended) = ended else { return Ok(true) };
        let left = ended.unwrap_or_else(|error| Err(fault(&error)))?;
        check_done(&left)?;
        Ok(true)
    }
}

/// A panic in rules ends them alone, not the stream, so it has to be told.
async fn watched(
    rules: impl Future<Output = Left> + Send + 'static,
    telemetry: Telemetry,
) -> Result<Left, Failure> {
    let mut task = JoinSet::new();
    task.spawn(rules);
    let ended = task.join_next().await.expect("it was spawned");
    ended.map_err(|error| {
        tracing::error!(%error, "rules are not evaluated any more: start the process again");
        let reason = "rules ended by a fault of the program: start the process again, and tell its developers";
        telemetry.not_ready(Cause::Alerting, reason);
        fault(&error)
    })
}

fn fault(error: &JoinError) -> Failure {
    Failure::new("worker_failed", format!("all rows are written, but the rules failed: {error}"))
}

/// Fails where something is left.
fn check_done(left: &Left) -> Result<(), Failure> {
    let Left { failed, untold } = left;
    let mut said = Vec::new();
    if !failed.is_empty() {
        let reasons: Vec<String> = failed.iter().map(ToString::to_string).collect();
        said.push(format!("not all rules are evaluated over them ({})", reasons.join("; ")));
    }
    if !untold.is_empty() {
        said.push(format!("not all changes of alerts are told: {}", untold.join(", ")));
    }
    if said.is_empty() {
        return Ok(());
    }
    let code = failed.first().map_or("notify_failed", SinkError::code);
    Err(Failure::new(code, format!("all rows are written, but {}", said.join("; "))))
}

/// The rules and targets of the configuration; none where there are neither.
pub(super) fn alerting(
    settings: &Settings,
    partitions: i32,
    clickhouse: &ClickHouse,
    telemetry: &Telemetry,
) -> Result<Option<Alerting>, Failure> {
    // Without rules there may be alerts left of former ones, and someone to tell.
    if settings.rules.is_empty() && settings.targets.is_empty() {
        return Ok(None);
    }
    let (rules, clickhouse, telemetry) =
        (settings.rules.clone(), clickhouse.clone(), telemetry.clone());
    Ok(Some(Alerting::new(rules, &settings.targets, partitions, clickhouse, telemetry)?))
}

/// Says that it is the topic of the dead letters, which newcomers have never heard of.
pub(super) fn of_dead_letters(error: SourceError) -> Failure {
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

/// Asks for the topics, for a while also where nobody answers.
fn inspect(settings: &KafkaSettings, telemetry: &Telemetry) -> Result<Topics, SourceError> {
    inspect_until(terminal::start() + PATIENCE, telemetry, || kafka::inspect(settings))
}

#[expect(clippy::disallowed_methods, reason = "a pause between two questions, with a deadline")]
fn inspect_until<T>(
    give_up: Instant,
    telemetry: &Telemetry,
    mut ask: impl FnMut() -> Result<T, SourceError>,
) -> Result<T, SourceError> {
    loop {
        match ask() {
            Err(error @ SourceError::Unreachable { .. }) => {
                telemetry.not_ready(Cause::Kafka, error.to_string());
                if terminal::start() >= give_up {
                    return Err(error);
                }
                std::thread::sleep(PAUSE);
            }
            answer => {
                telemetry.ready(Cause::Kafka);
                return answer;
            }
        }
    }
}

/// Refuses topics whose records go before a restart needs them no more.
///
/// With `progress = "event"` nothing is refused: records are kept by Kafka's timestamps, and how these relate to the
/// records' own times, which move such a job, nobody knows. (A history that was loaded today is kept for as long as
/// the topic keeps today's records, whatever times its records bear.) If a restart misses records all the same, it is
/// refused then, with `floor_below_log`.
pub(super) fn check_retention(settings: &Settings, topics: &Topics) -> Result<(), SourceError> {
    let named = [Some(&topics.inferences), topics.labels.as_ref()];
    let needed = needed_retention(&settings.shard.limits, settings.shard.window);
    for ((topic, retention), needed) in named.into_iter().zip(&topics.retention).zip(needed) {
        let Some(topic) = topic.map(|topic| &topic.name) else { continue };
        let Some(retention) = retention else {
            tracing::info!(
                topic,
                needed_ms = needed.0,
                "the brokers do not say how long records are kept"
            );
            continue;
        };
        if settings.shard.progress == Progress::Log {
            retention.check(topic, needed)?;
        }
        if let Some(bytes) = retention.bytes {
            tracing::info!(
                topic,
                bytes,
                needed_ms = needed.0,
                "retention.bytes is set: records that go before this time would stop a restart"
            );
        }
    }
    Ok(())
}

/// Checks the tables and binds the job's name to its topics; sets the clocks and the generation that go with it.
fn bind(
    clickhouse: &ClickHouse,
    settings: &mut Settings,
    (topics, kafka_settings): (&Topics, &KafkaSettings),
    telemetry: &Telemetry,
    runtime: &Runtime,
) -> Result<JobBinding, Failure> {
    let configured = settings.shard.clock_stamps;
    let is_by_broker = topics.append_time && settings.shard.progress == Progress::Log;
    if is_by_broker {
        // The broker's stamps are never wrong, so one of them makes the clock. The records' own times can be.
        settings.shard.clock_stamps = 1;
    }
    let binding = settings.binding(topics);
    let refused = match runtime.block_on(bind_in_time(clickhouse, &binding, true, telemetry)) {
        Err(refused @ BindError::OtherConfiguration { .. }) => refused,
        bound => {
            settings.shard.generation = bound?;
            return Ok(binding);
        }
    };
    // Perhaps the topics were stamped otherwise when the job began.
    let before = of_clocks(settings, if is_by_broker { configured } else { 1 }, topics);
    let bound = runtime.block_on(clickhouse.bound())?;
    let is_restamped = bound.is_some_and(|bound| before.compare(&settings.job, &bound).is_ok());
    if is_restamped && is_by_broker {
        // Several stamps of the broker's are as good as one.
        tracing::info!(
            clock_stamps = configured,
            "the broker stamps the topics now (message.timestamp.type): the job's clocks go on as they began"
        );
        settings.shard.clock_stamps = configured;
        settings.shard.generation = runtime.block_on(clickhouse.bind(&before))?;
        return Ok(before);
    }
    // A first start with a wrong format ends before anything is written: then it may be mended.
    let unused = runtime.block_on(clickhouse.unused(&binding))?;
    let is_free = unused.is_some() && !kafka::has_members(kafka_settings)?;
    let Some(unused) = unused.filter(|_| is_free) else {
        return Err(if is_restamped {
            stamped_no_more(&refused, settings)
        } else {
            refused.into()
        });
    };
    settings.shard.generation = runtime.block_on(clickhouse.rebind(&binding, &unused))?;
    Ok(binding)
}

/// The binding where so many stamps make a clock.
fn of_clocks(settings: &Settings, clock_stamps: usize, topics: &Topics) -> JobBinding {
    let mut settings = settings.clone();
    settings.shard.clock_stamps = clock_stamps;
    settings.binding(topics)
}

/// Refuses topics that the broker stamped when the job began: a clock of one stamp is no longer safe.
fn stamped_no_more(refused: &BindError, settings: &Settings) -> Failure {
    let message = format!(
        "job '{}' began with clocks of one stamp: by `windows.clock_stamps = 1`, or since the broker stamped the topics \
         (message.timestamp.type=LogAppendTime), which it says of them no more. Put that back, or set \
         `windows.clock_stamps = 1`: then the job goes on, and one record with a wrong timestamp can move its clocks",
        settings.job
    );
    Failure::new(refused.code(), message)
}

/// Checks the tables and binds the job's name; its generation. Whether the job `keeps_all` windows: of one that does
/// not, marks may count records that are in no row.
pub(super) async fn bind_in_time(
    clickhouse: &ClickHouse,
    binding: &JobBinding,
    keeps_all: bool,
    telemetry: &Telemetry,
) -> Result<u16, BindError> {
    let bind = async || {
        if keeps_all {
            clickhouse.check_schema().await?;
        } else {
            clickhouse.check_schema_but_rows().await?;
        }
        clickhouse.bind(binding).await
    };
    in_time(telemetry, bind).await
}

/// Checks the tables; what the job's name is bound to.
pub(super) async fn bound_in_time(
    clickhouse: &ClickHouse,
    telemetry: &Telemetry,
) -> Result<Option<JobBinding>, BindError> {
    let bound = async || {
        clickhouse.check_schema().await?;
        clickhouse.bound().await.map_err(BindError::from)
    };
    in_time(telemetry, bound).await
}

/// Writes down what the configuration of a job that is bound defines.
pub(super) async fn define_in_time(
    clickhouse: &ClickHouse,
    settings: &Settings,
    telemetry: &Telemetry,
) -> Result<(), BindError> {
    let (metrics, models) = (&settings.metrics, &settings.shard.models);
    in_time(telemetry, async || Ok(clickhouse.define(metrics, models).await?)).await
}

/// Waits a while for a ClickHouse that does not answer.
async fn in_time<T>(
    telemetry: &Telemetry,
    ask: impl AsyncFn() -> Result<T, BindError>,
) -> Result<T, BindError> {
    until(terminal::start() + PATIENCE, telemetry, ask).await
}

async fn until<T>(
    give_up: Instant,
    telemetry: &Telemetry,
    ask: impl AsyncFn() -> Result<T, BindError>,
) -> Result<T, BindError> {
    loop {
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, ask());
        let seconds = ANSWER_TIMEOUT.as_secs();
        let silent = SinkError::Unavailable(format!("no answer in {seconds} s (`clickhouse.url`)"));
        match asked.await.unwrap_or(Err(silent.into())) {
            Err(BindError::Sink(error @ SinkError::Unavailable(_))) => {
                telemetry.not_ready(Cause::ClickHouse, error.to_string());
                if terminal::start() >= give_up {
                    return Err(error.into());
                }
                tokio::time::sleep(PAUSE).await;
            }
            answer => {
                telemetry.ready(Cause::ClickHouse);
                return answer;
            }
        }
    }
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
        telemetry.lags(&health.lags());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rules_that_end_by_a_fault_make_the_process_unready() {
        let telemetry = Telemetry::default();
        assert!(watched(async { Left::default() }, telemetry.clone()).await.is_ok());
        assert_eq!(telemetry.reasons(), []);
        let ended = watched(async { faulty() }, telemetry.clone()).await;
        assert_eq!(ended.unwrap_err().code, "worker_failed");
        let causes: Vec<Cause> = telemetry.reasons().iter().map(|(cause, _)| *cause).collect();
        assert_eq!(causes, [Cause::Alerting]);
    }

    /// The log says of a cause that it is gone when it is cleared.
    #[tokio::test]
    async fn what_a_start_gives_up_on_is_not_said_to_be_gone() {
        let causes = |telemetry: &Telemetry| -> Vec<Cause> {
            telemetry.reasons().into_iter().map(|(cause, _)| cause).collect()
        };
        let over = terminal::start();
        let telemetry = Telemetry::default();
        let away = || SourceError::Unreachable {
            brokers: "b:1".to_owned(),
            reason: "no answer".to_owned(),
        };
        assert!(inspect_until::<()>(over, &telemetry, || Err(away())).is_err());
        assert_eq!(causes(&telemetry), [Cause::Kafka]);
        assert!(inspect_until(over, &telemetry, || Ok(())).is_ok());
        assert_eq!(causes(&telemetry), []);

        let away =
            async || Err::<(), BindError>(SinkError::Unavailable("no answer".to_owned()).into());
        assert!(until(over, &telemetry, away).await.is_err());
        assert_eq!(causes(&telemetry), [Cause::ClickHouse]);
        // It answers, whatever it says.
        let refuses = async || Err::<(), BindError>(SinkError::Refused("no".to_owned()).into());
        assert!(until(over, &telemetry, refuses).await.is_err());
        assert_eq!(causes(&telemetry), []);
    }

    fn faulty() -> Left {
        panic!("a fault in rules")
    }

    async fn finished(ended: impl Future<Output = Left> + Send + 'static) -> Result<bool, Failure> {
        let mut task = JoinSet::new();
        task.spawn(watched(ended, Telemetry::default()));
        Rules(task).finish(std::future::pending()).await
    }

    #[tokio::test]
    async fn a_job_fails_where_rules_or_people_are_left() {
        assert!(finished(async { Left::default() }).await.unwrap());
        assert!(Rules(JoinSet::new()).finish(async {}).await.unwrap(), "without rules");
        assert_eq!(finished(async { faulty() }).await.unwrap_err().code, "worker_failed");
        let untold = vec!["hook (changes not taken: 2, 503)".to_owned()];
        let left = Left { failed: Vec::new(), untold: untold.clone() };
        let failure = finished(async { left }).await.unwrap_err();
        assert_eq!((failure.code, failure.exit), ("notify_failed", 1));
        assert!(failure.message.contains("told: hook (changes not taken: 2, 503)"), "{failure:?}");
        let failed = vec![SinkError::Unavailable("rule low: no answer".to_owned())];
        let failure = finished(async { Left { failed, untold } }).await.unwrap_err();
        assert_eq!((failure.code, failure.exit), ("clickhouse_unavailable", 1));
        for part in ["rule low: no answer", "told: hook"] {
            assert!(failure.message.contains(part), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn a_signal_ends_the_wait_for_rules() {
        let mut task = JoinSet::new();
        task.spawn(watched(std::future::pending(), Telemetry::default()));
        assert!(!Rules(task).finish(async {}).await.unwrap());
    }
}
