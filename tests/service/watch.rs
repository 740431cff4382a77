//! Files taken as they land: once, whatever happens, and with the rows of one batch over all of them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;

use super::backfill::{must_be_equal, punctual, rows};
use super::end_to_end::sections;
use crate::support::job::{Instance, Job};
use crate::support::log::{Message, json_payload};
use crate::support::services::{self, ClickHouse, Services};
use crate::support::{requests, wait_until};

const DEADLINE: Duration = Duration::from_secs(300);
const CHUNKS: usize = 12;
const STREAMS: [&str; 2] = ["inferences", "labels"];

/// The lines of each stream, cut into as many files as there are chunks of time.
fn chunks(messages: &[Message]) -> Vec<[String; 2]> {
    let size = messages.len().div_ceil(CHUNKS);
    let chunk = |messages: &[Message]| {
        let mut texts = [String::new(), String::new()];
        for message in messages {
            let line = String::from_utf8(json_payload(&message.body)).unwrap();
            texts[message.topic] += &(line + "\n");
        }
        texts
    };
    messages.chunks(size).map(chunk).collect()
}

/// Both files of a chunk: one appears under its name, the other is renamed when it is finished.
fn land(folder: &Path, number: usize, chunk: &[String; 2]) {
    let path = |stream: usize, end: &str| {
        folder.join(format!("{}-{number:02}.jsonl{end}", STREAMS[stream]))
    };
    fs::write(path(0, ""), &chunk[0]).unwrap();
    fs::write(path(1, ".tmp"), &chunk[1]).unwrap();
    fs::rename(path(1, ".tmp"), path(1, "")).unwrap();
}

/// What an instance said in JSON.
fn said(instance: &Instance) -> Vec<Json> {
    let text = instance.log_text();
    let lines = text.lines().filter(|line| line.starts_with('{') && line.ends_with('}'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The files that it said are done.
fn done(instance: &Instance) -> Vec<String> {
    let of_file =
        |line: &Json| line["records"].is_u64().then(|| line["file"].as_str().unwrap().to_owned());
    said(instance).iter().filter_map(of_file).collect()
}

fn wait_for_files(instance: &Instance, count: usize) {
    wait_until(&format!("{count} files"), DEADLINE, || done(instance).len() >= count);
}

fn taken(clickhouse: &ClickHouse) -> String {
    clickhouse.query(
        "SELECT stream, count(), uniqExact(name), max(number) FROM tidegauge.files WHERE job = 'watched' \
         GROUP BY stream ORDER BY stream FORMAT CSV",
    )
}

#[test]
fn files_are_taken_once_over_a_kill_and_give_the_rows_of_one_batch() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let folder = TempDir::new().unwrap();
    let drop_folder = folder.path().join("drop");
    fs::create_dir(&drop_folder).unwrap();
    let topics = ["watched.inferences", "watched.labels"];
    let more = sections(topics, "json");
    let mut job = Job::new("watched", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    let chunks = chunks(&punctual(33));
    let path = drop_folder.to_str().unwrap().to_owned();
    let watch = |more: &[&'static str]| {
        let fixed = ["backfill", "--job", "watched", "--every", "100ms", "--watch", &path];
        let patterns = ["--inferences", "inferences-*.jsonl", "--labels", "labels-*.jsonl"];
        let all = [&fixed[..], &patterns, more].concat();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let land = |number: usize| land(&drop_folder, number, &chunks[number]);

    // Some lie there before.
    (0..4).for_each(land);
    let arguments = watch(&[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let first = job.start(&arguments);
    wait_for_files(&first, 8);
    // Some land while it runs, and one that is broken. In the order of the batch: of two labels the later read counts.
    fs::write(drop_folder.join("inferences-00-broken.jsonl"), "[1,\n").unwrap();
    land(4);
    land(5);
    wait_for_files(&first, 12);
    let broken = said(&first).into_iter().find(|line| line["code"] == "file_broken").unwrap();
    assert_eq!(broken["file"], "inferences-00-broken.jsonl");
    assert!(broken["reason"].as_str().unwrap().contains("holds an array"), "{broken}");
    // It is killed with files on the way, and others land behind its back.
    land(6);
    wait_until("the next file", DEADLINE, || taken(clickhouse).contains("\"inferences\",7,7,6\n"));
    let before = done(&first);
    first.kill();
    (7..10).for_each(land);
    let second = job.start(&arguments);
    wait_until("all of ten", DEADLINE, || {
        taken(clickhouse) == "\"inferences\",10,10,9\n\"labels\",10,10,9\n"
    });
    // At most those of the flush that was killed are not told.
    wait_until("the lines", DEADLINE, || before.len() + done(&second).len() >= 18);
    let told: Vec<String> = before.into_iter().chain(done(&second)).collect();
    let distinct: BTreeSet<&String> = told.iter().collect();
    assert_eq!(distinct.len(), told.len(), "no file is done twice: {told:?}");
    second.stop();

    must_refuse_what_was_changed(&mut job, &drop_folder, &arguments, || land(10));

    let finish = watch(&["--finish"]);
    let finish: Vec<&str> = finish.iter().map(String::as_str).collect();
    let broken = job.run(&finish, 1, DEADLINE);
    assert!(broken.contains("error[file_broken]") && broken.contains("move it away"), "{broken}");
    fs::remove_file(drop_folder.join("inferences-00-broken.jsonl")).unwrap();
    must_not_finish_without_a_file(&mut job, &drop_folder, &finish);

    // The last one, and the end.
    land(11);
    let log = job.run(&finish, 0, DEADLINE);
    assert!(log.contains("\"file\":\"labels-11.jsonl\""), "{log}");
    must_tell_what_was_read(&log, &drop_folder);
    let refused = job.run(&arguments, 3, DEADLINE);
    assert!(refused.contains("error[job_finished]"), "{refused}");

    let patterns = STREAMS.map(|stream| format!("{path}/{stream}-*.jsonl"));
    let [inferences, labels] = patterns.each_ref().map(String::as_str);
    let batch = ["backfill", "--job", "batch", "--inferences", inferences, "--labels", labels];
    job.run(&batch, 0, DEADLINE);
    must_be_equal(&rows(clickhouse, "watched"), &rows(clickhouse, "batch"));
    let accounts = |job: &str| {
        clickhouse.query(&format!(
            "SELECT topic, model, records, accepted, duplicate, matched, orphan, dead FROM tidegauge.stream_health \
             WHERE job = '{job}' ORDER BY ALL"
        ))
    };
    assert_eq!(accounts("watched"), accounts("batch"), "every record is counted once");
}

/// The summary of a last run has its bytes: those of the last files at least, and not more than there are.
fn must_tell_what_was_read(log: &str, folder: &Path) {
    let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Json>(line).ok());
    let summary = lines.rfind(|line| line["complete"] == true).unwrap();
    let files = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let sizes = files.map(|file| (file.file_name(), file.metadata().unwrap().len()));
    let sizes: Vec<_> = sizes.collect();
    let is_last = |name: &OsStr| name.to_string_lossy().ends_with("-11.jsonl");
    let last = sizes.iter().filter(|(name, _)| is_last(name)).map(|(_, size)| size).sum::<u64>();
    let all = sizes.iter().map(|(_, size)| size).sum::<u64>();
    let read = summary["bytes"].as_u64().unwrap();
    assert!(last > 0 && (last..=all).contains(&read), "{read} of {last} to {all}");
}

/// A file that can't be read is told once, and nothing is sealed without it.
fn must_not_finish_without_a_file(job: &mut Job, folder: &Path, finish: &[&str]) {
    // Not even root can open a link to itself.
    let path = folder.join("labels-00-unread.jsonl");
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let failed = job.run(finish, 1, DEADLINE);
    assert!(failed.contains("error[file_unreadable]: can't read"), "{failed}");
    assert_eq!(failed.matches("\"code\":\"file_unreadable\"").count(), 1, "{failed}");
    fs::remove_file(path).unwrap();
}

/// A file that the job has counted holds something else: told while it runs, refused at a start.
fn must_refuse_what_was_changed(job: &mut Job, folder: &Path, arguments: &[&str], land: impl Fn()) {
    let path = folder.join("inferences-01.jsonl");
    let held = fs::read(&path).unwrap();
    let running = job.start(arguments);
    land();
    wait_for_files(&running, 2);
    fs::write(&path, "{}\n").unwrap();
    wait_until("the change to be told", DEADLINE, || {
        said(&running).iter().any(|line| line["code"] == "file_not_as_taken")
    });
    running.stop();
    let refused = job.run(arguments, 3, DEADLINE);
    assert!(refused.contains("error[file_not_as_taken]"), "{refused}");
    assert!(refused.contains("inferences-01.jsonl was taken before"), "{refused}");
    fs::write(&path, held).unwrap();
    // Asked to, it ends at the first file that is broken.
    let failed = job.run(&[arguments, &["--fail-fast"]].concat(), 1, DEADLINE);
    assert!(failed.contains("error[file_broken]"), "{failed}");
}
