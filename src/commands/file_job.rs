//! A job over files or ranges of topics: how it is bound, what its pipeline goes by, and what is said at its end.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::Notify;

use super::Failure;
use super::guard::{Guarded, Refusal};
use super::inputs::{Counts, doubt, unmatched};
use super::processor::{Rules, bind_in_time, define_in_time};
use super::terminal::Starting;
use super::{processor, ranges, terminal};
use crate::alerting::Alerting;
use crate::config::Settings;
use crate::engine::event::Stream;
use crate::engine::metrics::MetricTable;
use crate::engine::state::ALL;
use crate::engine::time::Millis;
use crate::pipeline::{self, DeadLetterLimit, PipelineSettings, Totals};
use crate::sink::DeadLetters;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::{BindError, JobBinding};
use crate::sink::rows::RowFilter;
use crate::source::Source;
use crate::source::feed::NoCommits;
use crate::telemetry::Telemetry;

/// How often the bar moves, and how often a log line says how far it is where there is none.
const TICK: Duration = Duration::from_millis(200);
const TICKS_A_LINE: u32 = 50;
/// How long an end goes on asking a ClickHouse or a target that fails: about as long as one takes to be started again.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How long the end waits for what is only told.
const ASKED_FOR: Duration = Duration::from_secs(5);
/// What is said where nothing could be measured: such a job succeeds, as that of a day without requests has to.
const NO_INFERENCE: &str =
    "no record of inferences was read: are these the right files, or the right range?";

/// What was done, and whether that was all.
pub(super) struct Filled {
    pub(super) totals: Totals,
    pub(super) is_complete: bool,
    /// What the rules left, where all rows are written.
    failure: Option<Failure>,
    /// When the newest window of the job starts, where it was asked for and there is one.
    newest_ms: Option<i64>,
    /// Rows without a label of files that hold both streams, where they were counted.
    unlabelled: Option<u64>,
}

impl Filled {
    /// `finished` is whether all is done, or what the rules left.
    pub(super) fn new(totals: Totals, finished: Result<bool, Failure>) -> Self {
        let (is_complete, failure) = match finished {
            Ok(is_complete) => (is_complete, None),
            Err(mut failure) => {
                failure.message +=
                    "; start it again with the same arguments, and it goes on from there";
                (false, Some(failure))
            }
        };
        Self { totals, is_complete, failure, newest_ms: None, unlabelled: None }
    }

    /// The same where something else is left that only a person can put right.
    pub(super) fn with_failure(self, failure: Option<Failure>) -> Self {
        Self { failure: self.failure.or(failure), ..self }
    }

    /// The same with so many rows that are inferences, and no labels though their files hold some.
    pub(super) fn with_unlabelled(self, rows: u64) -> Self {
        Self { unlabelled: Some(rows), ..self }
    }

    /// The same with what the rows of a job that has read all say of its times. They are written: where they can't be
    /// asked for, nothing is said.
    pub(super) async fn dated(mut self, clickhouse: &ClickHouse) -> Self {
        if self.is_complete {
            let filter = RowFilter { segment: ALL.to_owned(), limit: 1, ..RowFilter::default() };
            let rows = clickhouse.metric_rows(MetricTable::Serving, &filter);
            let rows = tokio::time::timeout(ASKED_FOR, rows).await.ok().and_then(Result::ok);
            self.newest_ms = rows.and_then(|rows| rows.first().map(|row| row.start_ms));
        }
        self
    }

    /// Says what is odd about a job that has read all, and where to look; `wait` is `windows.label_wait`.
    /// Of a part of the records others match the rest of the labels.
    pub(super) fn note_oddities(&self, wait: Millis, is_part: bool) {
        for said in self.oddities(wait, is_part) {
            terminal::note(&format!("{said}\n"));
        }
    }

    fn oddities(&self, wait: Millis, is_part: bool) -> Vec<String> {
        let [inferences, labels] = self.totals.accounts;
        let mut said = Vec::new();
        if !self.is_complete {
            return said;
        }
        if inferences.records() == 0 {
            said.push(NO_INFERENCE.to_owned());
        }
        let of = |count: i64| u64::try_from(count).unwrap_or(0);
        said.extend(repeated(of(inferences.records() - inferences.dead), of(inferences.second)));
        let unmatched = unmatched(of(labels.records() - labels.dead), of(labels.first), wait);
        said.extend(unmatched.filter(|_| !is_part || labels.first == 0));
        said.extend(self.newest_ms.and_then(|newest_ms| doubt("window", newest_ms)));
        said
    }

    /// How the command ends, after its summary.
    pub(super) fn exit(self) -> Result<ExitCode, Failure> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.is_complete => Ok(ExitCode::SUCCESS),
            None => Ok(ExitCode::from(130)),
        }
    }
}

/// What is asked where more than a tenth of the inferences are duplicates: the ID of a customer who is scored every day
/// names no prediction, and all but the first one are left out.
pub(super) fn repeated(inferences: u64, duplicates: u64) -> Option<String> {
    (duplicates > inferences / 10).then(|| {
        format!(
            "{duplicates} of {inferences} inferences are duplicates, of which only the first counts: has each \
             prediction a request ID of its own? Where it is that of a customer, make it of more fields, in inferences \
             and in labels, like `inferences.fields = {{ request_id = [\"customer\", \"day\"] }}`"
        )
    })
}

/// Binds the job's name, which gives the generation, and writes down what the configuration defines.
pub(super) async fn bind(
    clickhouse: &ClickHouse,
    settings: &mut Settings,
    binding: &JobBinding,
    telemetry: &Telemetry,
) -> Result<(), Failure> {
    settings.shard.generation = generation(clickhouse, binding, telemetry).await?;
    Ok(define_in_time(clickhouse, settings, telemetry).await?)
}

/// Whoever has not written anything under the name may change his mind.
async fn generation(
    clickhouse: &ClickHouse,
    binding: &JobBinding,
    telemetry: &Telemetry,
) -> Result<u16, Failure> {
    let keeps_all = !ranges::is_between_times(&binding.inferences.name);
    match bind_in_time(clickhouse, binding, keeps_all, telemetry).await {
        Err(refused @ (BindError::OtherConfiguration { .. } | BindError::OtherTopics { .. })) => {
            let Some(unused) = clickhouse.unused(binding).await? else {
                return Err(refused.into());
            };
            Ok(clickhouse.rebind(binding, &unused).await?)
        }
        bound => Ok(bound?),
    }
}

/// The rules and targets of the configuration, where `is_asked` for; where not, it is said that they rest.
pub(super) fn alerting(
    settings: &Settings,
    is_asked: bool,
    partitions: i32,
    clickhouse: &ClickHouse,
    telemetry: &Telemetry,
) -> Result<Option<Alerting>, Failure> {
    if is_asked {
        settings.check_rules()?;
        let alerting = processor::alerting(settings, partitions, clickhouse, telemetry)?;
        return Ok(alerting.map(|alerting| alerting.insisting(PATIENCE)));
    }
    if !settings.rules.is_empty() {
        tracing::warn!("the configuration's alerts are not evaluated: --alerts does");
    }
    Ok(None)
}

/// Runs the pipeline to the end of its sources, or until a signal, while `shown` goes on; then rules until all is told.
/// A second signal ends the process: what the pipeline writes after the first one can wait for a database.
pub(super) async fn run<S: Source + 'static>(
    settings: PipelineSettings,
    sources: Vec<S>,
    (sink, refusal): (Guarded, &Refusal),
    letters: impl DeadLetters,
    (telemetry, alerting): (Telemetry, Option<Alerting>),
    shown: impl Future<Output = ()>,
    starting: Starting,
) -> Result<Filled, Failure> {
    let was_stopped = AtomicBool::new(false);
    let mut signals = starting.begun().await;
    let stopping = Notify::new();
    let leaving = signals.stop_then_leave(|| {
        tracing::info!("asked to stop: writing what is there; a second signal leaves at once");
        was_stopped.store(true, Ordering::Relaxed);
        stopping.notify_one();
    });
    let (sink, rules) = Rules::beside(sink, alerting, &telemetry);
    let stop = stopping.notified();
    let work = pipeline::run(settings, sources, NoCommits, sink, letters, telemetry, stop);
    let ended = tokio::select! {
        ended = Box::pin(work) => ended,
        () = leaving => unreachable!("the process ends before"),
        () = shown => unreachable!("it is shown until the end"),
    };
    let totals = ended.map_err(|error| refusal.take().unwrap_or_else(|| error.into()))?;
    if !totals.is_drained || was_stopped.load(Ordering::Relaxed) {
        tokio::select! {
            () = rules.end() => {}
            () = signals.leave() => {}
        }
        return Ok(Filled::new(totals, Ok(false)));
    }
    let finished = rules.finish(signals.next()).await;
    Ok(Filled::new(totals, finished))
}

/// Shows how far it is, until dropped: `look` says how much of `total` is read, and how many records.
pub(super) async fn show(
    total: u64,
    total_style: &str,
    has_bar: bool,
    look: impl Fn() -> (u64, u64),
) {
    let bar = if has_bar { terminal::bar(total, total_style) } else { ProgressBar::hidden() };
    let (mut tick, started) = (tokio::time::interval(TICK), terminal::start());
    let mut ticks: u32 = 0;
    loop {
        tick.tick().await;
        let (read, records) = look();
        let rate = per_second(records, started.elapsed());
        bar.set_position(read.min(total));
        let what = if read >= total { "writing" } else { "" };
        bar.set_message(format!("{records} records, {rate}/s {what}"));
        ticks += 1;
        if !has_bar && ticks.is_multiple_of(TICKS_A_LINE) {
            let percent = read.saturating_mul(100) / total.max(1);
            tracing::info!(percent, records, records_per_s = rate, "reading");
        }
    }
}

/// Tells what `look` counts, now and then, where it is more than before; until dropped.
pub(super) async fn tell_moves(look: impl Fn() -> [u64; 2], tell: impl Fn([u64; 2])) {
    let mut tick = tokio::time::interval(terminal::LINE_EVERY);
    let mut before = look();
    loop {
        tick.tick().await;
        let now = look();
        if now != before {
            tell(now);
        }
        before = now;
    }
}

#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a figure for people"
)]
pub(super) fn per_second(count: u64, elapsed: Duration) -> u64 {
    (count as f64 / elapsed.as_secs_f64().max(1e-3)).round() as u64
}

/// Judges the records of a job once all of them are read: they can't be used where none of a stream can, or where so
/// many can't that the limit is exceeded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    /// The code of the refusal.
    pub(super) code: &'static str,
    pub(super) limit: DeadLetterLimit,
}

impl Judge {
    /// That of files.
    pub(super) fn of_files(settings: &Settings) -> Self {
        Self { code: "file_unusable", limit: settings.dead_letter_limit() }
    }

    /// That of ranges of topics.
    pub(super) fn of_topics(settings: &Settings) -> Self {
        Self { code: "dead_letter_limit", limit: settings.dead_letter_limit() }
    }

    /// Of one stream, of which all is read.
    pub(super) fn judge(
        self,
        stream: Stream,
        Counts { good, bad, .. }: Counts,
    ) -> Result<(), Failure> {
        let (all, name, share) = (good + bad, stream.name(), self.limit.share);
        let message = if good == 0 && bad > 0 {
            format!("none of {all} records of {name} can be used")
        } else if self.limit.is_exceeded_at_end(all, bad) {
            format!(
                "{bad} of {all} records of {name} can't be used, more than a share of {share} \
                 (`dead_letters.limit`)"
            )
        } else {
            return Ok(());
        };
        Err(Failure::new(self.code, message))
    }

    /// The same of a job whose rows are written. One that was interrupted has not read all: it is started again.
    pub(super) fn of_job(self, job: &str, filled: &Filled) -> Result<(), Failure> {
        if !filled.is_complete {
            return Ok(());
        }
        let count = |count: i64| u64::try_from(count).unwrap_or(0);
        for (stream, accounts) in Stream::BOTH.into_iter().zip(filled.totals.accounts) {
            let (all, bad) = (count(accounts.records()), count(accounts.dead));
            let good = all.saturating_sub(bad);
            let counts = Counts { good, bad, ..Counts::default() };
            self.judge(stream, counts).map_err(|mut failure| {
                if counts.good > 0 {
                    failure.message += "; the rows of the others are written";
                }
                failed(job, failure)
            })?;
        }
        Ok(())
    }
}

/// What a dry run finds, stream by stream. It fails where the job would.
pub(super) struct DryRun {
    judge: Judge,
    as_json: bool,
    streams: serde_json::Map<String, serde_json::Value>,
    judged: Result<(), Failure>,
    has_inference: bool,
}

impl DryRun {
    pub(super) fn new(judge: Judge, as_json: bool) -> Self {
        let (streams, judged) = (serde_json::Map::new(), Ok(()));
        Self { judge, as_json, streams, judged, has_inference: false }
    }

    /// Tells what a stream has, read from a topic, or from so many `files`.
    pub(super) fn tell(
        &mut self,
        stream: Stream,
        from: &str,
        files: Option<usize>,
        counts: Counts,
    ) {
        let (name, Counts { good, bad, unlabelled, .. }) = (stream.name(), counts);
        self.has_inference |= stream == Stream::Inferences && good + bad > 0;
        if !self.as_json {
            let others = without_label(", ", unlabelled);
            let all = good + bad;
            let text =
                format!("{name}: {from}, {all} records, of which {bad} can't be used{others}\n");
            terminal::print(&text);
        }
        let mut about = serde_json::json!({"records": good, "rejected": bad});
        if let Some(files) = files {
            about["files"] = files.into();
            if stream == Stream::Labels {
                about["without_label"] = unlabelled.into();
            }
        }
        self.streams.insert(name.to_owned(), about);
        if let Some(said) = counts.doubt(stream) {
            terminal::note(&format!("{said}\n"));
        }
        if self.judged.is_ok() {
            self.judged = self.judge.judge(stream, counts);
        }
    }

    /// The end, after the last stream.
    pub(super) fn end(self) -> Result<ExitCode, Failure> {
        if self.as_json {
            terminal::print(&format!("{}\n", serde_json::Value::Object(self.streams)));
        }
        if !self.has_inference {
            terminal::note(&format!("{NO_INFERENCE}\n"));
        }
        self.judged.map(|()| ExitCode::SUCCESS)
    }
}

/// Of a job, with the name that its rows stand under.
pub(super) fn failed(job: &str, mut failure: Failure) -> Failure {
    failure.message = format!("job {job}: {}", failure.message);
    failure
}

/// What is said, behind a sign, of rows that are no labels though their files hold some: else the accounts do not add
/// up to the rows.
fn without_label(sign: &str, rows: u64) -> String {
    if rows == 0 { String::new() } else { format!("{sign}{rows} rows without a label") }
}

/// `end` is what is said where all is written.
pub(super) fn summary(
    job: &str,
    bytes: Option<u64>,
    filled: &Filled,
    end: &str,
    as_json: bool,
) -> String {
    let Filled { totals, is_complete, failure, unlabelled, .. } = filled;
    let [inferences, labels] = totals.accounts;
    let (accepted, duplicates, late) = (inferences.first, inferences.second, inferences.third);
    let (matched, kept, orphans) = (labels.first, labels.second, labels.third);
    let rejected = inferences.dead + labels.dead;
    let (inferences, labels) = (inferences.records(), labels.records());
    let seconds = totals.elapsed.as_secs_f64();
    let rate = per_second(totals.records.iter().sum(), totals.elapsed);
    let rows = totals.rows_written;
    if as_json {
        let mut object = serde_json::json!({
            "job": job, "complete": is_complete, "inferences": inferences, "labels": labels,
            "accepted": accepted, "duplicates": duplicates, "late": late, "rejected": rejected,
            "matched": matched, "kept": kept, "orphans": orphans,
            "rows_written": rows, "seconds": seconds, "records_per_s": rate,
        });
        if let Some(bytes) = bytes {
            object["bytes"] = bytes.into();
        }
        if let Some(rows) = *unlabelled {
            object["without_label"] = rows.into();
        }
        return format!("{object}\n");
    }
    let others = without_label("; ", unlabelled.unwrap_or(0));
    let end = if *is_complete || failure.is_some() {
        end
    } else {
        "interrupted: start it again with the same arguments, nothing is lost"
    };
    format!(
        "job {job}: {inferences} inferences and {labels} labels, in {seconds:.1} s ({rate} records/s)\n\
         inferences: {accepted} accepted, {duplicates} duplicates, {late} late; \
         labels: {matched} matched, {kept} waiting, {orphans} orphans; {rejected} rejected{others}\n\
         {rows} rows written\n{end}\n"
    )
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::engine::outcome::Outcomes;

    #[test]
    fn what_the_rules_left_is_told_after_the_summary() {
        let failure = Failure::new("notify_failed", "all rows are written, but".to_owned());
        let filled = Filled::new(Totals::default(), Err(failure));
        let said = summary("night", None, &filled, "all rows are written and sealed", false);
        assert!(said.ends_with(" rows written\nall rows are written and sealed\n"), "{said}");
        let said = summary("night", Some(7), &filled, "", true);
        assert!(said.contains("\"complete\":false") && said.contains("\"bytes\":7"), "{said}");
        assert!(!said.contains("without_label"), "it was not counted: {said}");
        let failure = filled.exit().unwrap_err();
        assert_eq!((failure.code, failure.exit), ("notify_failed", 1));
        assert!(failure.message.contains("start it again"), "{failure:?}");
        let interrupted = Filled::new(Totals::default(), Ok(false));
        let said = summary("night", None, &interrupted, "all rows are written", false);
        assert!(said.contains("\ninterrupted: ") && interrupted.exit().is_ok(), "{said}");
    }

    #[test]
    fn rows_of_both_streams_that_have_no_label_are_counted() {
        let of = |rows| Filled::new(Totals::default(), Ok(true)).with_unlabelled(rows);
        let said = |rows, as_json| summary("night", None, &of(rows), "", as_json);
        assert!(said(12, false).contains("0 rejected; 12 rows without a label\n"));
        assert!(said(0, false).contains("0 rejected\n"));
        assert!(said(12, true).contains("\"without_label\":12"));
        assert!(said(0, true).contains("\"without_label\":0"));
    }

    #[test]
    fn a_job_that_has_read_all_says_what_is_odd_about_it() {
        let wait = Millis(3_600_000);
        let of = |inferences, [matched, orphans]: [i64; 2]| {
            let accounts = [
                Outcomes { first: inferences, ..Outcomes::default() },
                Outcomes { first: matched, third: orphans, ..Outcomes::default() },
            ];
            Filled::new(Totals { accounts, ..Totals::default() }, Ok(true))
        };
        let nothing = Vec::<String>::new();
        assert_eq!(of(100, [90, 10]).oddities(wait, false), nothing);
        assert_eq!(of(100, [0, 0]).oddities(wait, false), nothing, "labels may come later");
        // An empty file is no failure, and yet no success that need not be looked at.
        assert_eq!(of(0, [0, 0]).oddities(wait, false), [NO_INFERENCE]);
        let interrupted = Filled::new(Totals::default(), Ok(false));
        assert_eq!(interrupted.oddities(wait, false), nothing, "it has not read all");
        let said = of(100, [88, 12]).oddities(wait, false);
        assert!(said.len() == 1 && said[0].starts_with("12 of 100 labels"), "{said:?}");
        // Labels of a range are read beyond it, so that those of its last inferences are there.
        assert_eq!(of(100, [1, 99]).oddities(wait, true), nothing);
        let said = of(100, [0, 99]).oddities(wait, true);
        assert!(said.len() == 1 && said[0].starts_with("none of 99 labels"), "{said:?}");
        let repeated = Outcomes { first: 89, second: 11, ..Outcomes::default() };
        let totals = Totals { accounts: [repeated, Outcomes::default()], ..Totals::default() };
        let said = Filled::new(totals, Ok(true)).oddities(wait, false);
        let expected = "11 of 100 inferences are duplicates, of which only the first counts: ";
        assert!(said.len() == 1 && said[0].starts_with(expected), "{said:?}");
        // Seconds of 2026, read as milliseconds, and the first millisecond that may be meant.
        let dated = |newest_ms| Filled { newest_ms: Some(newest_ms), ..of(100, [0, 0]) };
        let said = dated(1_767_225_600).oddities(wait, false);
        let expected = "the newest window is of 1970-01-21T10:53:45.600Z: are timestamps in";
        assert!(said.len() == 1 && said[0].starts_with(expected), "{said:?}");
        assert_eq!(dated(978_307_200_000).oddities(wait, false), nothing);
    }

    #[test]
    fn many_duplicates_are_told_with_what_to_do() {
        for (inferences, duplicates) in [(0, 0), (1, 0), (10, 1), (1000, 100)] {
            assert_eq!(repeated(inferences, duplicates), None, "{duplicates} of {inferences}");
        }
        for (inferences, duplicates) in [(2, 1), (10, 2), (1000, 101)] {
            let said = repeated(inferences, duplicates).unwrap();
            let counts = format!("{duplicates} of {inferences} inferences are duplicates");
            assert!(said.starts_with(&counts) && said.contains("{ request_id = [\""), "{said}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_is_told_every_ten_seconds() {
        // At the start, at the first tick, which comes at once, and then every ten seconds.
        let counts = [[0, 0], [0, 0], [3, 0], [3, 0], [3, 5], [3, 5]];
        let (next, told) = (Cell::new(0_usize), RefCell::new(Vec::new()));
        let look = || counts[next.replace(next.get() + 1)];
        let telling = tell_moves(look, |counts| told.borrow_mut().push(counts));
        let ended = tokio::time::timeout(Duration::from_secs(45), telling).await;
        assert!(ended.is_err() && next.get() == counts.len());
        assert_eq!(*told.borrow(), [[3, 0], [3, 5]]);
    }
}
