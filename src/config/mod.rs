//! One TOML file and the environment → [`Settings`], checked once and against each other. Each part owns its own
//! settings type and never sees the file.

mod error;
pub mod options;
mod parts;
mod raw;
mod reader;
mod values;

use std::net::SocketAddr;
use std::time::Duration;

pub use error::{ConfigError, Place};
pub use raw::{Environment, RawConfig};
pub use values::{Secret, bytes, duration};

use crate::engine::lateness::Limits;
use crate::engine::metrics::accumulator::ValueMatrix;
use crate::engine::time::Millis;
use crate::engine::{Caps, ModelSettings, Positive, Progress, ShardSettings, Task};
use reader::{Reader, invalid, list_of, number_of, positives, text_of};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Consumer group, and owner of the rows.
    pub job: String,
    /// Whether a job without marks begins at the end of the log.
    pub start_latest: bool,
    /// Worker threads, at least 1.
    pub workers: usize,
    /// How long a stop or a rebalance may take.
    pub drain_budget: Duration,
    /// Kafka's bootstrap servers.
    pub brokers: String,
    /// librdkafka properties.
    pub properties: Vec<(String, Secret)>,
    /// The inference topic.
    pub inferences: TopicSettings,
    /// The label topic, if there is one.
    pub labels: Option<TopicSettings>,
    /// The schema registry, if one is named.
    pub registry: Option<Registry>,
    /// What the engine goes by. The generation is set when the job is bound.
    pub shard: ShardSettings,
    /// Coarser windows, ascending.
    pub grains: Vec<Millis>,
    /// Where the rows go.
    pub clickhouse: Database,
    /// Where records go that can't be used.
    pub dead_letters: Letters,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub listen: SocketAddr,
    /// Memory that shards may hold, all together.
    pub state_budget_bytes: usize,
    /// How to log.
    pub logs: Logs,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Its name.
    pub name: String,
    /// How its records are encoded.
    pub format: TopicFormat,
    /// Fields that do not lie under their own names, and the paths of their parts.
    pub fields: Vec<(String, Vec<String>)>,
}

/// How the records of a topic are encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicFormat {
    /// JSON objects.
    Json,
    /// Avro in the registry's wire format.
    Avro,
    /// Plain Avro with one schema: its text.
    AvroFile(String),
}

/// A schema registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// Its base address.
    pub url: String,
    /// User of basic authentication.
    pub user: Option<String>,
    /// Password of basic authentication.
    pub password: Option<Secret>,
}

/// The ClickHouse database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Database {
    /// Address of the HTTP interface.
    pub url: String,
    /// Database of the tables.
    pub database: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: Option<Secret>,
    /// Time between flushes.
    pub flush_interval: Duration,
}

/// The dead-letter topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Letters {
    /// Its name.
    pub topic: String,
    /// Share of the records above which the process stops.
    pub limit: f64,
    /// Records before the share says anything.
    pub limit_after: u64,
}

/// How to log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    /// One JSON object a line instead of text.
    pub json: bool,
    /// A level or a filter like `info,tidegauge=debug`.
    pub level: String,
}

/// Fields of an inference that may lie elsewhere.
const INFERENCE_FIELDS: &[&str] = &[
    "request_id",
    "model",
    "version",
    "timestamp",
    "prediction",
    "score",
    "scores",
    "features",
    "segments",
    "latency_ms",
    "error",
];
/// Fields of a label that may lie elsewhere.
const LABEL_FIELDS: &[&str] = &["request_id", "model", "timestamp", "label", "weight"];
/// Properties that the program sets itself, because its promises stand on them.
const OWN_PROPERTIES: &[&str] = &[
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "partition.assignment.strategy",
    "group.protocol",
    "auto.offset.reset",
    "enable.partition.eof",
    "isolation.level",
];
const DAY: Millis = Millis(86_400_000);
/// librdkafka's `max.poll.interval.ms`: a rebalance that takes longer loses the partitions.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// Below this the tables of names alone would fill it.
const LEAST_BUDGET_BYTES: usize = 16 << 20;

impl Settings {
    /// Reads `file`, lays the environment over it and checks all of it.
    pub fn load(file: &str, environment: &Environment) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|error| ConfigError::Missing {
            file: file.to_owned(),
            reason: error.to_string(),
        })?;
        Self::parse(file, &text, environment)
    }

    /// The same for a text; `file` is its name in messages, and relative paths start at its folder.
    pub fn parse(file: &str, text: &str, environment: &Environment) -> Result<Self, ConfigError> {
        let raw = RawConfig::parse(file, text, environment)?;
        let reader = Reader { raw: &raw, environment };
        let inferences = topic(&reader, "inferences", INFERENCE_FIELDS)?;
        let labels =
            raw.section("labels").map(|_| topic(&reader, "labels", LABEL_FIELDS)).transpose()?;
        let mut settings = Self {
            job: name(&reader, &["job"], "._-", 128)?,
            start_latest: reader.choice(&["start"], &[("earliest", false), ("latest", true)])?,
            workers: workers(&reader)?,
            drain_budget: reader.duration(&["drain_budget"], Millis(1))?,
            brokers: reader.text(&["kafka", "brokers"]),
            properties: properties(&reader)?,
            shard: shard(&reader, labels.is_some())?,
            inferences,
            labels,
            registry: registry(&reader)?,
            grains: Vec::new(),
            clickhouse: database(&reader)?,
            dead_letters: letters(&reader)?,
            listen: listen(&reader)?,
            state_budget_bytes: reader.bytes(&["state", "budget"], LEAST_BUDGET_BYTES)?,
            logs: Logs {
                json: reader.choice(&["logs", "format"], &[("text", false), ("json", true)])?,
                level: reader.text(&["logs", "level"]),
            },
        };
        settings.grains = grains(&reader, settings.shard.window)?;
        settings.check(&reader)?;
        Ok(settings)
    }

    /// What no option can be wrong about alone.
    fn check(&self, reader: &Reader<'_>) -> Result<(), ConfigError> {
        let clash = |path: &[&str], reason: String| {
            let entry = reader.entry(path).expect("only options with a value are checked");
            ConfigError::Conflict { place: entry.place, key: entry.key, reason }
        };
        let limits = &self.shard.limits;
        if limits.label_wait < limits.lateness {
            let reason = format!(
                "({} ms) must be at least windows.lateness ({} ms): raise it or lower that",
                limits.label_wait.0, limits.lateness.0
            );
            return Err(clash(&["windows", "label_wait"], reason));
        }
        if self.drain_budget >= MAX_POLL_INTERVAL {
            let reason = "must be below Kafka's max.poll.interval.ms (300s), else a rebalance loses the partitions";
            return Err(clash(&["drain_budget"], reason.to_owned()));
        }
        let mut topics = vec![("inferences", &self.inferences)];
        topics.extend(self.labels.as_ref().map(|labels| ("labels", labels)));
        for (section, topic) in &topics {
            if topic.format == TopicFormat::Avro && self.registry.is_none() {
                let reason = "is \"avro\", which needs schema_registry.url: set it, or use \"avro-file:PATH\"";
                return Err(clash(&[section, "format"], reason.to_owned()));
            }
            if topic.name == self.dead_letters.topic {
                let reason = format!(
                    "is also {section}.topic: dead letters would be read again; name another"
                );
                return Err(clash(&["dead_letters", "topic"], reason));
            }
        }
        if self.labels.as_ref().is_some_and(|labels| labels.name == self.inferences.name) {
            let reason = "is also inferences.topic: labels need a topic of their own";
            return Err(clash(&["labels", "topic"], reason.to_owned()));
        }
        Ok(())
    }

    /// Hex digest of all that decides what a row says: two live configurations of one job must agree in it. Brokers,
    /// secrets, intervals and sizes of memory are not in it.
    pub fn digest(&self) -> String {
        let mut shard = self.shard.clone();
        shard.generation = 0;
        let topic = |topic: &TopicSettings| format!("{:?} {:?}", topic.format, topic.fields);
        let text = format!(
            "{shard:?} {:?} {} {:?}",
            self.grains,
            topic(&self.inferences),
            self.labels.as_ref().map(topic),
        );
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
    }
}

fn topic(reader: &Reader<'_>, section: &str, known: &[&str]) -> Result<TopicSettings, ConfigError> {
    let remedy = format!("write `[{section}]` and below it `topic = \"NAME\"`");
    Ok(TopicSettings {
        name: reader.required_text(&[section, "topic"], &remedy)?,
        format: format(reader, section)?,
        fields: fields(reader, section, known)?,
    })
}

fn format(reader: &Reader<'_>, section: &str) -> Result<TopicFormat, ConfigError> {
    let entry = reader.entry(&[section, "format"]).expect("has a default");
    let given = text_of(&entry.value);
    match given.as_str() {
        "json" => Ok(TopicFormat::Json),
        "avro" => Ok(TopicFormat::Avro),
        other => match other.strip_prefix("avro-file:") {
            Some(path) => std::fs::read_to_string(reader.beside(path))
                .map(TopicFormat::AvroFile)
                .map_err(|error| invalid(&entry, format!("names the schema {path}: {error}"))),
            None => {
                let reason = "it must be \"json\", \"avro\" or \"avro-file:PATH\"";
                Err(invalid(&entry, format!("is \"{given}\"; {reason}")))
            }
        },
    }
}

fn fields(
    reader: &Reader<'_>,
    section: &str,
    known: &[&str],
) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
    let entry = reader.entry(&[section, "fields"]).expect("has a default");
    let mut fields = Vec::new();
    for (field, paths) in entry.value.as_table().expect("the type was checked") {
        let paths = list_of(paths);
        if !known.contains(&field.as_str()) {
            let reason = format!("maps `{field}`, but the fields are {}", known.join(", "));
            return Err(invalid(&entry, reason));
        }
        if paths.len() > 1 && field != "request_id" {
            let reason = format!("gives `{field}` several paths; only request_id may have parts");
            return Err(invalid(&entry, reason));
        }
        if paths.iter().any(|path| path.split('.').any(str::is_empty)) {
            let reason =
                format!("has a path of `{field}` with an empty step; write it like \"meta.rid\"");
            return Err(invalid(&entry, reason));
        }
        fields.push((field.clone(), paths));
    }
    Ok(fields)
}

/// A name of letters, digits and some signs.
fn name(
    reader: &Reader<'_>,
    path: &[&str],
    signs: &str,
    longest: usize,
) -> Result<String, ConfigError> {
    let entry = reader.entry(path).expect("has a default");
    let given = text_of(&entry.value);
    let fits = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
    if given.is_empty() || given.len() > longest || !given.chars().all(fits) {
        let reason =
            format!("is \"{given}\"; it must be 1 to {longest} letters, digits or {signs}");
        return Err(invalid(&entry, reason));
    }
    Ok(given)
}

fn workers(reader: &Reader<'_>) -> Result<usize, ConfigError> {
    let given = reader.integer(&["workers"], 0..=1024)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(if given == 0 { cores } else { given })
}

fn properties(reader: &Reader<'_>) -> Result<Vec<(String, Secret)>, ConfigError> {
    let entry = reader.entry(&["kafka", "properties"]).expect("has a default");
    let mut properties = Vec::new();
    for (name, value) in entry.value.as_table().expect("the type was checked") {
        if OWN_PROPERTIES.contains(&name.as_str()) {
            let reason = format!("sets {name}, which this program must set itself; leave it out");
            return Err(invalid(&entry, reason));
        }
        properties.push((name.clone(), reader.reveal(&entry, &text_of(value))?));
    }
    Ok(properties)
}

fn registry(reader: &Reader<'_>) -> Result<Option<Registry>, ConfigError> {
    if reader.raw.section("schema_registry").is_none() {
        return Ok(None);
    }
    let remedy = "write the registry's address, like \"http://localhost:8081\"";
    reader.required_text(&["schema_registry", "url"], remedy)?;
    Ok(Some(Registry {
        url: url(reader, &["schema_registry", "url"])?,
        user: reader.optional_text(&["schema_registry", "user"]),
        password: reader.secret(&["schema_registry", "password"])?,
    }))
}

fn url(reader: &Reader<'_>, path: &[&str]) -> Result<String, ConfigError> {
    let entry = reader.entry(path).expect("was checked to be there");
    let given = text_of(&entry.value);
    if !(given.starts_with("http://") || given.starts_with("https://")) {
        let reason = format!("is \"{given}\"; it must begin with http:// or https://");
        return Err(invalid(&entry, reason));
    }
    Ok(given.trim_end_matches('/').to_owned())
}

fn database(reader: &Reader<'_>) -> Result<Database, ConfigError> {
    Ok(Database {
        url: url(reader, &["clickhouse", "url"])?,
        database: name(reader, &["clickhouse", "database"], "_", 64)?,
        user: reader.text(&["clickhouse", "user"]),
        password: reader.secret(&["clickhouse", "password"])?,
        flush_interval: reader.duration(&["clickhouse", "flush_interval"], Millis(10))?,
    })
}

fn letters(reader: &Reader<'_>) -> Result<Letters, ConfigError> {
    let after = reader.integer(&["dead_letters", "limit_after"], 1..=1_000_000_000)?;
    Ok(Letters {
        topic: name(reader, &["dead_letters", "topic"], "._-", 249)?,
        limit: reader.share(&["dead_letters", "limit"])?,
        limit_after: u64::try_from(after).expect("the bound fits"),
    })
}

fn listen(reader: &Reader<'_>) -> Result<SocketAddr, ConfigError> {
    let entry = reader.entry(&["http", "listen"]).expect("has a default");
    let given = text_of(&entry.value);
    given.parse().map_err(|_| {
        let reason =
            "it must be an address and a port, like \"127.0.0.1:9464\" or \"0.0.0.0:9464\"";
        invalid(&entry, format!("is \"{given}\"; {reason}"))
    })
}

fn shard(reader: &Reader<'_>, has_labels: bool) -> Result<ShardSettings, ConfigError> {
    let window = reader.millis(&["windows", "size"], Millis(1))?;
    let entry = reader.entry(&["windows", "size"]).expect("has a default");
    fits_a_day(window).map_err(|reason| invalid(&entry, reason))?;
    let (models, dimensions) = models(reader)?;
    Ok(ShardSettings {
        window,
        limits: Limits {
            lateness: reader.millis(&["windows", "lateness"], Millis(0))?,
            label_wait: reader.millis(&["windows", "label_wait"], Millis(0))?,
            max_future: reader.millis(&["windows", "max_future"], Millis(0))?,
            max_gap: reader.millis(&["windows", "max_gap"], Millis(1))?,
        },
        clock_stamps: reader.integer(&["windows", "clock_stamps"], 1..=64)?,
        progress: reader.choice(
            &["windows", "progress"],
            &[("log", Progress::Log), ("event", Progress::Event)],
        )?,
        has_labels,
        generation: 0,
        caps: Caps {
            models: reader.integer(&["caps", "models"], 1..=1_000_000)?,
            versions: reader.integer(&["caps", "versions"], 1..=1_000_000)?,
            segments: reader.integer(&["caps", "segments"], 1..=1_000_000)?,
        },
        dimensions,
        models,
    })
}

fn fits_a_day(span: Millis) -> Result<(), String> {
    let fits = DAY.0 % span.0 == 0 || span.0 % DAY.0 == 0;
    if fits {
        Ok(())
    } else {
        Err("must divide a day or be whole days, like \"5m\" or \"7d\"".into())
    }
}

/// The configured grains, ascending. Of the default ones, those that the window size does not divide are left out.
fn grains(reader: &Reader<'_>, window: Millis) -> Result<Vec<Millis>, ConfigError> {
    let entry = reader.entry(&["windows", "grains"]).expect("has a default");
    let mut grains = Vec::new();
    for text in list_of(&entry.value) {
        let Some(grain) = values::duration(&text).filter(|grain| grain.0 > 0) else {
            let reason = format!("has \"{text}\"; a grain is a duration, like \"1h\"");
            return Err(invalid(&entry, reason));
        };
        let is_multiple = grain.0 % window.0 == 0 && grain > window;
        if !is_multiple && matches!(entry.place, Place::Default(_)) {
            continue;
        }
        if !is_multiple {
            let size = window.0;
            let reason =
                format!("has \"{text}\"; a grain is several times windows.size ({size} ms)");
            return Err(invalid(&entry, reason));
        }
        fits_a_day(grain)
            .map_err(|reason| invalid(&entry, format!("has \"{text}\", which {reason}")))?;
        grains.push(grain);
    }
    grains.sort_unstable();
    grains.dedup();
    Ok(grains)
}

/// The models' settings in the order of the file, and all segment dimensions that they name.
fn models(reader: &Reader<'_>) -> Result<(Vec<ModelSettings>, Vec<String>), ConfigError> {
    let (mut models, mut dimensions) = (Vec::new(), Vec::new());
    for pattern in &reader.raw.models {
        let key = |name| ["models", pattern.as_str(), name];
        let task = match reader.optional_text(&key("task")) {
            None => None,
            Some(_) => Some(reader.choice(
                &key("task"),
                &[
                    ("binary", Task::Binary),
                    ("multiclass", Task::Multiclass),
                    ("regression", Task::Regression),
                ],
            )?),
        };
        let positive = match reader.raw.get(&key("positive")) {
            Some(entry) => positives(&entry.value),
            None => default_positive(),
        };
        let mut own = Vec::new();
        for dimension in reader.texts(&key("segments")) {
            let at = dimensions.iter().position(|known| *known == dimension).unwrap_or_else(|| {
                dimensions.push(dimension);
                dimensions.len() - 1
            });
            own.push(u16::try_from(at).expect("nobody writes 65,536 dimensions"));
        }
        own.sort_unstable();
        own.dedup();
        models.push(ModelSettings {
            pattern: pattern.clone(),
            task,
            positive,
            threshold: reader.share(&key("threshold"))?,
            dimensions: own,
            value: value_matrix(reader, &key("value"))?,
        });
    }
    Ok((models, dimensions))
}

/// What is positive where nothing is configured.
fn default_positive() -> Vec<Positive> {
    vec![Positive::Number(1.0), Positive::Boolean(true)]
}

fn value_matrix(reader: &Reader<'_>, path: &[&str]) -> Result<Option<ValueMatrix>, ConfigError> {
    let Some(entry) = reader.entry(path) else {
        return Ok(None);
    };
    let table = entry.value.as_table().expect("the type was checked");
    let cells = ["tp", "fp", "fn", "tn"];
    if let Some(other) = table.keys().find(|key| !cells.contains(&key.as_str())) {
        return Err(invalid(&entry, format!("has `{other}`; its cells are tp, fp, fn and tn")));
    }
    let cell = |name: &str| match table.get(name).map(number_of) {
        Some(number) if number.is_finite() => Ok(number),
        _ => Err(invalid(&entry, format!("needs a finite number for `{name}`"))),
    };
    Ok(Some(ValueMatrix { tp: cell("tp")?, fp: cell("fp")?, fn_: cell("fn")?, tn: cell("tn")? }))
}
