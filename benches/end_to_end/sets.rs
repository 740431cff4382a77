//! The services, the records in Kafka, and what the rows must say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use serde_json::Value as Json;
use tempfile::TempDir;
use tidegauge::traffic::encode::{Encoding, INFERENCE_SCHEMA, LABEL_SCHEMA};
use tidegauge::traffic::produce::{Sender, Until};
use tidegauge::traffic::{Shares, Traffic, TrafficSettings, Truth};

use super::measured::{self, Measured};
use super::support::services::{ClickHouse, Kafka, Registry};

/// How the records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Set {
    /// Avro with the registry's framing.
    Avro,
    /// The same in lz4 batches.
    AvroLz4,
    /// JSON objects.
    Json,
    /// The same in lz4 batches.
    JsonLz4,
}

impl Set {
    /// As the command line says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::AvroLz4 => "avro-lz4",
            Self::Json => "json",
            Self::JsonLz4 => "json-lz4",
        }
    }

    /// Whether anybody can read it without a schema.
    pub fn is_json(self) -> bool {
        matches!(self, Self::Json | Self::JsonLz4)
    }

    fn format(self) -> &'static str {
        if self.is_json() { "json" } else { "avro" }
    }

    fn compression(self) -> &'static str {
        if matches!(self, Self::AvroLz4 | Self::JsonLz4) { "lz4" } else { "none" }
    }
}

/// Records in two topics.
pub struct Made {
    set: Set,
    pub(super) topics: [String; 2],
    truth: Truth,
    bytes: u64,
}

/// Inferences, labelled, true positives, false positives, false negatives, true negatives by model, version and start
/// of the window.
pub type Counts = BTreeMap<(String, String, u64), [u64; 6]>;

impl Made {
    /// Panics unless this is what was sent.
    pub fn must_equal(&self, found: &Counts, whose: &str) {
        let all = self.truth.rows.iter().filter(|(key, _)| key.segment == "all");
        let wanted = all.map(|(key, it)| {
            let start = u64::try_from(key.window_start_ms).expect("after 1970");
            let key = (key.model.clone(), key.version.clone(), start);
            (key, [it.inferences, it.labelled, it.tp, it.fp, it.fn_, it.tn])
        });
        let wanted: Counts = wanted.collect();
        assert!(!wanted.is_empty() && *found == wanted, "rows of {whose} differ from the truth");
    }

    /// Inferences and labels, each by its topic.
    pub fn records_by_topic(&self) -> [u64; 2] {
        [self.truth.inference_records(), self.truth.label_records()]
    }

    /// Inferences and labels.
    pub fn records(&self) -> f64 {
        float(self.records_by_topic().iter().sum())
    }

    /// Of keys and values, before compression.
    pub fn bytes_per_record(&self) -> f64 {
        float(self.bytes) / self.records()
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "figures for people")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Where everything runs.
pub struct Stage {
    pub(super) kafka: Kafka,
    clickhouse: ClickHouse,
    registry: Registry,
    folder: TempDir,
    workers: usize,
    partitions: i32,
    reference: Option<PathBuf>,
    runs: usize,
}

const MODELS: [&str; 3] = ["fraud", "churn", "credit"];
/// So that all windows lie within one day of grain.
const START_MS: i64 = 1_767_571_200_000;
/// 40 windows of 5 minutes, whatever the number of records.
const SPAN_S: f64 = 12_000.0;
const REFERENCE_INFERENCES: u64 = 20_000;

impl Stage {
    /// Starts the services; makes a reference of 20,000 records if asked.
    pub fn start(workers: usize, partitions: i32, with_reference: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut stage = Self {
            kafka: Kafka::start(),
            clickhouse: ClickHouse::start(),
            registry: Registry::start(),
            folder,
            workers,
            partitions,
            reference: None,
            runs: 0,
        };
        stage.reference = with_reference.then(|| stage.make_reference());
        stage
    }

    /// A file of this run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn make_reference(&self) -> PathBuf {
        let mut traffic = traffic(7, REFERENCE_INFERENCES, Encoding::Json);
        let mut files = [Vec::new(), Vec::new()];
        while let Some(record) = traffic.produce(traffic.inferences() < REFERENCE_INFERENCES) {
            let file = &mut files[record.stream.index()];
            file.extend(record.payload.expect("nothing is broken"));
            file.push(b'\n');
        }
        let [inferences, labels] = ["inferences.jsonl", "labels.jsonl"].map(|name| self.path(name));
        fs::write(&inferences, &files[0]).expect("the folder is ours");
        fs::write(&labels, &files[1]).expect("the folder is ours");
        let file =
            self.configure("reference", &["inferences", "labels"].map(str::to_owned), "json");
        let out = self.path("references");
        fs::create_dir(&out).expect("the folder is ours");
        for model in MODELS {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tidegauge"));
            command.args(["profile", "--name", model, "--model", model, "--inferences"]);
            command.arg(&inferences).arg("--labels").arg(&labels);
            command.arg("--output").arg(out.join(format!("{model}.json"))).arg("-c").arg(&file);
            measured::run(&mut command, &self.path("profile.log"));
        }
        out
    }

    /// Sends so many inferences, and a label for each.
    pub fn make(&mut self, set: Set, inferences: u64) -> Made {
        let topics = ["inferences", "labels"].map(|it| format!("{it}.{}.{inferences}", set.name()));
        let options = [("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")];
        for topic in &topics {
            self.kafka.create_topic(topic, self.partitions, &options);
        }
        let encoding = if set.is_json() {
            Encoding::Json
        } else {
            let schemas = [INFERENCE_SCHEMA, LABEL_SCHEMA];
            let id =
                |at: usize| self.registry.register(&format!("{}-value", topics[at]), schemas[at]);
            Encoding::Avro { ids: Some([id(0), id(1)]) }
        };
        let mut config = self.kafka.client_config();
        config.set("compression.type", set.compression()).set("linger.ms", "50");
        config.set("partitioner", "murmur2_random").set("batch.size", "65536");
        let sender = Sender::new(&config, topics.clone()).expect("the broker is there");
        let mut traffic = traffic(1, inferences, encoding);
        let until = Until { inferences: Some(inferences), all_labels: true, ..Until::default() };
        let done = sender.run(&mut traffic, until, None, &|| false, &mut |_| {});
        done.expect("the broker takes all");
        let bytes = bytes_of(inferences, encoding);
        Made { set, topics, truth: traffic.truth().clone(), bytes }
    }

    /// A number for what must be new in each run.
    pub fn next_run(&mut self) -> usize {
        self.runs += 1;
        self.runs
    }

    /// One run of a consumer that throws all records away.
    pub fn run_bare(&mut self, how: &str, made: &Made) -> Measured {
        let mut command = Command::new(std::env::current_exe().expect("it runs"));
        command.args(["--bare", how]).arg(self.kafka.bootstrap()).args(&made.topics);
        command.arg(made.records_by_topic().iter().sum::<u64>().to_string());
        measured::run(&mut command, &self.path("bare.log"))
    }

    /// One run of the program under a new job name, until the end of the topics.
    pub fn run_program(&mut self, made: &Made) -> Measured {
        let job = format!("run-{}", self.next_run());
        let file = self.configure(&job, &made.topics, made.set.format());
        let program = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tidegauge"));
            command.args(arguments).arg("-c").arg(&file);
            command
        };
        measured::run(&mut program(&["init"]), &self.path("init.log"));
        self.kafka.create_topic(&format!("dead.{job}"), 1, &[]);
        let before = (measured::process_s(self.clickhouse.pid()), self.rows_taken());
        let mut run = measured::run(&mut program(&["run", "--until-end"]), &self.path("run.log"));
        run.clickhouse_s = measured::process_s(self.clickhouse.pid()) - before.0;
        run.rows = self.rows_taken() - before.1;
        made.must_equal(&self.counts(&job), &job);
        run
    }

    fn configure(&self, job: &str, topics: &[String; 2], format: &str) -> PathBuf {
        let [inferences, labels] = topics;
        let mut text = format!(
            "job = \"{job}\"\nworkers = {}\n\
             [kafka]\nbrokers = \"{}\"\n\
             [inferences]\ntopic = \"{inferences}\"\nformat = \"{format}\"\n\
             [labels]\ntopic = \"{labels}\"\nformat = \"{format}\"\n\
             [schema_registry]\nurl = \"{}\"\n\
             [clickhouse]\nurl = \"{}\"\n\
             [dead_letters]\ntopic = \"dead.{job}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            self.workers,
            self.kafka.bootstrap(),
            self.registry.url(),
            self.clickhouse.url(),
        );
        for model in MODELS {
            writeln!(text, "[models.{model}]\ntask = \"binary\"").expect("memory");
            if let Some(folder) = &self.reference {
                let file = folder.join(format!("{model}.json"));
                writeln!(text, "reference = {:?}", file.display().to_string()).expect("memory");
            }
        }
        let file = self.path(&format!("{job}.toml"));
        fs::write(&file, text).expect("the folder is ours");
        file
    }

    fn rows_taken(&self) -> u64 {
        let sql = "SELECT value FROM system.events WHERE event = 'InsertedRows'";
        self.clickhouse.query(sql).trim().parse().unwrap_or(0)
    }

    /// The rows of every window of every model.
    fn counts(&self, job: &str) -> Counts {
        let sql = format!(
            "SELECT model, version, toUnixTimestamp64Milli(window_start) AS start, labels.inferences AS inferences, labelled, \
             tp, fp, fn, tn FROM (SELECT * FROM tidegauge.labels FINAL) AS labels \
             JOIN (SELECT * FROM tidegauge.quality_binary FINAL) AS quality \
             USING (job, grain, model, version, segment, window_start) \
             WHERE job = '{job}' AND segment = 'all' AND grain = '5m' \
             FORMAT JSONCompactEachRow SETTINGS output_format_json_quote_64bit_integers = 0"
        );
        let rows = self.clickhouse.query(&sql);
        let rows = rows.lines().map(|line| {
            let cells: Vec<Json> = serde_json::from_str(line).expect("JSON");
            let text = |at: usize| cells[at].as_str().expect("text").to_owned();
            let count = |at: usize| cells[at].as_u64().expect("a count");
            ((text(0), text(1), count(2)), std::array::from_fn(|at| count(at + 3)))
        });
        rows.collect()
    }
}

fn traffic(seed: u64, inferences: u64, encoding: Encoding) -> Traffic {
    let settings = TrafficSettings {
        seed,
        start_ms: START_MS,
        inferences_per_s: float(inferences) / SPAN_S,
        window_ms: 300_000,
        lateness_ms: 600_000,
        label_wait_ms: 3_600_000,
        falls_after_ms: i64::MAX / 2,
        shares: Shares::NONE,
    };
    Traffic::new(settings, encoding)
}

/// The generator gives the same records again.
fn bytes_of(inferences: u64, encoding: Encoding) -> u64 {
    let mut traffic = traffic(1, inferences, encoding);
    let mut bytes = 0;
    while let Some(record) = traffic.produce(traffic.inferences() < inferences) {
        bytes += record.key.len() + record.payload.map_or(0, |payload| payload.len());
    }
    u64::try_from(bytes).expect("a length")
}
