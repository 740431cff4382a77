//! The services, the records in Kafka, and what the rows must say.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;
use serde_json::Value as Json;
use tempfile::TempDir;
use tidegauge::traffic::encode::{Encoding, LABEL_SCHEMA, inference_schema};
use tidegauge::traffic::produce::{Sender, Until};
use tidegauge::traffic::{Shape, Shares, Traffic, TrafficSettings, Truth};

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

/// What a run is over, and by how many processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    pub set: Set,
    pub partitions: i32,
    pub instances: usize,
    pub shape: Shape,
}

impl Case {
    /// The same with records of another shape.
    pub fn with(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    fn label_wait_ms(&self) -> i64 {
        self.shape.label_delay_ms.unwrap_or(0).max(HOUR_MS)
    }

    /// Records that are the same in every run, at this rate of their own time.
    pub fn traffic(
        &self,
        seed: u64,
        start_ms: i64,
        inferences_per_s: f64,
        shares: Shares,
    ) -> TrafficSettings {
        TrafficSettings {
            seed,
            start_ms,
            inferences_per_s,
            window_ms: 300_000,
            lateness_ms: 600_000,
            label_wait_ms: self.label_wait_ms(),
            falls_after_ms: i64::MAX / 2,
            shares,
            shape: self.shape,
        }
    }

    /// So many inferences, a label for each, over 40 windows.
    fn over_windows(&self, seed: u64, inferences: u64, shares: Shares) -> TrafficSettings {
        self.traffic(seed, START_MS, float(inferences) / SPAN_S, shares)
    }
}

/// Records in two topics.
pub struct Made {
    pub case: Case,
    pub topics: [String; 2],
    truth: Truth,
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

    /// Of keys and values, before compression: the generator gives the same records again.
    pub fn bytes_per_record(&self) -> f64 {
        let inferences = self.records_by_topic()[0];
        let encoding = if self.case.set.is_json() {
            Encoding::Json
        } else {
            Encoding::Avro { ids: Some([1, 2]) }
        };
        let settings = self.case.over_windows(1, inferences, Shares::NONE);
        let mut traffic = Traffic::new(settings, encoding);
        let mut bytes = 0;
        while let Some(record) = traffic.produce(traffic.inferences() < inferences) {
            bytes += record.key.len() + record.payload.map_or(0, |payload| payload.len());
        }
        float(u64::try_from(bytes).expect("a length")) / self.records()
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "figures for people")]
pub fn float(count: u64) -> f64 {
    count as f64
}

/// Where everything runs.
pub struct Stage {
    pub kafka: Kafka,
    pub clickhouse: ClickHouse,
    registry: Registry,
    folder: TempDir,
    workers: usize,
    with_reference: bool,
    /// Folders by number of features.
    references: BTreeMap<usize, PathBuf>,
    runs: usize,
}

const MODELS: [&str; 3] = ["fraud", "churn", "credit"];
/// So that all windows lie within one day of grain.
const START_MS: i64 = 1_767_571_200_000;
/// 40 windows of 5 minutes, whatever the number of records.
const SPAN_S: f64 = 12_000.0;
const HOUR_MS: i64 = 3_600_000;
const REFERENCE_INFERENCES: u64 = 20_000;
/// For records of any time.
const KEPT: [(&str, &str); 2] = [("retention.ms", "-1"), ("message.timestamp.type", "CreateTime")];

impl Stage {
    /// Starts the services.
    pub fn start(workers: usize, with_reference: bool) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self {
            kafka: Kafka::start(),
            clickhouse: ClickHouse::start(),
            registry: Registry::start(),
            folder,
            workers,
            with_reference,
            references: BTreeMap::new(),
            runs: 0,
        }
    }

    /// A file of this run.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Of 20,000 records with so many features.
    fn make_reference(&self, features: usize) -> PathBuf {
        let shape = Shape { features, ..Shape::USUAL };
        let case = Case { set: Set::Json, partitions: 1, instances: 1, shape };
        let settings = case.over_windows(7, REFERENCE_INFERENCES, Shares::NONE);
        let mut traffic = Traffic::new(settings, Encoding::Json);
        let mut files = [Vec::new(), Vec::new()];
        while let Some(record) = traffic.produce(traffic.inferences() < REFERENCE_INFERENCES) {
            let file = &mut files[record.stream.index()];
            file.extend(record.payload.expect("nothing is broken"));
            file.push(b'\n');
        }
        let [inferences, labels] = ["inferences.jsonl", "labels.jsonl"].map(|name| self.path(name));
        fs::write(&inferences, &files[0]).expect("the folder is ours");
        fs::write(&labels, &files[1]).expect("the folder is ours");
        let topics = ["inferences", "labels"].map(str::to_owned);
        let file = self.configure("reference", &topics, case);
        let out = self.path(&format!("references.{features}"));
        fs::create_dir(&out).expect("the folder is ours");
        for model in MODELS {
            let mut command = measured::program();
            command.args(["profile", "--name", model, "--model", model, "--inferences"]);
            command.arg(&inferences).arg("--labels").arg(&labels);
            command.arg("--output").arg(out.join(format!("{model}.json"))).arg("-c").arg(&file);
            measured::run(&mut command, &self.path("profile.log"));
        }
        out
    }

    /// New topics for a case, and what sends to them.
    pub fn topics(&mut self, case: Case, linger_ms: u32) -> ([String; 2], Sender, Encoding) {
        let run = self.next_run();
        let topics = ["inferences", "labels"].map(|it| format!("{it}.{}.{run}", case.set.name()));
        for topic in &topics {
            self.kafka.create_topic(topic, case.partitions, &KEPT);
        }
        let encoding = if case.set.is_json() {
            Encoding::Json
        } else {
            let schemas = [inference_schema(case.shape.features), LABEL_SCHEMA.to_owned()];
            let id =
                |at: usize| self.registry.register(&format!("{}-value", topics[at]), &schemas[at]);
            Encoding::Avro { ids: Some([id(0), id(1)]) }
        };
        let mut config = self.kafka.client_config();
        config.set("compression.type", case.set.compression());
        config.set("linger.ms", linger_ms.to_string());
        config.set("partitioner", "murmur2_random").set("batch.size", "65536");
        let sender = Sender::new(&config, topics.clone()).expect("the broker is there");
        (topics, sender, encoding)
    }

    /// Sends so many inferences, and a label for each.
    pub fn make(&mut self, case: Case, inferences: u64) -> Made {
        let (topics, sender, encoding) = self.topics(case, 50);
        let settings = case.over_windows(1, inferences, Shares::NONE);
        let mut traffic = Traffic::new(settings, encoding);
        let until = Until { inferences: Some(inferences), all_labels: true, ..Until::default() };
        let done = sender.run(&mut traffic, until, None, &|| false, &mut |_| {});
        done.expect("the broker takes all");
        Made { case, topics, truth: traffic.truth().clone() }
    }

    /// Inferences without labels that go on where they ended, over 40 windows for each so many.
    pub fn unlabelled(&mut self, case: Case, inferences: u64) -> (([String; 2], Sender), Traffic) {
        let (topics, sender, encoding) = self.topics(case, 50);
        let shares = Shares { missing: 1.0, ..Shares::NONE };
        let traffic = Traffic::new(case.over_windows(1, inferences, shares), encoding);
        ((topics, sender), traffic)
    }

    /// Frees the broker's disk.
    pub fn forget(&self, made: &Made) {
        for topic in &made.topics {
            self.kafka.delete_topic(topic);
        }
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

    /// Tables, topic of dead letters and configuration of a new job.
    pub fn new_job(&mut self, topics: &[String; 2], case: Case) -> Job {
        let name = format!("run-{}", self.next_run());
        let features = case.shape.features;
        if self.with_reference && !self.references.contains_key(&features) {
            let made = self.make_reference(features);
            self.references.insert(features, made);
        }
        let job = Job { file: self.configure(&name, topics, case), name };
        measured::run(&mut job.command(&["init"]), &self.path("init.log"));
        self.kafka.create_topic(&format!("dead.{}", job.name), 1, &[]);
        job
    }

    /// One run of the program under a new job name until all records are in the rows, which must be right.
    pub fn run_program(&mut self, made: &Made) -> Measured {
        let job = self.new_job(&made.topics, made.case);
        let before = (measured::process_s(self.clickhouse.pid()), self.events("InsertedRows"));
        let mut run = if made.case.instances == 1 {
            measured::run(&mut job.command(&["run", "--until-end"]), &self.path("run.log"))
        } else {
            // An instance that ends hands its partitions over, so they end together.
            let mut commands: Vec<_> =
                (0..made.case.instances).map(|_| job.command(&["run"])).collect();
            let wanted: u64 = made.records_by_topic().iter().sum();
            let is_done = || self.records_counted(&job.name) == wanted;
            measured::run_until(&mut commands, &self.path("run.log"), is_done)
        };
        run.clickhouse_s = measured::process_s(self.clickhouse.pid()) - before.0;
        run.rows = self.events("InsertedRows") - before.1;
        made.must_equal(&self.counts(&job.name), &job.name);
        run
    }

    fn configure(&self, job: &str, topics: &[String; 2], case: Case) -> PathBuf {
        let [inferences, labels] = topics;
        let format = case.set.format();
        let mut text = format!(
            "job = \"{job}\"\nworkers = {}\n\
             [kafka]\nbrokers = \"{}\"\n\
             [inferences]\ntopic = \"{inferences}\"\nformat = \"{format}\"\n\
             [labels]\ntopic = \"{labels}\"\nformat = \"{format}\"\n\
             [schema_registry]\nurl = \"{}\"\n\
             [windows]\nlabel_wait = \"{}ms\"\n\
             [caps]\nmodels = {}\n\
             [clickhouse]\nurl = \"{}\"\n\
             [dead_letters]\ntopic = \"dead.{job}\"\n\
             [http]\nlisten = \"127.0.0.1:0\"\n",
            self.workers,
            self.kafka.bootstrap(),
            self.registry.url(),
            case.label_wait_ms(),
            case.shape.models.max(256),
            self.clickhouse.url(),
        );
        // What has no profile of its own takes the first one's: its records are alike.
        for (model, profile) in
            MODELS.map(|model| (model, model)).into_iter().chain([("*", MODELS[0])])
        {
            writeln!(text, "[models.\"{model}\"]\ntask = \"binary\"").expect("memory");
            if let Some(folder) = self.references.get(&case.shape.features) {
                let file = folder.join(format!("{profile}.json"));
                writeln!(text, "reference = {:?}", file.display().to_string()).expect("memory");
            }
        }
        let file = self.path(&format!("{job}.toml"));
        fs::write(&file, text).expect("the folder is ours");
        file
    }

    /// Records of both topics that the job's marks account for.
    pub fn records_counted(&self, job: &str) -> u64 {
        let sql = format!("SELECT sum(records) FROM tidegauge.stream_health WHERE job = '{job}'");
        self.clickhouse.query(&sql).trim().parse().expect("a count")
    }

    /// Inferences and labelled ones that the rows of the finest windows show.
    pub fn shown(&self, job: &str) -> [u64; 2] {
        let sql = format!(
            "SELECT sum(inferences), sum(labelled) FROM tidegauge.labels FINAL \
             WHERE job = '{job}' AND segment = 'all' AND grain = '5m'"
        );
        let row = self.clickhouse.query(&sql);
        let mut cells = row.split_whitespace().map(|cell| cell.parse().expect("a count"));
        std::array::from_fn(|_| cells.next().expect("two columns"))
    }

    /// How often something happened in the database, such as `InsertedRows`.
    pub fn events(&self, name: &str) -> u64 {
        let sql = format!("SELECT value FROM system.events WHERE event = '{name}'");
        self.clickhouse.query(&sql).trim().parse().unwrap_or(0)
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

/// A job that has tables and topics.
pub struct Job {
    pub name: String,
    file: PathBuf,
}

impl Job {
    /// Adds a section to its configuration.
    pub fn configure(&self, section: &str) {
        let text = fs::read_to_string(&self.file).expect("it was written");
        fs::write(&self.file, text + section).expect("the folder is ours");
    }

    /// The program with these arguments and the job's configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = measured::program();
        command.args(arguments).arg("-c").arg(&self.file);
        command
    }
}
