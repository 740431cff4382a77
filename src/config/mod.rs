//! One TOML file and the environment → [`Settings`], checked once and against each other. Each part owns its own
//! settings type and never sees the file.

mod error;
pub mod options;
mod parts;
mod raw;
pub(crate) mod values;
mod reader;
mod drift;
mod shard;
mod section;
mod expression;
mod metrics;
mod alerts;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use error::{ConfigError, Place};
use raw::Entry;
pub use raw::{Environment, RawConfig};
pub use values::{Secret, bytes, duration};

use crate::alerting::{Medium, TargetSettings};
use crate::alerts::Rule;
use crate::decode::Format;
use crate::decode::fields::FieldPaths;
use crate::engine::ShardSettings;
use crate::engine::event::Stream;
use crate::engine::glob::fits;
use crate::engine::metrics::method::Options;
use crate::engine::time::Millis;
use crate::evaluate::grain_name;
use crate::profile::builder::Declared;
use crate::sink::clickhouse::INSERT_SETTINGS;
use crate::sink::definitions::MetricDefinition;
use crate::sink::tables::{Databases, Engine};
use crate::source::kafka::Start;
use crate::telemetry::LogFormat;
use reader::{Reader, invalid, list_of, text_of};
use shard::{grains, shard};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Consumer group, and owner of the rows.
    pub job: String,
    /// Where a job without marks begins.
    pub start: Start,
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
    /// What is declared of features, by the pattern of the models that have them, in the order of the file.
    pub declared: Vec<(String, BTreeMap<String, Declared>)>,
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
    /// The custom metrics, by name, with what the catalogue says of them.
    pub metrics: Vec<MetricDefinition>,
    /// Rules over metric rows.
    pub rules: Vec<Rule>,
    unjudged: Option<ConfigError>,
    /// Who is told of their alerts.
    pub targets: Vec<TargetSettings>,
    /// How to log.
    pub logs: Logs,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSettings {
    /// Its name.
    pub name: String,
    /// How its records are encoded.
    pub format: Format,
    /// Where its fields lie.
    pub fields: FieldPaths,
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
    /// Which engines the tables get.
    pub engine: Engine,
    /// Settings beside the fixed ones of every insert.
    pub insert_settings: Vec<(String, String)>,
    /// Settings of every read.
    pub read_settings: Vec<(String, String)>,
    /// Until an insert must be acknowledged.
    pub timeout: Duration,
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
    /// For people or for a log store.
    pub format: LogFormat,
    /// A level or a filter like `info,tidegauge=debug`.
    pub level: String,
}

/// A rebalance that takes longer loses the partitions.
const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms";
/// librdkafka's default for it.
const DEFAULT_MAX_POLL_INTERVAL_MS: u128 = 300_000;
/// What inserts and reads of replicated tables are to be sent with: the option, and each setting with its value in TOML.
const OF_REPLICAS: [(&str, &[(&str, &str)]); 2] = [
    ("insert_settings", &[("insert_quorum", "\"auto\""), ("insert_quorum_parallel", "0")]),
    ("read_settings", &[("select_sequential_consistency", "1")]),
];
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
        let inferences = topic(&reader, Stream::Inferences)?;
        let labels =
            raw.section(&["labels"]).map(|_| topic(&reader, Stream::Labels)).transpose()?;
        let mut settings = Self {
            job: name(&reader, &["job"], JOB_NAME.0, JOB_NAME.1)?,
            start: reader
                .choice(&["start"], &[("earliest", Start::Earliest), ("latest", Start::Latest)])?,
            workers: workers(&reader)?,
            drain_budget: reader.duration(&["drain_budget"], Millis(1))?,
            brokers: reader.text(&["kafka", "brokers"]),
            properties: properties(&reader)?,
            shard: shard(&reader, labels.is_some())?,
            inferences,
            labels,
            registry: registry(&reader)?,
            declared: Vec::new(),
            grains: Vec::new(),
            metrics: metrics::metrics(&reader)?,
            rules: Vec::new(),
            unjudged: None,
            targets: Vec::new(),
            clickhouse: database(&reader)?,
            dead_letters: letters(&reader)?,
            listen: listen(&reader)?,
            state_budget_bytes: reader.bytes(&["state", "budget"], LEAST_BUDGET_BYTES)?,
            logs: Logs {
                format: reader.choice(
                    &["logs", "format"],
                    &[("text", LogFormat::Text), ("json", LogFormat::Json)],
                )?,
                level: reader.text(&["logs", "level"]),
            },
        };
        let declared = |pattern: &String| Ok((pattern.clone(), drift::declared(&reader, pattern)?));
        settings.declared = raw.models.iter().map(declared).collect::<Result<_, _>>()?;
        settings.grains = grains(&reader, settings.shard.window)?;
        settings.shard.custom = settings.metrics.iter().map(|it| Arc::clone(&it.metric)).collect();
        let (window, models) = (settings.shard.window, &settings.shard.models);
        (settings.rules, settings.unjudged) =
            alerts::rules(&reader, (window, &settings.grains), &settings.metrics, models)?;
        let cluster = (settings.brokers.clone(), settings.exposed_properties());
        settings.targets = alerts::targets(&reader, &cluster)?;
        settings.check(&reader)?;
        Ok(settings)
    }

    /// What is declared of the features of a model: by the first pattern that fits its name.
    pub fn declared(&self, model: &str) -> BTreeMap<String, Declared> {
        let found = self.declared.iter().find(|(pattern, _)| fits(pattern, model));
        found.map(|(_, declared)| declared.clone()).unwrap_or_default()
    }

    /// Refuses a rule that can never be judged, for whoever evaluates them: a reference may still have to be built by
    /// this very configuration.
    pub fn check_rules(&self) -> Result<(), ConfigError> {
        self.unjudged.clone().map_or(Ok(()), Err)
    }

    /// As the user's properties say, or librdkafka by itself. What is no number is refused by librdkafka.
    fn max_poll_interval_ms(&self) -> u128 {
        let given = self.properties.iter().rev().find(|(name, _)| name == MAX_POLL_INTERVAL);
        let given = given.and_then(|(_, value)| value.expose().trim().parse().ok());
        given.unwrap_or(DEFAULT_MAX_POLL_INTERVAL_MS)
    }

    /// What no option can be wrong about alone.
    fn check(&self, reader: &Reader<'_>) -> Result<(), ConfigError> {
        let clash = |path: &[&str], reason: String| conflict(reader, path, reason);
        let limits = &self.shard.limits;
        if limits.label_wait < limits.lateness {
            let reason = format!(
                "({}) must be at least windows.lateness ({}): raise it or lower that",
                grain_name(limits.label_wait),
                grain_name(limits.lateness)
            );
            return Err(clash(&["windows", "label_wait"], reason));
        }
        let most = self.max_poll_interval_ms();
        if self.drain_budget.as_millis() >= most {
            let reason = format!(
                "must be below Kafka's {MAX_POLL_INTERVAL} ({most}), else a rebalance loses the partitions"
            );
            return Err(clash(&["drain_budget"], reason));
        }
        let mut topics = vec![("inferences", &self.inferences)];
        topics.extend(self.labels.as_ref().map(|labels| ("labels", labels)));
        for (section, topic) in &topics {
            if topic.format == Format::AvroRegistry && self.registry.is_none() {
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
        self.check_replicas(reader)?;
        self.check_targets(reader)
    }

    /// Refuses replicated tables where it is left open what a replica has that answers: an instance that does not see
    /// what another one has written evaluates without it. What is given is meant, whatever its value.
    fn check_replicas(&self, reader: &Reader<'_>) -> Result<(), ConfigError> {
        if self.clickhouse.engine == Engine::Plain {
            return Ok(());
        }
        let given = [&self.clickhouse.insert_settings, &self.clickhouse.read_settings];
        let (mut missing, mut lines) = (Vec::new(), Vec::new());
        for ((option, needed), given) in OF_REPLICAS.iter().zip(given) {
            let lacks = |name: &str| given.iter().all(|(known, _)| known != name);
            let lacking = needed.iter().filter(|(name, _)| lacks(name));
            let lacking: Vec<_> =
                lacking.map(|(name, _)| format!("clickhouse.{option}.{name}")).collect();
            if !lacking.is_empty() {
                let pairs: Vec<_> = needed.iter().map(|(n, v)| format!("{n} = {v}")).collect();
                lines.push(format!("`{option} = {{ {} }}`", pairs.join(", ")));
                missing.extend(lacking);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "is \"replicated\", which needs {}: write {} into [clickhouse], or other values if you mean them",
            missing.join(" and "),
            lines.join(" and ")
        );
        Err(conflict(reader, &["clickhouse", "engine"], reason))
    }

    /// Refuses alerts in a topic of the job: those that it reads would give it each alert as a record that can't be
    /// used, and whoever mends dead letters would find alerts among them.
    fn check_targets(&self, reader: &Reader<'_>) -> Result<(), ConfigError> {
        let labels = self.labels.as_ref().map(|labels| ("labels", &labels.name));
        let read = [("inferences", &self.inferences.name)].into_iter().chain(labels);
        let own: Vec<_> = read.chain([("dead_letters", &self.dead_letters.topic)]).collect();
        for (at, target) in self.targets.iter().enumerate() {
            let Medium::Kafka(topic) = &target.medium else { continue };
            if let Some((section, _)) = own.iter().find(|(_, name)| **name == topic.name) {
                let name = &target.name;
                let reason = format!(
                    "of \"{name}\" is also {section}.topic: alerts need a topic of their own; name another"
                );
                return Err(conflict(reader, &["notify", &at.to_string(), "topic"], reason));
            }
        }
        Ok(())
    }

    /// Hex digest of all that decides what a row says: two live configurations of one job must agree in it. Brokers,
    /// secrets, intervals and sizes of memory are not in it. Custom metrics are, since of two instances that write a
    /// window with other metrics nobody could say which is right; what the catalogue says of them is not.
    pub fn digest(&self) -> String {
        let mut shard = self.shard.clone();
        shard.generation = 0;
        // A profile's id stands for all that it holds.
        let taken = shard.models.iter_mut().map(|model| model.reference.take());
        let ids: Vec<_> = taken.map(|profile| profile.map(|profile| profile.id.clone())).collect();
        let taken = shard.models.iter_mut().map(|model| std::mem::take(&mut model.drift));
        let drift: Vec<_> = taken.collect();
        let topic = |topic: &TopicSettings| format!("{:?} {:?}", topic.format, topic.fields);
        let text = format!(
            "{shard:?} {:?} {} {:?}",
            self.grains,
            topic(&self.inferences),
            self.labels.as_ref().map(topic),
        );
        // What a job of an earlier version could not set: its digest stays where it is not set.
        let text = text
            .replace(", thresholds: []", "")
            .replace(", custom: []", "")
            .replace(", max_classes: 256,", ",")
            .replace(", auroc_classes: 32 }", " }")
            .replace(", features: 256 }", " }")
            .replace(", reference: None", "")
            .replace(", weighted: false", "")
            .replace(", distinct: []", "")
            // It changes no row.
            .replace(&format!(", gather_after: {}", shard.gather_after), "")
            .replace(&format!(", drift: {:?}", Options::default()), "");
        let text = if ids.iter().any(Option::is_some) { format!("{text} {ids:?}") } else { text };
        let is_set = drift.iter().any(|options| *options != Options::default());
        let text = if is_set { format!("{text} {drift:?}") } else { text };
        format!("{:032x}", xxhash_rust::xxh3::xxh3_128(text.as_bytes()))
    }
}

/// An option that collides with another one.
fn conflict(reader: &Reader<'_>, path: &[&str], reason: String) -> ConfigError {
    let entry = reader.entry(path).expect("only options with a value are checked");
    ConfigError::Conflict { place: entry.place, key: entry.key, reason }
}

fn topic(reader: &Reader<'_>, stream: Stream) -> Result<TopicSettings, ConfigError> {
    let section = stream.name();
    let remedy = format!("write `[{section}]` and below it `topic = \"NAME\"`");
    Ok(TopicSettings {
        name: reader.required_text(&[section, "topic"], &remedy)?,
        format: format(reader, section)?,
        fields: fields(reader, stream)?,
    })
}

fn format(reader: &Reader<'_>, section: &str) -> Result<Format, ConfigError> {
    let entry = reader.entry(&[section, "format"]).expect("has a default");
    let given = text_of(&entry.value);
    match given.as_str() {
        "json" => Ok(Format::Json),
        "avro" => Ok(Format::AvroRegistry),
        other => {
            let Some(path) = other.strip_prefix("avro-file:") else {
                let reason = "it must be \"json\", \"avro\" or \"avro-file:PATH\"";
                return Err(invalid(&entry, format!("is \"{given}\"; {reason}")));
            };
            std::fs::read_to_string(reader.beside(path))
                .map(Format::AvroFile)
                .map_err(|error| invalid(&entry, format!("names the schema {path}: {error}")))
        }
    }
}

fn fields(reader: &Reader<'_>, stream: Stream) -> Result<FieldPaths, ConfigError> {
    let entry = reader.entry(&[stream.name(), "fields"]).expect("has a default");
    let mut fields = FieldPaths::new(stream);
    for (field, paths) in entry.value.as_table().expect("the type was checked") {
        fields
            .set(field, list_of(paths))
            .map_err(|error| invalid(&entry, format!("can't be: {error}")))?;
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
    check_name(&given, signs, longest).map_err(|reason| invalid(&entry, reason))?;
    Ok(given)
}

fn check_name(given: &str, signs: &str, longest: usize) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || signs.contains(c);
    if given.is_empty() || given.len() > longest || !given.chars().all(fits) {
        return Err(format!(
            "is \"{given}\"; it must be 1 to {longest} letters, digits or {signs}"
        ));
    }
    Ok(())
}

/// Signs of a job's name beside letters and digits, and how long it may be.
const JOB_NAME: (&str, usize) = ("._-", 128);

/// A job's name that is not given in the configuration.
pub fn job_name(given: &str) -> Result<String, String> {
    let (signs, longest) = JOB_NAME;
    check_name(given, signs, longest).map(|()| given.to_owned())
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
        let own = Entry { key: format!("{}.\"{name}\"", entry.key), ..entry.clone() };
        properties.push((name.clone(), reader.reveal(&own, &text_of(value))?));
    }
    Ok(properties)
}

fn registry(reader: &Reader<'_>) -> Result<Option<Registry>, ConfigError> {
    if reader.raw.section(&["schema_registry"]).is_none() {
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
    // Addresses stand in logs and errors. The value is not shown: it may be a password that is misplaced here.
    if given.contains(['@', '?', '#']) {
        let section = path[0];
        let reason = format!(
            "must not hold a user, a password or parameters: write them as {section}.user and {section}.password"
        );
        return Err(invalid(&entry, reason));
    }
    if !(given.starts_with("http://") || given.starts_with("https://")) {
        let reason = format!("is \"{given}\"; it must begin with http:// or https://");
        return Err(invalid(&entry, reason));
    }
    Ok(given.trim_end_matches('/').to_owned())
}

fn database(reader: &Reader<'_>) -> Result<Database, ConfigError> {
    Ok(Database {
        url: url(reader, &["clickhouse", "url"])?,
        database: database_name(reader)?,
        user: reader.text(&["clickhouse", "user"]),
        password: reader.secret(&["clickhouse", "password"])?,
        engine: engine(reader)?,
        insert_settings: insert_settings(reader)?,
        read_settings: pairs(reader, &["clickhouse", "read_settings"]),
        timeout: reader.duration(&["clickhouse", "timeout"], Millis(100))?,
        flush_interval: reader.duration(&["clickhouse", "flush_interval"], Millis(10))?,
    })
}

/// BI tools break on other names than these, even where ClickHouse takes them.
fn database_name(reader: &Reader<'_>) -> Result<String, ConfigError> {
    let entry = reader.entry(&["clickhouse", "database"]).expect("has a default");
    let given = text_of(&entry.value);
    if Databases::is_name(&given) && given.len() <= 64 {
        return Ok(given);
    }
    let reason = "it must be 1 to 64 of a to z, 0 to 9 and _, and begin with a letter";
    Err(invalid(&entry, format!("is \"{given}\"; {reason}")))
}

fn engine(reader: &Reader<'_>) -> Result<Engine, ConfigError> {
    let choices = [("plain", false), ("replicated", true)];
    if !reader.choice(&["clickhouse", "engine"], &choices)? {
        return Ok(Engine::Plain);
    }
    Ok(Engine::Replicated {
        cluster: reader
            .optional_text(&["clickhouse", "cluster"])
            .filter(|cluster| !cluster.is_empty()),
        path: reader.text(&["clickhouse", "keeper_path"]),
        replica: reader.text(&["clickhouse", "replica"]),
    })
}

fn pairs(reader: &Reader<'_>, path: &[&str]) -> Vec<(String, String)> {
    let entry = reader.entry(path).expect("has a default");
    let table = entry.value.as_table().expect("the type was checked");
    table.iter().map(|(name, value)| (name.clone(), text_of(value))).collect()
}

/// Settings beside those that every insert needs: of two of one name the server would take these.
fn insert_settings(reader: &Reader<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let path = ["clickhouse", "insert_settings"];
    let given = pairs(reader, &path);
    for (name, given) in &given {
        let fixed = INSERT_SETTINGS.iter().find(|(fixed, _)| fixed == name);
        let reason = match fixed {
            Some((_, value)) if given == value => continue,
            Some((_, value)) => {
                format!("can't be set: it is {value} in every insert, which the rows need; leave it out")
            }
            None if name == "insert_deduplication_token" => {
                "can't be set: all inserts but the first one would be dropped as repeated; leave it out".to_owned()
            }
            None => continue,
        };
        let entry = reader.entry(&path).expect("has a default");
        return Err(invalid(&Entry { key: format!("{}.{name}", entry.key), ..entry }, reason));
    }
    Ok(given)
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
