//! Files taken as they land: once, whatever happens, and with the rows of one batch over all of them.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tidegauge::source::files::FileList;

use super::backfill::{must_be_equal, punctual, rows};
use crate::support::job::{Instance, Job, sections};
use crate::support::log::{Message, json_payload};
use crate::support::proxy::{Aim, Did, Fault};
use crate::support::services::{self, ClickHouse, Services};
use crate::support::{requests, wait_until};

const DEADLINE: Duration = Duration::from_secs(300);
const CHUNKS: usize = 12;
const STREAMS: [&str; 2] = ["inferences", "labels"];
/// 2026-01-05 00:00 UTC.
const FIRST_MS: i64 = 1_767_571_200_000;

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

/// Renamed when it is finished, so that no look finds a part of it.
fn put(path: &Path, text: &str) {
    let unfinished = path.with_extension("tmp");
    fs::write(&unfinished, text).unwrap();
    fs::rename(unfinished, path).unwrap();
}

/// Both files of a chunk: one appears under its name, the other is renamed when it is finished.
fn land(folder: &Path, number: usize, chunk: &[String; 2]) {
    let path = |stream: usize| folder.join(format!("{}-{number:02}.jsonl", STREAMS[stream]));
    fs::write(path(0), &chunk[0]).unwrap();
    put(&path(1), &chunk[1]);
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

/// A job of this name, and a folder for it to watch.
fn job(name: &str, services: &Services) -> (Job, TempDir) {
    let Services { kafka, clickhouse } = services;
    let topics = STREAMS.map(|stream| format!("{name}.{stream}"));
    let topics = topics.each_ref().map(String::as_str);
    let more = sections(topics);
    let mut job = Job::new(name, kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    (job, TempDir::new().unwrap())
}

#[test]
fn files_are_taken_once_over_a_kill_and_give_the_rows_of_one_batch() {
    let services = services::shared();
    let clickhouse = &services.clickhouse;
    let (mut job, folder) = job("watched", &services);
    let drop_folder = folder.path().join("drop");
    fs::create_dir(&drop_folder).unwrap();
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
    put(&drop_folder.join("inferences-00-broken.jsonl"), "[1,\n");
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

/// A line of a file that holds an inference and its label.
fn line(id: &str, label: Option<bool>) -> String {
    let row = json!({"request_id": id, "model": "fraud-cards", "timestamp": FIRST_MS, "score": 0.25,
                     "label": label});
    format!("{row}\n")
}

#[test]
fn a_file_of_both_whose_last_rows_have_no_label_yet_is_done_for_both() {
    let services = services::shared();
    let (mut job, folder) = job("half-labelled", &services);
    let path = folder.path().to_str().unwrap();
    let fixed = ["backfill", "--job", "half-labelled", "--every", "100ms", "--watch", path];
    let patterns = ["--inferences", "*.jsonl", "--labels", "*.jsonl"];
    let arguments = [&fixed[..], &patterns].concat();
    let instance = job.start(&arguments);
    let files: [&[Option<bool>]; 3] =
        [&[Some(true), Some(false), None], &[None], &[None, Some(true), None]];
    for (number, labels) in files.into_iter().enumerate() {
        let rows = labels.iter().enumerate();
        let text: String =
            rows.map(|(row, label)| line(&format!("{number}-{row}"), *label)).collect();
        put(&folder.path().join(format!("{number}.jsonl")), &text);
        wait_for_files(&instance, 2 * (number + 1));
    }
    let told = said(&instance).into_iter().filter(|line| line["records"].is_u64());
    let told = told.map(|line| json!([line["file"], line["stream"], line["records"]]).to_string());
    let expected = [
        r#"["0.jsonl","inferences",3]"#,
        r#"["0.jsonl","labels",2]"#,
        r#"["1.jsonl","inferences",1]"#,
        r#"["1.jsonl","labels",0]"#,
        r#"["2.jsonl","inferences",3]"#,
        r#"["2.jsonl","labels",1]"#,
    ];
    assert_eq!(told.collect::<BTreeSet<_>>(), BTreeSet::from(expected.map(str::to_owned)));
    instance.stop();

    job.run(&[&arguments[..], &["--finish"]].concat(), 0, DEADLINE);
    let accounts = "SELECT sum(records), sum(accepted), sum(matched) FROM tidegauge.stream_health \
                    WHERE job = 'half-labelled'";
    assert_eq!(services.clickhouse.query(accounts), "10\t7\t3\n");
}

#[test]
fn a_file_whose_row_the_server_drops_is_told_of() {
    let services = services::shared();
    let (mut job, folder) = job("half-forgotten", &services);
    fs::write(folder.path().join("a.jsonl"), line("a", None)).unwrap();
    let path = folder.path().to_str().unwrap();
    let fixed = ["backfill", "--job", "half-forgotten", "--every", "100ms", "--watch", path];
    let arguments = [&fixed[..], &["--inferences", "*.jsonl"]].concat();
    let first = job.start(&arguments);
    wait_for_files(&first, 1);
    first.stop();
    // The rows of table jobs stay, and with them the token of the file.
    services.clickhouse.query("DELETE FROM tidegauge.files WHERE job = 'half-forgotten'");
    let second = job.start(&arguments);
    wait_until("a word about the file", DEADLINE, || {
        second.log_text().contains("its row does not appear in table files")
    });
    assert_eq!(done(&second), [""; 0]);
    second.kill();
}

#[test]
fn a_change_in_the_middle_of_a_file_is_told_and_digests_of_an_earlier_version_stay_good() {
    let services = services::shared();
    let (mut job, folder) = job("half-corrected", &services);
    let path = folder.path().join("a.jsonl");
    let put = |text: &str| put(&path, text);
    let held: String = (10_000..13_000).map(|row| line(&format!("r-{row}"), None)).collect();
    let corrected = held.replacen("r-11500", "s-11500", 1);
    assert!(corrected != held && corrected.len() > 3 * (64 << 10));
    put(&held);
    let watched = folder.path().to_str().unwrap();
    let fixed = ["backfill", "--job", "half-corrected", "--every", "100ms", "--watch", watched];
    let arguments = [&fixed[..], &["--inferences", "*.jsonl"]].concat();
    let running = job.start(&arguments);
    wait_for_files(&running, 1);
    put(&corrected);
    wait_until("the change to be told", DEADLINE, || {
        said(&running).iter().any(|line| line["code"] == "file_not_as_taken")
    });
    running.stop();
    let refused = job.run(&arguments, 3, DEADLINE);
    assert!(refused.contains("error[file_not_as_taken]"), "{refused}");

    // As if an earlier version had taken it.
    put(&held);
    let files = FileList::find(&[path.to_str().unwrap().to_owned()]).unwrap();
    let ends = files.digest_of_ends().unwrap();
    services.clickhouse.query(&format!(
        "ALTER TABLE tidegauge.files UPDATE digest = '{ends}' WHERE job = 'half-corrected' SETTINGS mutations_sync = 2"
    ));
    let digest = "SELECT digest FROM tidegauge.files WHERE job = 'half-corrected'";
    assert_eq!(services.clickhouse.query(digest).trim(), ends);
    put(&held.replacen("r-10000", "s-10000", 1));
    let refused = job.run(&arguments, 3, DEADLINE);
    assert!(refused.contains("error[file_not_as_taken]"), "{refused}");
    put(&held);
    job.run(&[&arguments[..], &["--finish"]].concat(), 0, DEADLINE);
}

#[test]
fn a_folder_that_can_not_be_looked_into_is_told_once_and_the_others_go_on() {
    let services = services::shared();
    let (mut job, folder) = job("half-seen", &services);
    let (folder, day) = (folder.path(), folder.path().join("day"));
    fs::create_dir(&day).unwrap();
    fs::write(day.join("a.jsonl"), line("a", None)).unwrap();
    let buried = bury(folder);
    let path = folder.to_str().unwrap();
    let fixed = ["backfill", "--job", "half-seen", "--every", "100ms", "--watch", path];
    let arguments = [&fixed[..], &["--inferences", "**/*.jsonl"]].concat();
    let running = job.start(&arguments);
    wait_for_files(&running, 1);
    put(&day.join("b.jsonl"), &line("b", None));
    wait_for_files(&running, 2);
    // Many looks have come upon it.
    let told = said(&running).into_iter().filter(|line| line["code"] == "file_unreadable");
    let told: Vec<Json> = told.collect();
    assert_eq!(told.len(), 1, "{told:?}");
    let (name, reason) = (told[0]["file"].as_str().unwrap(), told[0]["reason"].as_str().unwrap());
    assert!(name.starts_with("deep/") && reason.contains("nothing in it is taken"), "{reason}");
    running.stop();

    let finish = [&arguments[..], &["--finish"]].concat();
    let failed = job.run(&finish, 1, DEADLINE);
    assert!(failed.contains("error[file_unreadable]: can't read"), "{failed}");
    assert!(failed.contains("nothing is sealed"), "{failed}");
    let failed = job.run(&[&arguments[..], &["--fail-fast"]].concat(), 1, DEADLINE);
    assert!(failed.contains("error[file_unreadable]: can't read"), "{failed}");
    fs::rename(buried, folder.join(".deep")).unwrap();
    job.run(&finish, 0, DEADLINE);
    let accepted = "SELECT sum(accepted) FROM tidegauge.stream_health WHERE job = 'half-seen'";
    assert_eq!(services.clickhouse.query(accepted), "2\n");
}

#[test]
fn a_finish_that_is_interrupted_is_not_complete_and_one_that_is_done_can_tell_what_is_left() {
    let services = services::shared();
    let (mut job, folder) = job("half-finished", &services);
    fs::write(folder.path().join("a.jsonl"), line("a", None)).unwrap();
    let path = folder.path().to_str().unwrap();
    let fixed = ["backfill", "--job", "half-finished", "--finish", "--watch", path];
    let fixed = [&fixed[..], &["--inferences", "*.jsonl"]].concat();
    // Its second look would come too late.
    let mut first = job.start(&[&fixed[..], &["--every", "10m"]].concat());
    let begun = "SELECT count() FROM tidegauge.jobs WHERE job = 'half-finished'";
    wait_until("the job", DEADLINE, || services.clickhouse.query(begun) != "0\n");
    first.signal(Signal::SIGTERM);
    let code = first.wait("its end", DEADLINE);
    assert_eq!(code, Some(130), "{}", first.log_text());
    assert!(!first.log_text().contains("\"complete\":true"), "{}", first.log_text());

    let finish = [&fixed[..], &["--every", "100ms"]].concat();
    job.run(&finish, 0, DEADLINE);
    // Whoever died before he could tell it is started again.
    let telling = [&finish[..], &["--alerts"]].concat();
    for again in [&finish, &telling] {
        let told = job.run(again, 0, DEADLINE);
        let is_all = told.contains("\"complete\":true") && told.contains("\"inferences\":1,");
        assert!(is_all, "{told}");
    }
    fs::write(folder.path().join("b.jsonl"), line("b", None)).unwrap();
    for more in [&finish, &telling] {
        let refused = job.run(more, 3, DEADLINE);
        assert!(refused.contains("error[job_finished]"), "{refused}");
    }
}

/// It has sealed, and its rows do not say so yet: only finishing is left, and what landed meanwhile comes too late.
#[test]
fn a_finish_that_died_behind_its_seals_is_finished_without_the_file_that_landed_since() {
    let services = services::shared();
    let (mut job, folder) = job("half-sealed", &services);
    fs::write(folder.path().join("a.jsonl"), line("a", None)).unwrap();
    let path = folder.path().to_str().unwrap();
    let fixed = ["backfill", "--job", "half-sealed", "--finish", "--watch", path];
    let finish = [&fixed[..], &["--inferences", "*.jsonl", "--every", "100ms"]].concat();
    let count = |from: &str| {
        services
            .clickhouse
            .query(&format!("SELECT count() FROM tidegauge.{from} AND job = 'half-sealed'"))
    };
    let are_sealed = || count("seals FINAL WHERE sealed_until_ms > 0") == "1\n";
    // The first flush that has something to mark is mostly the one that seals, but not where nothing had begun.
    for _ in 0..20 {
        let kill = [("TIDEGAUGE_FAILPOINTS", "seals-acknowledged@1=kill")];
        let mut died = job.start_with(&finish, &kill);
        let code = died.wait("its death", DEADLINE);
        assert_eq!(code, None, "{}", died.log_text());
        if are_sealed() {
            break;
        }
    }
    assert!(are_sealed());
    let sealed = "serving FINAL WHERE sealed";
    assert_eq!(count(sealed), "0\n");

    let late = folder.path().join("b.jsonl");
    fs::write(&late, line("b", None)).unwrap();
    let told = job.run(&finish, 3, DEADLINE);
    let is_all = told.contains("\"complete\":true") && told.contains("\"inferences\":1,");
    assert!(is_all && told.contains("error[job_finished]"), "{told}");
    assert_ne!(count(sealed), "0\n");
    fs::remove_file(late).unwrap();
    job.run(&finish, 0, DEADLINE);

    // What was taken is not what lies there: whoever repeats the command learns it.
    fs::write(folder.path().join("a.jsonl"), line("another", None)).unwrap();
    let refused = job.run(&finish, 3, DEADLINE);
    assert!(refused.contains("error[file_not_as_taken]"), "{refused}");
}

#[test]
fn a_process_that_still_watches_takes_no_file_once_another_has_finished_the_job() {
    let services = services::shared();
    let (mut job, folder) = job("half-watched", &services);
    fs::write(folder.path().join("a.jsonl"), line("a", Some(true))).unwrap();
    let path = folder.path().to_str().unwrap();
    let fixed = ["backfill", "--job", "half-watched", "--every", "100ms", "--watch", path];
    let arguments = [&fixed[..], &["--inferences", "*.jsonl", "--labels", "*.jsonl"]].concat();
    let mut watching = job.start(&arguments);
    wait_for_files(&watching, 2);
    job.run(&[&arguments[..], &["--finish"]].concat(), 0, DEADLINE);
    let sealed = rows(&services.clickhouse, "half-watched");
    assert!(!sealed.is_empty() && watching.is_running(), "{}", watching.log_text());

    // It would be of a window that is sealed.
    put(&folder.path().join("b.jsonl"), &line("b", Some(false)));
    let code = watching.wait("its end", DEADLINE);
    let log = watching.log_text();
    assert!(code == Some(3) && log.contains("error[job_finished]"), "{log}");
    let taken = "SELECT DISTINCT name FROM tidegauge.files WHERE job = 'half-watched'";
    assert_eq!(services.clickhouse.query(taken), "a.jsonl\n");
    assert_eq!(rows(&services.clickhouse, "half-watched"), sealed);

    for table in ["serving", "data_quality"] {
        let emptied = format!("DELETE FROM tidegauge.{table} WHERE job = 'half-watched'");
        services.clickhouse.query(&emptied);
    }
    job.run(&["rebuild", "--job", "half-watched"], 0, DEADLINE);
    assert_eq!(rows(&services.clickhouse, "half-watched"), sealed, "its files are not asked for");
    let other = [("TIDEGAUGE__WINDOWS__GRAINS", "[\"2h\"]")];
    let mut refused = job.start_with(&["rebuild", "--job", "half-watched"], &other);
    assert_eq!(refused.wait("its refusal", DEADLINE), Some(3), "{}", refused.log_text());
    assert!(refused.log_text().contains("error[job_other_configuration]"));
    let unknown = job.run(&["rebuild", "--job", "nobody"], 2, DEADLINE);
    assert!(unknown.contains("has written nothing that could be rebuilt"), "{unknown}");
}

/// The first signal writes what is there, which takes as long as the database lets it; a second one waits for nothing.
#[test]
fn a_second_signal_ends_a_job_of_files_at_once() {
    let services = services::shared();
    // One of its own, since answers of it are lost.
    let clickhouse = ClickHouse::start_behind_proxy();
    let topics = ["twice.inferences", "twice.labels"];
    let (kafka, more) = (&services.kafka, sections(topics));
    let mut job = Job::new("twice", kafka, &clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.jsonl"), line("a", None)).unwrap();
    let [path, file] = [folder.path().to_owned(), folder.path().join("a.jsonl")];
    let [path, file] = [&path, &file].map(|path| path.to_str().unwrap());
    let watched = ["--watch", path, "--every", "100ms", "--inferences", "*.jsonl"];
    let once = ["--inferences", file];
    let jobs = [("twice-once", &once[..]), ("twice-watched", &watched[..])];
    for (lost, (name, source)) in (1..).zip(jobs) {
        // It waits for the answer to an insert of its first flush, and no limit is near.
        clickhouse.proxy().inject(Fault::LoseAnswer, Aim::inserts_into("window_state"), 1);
        let environment =
            [("TIDEGAUGE__DRAIN_BUDGET", "200s"), ("TIDEGAUGE__CLICKHOUSE__TIMEOUT", "200s")];
        let arguments = [&["backfill", "--job", name], source].concat();
        let mut instance = job.start_with(&arguments, &environment);
        wait_until("an answer to be lost", DEADLINE, || {
            clickhouse.proxy().did(Did::Http(Fault::LoseAnswer)) == lost
        });
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            instance.signal(signal);
        }
        let code = instance.wait("its end", Duration::from_secs(60));
        assert_eq!(code, Some(130), "{}", instance.log_text());
    }
}

/// Makes folders below of which one can't be looked into, not even by root: its path is longer than paths may be. Gives
/// the first of them.
fn bury(folder: &Path) -> PathBuf {
    let chain = |name: &str| {
        let top = folder.join(name);
        let last = (0..12).fold(top.clone(), |path, _| path.join("d".repeat(200)));
        fs::create_dir_all(&last).unwrap();
        (top, last)
    };
    let ((top, last), (more, _)) = (chain("deep"), chain("more"));
    fs::rename(more, last.join("more")).unwrap();
    top
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
