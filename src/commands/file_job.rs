//! A job over files or ranges of topics: how it is bound, what its pipeline goes by, and what is said at its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::ProgressBar;

use super::Failure;
use super::guard::{Guarded, Refusal};
use super::processor::{Rules, bind_in_time, define_in_time};
use super::{processor, terminal};
use crate::alerting::Alerting;
use crate::config::Settings;
use crate::engine::time::Millis;
use crate::pipeline::{self, PipelineSettings, Totals};
use crate::sink::DeadLetters;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::{BindError, JobBinding};
use crate::source::Source;
use crate::source::feed::NoCommits;
use crate::telemetry::Telemetry;

/// How often the bar moves, and how often a log line says how far it is where there is none.
const TICK: Duration = Duration::from_millis(200);
const TICKS_A_LINE: u32 = 50;

/// What was done, and whether that was all.
pub(super) struct Filled {
    pub(super) totals: Totals,
    pub(super) is_complete: bool,
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
    match bind_in_time(clickhouse, binding, telemetry).await {
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
        return processor::alerting(settings, partitions, clickhouse, telemetry);
    }
    if !settings.rules.is_empty() {
        tracing::warn!("the configuration's alerts are not evaluated: --alerts does");
    }
    Ok(None)
}

/// Runs the pipeline to the end of its sources, or until a signal, while `shown` goes on.
pub(super) async fn run<S: Source + 'static>(
    settings: PipelineSettings,
    sources: Vec<S>,
    (sink, refusal): (Guarded, &Refusal),
    letters: impl DeadLetters,
    (telemetry, alerting): (Telemetry, Option<Alerting>),
    shown: impl Future<Output = ()>,
) -> Result<Filled, Failure> {
    let was_stopped = AtomicBool::new(false);
    let mut signals = terminal::Signals::catch()?;
    let stop = async {
        signals.next().await;
        was_stopped.store(true, Ordering::Relaxed);
    };
    let (sink, rules) = Rules::beside(sink, alerting, &telemetry);
    let work = pipeline::run(settings, sources, NoCommits, sink, letters, telemetry, stop);
    let ended = tokio::select! {
        ended = Box::pin(work) => ended,
        () = shown => unreachable!("it is shown until the end"),
    };
    let totals = ended.map_err(|error| refusal.take().unwrap_or_else(|| error.into()))?;
    rules.end().await;
    let is_complete = totals.is_drained && !was_stopped.load(Ordering::Relaxed);
    Ok(Filled { totals, is_complete })
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

/// Says where to look when many labels of a job that has read all match nothing; `wait` is `windows.label_wait`.
pub(super) fn note_orphans(filled: &Filled, wait: Millis) {
    let [_, labels] = filled.totals.accounts;
    if filled.is_complete && labels.third > (labels.records() - labels.dead) / 10 {
        let (orphans, all, wait) = (labels.third, labels.records(), wait.0 / 1000);
        terminal::note(&format!(
            "{orphans} of {all} labels match no inference: are the request IDs the same in both, and do labels come \
             within `windows.label_wait` ({wait} s) after their inference?\n"
        ));
    }
}

/// Of a job, with the name that its rows stand under.
pub(super) fn failed(job: &str, mut failure: Failure) -> Failure {
    failure.message = format!("job {job}: {}", failure.message);
    failure
}

/// `end` is what is said where all is written.
pub(super) fn summary(
    job: &str,
    bytes: Option<u64>,
    filled: &Filled,
    end: &str,
    as_json: bool,
) -> String {
    let Filled { totals, is_complete } = filled;
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
        return format!("{object}\n");
    }
    let end = if *is_complete {
        end
    } else {
        "interrupted: start it again with the same arguments, nothing is lost"
    };
    format!(
        "job {job}: {inferences} inferences and {labels} labels, in {seconds:.1} s ({rate} records/s)\n\
         inferences: {accepted} accepted, {duplicates} duplicates, {late} late; \
         labels: {matched} matched, {kept} waiting, {orphans} orphans; {rejected} rejected\n\
         {rows} rows written\n{end}\n"
    )
}
