//! What a reader sees while the faults happen: marks are never ahead of rows (I3), no value is invented (I4).

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value as Json};

use super::compared;
use super::trial::{JOB, TOPICS, Trial};
use crate::support::job::{RowKey, compare_row, grain_name, keyed, metric_columns, row_key};
use crate::support::oracle::{Cell, Tables};
use crate::support::services::{ClickHouse, Kafka};

pub const METRICS: [&str; 3] = ["serving", "labels", "quality_binary"];
const PING_DEADLINE: Duration = Duration::from_millis(500);
const COMMITS_DEADLINE: Duration = Duration::from_millis(500);
/// The bits of a state row's version below its generation: twice the records, and whether it is sealed.
const VERSION_BODY: u64 = (1 << 46) - 1;
/// Whole rows that are kept for the comparison at the end.
const MOST_ROWS: usize = 20_000;

/// What has been read so far.
pub struct Samples {
    consumer: BaseConsumer,
    partitions: usize,
    /// The greatest counts ever read, by table and key: of each of two columns, whatever the other said then.
    greatest: BTreeMap<(&'static str, String), [u64; 2]>,
    /// Whole metric rows by table, key and version.
    rows: BTreeMap<(&'static str, RowKey, u64), Map<String, Json>>,
    /// Looks in which marks were held against rows.
    pub marks: usize,
    /// Looks in which committed offsets were held against marks.
    pub commits: usize,
    turn: usize,
}

impl Samples {
    pub fn new(kafka: &Kafka, partitions: usize) -> Self {
        let mut config = kafka.client_config();
        // It asks for the group's offsets and never joins it.
        config.set("group.id", JOB);
        let consumer = config.create().expect("the settings are right");
        Self {
            consumer,
            partitions,
            greatest: BTreeMap::new(),
            rows: BTreeMap::new(),
            marks: 0,
            commits: 0,
            turn: 0,
        }
    }

    /// Offsets that the group has committed, by topic and partition; none while the broker does not answer.
    pub fn committed(&self) -> Option<BTreeMap<(usize, usize), i64>> {
        let mut asked = TopicPartitionList::new();
        for topic in TOPICS {
            let last = i32::try_from(self.partitions).expect("few") - 1;
            asked.add_partition_range(topic, 0, last);
        }
        let found = self.consumer.committed_offsets(asked, COMMITS_DEADLINE).ok()?;
        let of = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
            let topic = TOPICS.iter().position(|topic| *topic == element.topic())?;
            let Offset::Offset(offset) = element.offset() else { return None };
            Some(((topic, usize::try_from(element.partition()).ok()?), offset))
        };
        Some(found.elements().iter().filter_map(of).collect())
    }

    /// Values that were read and are not within what the oracle says at the end.
    pub fn invented(&self, expected: &Tables) -> (usize, Vec<String>) {
        let mut failures = Vec::new();
        let last = most(expected);
        for (key, is) in &self.greatest {
            let Some(most) = last.get(key) else {
                failures.push(format!("{key:?} was read and was never to be"));
                continue;
            };
            if is[0] > most[0] || is[1] > most[1] {
                failures.push(format!("{key:?} was {is:?}, ends as {most:?}"));
            }
        }
        let mut same = 0;
        for table in METRICS {
            let wanted = keyed(expected, table);
            for ((_, key, version), row) in self.rows.iter().filter(|(key, _)| key.0 == table) {
                match wanted.get(key) {
                    Some(expected) if expected.row_version == *version => {
                        same += 1;
                        compare_row(row, expected, &mut failures);
                    }
                    Some(expected) if expected.row_version > *version => {}
                    _ => failures.push(format!("{table} {key:?} version {version} was read")),
                }
            }
        }
        (self.greatest.len() + same, failures)
    }
}

/// Whether ClickHouse answers at the moment; it may be held or away.
fn answers(clickhouse: &ClickHouse) -> bool {
    let url = clickhouse.url();
    let address: SocketAddr =
        url.trim_start_matches("http://").parse().expect("an address with a port");
    let ping = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PING_DEADLINE)?;
        stream.set_read_timeout(Some(PING_DEADLINE))?;
        stream.write_all(b"GET /ping HTTP/1.0\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    ping().unwrap_or(false)
}

/// The answer to a statement; none while ClickHouse does not answer or refuses it.
pub fn ask(clickhouse: &ClickHouse, sql: &str) -> Option<String> {
    if !answers(clickhouse) {
        return None;
    }
    let answer = clickhouse.send(sql).ok()?;
    (answer.status == 200).then_some(answer.body)
}

fn pairs(clickhouse: &ClickHouse, sql: &str) -> Option<BTreeMap<String, u64>> {
    let text = ask(clickhouse, sql)?;
    let pair = |line: &str| {
        let (key, count) = line.rsplit_once('\t').expect("two columns");
        (key.to_owned(), count.parse().expect("a count"))
    };
    Some(text.lines().map(pair).collect())
}

/// The greatest positions in the marks of each partition.
pub fn positions(clickhouse: &ClickHouse) -> Option<BTreeMap<usize, [i64; 2]>> {
    let sql = format!(
        "SELECT partition, max(inference_position), max(label_position) FROM tidegauge.marks \
         WHERE job = '{JOB}' GROUP BY partition"
    );
    let text = ask(clickhouse, &sql)?;
    let line = |line: &str| {
        let mut numbers = line.split('\t').map(|it| it.parse::<i64>().expect("a number"));
        let mut next = || numbers.next().expect("three columns");
        let partition = usize::try_from(next()).expect("a partition");
        (partition, [next(), next()])
    };
    Some(text.lines().map(line).collect())
}

/// One look at the tables, and at the group.
pub fn take(trial: &mut Trial) {
    if trial.plan.samples_commits {
        commits_are_behind_marks(trial);
    }
    if trial.plan.samples_marks && marks_are_behind_rows(trial).is_some() {
        trial.samples.marks += 1;
    }
    remember(trial);
    if trial.plan.compares {
        compared::remember(trial);
    }
}

/// Committed offsets first, then marks. Of two marks of different mixtures of both topics the one of the greater sum
/// stays, so one topic of it may be behind an offset that was committed with the other: sums are what is compared.
fn commits_are_behind_marks(trial: &mut Trial) {
    if trial.away.contains("the broker") {
        return;
    }
    let Some(committed) = trial.samples.committed() else { return };
    let sql = format!(
        "SELECT toString(partition), toUInt64(max(inference_position + label_position)) \
         FROM tidegauge.marks WHERE job = '{JOB}' GROUP BY partition"
    );
    let Some(marked) = pairs(&trial.clickhouse, &sql) else { return };
    let mut sums = BTreeMap::<usize, i64>::new();
    for ((_, partition), offset) in committed {
        *sums.entry(partition).or_default() += offset;
    }
    // One look, however many offsets there are; none before the first.
    trial.samples.commits += usize::from(!sums.is_empty());
    for (partition, sum) in sums {
        let mark = marked.get(&partition.to_string()).copied().unwrap_or_default();
        let sum = u64::try_from(sum).expect("offsets are positive");
        assert!(
            sum <= mark,
            "I3: partition {partition}: offsets committed add up to {sum}, those of the mark to {mark}"
        );
    }
}

/// Marks first, then rows: a mark's records are in rows of at least as many. Of `labels` records, not inferences: where an
/// owner dies before its mark and its heir reads the topics in another mixture, the row of more records wins the key, and
/// that may be the one of fewer inferences until the next flush. Of `serving` the row of more inferences wins; but it is
/// merged of states of all partitions, of which that of more records wins. So the inferences of a mark and those that
/// another partition's owner has counted since may be in two rows, and in none together, until the heir has come as far.
fn marks_are_behind_rows(trial: &Trial) -> Option<()> {
    let ask = |sql: &str| pairs(&trial.clickhouse, sql);
    let counted = |what: &str| {
        ask(&format!(
            "SELECT toString(partition), toUInt64(sum({what})) FROM tidegauge.stream_health \
             WHERE job = '{JOB}' GROUP BY partition"
        ))
    };
    let accepted = counted("accepted")?;
    let marked = counted("accepted + matched")?;
    if accepted.is_empty() {
        return None;
    }
    let version = format!("intDiv(bitAnd(row_version, {VERSION_BODY}), 2)");
    let folded = |by: &str, table: &str, records: &str| {
        ask(&format!(
            "SELECT toString({by}), sum(most) FROM (SELECT {by}, model, version, window_start, \
             toUInt64(max({records})) AS most FROM tidegauge.{table} \
             WHERE segment = 'all' AND job = '{JOB}' \
             GROUP BY {by}, model, version, window_start) GROUP BY {by}"
        ))
    };
    let states = folded("partition", "window_state", &version)?;
    let labels = folded("grain", "labels", "inferences + labels_matched")?;
    let served = folded("grain", "serving", "inferences")?;
    // In a trial that compares it is a metric of its own.
    let metric = "if(metric = 'records', toUInt64(value), 0)";
    let custom = if trial.plan.compares { Some(folded("grain", "custom", metric)?) } else { None };
    for (partition, &records) in &marked {
        let rows = states.get(partition).copied().unwrap_or_default();
        assert!(
            rows >= records,
            "I3: partition {partition}: {records} in the mark, {rows} in rows"
        );
    }
    let (inferences, records): (u64, u64) = (accepted.values().sum(), marked.values().sum());
    let settings = &trial.plan.settings;
    let grains = std::iter::once(settings.window).chain(settings.grains.iter().copied());
    for grain in grains.map(grain_name) {
        let of = |rows: &BTreeMap<String, u64>| rows.get(&grain).copied().unwrap_or_default();
        let (rows, served) = (of(&labels), of(&served));
        assert!(
            rows >= records,
            "I3: labels, grain {grain}: {records} in the marks, {rows} in the rows"
        );
        if let Some(rows) = custom.as_ref().map(of) {
            assert!(
                rows >= records,
                "I3: custom, grain {grain}: {records} in the marks, {rows} in the rows"
            );
        }
        assert!(
            served >= inferences || trial.has_heirs(),
            "I3: serving, grain {grain}: {inferences} inferences in the marks, {served} in the rows"
        );
    }
    Some(())
}

/// Keeps the greatest counts of one table, and some of its rows whole: another table each time.
fn remember(trial: &mut Trial) -> Option<()> {
    let table = METRICS[trial.samples.turn % METRICS.len()];
    trial.samples.turn += 1;
    let columns = match table {
        "serving" => "inferences, errors",
        "labels" => "inferences, labelled",
        _ => "row_version, 0",
    };
    let key = "concat(grain, ' ', model, ' ', version, ' ', segment, ' ', \
               toString(toUnixTimestamp64Milli(window_start)))";
    let from = format!("FROM tidegauge.{table} FINAL WHERE job = '{JOB}'");
    for line in ask(&trial.clickhouse, &format!("SELECT {key}, {columns} {from}"))?.lines() {
        let mut parts = line.rsplitn(3, '\t');
        let mut part = || parts.next().expect("three columns");
        let [second, first] = [part(), part()].map(|count| count.parse::<u64>().expect("a count"));
        let greatest = trial.samples.greatest.entry((table, part().to_owned())).or_default();
        *greatest = [greatest[0].max(first), greatest[1].max(second)];
    }
    if trial.samples.rows.len() >= MOST_ROWS {
        return Some(());
    }
    let columns = metric_columns(table);
    let sql = format!(
        "SELECT {columns} {from} ORDER BY rand() LIMIT 100 FORMAT JSONEachRow \
         SETTINGS output_format_json_quote_64bit_integers = 0"
    );
    for line in ask(&trial.clickhouse, &sql)?.lines() {
        let row: Map<String, Json> = serde_json::from_str(line).expect("JSON");
        let version = row["row_version"].as_u64().expect("a version");
        trial.samples.rows.insert((table, row_key(table, &row), version), row);
    }
    Some(())
}

/// The greatest counts that the oracle allows, by table and key.
fn most(expected: &Tables) -> BTreeMap<(&'static str, String), [u64; 2]> {
    let of = |row: &crate::support::oracle::Row| {
        let grain = grain_name(row.grain);
        let key = format!("{grain} {} {} {} {}", row.model, row.version, row.segment, row.start);
        let count = |name: &str| {
            let cell = row.cells.iter().find(|(is, _)| is == name);
            match &cell.expect(name).1 {
                Cell::Count(count) => *count,
                _ => panic!("{name} is no count"),
            }
        };
        let most = match row.table {
            "serving" => [count("inferences"), count("errors")],
            "labels" => [count("inferences"), count("labelled")],
            _ => [row.row_version, 0],
        };
        ((row.table, key), most)
    };
    expected.rows.iter().map(of).collect()
}
