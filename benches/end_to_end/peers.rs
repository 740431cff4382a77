//! Other systems at the same job: counts by model, version and 5-minute window, read back and held against the truth.
//! Their sources are in `benches/peers`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use super::measured::{self, Measured};
use super::sets::{Counts, Made, Stage};
use super::support::services::ClickHouse;
use super::support::wait_until;

/// Another system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Kafka Streams, its DSL, `RocksDB` and changelogs.
    Streams,
    /// Flink SQL, state on the heap.
    Flink,
    /// ClickHouse's Kafka engine, one join at the end.
    Clickhouse,
}

const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers");
const CACHE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/.cache/peers");
const DEADLINE: Duration = Duration::from_secs(600);
const ANSWER: Duration = Duration::from_secs(30);
/// What Flink reaches into, see its own start scripts.
const OPENED: [&str; 5] = ["lang", "util", "time", "nio", "util.concurrent"];

impl Peer {
    /// As it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Streams => "Kafka Streams 4.1.0",
            Self::Flink => "Flink SQL 2.1.0",
            Self::Clickhouse => "ClickHouse Kafka engine",
        }
    }
}

impl Stage {
    /// One run of another system; its rows must be right.
    pub fn run_peer(&mut self, peer: Peer, made: &Made) -> Measured {
        let (found, run) = match peer {
            Peer::Streams => self.run_java("StreamsPeer", "streams", made),
            Peer::Flink => self.run_java("FlinkPeer", "flink", made),
            Peer::Clickhouse => self.run_engine(made),
        };
        made.must_equal(&found, peer.name());
        run
    }

    fn run_java(&mut self, class: &str, libs: &str, made: &Made) -> (Counts, Measured) {
        let rows = format!("rows-{}", self.next_run());
        self.kafka.create_topic(&rows, 4, &[("retention.ms", "-1")]);
        let jars = Path::new(CACHE).join(libs);
        assert!(
            jars.join("complete").is_file(),
            "{} is not there: run `.ci/fetch peers`",
            jars.display()
        );
        let (classes, state) = (self.path("classes"), self.path(&rows));
        compile(class, &jars, &classes);
        fs::create_dir(&state).expect("the folder is ours");
        let mut command = Command::new("java");
        command.args(["-Xmx4g", "-XX:+UseParallelGC"]);
        command.arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn");
        for package in OPENED {
            command.arg(format!("--add-opens=java.base/java.{package}=ALL-UNNAMED"));
        }
        command.arg("-cp").arg(format!("{}:{}/*", classes.display(), jars.display()));
        command.arg(class).arg(self.kafka.bootstrap()).args(&made.topics).arg(&rows).arg(&state);
        command.arg(made.records_by_topic().iter().sum::<u64>().to_string());
        let run = measured::run(&mut command, &self.path("java.log"));
        fs::remove_dir_all(&state).expect("the folder is ours");
        (self.rows_of(&rows), run)
    }

    /// Of one model, version, window and part the last row counts; parts add up.
    fn rows_of(&self, topic: &str) -> Counts {
        let mut config = self.kafka.client_config();
        let consumer: BaseConsumer =
            config.set("group.id", topic).create().expect("the settings are right");
        let mut partitions = TopicPartitionList::new();
        let mut expected = 0;
        for partition in 0..4 {
            let ends = consumer.fetch_watermarks(topic, partition, ANSWER);
            let (first, end) = ends.expect("the broker answers");
            expected += end - first;
            partitions
                .add_partition_offset(topic, partition, Offset::Beginning)
                .expect("an offset");
        }
        consumer.assign(&partitions).expect("the partitions are there");
        let mut last = BTreeMap::new();
        while expected > 0 {
            let Some(record) = consumer.poll(ANSWER) else { continue };
            let record = record.expect("the broker answers");
            let row: Json = serde_json::from_slice(record.payload().expect("a row")).expect("JSON");
            last.insert((key(&row), row["part"].to_string()), counts(&row));
            expected -= 1;
        }
        let mut sums = Counts::new();
        for ((key, _), counts) in last {
            let sum = sums.entry(key).or_default();
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        sums
    }

    fn run_engine(&mut self, made: &Made) -> (Counts, Measured) {
        let server = ClickHouse::start();
        let sql =
            fs::read_to_string(Path::new(PEERS).join("clickhouse.sql")).expect("a file of ours");
        let [inferences, labels] = &made.topics;
        let sql = sql
            .replace("BROKERS", &self.kafka.bootstrap())
            .replace("INFERENCES", inferences)
            .replace("LABELS", labels)
            .replace("GROUP", &format!("engine-{}", self.next_run()));
        let begun = (Instant::now(), measured::process_s(server.pid()));
        for statement in sql.lines().filter(|line| !line.starts_with("--")) {
            server.query(statement);
        }
        let held = |table: &str| server.query(&format!("SELECT count() FROM peer.{table}"));
        for (table, records) in ["inferences", "labels"].into_iter().zip(made.records_by_topic()) {
            wait_until(table, DEADLINE, || {
                sleep(Duration::from_millis(100)); // so that asking costs nothing
                held(table).trim() == records.to_string()
            });
        }
        let join = fs::read_to_string(Path::new(PEERS).join("join.sql")).expect("a file of ours");
        let rows = server.query(&join);
        let run = Measured {
            wall_s: begun.0.elapsed().as_secs_f64(),
            cpu_s: measured::process_s(server.pid()) - begun.1,
            peak_mib: measured::peak_mib(server.pid()),
            ..Measured::default()
        };
        let rows = rows.lines().map(|line| {
            let row: Json = serde_json::from_str(line).expect("JSON");
            (key(&row), counts(&row))
        });
        (rows.collect(), run)
    }
}

fn compile(class: &str, jars: &Path, to: &PathBuf) {
    let source = Path::new(PEERS).join(format!("{class}.java"));
    let output = Command::new("javac")
        .args(["-nowarn", "-cp", &format!("{}/*", jars.display()), "-d"])
        .arg(to)
        .arg(source)
        .output()
        .expect("`.ci/fetch peers` installs a JDK");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn key(row: &Json) -> (String, String, u64) {
    let text = |name: &str| row[name].as_str().expect("text").to_owned();
    (text("model"), text("version"), row["window_start"].as_u64().expect("milliseconds"))
}

fn counts(row: &Json) -> [u64; 6] {
    ["inferences", "labelled", "tp", "fp", "fn", "tn"]
        .map(|name| row[name].as_u64().expect("a count"))
}
