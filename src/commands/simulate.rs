//! `tidegauge simulate`: the demo's traffic against any broker.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::{Failure, runtime, terminal};
use crate::client::{http_client, with_sources};
use crate::config;
use crate::decode::registry::RegistryError;
use crate::engine::time::Millis;
use crate::source::kafka::{client_config, without_values};
use crate::traffic::encode::{Encoding, INFERENCE_SCHEMA, LABEL_SCHEMA};
use crate::traffic::produce::{Sender, Until};
use crate::traffic::{Shape, Shares, Traffic, TrafficSettings};

/// Send the demo's traffic to any broker
///
/// Three models, seeded: `fraud` stays healthy, the quality of `churn` falls, and the labels of `credit` come late.
/// Some records are late, repeated, corrected, missing or broken. What must come out of it is printed at the end as
/// JSON lines: counts for each model, version, segment and window, and outcomes by topic.
///
/// The first SIGTERM or Ctrl-C ends it once all that was sent is acknowledged; a second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge simulate --create-topics            1000 inferences a second
  tidegauge simulate --records 1000000 --fast   a million as fast as it goes
  tidegauge simulate --records 100000 --fast --no-faults --format avro \\
      --registry http://localhost:8081
  tidegauge simulate --for 10m --broken 0.05 > truth.jsonl")]
pub struct Args {
    /// Kafka's bootstrap servers
    #[arg(long, default_value = "localhost:9092")]
    brokers: String,
    /// A librdkafka property; may be given several times
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = parse_property)]
    properties: Vec<(String, String)>,
    /// Topic of the inferences
    #[arg(long, default_value = "inferences")]
    inferences: String,
    /// Topic of the labels
    #[arg(long, default_value = "labels")]
    labels: String,
    /// Topic of the dead letters, made by --create-topics too
    #[arg(long, default_value = "tidegauge.dead")]
    dead_letters: String,
    /// Create the topics if they are not there
    #[arg(long)]
    create_topics: bool,
    /// Partitions of created topics
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// How records are encoded
    #[arg(long, value_enum, default_value_t = FormatName::Json)]
    format: FormatName,
    /// Schema registry for --format avro; the schemas are registered there
    #[arg(long, value_name = "URL", required_if_eq("format", "avro"))]
    registry: Option<String>,
    /// Print the two Avro schemas and send nothing: that of inferences in the first line, that of labels in the second
    #[arg(long)]
    print_schemas: bool,
    /// The same seed sends the same records; a second run into the same topics needs another, or it sends duplicates
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Inferences for each second; with --fast of the records' own time
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// As fast as it goes, with times that end about now
    #[arg(long)]
    fast: bool,
    /// Stop after so many inferences, and send their labels
    #[arg(long, value_name = "N")]
    records: Option<u64>,
    /// Stop after so much time, like 60s; of the records' own time with --fast
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Millis>,
    /// The job's windows.size, for the truth
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    window: Millis,
    /// The job's windows.lateness
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    lateness: Millis,
    /// The job's `windows.label_wait`
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    label_wait: Millis,
    /// When the quality of `churn` falls
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    falls_after: Millis,
    #[command(flatten)]
    shares: ShareArgs,
}

/// How often something goes wrong, as shares of the inferences.
#[derive(Debug, clap::Args)]
struct ShareArgs {
    /// Nothing goes wrong unless asked for: one label for each inference
    #[arg(long)]
    no_faults: bool,
    /// Share of late inferences [default: 0.01]
    #[arg(long, value_parser = parse_share)]
    late: Option<f64>,
    /// Share of inferences that are sent again [default: 0.02]
    #[arg(long, value_parser = parse_share)]
    duplicate: Option<f64>,
    /// Share of inferences without a label [default: 0.05]
    #[arg(long, value_parser = parse_share)]
    missing: Option<f64>,
    /// Share of labels that are corrected [default: 0.02]
    #[arg(long, value_parser = parse_share)]
    corrected: Option<f64>,
    /// Share of labels that are repeated [default: 0.01]
    #[arg(long, value_parser = parse_share)]
    repeated: Option<f64>,
    /// Share of labels that nobody asked for [default: 0.005]
    #[arg(long, value_parser = parse_share)]
    orphan: Option<f64>,
    /// Share of records that can't be used [default: 0.005]
    #[arg(long, value_parser = parse_share)]
    broken: Option<f64>,
}

/// How long Kafka may take for its first answer.
const KAFKA_PATIENCE: Duration = Duration::from_secs(10);

/// How records are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// JSON objects
    Json,
    /// Avro in the wire format of a schema registry
    Avro,
    /// Plain Avro; --print-schemas shows the schemas for `format = "avro-file:..."`
    AvroFile,
}

impl ShareArgs {
    fn shares(&self) -> Shares {
        let base = if self.no_faults { Shares::NONE } else { Shares::USUAL };
        Shares {
            late: self.late.unwrap_or(base.late),
            duplicate: self.duplicate.unwrap_or(base.duplicate),
            missing: self.missing.unwrap_or(base.missing),
            corrected: self.corrected.unwrap_or(base.corrected),
            repeated: self.repeated.unwrap_or(base.repeated),
            orphan: self.orphan.unwrap_or(base.orphan),
            broken: self.broken.unwrap_or(base.broken),
        }
    }
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.print_schemas {
        let [inference, label] =
            [INFERENCE_SCHEMA, LABEL_SCHEMA].map(|schema| schema.replace('\n', ""));
        terminal::print(&format!("{inference}\n{label}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    check(args)?;
    let runtime = runtime()?;
    let config = client_config(&args.brokers, &args.properties);
    check_topics(args, &config)?;
    if args.create_topics {
        let topics = [&args.inferences, &args.labels, &args.dead_letters];
        runtime.block_on(create_topics(&config, &topics, args.partitions))?;
    }
    let encoding = runtime.block_on(encoding(args))?;
    let mut traffic = Traffic::new(traffic_settings(args), encoding);
    let sender = Sender::new(&config, [args.inferences.clone(), args.labels.clone()])?;
    let stop = AtomicBool::new(false);
    let signals = {
        let _inside = runtime.enter();
        terminal::Signals::catch()?
    };
    let sent = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(args, &sender, &mut traffic, &stop));
        runtime.block_on(wait_for_end(signals, &stop, || sending.is_finished()));
        sending.join().expect("sending does not panic")
    })?;
    terminal::print(&traffic.truth().to_json_lines());
    let is_limited = args.records.is_some() || args.duration.is_some();
    Ok(if is_limited && !sent { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

fn check(args: &Args) -> Result<(), Failure> {
    let usage = |message: &str| Err(Failure::new("usage", message.to_owned()));
    if !(args.rate > 0.0 && args.rate <= 10_000_000.0) {
        return usage("--rate must be above 0 and at most 10000000");
    }
    if args.lateness < Millis(1000) || args.label_wait < args.lateness || args.window.0 <= 0 {
        return usage(
            "--lateness must be at least 1s, --label-wait at least --lateness, --window positive",
        );
    }
    if args.fast && args.records.is_none() && args.duration.is_none() {
        return usage("--fast needs --records or --for: it would never end");
    }
    Ok(())
}

/// Whether Kafka is there, and the topics are or will be: the producer alone says "timed out" after half a minute.
fn check_topics(args: &Args, config: &ClientConfig) -> Result<(), Failure> {
    let client: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| Failure::new("producer_client", without_values(&error)))?;
    let metadata = client.inner().fetch_metadata(None, KAFKA_PATIENCE).map_err(|error| {
        Failure::new("kafka_unreachable", format!("can't reach Kafka at {}: {error}", args.brokers))
    })?;
    let is_there = |name: &&String| metadata.topics().iter().any(|topic| topic.name() == **name);
    match [&args.inferences, &args.labels].into_iter().find(|name| !is_there(name)) {
        Some(missing) if !args.create_topics => Err(Failure::new(
            "topic_missing",
            format!("topic {missing} does not exist at {}; --create-topics makes it", args.brokers),
        )),
        _ => Ok(()),
    }
}

fn traffic_settings(args: &Args) -> TrafficSettings {
    let now_ms = terminal::now_ms();
    let start_ms = if args.fast { now_ms - own_length_ms(args) } else { now_ms };
    TrafficSettings {
        seed: args.seed,
        start_ms,
        inferences_per_s: args.rate,
        window_ms: args.window.0,
        lateness_ms: args.lateness.0,
        label_wait_ms: args.label_wait.0,
        falls_after_ms: args.falls_after.0,
        shares: args.shares.shares(),
        shape: Shape::USUAL,
    }
}

/// How much of its own time the traffic covers, labels included.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a length of time in ms is far below 2^53"
)]
fn own_length_ms(args: &Args) -> i64 {
    let by_records = args.records.map(|records| (records as f64 * 1000.0 / args.rate) as i64);
    let by_time = args.duration.map(|duration| duration.0);
    by_records.into_iter().chain(by_time).min().unwrap_or(0) + 60_000
}

/// Whether it came to its end by itself.
fn send(
    args: &Args,
    sender: &Sender,
    traffic: &mut Traffic,
    stop: &AtomicBool,
) -> Result<bool, Failure> {
    let start_ms = traffic.due_ms(true).expect("inferences never end");
    let until = Until {
        inferences: args.records,
        time_ms: args.duration.map(|duration| start_ms + duration.0),
        all_labels: args.fast || args.records.is_some(),
    };
    let clock: &(dyn Fn() -> i64 + Sync) = &terminal::now_ms;
    let shows = terminal::is_error_terminal();
    let mut next_ms = 0;
    let mut show = |traffic: &Traffic| {
        let now_ms = terminal::now_ms();
        if shows && now_ms >= next_ms {
            next_ms = now_ms + 200;
            let truth = traffic.truth();
            let (i, l) = (truth.inference_records(), truth.label_records());
            terminal::note(&format!("\r{i} inference and {l} label records sent "));
        }
    };
    let clock = (!args.fast).then_some(clock);
    sender.run(traffic, until, clock, &|| stop.load(Ordering::Relaxed), &mut show)?;
    if shows {
        terminal::note("\n");
    }
    Ok(!stop.load(Ordering::Relaxed))
}

/// Until sending has ended, which the first signal asks for. The second one ends the process: brokers that are away
/// would keep it for as long as the client tries to reach them.
async fn wait_for_end(
    mut signals: terminal::Signals,
    stop: &AtomicBool,
    has_ended: impl Fn() -> bool,
) {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let ended = async {
        while !has_ended() {
            tick.tick().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = signals.stop_then_leave(|| stop.store(true, Ordering::Relaxed)) => {}
    }
}

async fn encoding(args: &Args) -> Result<Encoding, Failure> {
    Ok(match (args.format, &args.registry) {
        (FormatName::Json, _) => Encoding::Json,
        (FormatName::Avro, Some(registry)) => {
            let inference = register(registry, &args.inferences, INFERENCE_SCHEMA).await?;
            let label = register(registry, &args.labels, LABEL_SCHEMA).await?;
            Encoding::Avro { ids: Some([inference, label]) }
        }
        (FormatName::Avro | FormatName::AvroFile, _) => Encoding::Avro { ids: None },
    })
}

/// Registers a schema under the topic's name and gives its id.
async fn register(registry: &str, topic: &str, schema: &str) -> Result<u32, Failure> {
    let url = format!("{}/subjects/{topic}-value/versions", registry.trim_end_matches('/'));
    let refused = |reason: String| Failure::new("registry_refused", format!("{url}: {reason}"));
    let body = serde_json::json!({ "schema": schema }).to_string();
    let client = http_client(&url, |builder| builder);
    let answer = client
        .map_err(|reason| RegistryError::Client { reason })?
        .post(&url)
        .header("Content-Type", "application/vnd.schemaregistry.v1+json")
        .body(body)
        .send()
        .await
        .map_err(|error| refused(with_sources(&error.without_url())))?;
    let status = answer.status();
    let text = answer.text().await.map_err(|error| refused(error.to_string()))?;
    let id = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|v| v["id"].as_u64());
    match id.and_then(|id| u32::try_from(id).ok()) {
        Some(id) if status.is_success() => Ok(id),
        _ => Err(refused(format!(
            "answered {status}: {}",
            text.chars().take(200).collect::<String>()
        ))),
    }
}

/// Creates those of the topics that are not there.
pub(crate) async fn create_topics(
    config: &ClientConfig,
    topics: &[&String],
    partitions: i32,
) -> Result<(), Failure> {
    let failed = |reason: String| Failure::new("topics_not_created", reason);
    let admin: AdminClient<DefaultClientContext> =
        config.create().map_err(|error| failed(error.to_string()))?;
    let new: Vec<_> = topics
        .iter()
        .map(|topic| NewTopic::new(topic, partitions, TopicReplication::Fixed(-1)))
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    let results = admin.create_topics(&new, &options).await.map_err(|e| failed(e.to_string()))?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, error)) => return Err(failed(format!("topic {topic}: {error}"))),
        }
    }
    Ok(())
}

fn parse_duration(text: &str) -> Result<Millis, String> {
    config::duration(text).ok_or_else(|| "write it like 500ms, 90s, 5m, 1h or 7d".to_owned())
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    share.filter(|s| (0.0..=1.0).contains(s)).ok_or_else(|| "must be 0 to 1".to_owned())
}

fn parse_property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it like sasl.username=alice")?;
    Ok((name.to_owned(), value.to_owned()))
}
