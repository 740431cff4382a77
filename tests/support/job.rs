//! One job of the real program: its configuration file, its instances, and its tables held against the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value as Json};
use tempfile::TempDir;

use super::http::{self, Answer};
use super::oracle::{self, Cell, Settings, Tables};
use super::services::{ClickHouse, Kafka, free_ports};
use super::{wait_for, wait_until};

const STOP_DEADLINE: Duration = Duration::from_secs(240);
const MATERIAL_DIFFERENCES: usize = 40;
/// Those of `stream_health` that are held against the oracle.
const ACCOUNT_COLUMNS: &str =
    "topic, partition, model, records, accepted, duplicate, late, dead, matched, kept, orphan";
/// Runs of [`Job::killed_midway`] at most.
const KILLS: usize = 10;

/// A job with a folder of its own for its file and its instances' logs.
pub struct Job {
    pub name: String,
    pub database: String,
    pub topics: [String; 2],
    folder: TempDir,
    started: usize,
}

/// One running process of a job.
pub struct Instance {
    child: Child,
    log: PathBuf,
    address: String,
}

/// `[inferences]` and `[labels]` of these topics, in JSON.
pub fn sections(topics: [&str; 2]) -> String {
    sections_with(topics, "")
}

/// The same; `more` stands in both, such as another format.
pub fn sections_with(topics: [&str; 2], more: &str) -> String {
    let [inferences, labels] = topics;
    format!(
        "[inferences]\ntopic = \"{inferences}\"\n{more}\n\n[labels]\ntopic = \"{labels}\"\n{more}\n"
    )
}

impl Job {
    /// Writes the configuration: `settings` as the program's options, and `more` behind it.
    pub fn new(
        name: &str,
        kafka: &Kafka,
        clickhouse: &ClickHouse,
        topics: [&str; 2],
        settings: &Settings,
        more: &str,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let job = Self {
            name: name.to_owned(),
            database: "tidegauge".to_owned(),
            topics: topics.map(str::to_owned),
            folder,
            started: 0,
        };
        let text = format!(
            "job = \"{name}\"\n{more}\n\
             [clickhouse]\nurl = \"{}\"\ndatabase = \"{}\"\nflush_interval = \"300ms\"\n\n\
             [dead_letters]\ntopic = \"dead.{name}\"\n\n\
             [kafka]\nbrokers = \"{}\"\n\
             properties = {{ \"session.timeout.ms\" = \"6000\", \"heartbeat.interval.ms\" = \"1000\" }}\n\n{}",
            clickhouse.program_url(),
            job.database,
            kafka.program_bootstrap(),
            options(settings),
        );
        std::fs::write(job.file(), text).expect("the folder is ours");
        job
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tidegauge.toml")
    }

    /// Puts another text for one that stands in the configuration.
    pub fn edit(&self, from: &str, to: &str) {
        let text = std::fs::read_to_string(self.file()).expect("it was written");
        assert!(text.contains(from), "{from} is not in {text}");
        std::fs::write(self.file(), text.replacen(from, to, 1)).expect("the folder is ours");
    }

    /// Writes a file beside the configuration, which may name it; gives its path.
    pub fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// Makes the topics that the job needs, dead letters included, for records of any time.
    pub fn create_topics(&self, kafka: &Kafka, partitions: i32) {
        let settings = [
            ("retention.ms", "-1"),
            ("message.timestamp.type", "CreateTime"),
            ("message.timestamp.after.max.ms", "9223372036854775807"),
        ];
        for topic in &self.topics {
            kafka.create_topic(topic, partitions, &settings);
        }
        kafka.create_topic(&format!("dead.{}", self.name), 1, &settings);
    }

    /// Starts the program with these arguments; `-c` is added.
    pub fn start(&mut self, arguments: &[&str]) -> Instance {
        self.start_with(arguments, &[])
    }

    /// The same, with options set from the environment, such as `TIDEGAUGE__STATE__BUDGET`.
    pub fn start_with(&mut self, arguments: &[&str], environment: &[(&str, &str)]) -> Instance {
        self.started += 1;
        let log = self.folder.path().join(format!("instance-{}.log", self.started));
        let file = File::create(&log).expect("the folder is ours");
        let both = file.try_clone().expect("it is open");
        let [port] = free_ports();
        let address = format!("127.0.0.1:{port}");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegauge"))
            .args(arguments)
            .arg("-c")
            .arg(self.file())
            .env("TIDEGAUGE__HTTP__LISTEN", &address)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(both)
            .spawn()
            .expect("cargo has built it");
        Instance { child, log, address }
    }

    /// Copies what all instances have written.
    pub fn keep_logs(&self, to: &Path) {
        std::fs::create_dir_all(to).expect("the folder is ours");
        for number in 1..=self.started {
            let name = format!("instance-{number}.log");
            std::fs::copy(self.folder.path().join(&name), to.join(&name)).expect("it is there");
        }
    }

    /// Runs the program to its end; panics unless it ends with this exit code. Gives what it wrote.
    pub fn run(&mut self, arguments: &[&str], code: i32, deadline: Duration) -> String {
        self.run_with(arguments, &[], code, deadline)
    }

    /// The same, with options set from the environment.
    pub fn run_with(
        &mut self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        code: i32,
        deadline: Duration,
    ) -> String {
        let mut instance = self.start_with(arguments, environment);
        let ended = instance.wait(&format!("tidegauge {} to end", arguments.join(" ")), deadline);
        let log = instance.log_text();
        assert_eq!(ended, Some(code), "exit code of tidegauge {}\n{log}", arguments.join(" "));
        log
    }

    /// Records of both topics that the newest marks account for.
    pub fn records_counted(&self, clickhouse: &ClickHouse) -> usize {
        self.counted_under(clickhouse, &self.name)
    }

    /// The same of another job of this configuration.
    fn counted_under(&self, clickhouse: &ClickHouse, name: &str) -> usize {
        let sql = format!(
            "SELECT sum(records) FROM {}.stream_health WHERE job = '{name}'",
            self.database
        );
        clickhouse.query(&sql).trim().parse().expect("a count")
    }

    /// Runs a bounded command of `count` records under a name of its own, holds it once some of them are counted and
    /// others are not, and kills it; gives that name.
    pub fn killed_midway(
        &mut self,
        clickhouse: &ClickHouse,
        arguments: &[&str],
        count: usize,
    ) -> String {
        const HELD: &str = "before-insert@2=sleep:1000,mark-acknowledged@2=sleep:600000";
        // The only worker begins all partitions at once, so the second flush that marks anything has records, even if
        // the first came before there were any. Either is seen: the first while the second is held, and behind the
        // second comes none.
        let environment = [
            ("TIDEGAUGE_FAILPOINTS", HELD),
            ("TIDEGAUGE__CLICKHOUSE__FLUSH_INTERVAL", "20ms"),
            ("TIDEGAUGE__WORKERS", "1"),
        ];
        // A flush takes what was read until then. On a machine that held up the flush, and not the reading, that may
        // be all: then once more.
        for attempt in 0..KILLS {
            let name = format!("killed-{attempt}");
            let arguments = [arguments, &["--job", &name]].concat();
            let mut held = self.start_with(&arguments, &environment);
            let counted = wait_for("the first records to be counted", STOP_DEADLINE, || {
                let has_ended = !held.is_running();
                let counted = self.counted_under(clickhouse, &name);
                (counted > 0 || has_ended).then_some(counted)
            });
            assert!(counted == count || held.is_running(), "it failed:\n{}", held.log_text());
            held.kill();
            if self.counted_under(clickhouse, &name) < count {
                return name;
            }
        }
        panic!("in each of {KILLS} runs all records were read before the first flush");
    }

    /// Waits until the marks account for at least so many records.
    pub fn wait_for_records(&self, clickhouse: &ClickHouse, records: usize, deadline: Duration) {
        let what = format!("{records} records of job {} in the marks", self.name);
        wait_until(&what, deadline, || self.records_counted(clickhouse) >= records);
    }

    /// Panics where any row, column or account differs from the oracle's.
    pub fn must_equal(&self, clickhouse: &ClickHouse, expected: &Tables) {
        let mut differences = self.differences(clickhouse, expected);
        let count = differences.len();
        differences.truncate(MATERIAL_DIFFERENCES);
        assert!(count == 0, "{count} differences, the first are\n{}", differences.join("\n"));
    }

    /// Every row, column and account that differs from the oracle's.
    pub fn differences(&self, clickhouse: &ClickHouse, expected: &Tables) -> Vec<String> {
        self.differences_but(clickhouse, expected, |_, _| false)
    }

    /// The same but for rows, by table and key, that the oracle cannot know.
    pub fn differences_but(
        &self,
        clickhouse: &ClickHouse,
        expected: &Tables,
        is_unknown: impl Fn(&str, &RowKey) -> bool,
    ) -> Vec<String> {
        let mut differences = Vec::new();
        self.compare_accounts(clickhouse, expected, &mut differences);
        for (table, _) in METRIC_TABLES {
            let is_unknown = |key: &RowKey| is_unknown(table, key);
            self.compare_table(clickhouse, table, expected, is_unknown, &mut differences);
        }
        differences
    }

    /// Count and checksum of the newest rows of each metric table, and of the accounts: where they are as before, all
    /// still is what was once held against the oracle.
    pub fn checksums(&self, clickhouse: &ClickHouse) -> BTreeMap<&'static str, String> {
        let of = |columns: &str, from: &str| {
            let name = &self.name;
            clickhouse.query(&format!(
                "SELECT count(), sum(cityHash64(toString(tuple({columns})))) FROM {from} WHERE job = '{name}'"
            ))
        };
        let tables = METRIC_TABLES.map(|(table, _)| table);
        let tables = tables.map(|table| (table, of("*", &newest_rows(&self.database, table))));
        let accounts = of(ACCOUNT_COLUMNS, &format!("{}.stream_health", self.database));
        tables.into_iter().chain([("stream_health", accounts)]).collect()
    }

    fn select(&self, clickhouse: &ClickHouse, columns: &str, from: &str) -> Vec<Map<String, Json>> {
        let sql = format!(
            "SELECT {columns} FROM {from} AND job = '{}' FORMAT JSONEachRow \
             SETTINGS output_format_json_quote_64bit_integers = 0",
            self.name
        );
        let text = clickhouse.query(&sql);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn compare_accounts(
        &self,
        clickhouse: &ClickHouse,
        expected: &Tables,
        differences: &mut Vec<String>,
    ) {
        let mut wanted = BTreeMap::new();
        for (partition, account) in expected.partitions.iter().enumerate() {
            for ((topic, model), counts) in &account.tally {
                let topic = ["inferences", "labels"][*topic];
                wanted.insert((topic.to_owned(), partition, model.clone()), *counts);
            }
        }
        for row in self.select(
            clickhouse,
            ACCOUNT_COLUMNS,
            &format!("{}.stream_health WHERE 1", self.database),
        ) {
            let text = |name: &str| row[name].as_str().expect("text").to_owned();
            let count = |name: &str| row[name].as_i64().unwrap_or_default();
            let partition = usize::try_from(count("partition")).expect("a number");
            let names = match &*text("topic") {
                "inferences" => ["accepted", "duplicate", "late", "dead"],
                _ => ["matched", "kept", "orphan", "dead"],
            };
            let counts = names.map(count);
            let key = (text("topic"), partition, text("model"));
            let is_sum = counts.iter().sum::<i64>() == count("records");
            let expected = wanted.remove(&key).unwrap_or_default();
            if counts != expected || !is_sum {
                differences.push(format!("accounts of {key:?}: {row:?}, expected {expected:?}"));
            }
        }
        differences
            .extend(wanted.into_iter().map(|missing| format!("missing accounts {missing:?}")));
    }

    fn compare_table(
        &self,
        clickhouse: &ClickHouse,
        table: &str,
        expected: &Tables,
        is_unknown: impl Fn(&RowKey) -> bool,
        differences: &mut Vec<String>,
    ) {
        let mut wanted = keyed(expected, table);
        wanted.retain(|key, _| !is_unknown(key));
        let from = format!("{} WHERE 1", newest_rows(&self.database, table));
        for row in self.select(clickhouse, &metric_columns(table), &from) {
            let key = row_key(table, &row);
            match wanted.remove(&key) {
                None if is_unknown(&key) => {}
                None => differences.push(format!("unexpected row of {table} {key:?}")),
                Some(expected) => compare_row(&row, expected, differences),
            }
        }
        differences.extend(wanted.keys().map(|key| format!("missing row of {table} {key:?}")));
    }
}

/// Model, version and segment, grain, start of the window, and the table's own key as text.
pub type RowKey = ([String; 3], String, i64, String);

/// The tables of metric rows, and the columns that tell several rows of one window apart.
pub const METRIC_TABLES: [(&str, &[&str]); 14] = [
    ("serving", &[]),
    ("labels", &[]),
    ("quality_binary", &[]),
    ("quality_threshold", &["threshold"]),
    ("calibration", &[]),
    ("calibration_bins", &["bin"]),
    ("quality_regression", &[]),
    ("quality_multiclass", &[]),
    ("quality_classes", &["class"]),
    ("confusion", &["true_class", "predicted_class"]),
    ("quality_estimated", &[]),
    ("data_quality", &["feature"]),
    ("categories", &["feature", "category"]),
    ("drift", &["kind", "feature", "method"]),
];

/// Tables whose rows need a reference profile, which the jobs that are held against the oracle have none of.
const OF_REFERENCES: [&str; 2] = ["quality_estimated", "drift"];

/// The metric tables, those of references apart, that the oracle expects no row of: what is held against them shows
/// nothing.
pub fn tables_without_rows(expected: &Tables) -> Vec<&'static str> {
    let tables = METRIC_TABLES.into_iter().map(|(table, _)| table);
    let needs_rows = tables.filter(|table| !OF_REFERENCES.contains(table));
    needs_rows.filter(|table| expected.rows.iter().all(|row| row.table != *table)).collect()
}

/// The rows of a metric table that are the newest of their window, as the views show them: an older one is of a class,
/// cell or category that has gone. Labels write those of drift that are of labels, and no others.
pub fn newest_rows(database: &str, table: &str) -> String {
    let kinds = if table == "drift" { ", kind = 'label'" } else { "" };
    format!(
        "(SELECT * EXCEPT (newest) FROM (SELECT *, max(row_version) OVER (\
         PARTITION BY job, grain, model, version, segment, window_start, window_end{kinds}) AS newest \
         FROM {database}.{table} FINAL) WHERE row_version = newest)"
    )
}

/// The oracle's rows of a metric table by key.
pub fn keyed<'a>(expected: &'a Tables, table: &str) -> BTreeMap<RowKey, &'a oracle::Row> {
    let rows = expected.rows.iter().filter(|row| row.table == table);
    rows.map(|row| {
        let names = [row.model.clone(), row.version.clone(), row.segment.clone()];
        ((names, grain_name(row.grain), row.start, row.own_key.clone()), row)
    })
    .collect()
}

/// The key of a row of this table that was selected with [`metric_columns`].
pub fn row_key(table: &str, row: &Map<String, Json>) -> RowKey {
    let (_, own) = METRIC_TABLES.iter().find(|(name, _)| *name == table).expect("a table");
    let of = |name: &&str| match &row[*name] {
        Json::String(text) => text.clone(),
        other => other.as_f64().expect("a number").to_string(),
    };
    let own_key = own.iter().map(of).collect::<Vec<_>>().join("/");
    let text = |name: &str| row[name].as_str().expect("text").to_owned();
    let start = row["window_start"].as_i64().expect("milliseconds");
    (["model", "version", "segment"].map(text), text("grain"), start, own_key)
}

/// All columns of a metric table, times as milliseconds.
pub fn metric_columns(table: &str) -> String {
    let mut times = "toUnixTimestamp64Milli(window_start) AS window_start, \
                     toUnixTimestamp64Milli(window_end) AS window_end"
        .to_owned();
    if table == "serving" {
        times += ", toUnixTimestamp64Milli(latest_event_time) AS latest_event_time";
    }
    format!("* REPLACE ({times})")
}

/// Length of a window in the largest of d, h, m, s that divides it.
pub fn grain_name(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let (unit, name) = units.into_iter().find(|(unit, _)| ms % unit == 0).expect("whole seconds");
    format!("{}{name}", ms / unit)
}

/// Adds what differs between a metric row and the oracle's.
pub fn compare_row(row: &Map<String, Json>, expected: &oracle::Row, differences: &mut Vec<String>) {
    let about = format!(
        "{} {} {}/{}/{} at {}",
        expected.table,
        grain_name(expected.grain),
        expected.model,
        expected.version,
        expected.segment,
        expected.start
    );
    let mut undefined = BTreeSet::new();
    for (name, cell) in &expected.cells {
        let found = row.get(name).unwrap_or(&Json::Null);
        let is_same = match cell {
            Cell::Count(count) => found.as_u64() == Some(*count),
            Cell::Time(time) => found.as_i64() == Some(*time),
            Cell::Number(number) => found.as_f64().is_some_and(|is| oracle::is_close(is, *number)),
            Cell::About(number) => found.as_f64().is_some_and(|is| oracle::is_about(is, *number)),
            Cell::Text(text) => found.as_str() == Some(text),
            Cell::Null(reason) => {
                if !name.ends_with("_upper") {
                    undefined.insert(format!("{name}={reason}"));
                }
                row.get(name) == Some(&Json::Null)
            }
        };
        if !is_same {
            differences.push(format!("{about}: {name} is {found}, expected {cell:?}"));
        }
    }
    let keys = ["window_start", "window_end", "grain", "job", "model", "version", "segment"];
    if row.len() != keys.len() + expected.cells.len() + 3 {
        differences.push(format!("{about}: columns {:?}", row.keys().collect::<Vec<_>>()));
    }
    let said = row["undefined"].as_str().expect("text").split_whitespace();
    let mut compare = |name: &str, is: String, expected: String| {
        if is != expected {
            differences.push(format!("{about}: {name} is {is}, expected {expected}"));
        }
    };
    let said: BTreeSet<String> = said.map(str::to_owned).collect();
    compare("undefined", format!("{said:?}"), format!("{undefined:?}"));
    compare("sealed", row["sealed"].to_string(), expected.sealed.to_string());
    compare("row_version", row["row_version"].to_string(), expected.row_version.to_string());
    compare(
        "window_end",
        row["window_end"].to_string(),
        (expected.start + expected.grain).to_string(),
    );
}

/// The oracle's settings as the program's options.
fn options(settings: &Settings) -> String {
    let grains: Vec<String> =
        settings.grains.iter().map(|grain| format!("\"{}\"", grain_name(*grain))).collect();
    let mut text = String::new();
    writeln!(text, "[windows]\nsize = \"{}\"", grain_name(settings.window)).expect("memory");
    writeln!(text, "grains = [{}]", grains.join(", ")).expect("memory");
    writeln!(text, "lateness = \"{}ms\"", settings.lateness).expect("memory");
    writeln!(text, "label_wait = \"{}ms\"", settings.label_wait).expect("memory");
    writeln!(text, "max_future = \"{}ms\"", settings.max_future).expect("memory");
    writeln!(text, "max_gap = \"{}ms\"", settings.max_gap).expect("memory");
    writeln!(text, "clock_stamps = {}\n", settings.clock_stamps).expect("memory");
    let [models, versions, segments] = settings.caps;
    writeln!(text, "[caps]\nmodels = {models}\nversions = {versions}\nsegments = {segments}")
        .expect("memory");
    let [counted, scored] = settings.class_caps;
    writeln!(text, "max_classes = {counted}\nauroc_classes = {scored}\n").expect("memory");
    for rule in &settings.models {
        writeln!(text, "[models.\"{}\"]", rule.pattern).expect("memory");
        if let Some(task) = rule.task {
            writeln!(text, "task = \"{}\"", format!("{task:?}").to_lowercase()).expect("memory");
        }
        writeln!(text, "threshold = {:?}", rule.threshold).expect("memory");
        writeln!(text, "thresholds = {:?}", rule.thresholds).expect("memory");
        let weights = if rule.weighted { "use" } else { "ignore" };
        writeln!(text, "weights = {weights:?}").expect("memory");
        writeln!(text, "segments = {:?}", rule.dimensions).expect("memory");
        if let Some([tp, fp, fn_, tn]) = rule.value {
            let value = format!("{{ tp = {tp:?}, fp = {fp:?}, fn = {fn_:?}, tn = {tn:?} }}");
            writeln!(text, "value = {value}").expect("memory");
        }
        text.push('\n');
    }
    text
}

impl Instance {
    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("process ids are small"))
    }

    /// What it has written so far.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends it a signal; none once it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there until it is waited for");
    }

    /// How it ended, once it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for its end; gives the exit code, or none after a signal.
    pub fn wait(&mut self, what: &str, deadline: Duration) -> Option<i32> {
        wait_for(what, deadline, || self.child.try_wait().expect("it is our child")).code()
    }

    /// Ends it at once, as a machine would that loses power.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it is our child");
    }

    /// The answer of its endpoint `path`, such as `/readyz`; an error while it does not listen.
    pub fn get(&self, path: &str) -> std::io::Result<Answer> {
        http::get(&format!("http://{}{path}", self.address))
    }

    /// The sum of a meter over its labels, such as `tidegauge_lag_records`; none while it does not listen.
    pub fn meter(&self, name: &str) -> Option<u64> {
        let answer = self.get("/metrics").ok()?;
        let lines = answer.body.lines().filter(|line| !line.starts_with('#'));
        let of = lines.filter_map(|line| {
            let (labelled, value) = line.rsplit_once(' ')?;
            let (is, _) = labelled.split_once('{').unwrap_or((labelled, ""));
            (is == name).then(|| value.parse::<u64>().ok()).flatten()
        });
        Some(of.sum())
    }

    /// Waits for the end of two more flushes. The second has begun after this call: it has all that was read before.
    pub fn wait_for_two_flushes(&self, deadline: Duration) {
        let flushes = || self.meter("tidegauge_flushes_total");
        let before = wait_for("the number of flushes", deadline, flushes);
        wait_until("two more flushes", deadline, || flushes() >= Some(before + 2));
    }

    /// Bytes of its memory that are in RAM now; none once it has ended.
    pub fn resident_bytes(&self) -> Option<usize> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kib = line.trim().trim_end_matches(" kB").parse::<usize>().ok()?;
        Some(kib * 1024)
    }

    /// Waits until `/readyz` answers with this status and a text that holds `part`. Gives that text.
    pub fn wait_for_readiness(&self, status: u16, part: &str, deadline: Duration) -> String {
        wait_for(&format!("/readyz to say {status} and {part:?}"), deadline, || {
            let answer = self.get("/readyz").ok()?;
            (answer.status == status && answer.body.contains(part)).then_some(answer.body)
        })
    }

    /// Asks it to end (SIGTERM), and panics unless it does so well.
    pub fn stop(mut self) {
        assert!(self.is_running(), "it has ended by itself:\n{}", self.log_text());
        self.signal(Signal::SIGTERM);
        let code = self.wait("an instance to end after SIGTERM", STOP_DEADLINE);
        assert_eq!(code, Some(0), "exit code after SIGTERM\n{}", self.log_text());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.is_running() {
            self.child.kill().expect("it runs");
            self.child.wait().expect("it is our child");
        }
    }
}
