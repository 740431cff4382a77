//! Files in place of topics: the same records give the same rows, whatever happens on the way.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::Field;
use serde_json::Value as Json;
use tempfile::TempDir;
use tidegauge::calendar::instant;
use tidegauge::engine::metrics::MetricTable;
use tidegauge::source::files::FileList;
use xxhash_rust::xxh3::xxh3_64;

use crate::support::job::{Job, METRIC_TABLES, newest_rows, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::oracle::{Body, Given, Inference, Label};
use crate::support::requests;
use crate::support::services::{self, ClickHouse, Kafka, Services};

const INFERENCES: usize = 20_000;
const DEADLINE: Duration = Duration::from_secs(300);
const DAY_MS: i64 = 86_400_000;
/// Of the records that move the clocks past all windows: files need none.
const PUSHER: &str = "pusher";

/// Records that arrive at their own times, in order: of these none is late.
pub(crate) fn punctual(seed: u64) -> Vec<Message> {
    let mut messages: Vec<Message> = requests::make(seed, INFERENCES, 1, 12)
        .into_iter()
        .filter_map(|message| {
            let stamp = match &message.body {
                Body::Inference(said) => said.time,
                Body::Label(said) => said.time,
                Body::Dead => return None,
            };
            Some(Message { stamp, ..message })
        })
        .collect();
    messages.sort_by_key(|message| message.stamp);
    messages
}

/// Nine records of each topic, six days later.
fn pushers(last: i64) -> impl Iterator<Item = Message> {
    let time = last + 6 * DAY_MS;
    (0..18).map(move |number| {
        let id = format!("{PUSHER}-{number}");
        let body = if number % 2 == 0 {
            let model = PUSHER.to_owned();
            Body::Inference(Inference { id: id.clone(), model, time, ..Inference::default() })
        } else {
            let (model, value) = (None, Given::Number(1.0));
            Body::Label(Label { id: id.clone(), model, time, value, weight: 1.0 })
        };
        Message { topic: number % 2, partition: 0, stamp: time, body, key: id, payload: None }
    })
}

/// One file of inferences and two of labels.
fn write_files(folder: &Path, messages: &[Message]) -> [PathBuf; 3] {
    let paths = ["inferences.jsonl", "labels-1.jsonl", "labels-2.jsonl"].map(|n| folder.join(n));
    let mut files = paths.each_ref().map(|path| std::fs::File::create(path).unwrap());
    let half = messages.len() / 2;
    for (at, message) in messages.iter().enumerate() {
        let file = if message.topic == 0 { 0 } else { 1 + usize::from(at > half) };
        let mut line = json_payload(&message.body);
        line.push(b'\n');
        files[file].write_all(&line).unwrap();
    }
    paths
}

/// All rows of a job's metric tables, as text, in order.
pub(crate) fn rows(clickhouse: &ClickHouse, job: &str) -> Vec<String> {
    let of_table = |(table, _): (&str, &[&str])| {
        let sql = format!(
            "SELECT * EXCEPT (job) FROM {} \
             WHERE job = '{job}' AND model != '{PUSHER}' ORDER BY ALL FORMAT JSONEachRow",
            newest_rows("tidegauge", table)
        );
        clickhouse.query(&sql).lines().map(|row| format!("{table} {row}")).collect::<Vec<_>>()
    };
    METRIC_TABLES.into_iter().flat_map(of_table).collect()
}

pub(crate) fn must_be_equal(found: &[String], expected: &[String]) {
    assert!(expected.len() > 1000, "{} rows show nothing", expected.len());
    let differs = found.iter().zip(expected).find(|(found, expected)| found != expected);
    assert_eq!(differs, None);
    assert_eq!(found.len(), expected.len());
}

/// In the jobs that are held against each other no metric is defined, so of all tables `custom` alone is left out.
#[test]
fn every_other_metric_table_is_compared_by_its_own_key() {
    let mut compared = METRIC_TABLES.map(|(table, _)| table).to_vec();
    compared.push("custom");
    compared.sort_unstable();
    let mut all = MetricTable::ALL.map(MetricTable::name);
    all.sort_unstable();
    assert_eq!(compared, all);
    for (name, own) in METRIC_TABLES {
        let table = MetricTable::named(name).unwrap();
        let keys = table.columns().iter().take(table.keys()).map(|column| column.name);
        assert_eq!(keys.collect::<Vec<_>>(), own, "{name}");
    }
}

#[test]
fn files_give_the_rows_of_the_stream_and_leave_a_live_job_alone() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let (topics, folder) = (["inferences", "labels"], TempDir::new().unwrap());
    let more = sections(topics);
    let mut job = Job::new("fraud", &kafka, &clickhouse, topics, &requests::settings(), &more);
    job.create_topics(&kafka, 1);
    job.run(&["init"], 0, DEADLINE);
    let messages = punctual(21);
    let [inferences, ..] = write_files(folder.path(), &messages);
    let inferences = inferences.to_str().unwrap();
    let labels = folder.path().join("labels-*.jsonl").to_str().unwrap().to_owned();
    let files = ["--inferences", inferences, "--labels", &labels];
    let backfill = |more: &[&'static str]| [&["backfill"], &files[..], more].concat();

    let live = job.start(&["run"]);
    let mut producer = Producer::new(kafka.client_config(), topics, 1);
    let last = messages.last().unwrap().stamp;
    let count = messages.len();
    messages.into_iter().chain(pushers(last)).for_each(|message| producer.send(message));
    producer.flush();

    // A dry run says what there is and writes nothing.
    let said = job.run(&backfill(&["--dry-run", "--json"]), 0, DEADLINE);
    let said: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let [found, labels_found] = ["inferences", "labels"].map(|s| said[s]["records"].as_u64());
    assert_eq!(found.unwrap() + labels_found.unwrap(), u64::try_from(count).unwrap());
    assert_eq!(said["labels"]["files"], 2);
    assert_eq!(clickhouse.query("SELECT count() FROM tidegauge.jobs WHERE job != 'fraud'"), "0\n");

    // While the stream is live: killed in the middle, then started again.
    let killed = job.killed_midway(&clickhouse, &backfill(&[]), count);
    job.run(&[&["backfill"], &files[..], &["--job", &killed]].concat(), 0, DEADLINE);
    let said = job.run(&backfill(&["--job", "history", "--json"]), 0, DEADLINE);
    let said: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(said["complete"], true, "{said}");
    assert_eq!(said["inferences"], Json::from(found));
    let accounts = "SELECT sum(accepted), sum(duplicate), sum(late), sum(matched), sum(kept), \
                    sum(orphan), sum(dead) FROM tidegauge.stream_health WHERE job = 'history' FORMAT TSV";
    let names = ["accepted", "duplicates", "late", "matched", "kept", "orphans", "rejected"];
    let told = names.map(|name| said[name].to_string());
    assert_eq!(told.join("\t"), clickhouse.query(accounts).trim_end());
    job.wait_for_records(&clickhouse, count + 18, DEADLINE);
    live.stop();
    job.run(&["run", "--until-end"], 0, DEADLINE);

    let (stream, history) = (rows(&clickhouse, "fraud"), rows(&clickhouse, "history"));
    must_be_equal(&history, &stream);
    must_be_equal(&rows(&clickhouse, &killed), &stream);
    assert!(history.iter().all(|row| row.contains("\"sealed\":true")), "all is sealed");
    let kept = "SELECT sum(kept) FROM tidegauge.stream_health WHERE job = 'history'";
    assert_eq!(clickhouse.query(kept).trim(), "0", "labels without an inference are orphans");

    must_show(&mut job, &clickhouse, folder.path());

    // Done once more it changes nothing; under the name of the live job it is refused.
    job.run(&backfill(&["--job", "history"]), 0, DEADLINE);
    must_be_equal(&rows(&clickhouse, "history"), &stream);
    let refused = job.run(&backfill(&["--job", "fraud"]), 3, DEADLINE);
    assert!(refused.contains("error[job_other_topics]"), "{refused}");
    must_be_equal(&rows(&clickhouse, "fraud"), &stream);
    // Other files under the same name too.
    std::fs::OpenOptions::new().append(true).open(inferences).unwrap().write_all(b"{}\n").unwrap();
    let refused = job.run(&backfill(&["--job", "history"]), 3, DEADLINE);
    assert!(refused.contains("error[job_other_topics]"), "{refused}");

    // By default the name is its own, and the broken record is named and kept.
    let rejected = folder.path().join("rejected.jsonl");
    let rejected_text = rejected.to_str().unwrap();
    let arguments = [&backfill(&[])[..], &["--rejected", rejected_text]].concat();
    let said = job.run(&arguments, 0, DEADLINE);
    assert!(said.contains("job fraud.files-") && said.contains("; 1 rejected\n"), "{said}");
    let letter: Json = serde_json::from_slice(&std::fs::read(&rejected).unwrap()).unwrap();
    assert_eq!(letter["record"].as_u64(), found.map(|found| found + 1));
    assert_eq!((&letter["code"], &letter["payload"]), (&"missing_field".into(), &"{}".into()));
    assert_eq!(letter["file"], inferences);
}

/// A Parquet file says what JSON Lines say: counts are whole numbers, times are times, and NULL is NULL.
fn must_equal_parquet(job: &mut Job, folder: &Path) {
    let path = folder.join("rows.parquet");
    let path = path.to_str().unwrap();
    for table in ["serving", "quality_binary", "data_quality"] {
        let fixed = ["query", table, "--job", "history", "--segment", "*", "--grain", "1h"];
        let lines = job.run(&[&fixed[..], &["--format", "jsonl"]].concat(), 0, DEADLINE);
        job.run(&[&fixed[..], &["-o", path]].concat(), 0, DEADLINE);
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        let lines: Vec<Json> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.len() > 20, "{} rows of {table}", lines.len());
        assert_eq!(rows.len(), lines.len(), "{table}");
        let (mut nulls, mut figures) = (0, 0);
        for (row, line) in rows.iter().zip(&lines) {
            let line = line.as_object().unwrap();
            assert_eq!(row.len(), line.len(), "{table}");
            for (name, field) in row.get_column_iter() {
                let found: Json = match field {
                    Field::Null => Json::Null,
                    Field::ULong(count) => (*count).into(),
                    Field::Double(figure) => (*figure).into(),
                    Field::Str(text) => text.clone().into(),
                    Field::TimestampMillis(time) => instant(*time).into(),
                    other => panic!("{table}.{name} is {other:?}"),
                };
                nulls += usize::from(found.is_null());
                figures += usize::from(found.is_f64());
                let is_same = match (found.as_f64(), line[name].as_f64()) {
                    (Some(found), Some(said)) => found.total_cmp(&said).is_eq(),
                    _ if line[name].is_boolean() => found == u64::from(line[name] == true),
                    _ => found == line[name],
                };
                assert!(is_same, "{table}.{name} is {found}, in JSON Lines {}", line[name]);
            }
        }
        assert!(figures > 0 && (nulls > 0 || table == "serving"), "{table}: {nulls} of {figures}");
    }
    let refused = job.run(&["query", "serving", "--format", "parquet"], 2, DEADLINE);
    assert!(refused.contains("--output FILE"), "{refused}");
}

/// What `query` and `report` show of the stored rows are the database's own figures, and those of the files alone.
fn must_show(job: &mut Job, clickhouse: &ClickHouse, folder: &Path) {
    let columns = "window_start,model,n,auroc,auroc_lower,undefined";
    let query = |more: &[&'static str]| {
        let fixed = ["query", "quality_binary", "--model", "fraud-*", "--columns", columns];
        [&fixed[..], more].concat()
    };
    let said =
        job.run(&query(&["--grain", "1h", "--job", "history", "--format", "jsonl"]), 0, DEADLINE);
    let sql = "SELECT formatDateTime(window_start, '%FT%T.000Z') AS window_start, model, n, auroc, auroc_lower, \
               undefined FROM tidegauge.quality_binary FINAL WHERE job = 'history' AND model LIKE 'fraud-%' \
               AND segment = 'all' AND grain = '1h' ORDER BY window_start, model, version \
               FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
    let parse = |text: &str| -> Vec<Json> {
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let expected = parse(&clickhouse.query(sql));
    assert!(expected.len() > 20);
    assert_eq!(parse(&said), expected);
    let said = job.run(&query(&["--grain", "1h", "--format", "csv", "--limit", "3"]), 0, DEADLINE);
    let (notes, rows): (Vec<&str>, Vec<&str>) =
        said.lines().partition(|line| line.starts_with("only the newest 3 rows"));
    assert_eq!((notes.len(), rows.len()), (1, 4), "{said}");
    assert_eq!(rows[0], columns);

    must_equal_parquet(job, folder);
    let said = job.run(&["query", "serving", "--job", "nobody", "--grain", "1h"], 0, DEADLINE);
    let named =
        "no rows of job nobody and grain 1h in serving; jobs with rows: fraud (newest window ";
    assert!(said.contains(named) && said.contains("history (newest window "), "{said}");
    let said = job.run(&["query", "serving", "--job", "history", "--format", "jsonl"], 0, DEADLINE);
    assert!(parse(&said).iter().all(|row| row["sealed"] == true), "{said}");

    // Merged states of the database say the same of the whole time as the engine in memory says of the files.
    let labels = folder.join("labels-*.jsonl");
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (inferences, labels) = (path(&folder.join("inferences.jsonl")), path(&labels));
    let report = |text: String| -> Json {
        // Where reading takes long, a line now and then says how far it is.
        let text: String = text.lines().filter(|line| !line.contains(" % read after ")).collect();
        let mut report: Json = serde_json::from_str(&text).unwrap();
        report["source"].take();
        report
    };
    let stored = ["report", "--job", "history", "--format", "json"];
    let files = ["report", "--format", "json", "--inferences", &inferences, "--labels", &labels];
    let (stored, files) = (job.run(&stored, 0, DEADLINE), job.run(&files, 0, DEADLINE));
    let stored = report(stored);
    assert_eq!(stored, report(files));
    // Nothing is said of a job of topics either.
    report(job.run(&["report", "--format", "json"], 0, DEADLINE));
    must_not_misread(job, clickhouse, folder, &stored);
}

/// How many scores stand behind the AUROC of each model that has one, in the order of their names.
fn scored(report: &Json) -> Vec<u64> {
    let models = report["models"].as_array().unwrap().iter();
    let facts =
        models.flat_map(|model| model["sections"][0]["blocks"][0]["facts"].as_array().unwrap());
    let aurocs = facts.filter(|fact| fact["name"] == "AUROC");
    aurocs.map(|fact| fact["n"].as_u64().unwrap()).collect()
}

/// By another configuration than the one that made them, stored states are left alone: the figures are those of the
/// newest windows, and that is said. `whole` is the report by the right one.
fn must_not_misread(job: &mut Job, clickhouse: &ClickHouse, folder: &Path, whole: &Json) {
    let grain = whole["grain"].as_str().unwrap();
    let counted = |sum: &str| -> Vec<u64> {
        let sql = format!(
            "SELECT {sum} FROM tidegauge.quality_binary FINAL WHERE job = 'history' AND segment = 'all' \
             AND grain = '{grain}' GROUP BY model, version ORDER BY model, version"
        );
        clickhouse.query(&sql).lines().map(|line| line.parse().unwrap()).collect()
    };
    let (of_all, of_newest) =
        (counted("sum(n_scored)"), counted("argMax(n_scored, (n > 0, window_start))"));
    assert_ne!(of_all, of_newest, "else it shows nothing");
    assert_eq!(scored(whole), of_all);

    let [profile, inferences] = ["then.json", "inferences.jsonl"].map(|name| folder.join(name));
    let [profile, inferences] = [&profile, &inferences].map(|path| path.to_str().unwrap());
    let build = ["profile", "--name", "then", "--model", "fraud-cards", "--output", profile];
    job.run(&[&build[..], &["--inferences", inferences]].concat(), 0, DEADLINE);
    let of_models = "[models.\"fraud-*\"]\n";
    let with_reference = format!("{of_models}reference = \"{profile}\"\n");
    for (from, to) in [(of_models, &*with_reference), ("weights = \"ignore\"", "weights = \"use\"")]
    {
        job.edit(from, to);
        let said = job.run(&["report", "--job", "history", "--format", "json"], 0, DEADLINE);
        job.edit(to, from);
        let (note, text) = said.split_once('\n').unwrap();
        let remark = "job history did not run with this configuration";
        assert!(note.starts_with(remark) && note.contains("(-c)"), "{said}");
        let report: Json = serde_json::from_str(text).unwrap();
        assert_eq!(scored(&report), of_newest, "after {to}");
        for model in report["models"].as_array().unwrap() {
            let summary = model["sections"][0]["blocks"].as_array().unwrap();
            assert!(summary.contains(&serde_json::json!({"text": note})), "{summary:?}");
        }
    }
}

/// One table of inferences, of which three of four have their label by now.
fn table(labels: impl Fn(usize) -> &'static str) -> String {
    let rows = (0..40).map(|i| {
        let time = 1_767_571_200_000_i64 + i64::try_from(i).unwrap() * 60_000;
        format!("r-{i},fraud-cards,{time},0.9,{}\n", labels(i))
    });
    format!("request_id,model,timestamp,score,label\n{}", rows.collect::<String>())
}

#[test]
fn files_of_no_use_can_be_written_again_and_rules_are_judged_where_asked() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("scored.csv");
    let file = path.to_str().unwrap().to_owned();
    let rule = "[[alerts]]\nname = \"many wrong\"\nmodels = [\"*\"]\nmetric = \"quality_binary.accuracy\"\n\
                below = 0.9\nmin_n = 1\nfor = 1\n";
    let more = format!("{}{rule}", sections(["again.inferences", "again.labels"]));
    let topics = ["again.inferences", "again.labels"];
    let mut job = Job::new("again", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    let both = ["--inferences", &file, "--labels", &file];
    let named = |more: &[&'static str]| [&["backfill", "--job", "night"], &both[..], more].concat();

    // Not one score can be used: told as a failure, by a dry run too, under the job's name.
    std::fs::write(&path, table(|_| "1").replace("0.9,", "nine,")).unwrap();
    let said = job.run(&[&named(&[])[..], &["--dry-run"]].concat(), 1, DEADLINE);
    assert!(said.contains("error[file_unusable]: none of 40 records of inferences"), "{said}");
    let said = job.run(&named(&[]), 1, DEADLINE);
    assert!(said.contains("error[file_unusable]: job night: none of 40 records"), "{said}");

    // It counts labels where it has them.
    std::fs::write(&path, table(|i| ["1", "0", "", "0"][i % 4])).unwrap();
    let arguments = ["backfill", "--job", "again-night", "--json"];
    let said = job.run(&[&arguments[..], &both].concat(), 0, DEADLINE);
    let said: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let counts =
        ["inferences", "accepted", "labels", "matched", "rejected"].map(|of| said[of].as_u64());
    assert_eq!(counts, [40, 40, 30, 30, 0].map(Some), "{said}");
    assert_eq!(said["without_label"], 10, "with the labels these are all rows: {said}");
    let alerts = |job: &str| {
        let sql = format!("SELECT count() FROM tidegauge.alerts FINAL WHERE job = '{job}'");
        clickhouse.query(&sql).trim().parse::<u32>().unwrap()
    };
    assert_eq!(alerts("again-night"), 0);
    let said = job.run(&[&arguments[..], &both, &["--alerts"]].concat(), 0, DEADLINE);
    assert!(!said.contains("alerts are not evaluated"), "{said}");
    assert!(alerts("again-night") > 0, "one third of the labels is right");

    // Labels of other requests: said, with where to look.
    let other = folder.path().join("other.csv");
    std::fs::write(&other, table(|_| "1").replace("r-", "x-")).unwrap();
    let other = ["--inferences", &file, "--labels", other.to_str().unwrap()];
    let said = job.run(&[&["backfill", "--job", "other"], &other[..]].concat(), 0, DEADLINE);
    assert!(said.contains("labels: 0 matched, 0 waiting, 40 orphans"), "{said}");
    assert!(said.contains("none of 40 labels matches an inference"), "{said}");
}

#[test]
fn a_job_is_bound_to_what_stands_for_no_value_in_its_files() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("scored.csv");
    let file = path.to_str().unwrap().to_owned();
    let topics = ["null.inferences", "null.labels"];
    let more = sections(topics);
    let mut job = Job::new("null", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    std::fs::write(&path, table(|i| ["1", "0", "NA", "0"][i % 4])).unwrap();
    let both = ["--inferences", &file, "--labels", &file];
    let backfill = |more: &[&'static str]| [&["backfill"], &both[..], more].concat();
    let json =
        |said: String| -> Json { serde_json::from_str(said.lines().last().unwrap()).unwrap() };
    let plain = json(job.run(&backfill(&["--json"]), 0, DEADLINE));
    assert_eq!((&plain["labels"], &plain["without_label"]), (&40.into(), &0.into()), "{plain}");
    let nulled = json(job.run(&backfill(&["--json", "--null", "NA"]), 0, DEADLINE));
    assert_eq!((&nulled["labels"], &nulled["without_label"]), (&30.into(), &10.into()), "{nulled}");
    assert_ne!(plain["job"], nulled["job"]);

    let night = |more: &[&'static str]| backfill(&[&["--job", "null-night"], more].concat());
    let said = job.run(&night(&["--null", "NA", "--null", "-"]), 0, DEADLINE);
    assert!(said.contains("0 rejected; 10 rows without a label\n"), "{said}");
    // The same in another order is the same.
    job.run(&night(&["--null", "-", "--null", "NA"]), 0, DEADLINE);
    for other in [&["--null", "NA"][..], &[]] {
        let said = job.run(&night(other), 3, DEADLINE);
        assert!(said.contains("error[job_other_topics]") && said.contains("with null"), "{said}");
    }
}

#[test]
fn a_job_whose_times_are_in_seconds_or_that_has_no_record_says_so() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("scored.csv");
    let file = path.to_str().unwrap().to_owned();
    let topics = ["dated.inferences", "dated.labels"];
    let more = sections(topics);
    let mut job = Job::new("dated", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    let good = table(|_| "1");
    let in_seconds = |line: &str| -> String {
        let cell = |cell: &str| cell.strip_suffix("000").unwrap_or(cell).to_owned();
        line.split(',').map(cell).collect::<Vec<_>>().join(",")
    };
    let seconds = good.lines().map(in_seconds).collect::<Vec<_>>().join("\n");
    let header = good.lines().next().unwrap();
    let asked = "the newest window is of 1970-01-21T10:55:00.000Z: are timestamps in seconds?";
    let nothing = "no record of inferences was read";
    for (name, text, says) in [
        ("dated-seconds", &*seconds, [true, false]),
        ("dated-good", &*good, [false, false]),
        ("dated-empty", header, [false, true]),
    ] {
        std::fs::write(&path, text).unwrap();
        let said = job.run(&["backfill", "--job", name, "--inferences", &file], 0, DEADLINE);
        assert!(said.contains("\nall rows are written and sealed\n"), "{said}");
        assert_eq!([said.contains(asked), said.contains(nothing)], says, "{said}");
    }
}

#[test]
fn files_with_too_many_bad_rows_are_no_success() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("scored.csv");
    let file = path.to_str().unwrap().to_owned();
    let topics = ["quarter.inferences", "quarter.labels"];
    let more = sections(topics);
    let mut job = Job::new("quarter", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    // One row in so many is bad, the first of them below the header.
    let spoilt = |step: usize| -> String {
        let text = table(|_| "1");
        let line = |(row, line): (usize, &str)| {
            let line = format!("{line}\n");
            if row % step == 1 { line.replace(",0.9,", ",nine,") } else { line }
        };
        text.lines().enumerate().map(line).collect()
    };
    std::fs::write(&path, spoilt(4)).unwrap();
    let arguments = ["backfill", "--job", "quarter-night", "--inferences", &file];
    let said = job.run(&arguments, 1, DEADLINE);
    let expected = "job quarter-night: 10 of 40 records of inferences can't be used, more than";
    assert!(said.contains(&format!("error[file_unusable]: {expected}")), "{said}");
    assert!(said.contains("; the rows of the others are written\n"), "{said}");
    let counted = "SELECT sum(accepted), sum(dead) FROM tidegauge.stream_health \
                   WHERE job = 'quarter-night'";
    assert_eq!(clickhouse.query(counted), "30\t10\n");
    // It is right for whoever allows as many.
    let environment = [("TIDEGAUGE__DEAD_LETTERS__LIMIT", "0.25")];
    job.run_with(&arguments, &environment, 0, DEADLINE);
    std::fs::write(&path, spoilt(10)).unwrap();
    job.run(&["backfill", "--inferences", &file], 0, DEADLINE);
}

/// So many rows that most of them lie between the ends of the file that earlier versions looked at. One label may be
/// another one: the size stays.
fn long_table(other: Option<usize>) -> String {
    let rows = (0..6000).map(|row| {
        let time = 1_767_571_200_000_i64 + i64::try_from(row).unwrap() * 1000;
        let label = u8::from(other != Some(row));
        format!("r-{row},fraud-cards,{time},0.9,{label}\n")
    });
    format!("request_id,model,timestamp,score,label\n{}", rows.collect::<String>())
}

#[test]
fn a_file_corrected_in_the_middle_is_another_one_and_jobs_of_earlier_versions_go_on() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("scored.csv");
    let file = path.to_str().unwrap().to_owned();
    let topics = ["middle.inferences", "middle.labels"];
    let more = sections(topics);
    let mut job = Job::new("middle", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    let both = ["--inferences", &file, "--labels", &file];
    let by_default = [&["backfill", "--json"], &both[..]].concat();
    let under = |name: &'static str| [&["backfill", "--job", name], &both[..]].concat();
    let write = |other: Option<usize>| std::fs::write(&path, long_table(other)).unwrap();
    let name = |said: String| -> String {
        let said: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!((&said["complete"], &said["matched"]), (&true.into(), &6000.into()), "{said}");
        said["job"].as_str().unwrap().to_owned()
    };
    write(None);
    let first = name(job.run(&by_default, 0, DEADLINE));
    write(Some(3000));
    assert_ne!(name(job.run(&by_default, 0, DEADLINE)), first);
    job.run(&under("middle-night"), 0, DEADLINE);
    write(None);
    let refused = job.run(&under("middle-night"), 3, DEADLINE);
    assert!(refused.contains("error[job_other_topics]"), "{refused}");

    // As if an earlier version had begun jobs over this file, under a name and without one.
    let files = FileList::find(std::slice::from_ref(&file)).unwrap();
    let ends = files.digest_of_ends().unwrap();
    let of_night = "FROM tidegauge.jobs WHERE job = 'middle-night' LIMIT 1";
    let configuration = clickhouse.query(&format!("SELECT configuration {of_night}"));
    let read = format!("{:?} {}", [&ends, &ends], configuration.trim());
    let former = format!("middle.files-{:016x}", xxh3_64(read.as_bytes()));
    for name in ["middle-former", &former] {
        clickhouse.query(&format!(
            "INSERT INTO tidegauge.jobs SELECT * REPLACE ('{name}' AS job, '1 files {ends}' AS inference_topic, \
             '1 files {ends}' AS label_topic) FROM (SELECT * {of_night})"
        ));
    }
    let said = job.run(&under("middle-former"), 0, DEADLINE);
    assert!(said.contains("an earlier version began this job"), "{said}");
    assert_eq!(name(job.run(&by_default, 0, DEADLINE)), former);
    // Their digests say nothing of the middle, and something of both ends.
    write(Some(3000));
    job.run(&under("middle-former"), 0, DEADLINE);
    write(Some(0));
    let refused = job.run(&under("middle-former"), 3, DEADLINE);
    assert!(refused.contains("error[job_other_topics]"), "{refused}");
    // The same files, but not the same configuration.
    write(None);
    job.edit("weights = \"ignore\"", "weights = \"use\"");
    let refused = job.run(&under("middle-former"), 3, DEADLINE);
    assert!(refused.contains("error[job_other_configuration]"), "{refused}");
}

#[test]
fn a_job_of_files_that_has_counted_nothing_may_read_others() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let folder = TempDir::new().unwrap();
    let topics = ["uncounted.inferences", "uncounted.labels"];
    let more = sections(topics);
    let mut job = Job::new("uncounted", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    let path = folder.path().join("scored.csv");
    let file = path.to_str().unwrap().to_owned();
    let arguments = ["backfill", "--job", "uncounted-night", "--inferences", &file];
    // Broken before anything is counted.
    std::fs::write(&path, "request_id,model,timestamp\nr-1,m\n").unwrap();
    let said = job.run(&arguments, 1, DEADLINE);
    assert!(said.contains("error[file_broken]: job uncounted-night: "), "{said}");
    std::fs::write(&path, table(|_| "1")).unwrap();
    job.run(&arguments, 0, DEADLINE);
    // Now there are rows.
    std::fs::write(&path, table(|_| "0")).unwrap();
    let said = job.run(&arguments, 3, DEADLINE);
    assert!(said.contains("error[job_other_topics]") && !said.contains("cluster"), "{said}");
}
