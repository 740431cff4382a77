//! `tidegauge backfill`: the same rows from files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::guard::{Guarded, Refusal};
use super::inputs::{Counts, InputArgs, Inputs};
use super::processor::{bind_in_time, dead_letter_limit, define_in_time};
use super::{ConfigFile, Failure, runtime, terminal};
use crate::engine::names::Names;
use crate::engine::outcome::Outcome;
use crate::pipeline::{self, PipelineSettings, Totals};
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::BindError;
use crate::sink::rejected::Rejected;
use crate::source::feed::{Feed, FeedProgress, NoCommits};
use crate::telemetry::{Telemetry, outcome_index, set_up_log};

/// How often the bar moves, and how often a log line says how far it is where there is none.
const TICK: Duration = Duration::from_millis(200);
const TICKS_A_LINE: u32 = 50;

/// Measure files: the same rows in ClickHouse as `run` writes
///
/// Reads files of inferences and, optionally, of labels, joins them by request ID and writes the rows that streaming
/// gives for the same records. Files hold all that there is: nothing is late, and all windows are sealed at the end.
/// The rows stand under a job name of their own, so it is safe while `run` is live. Started again with the same files
/// it goes on, and ends with the same rows.
///
/// A row of a file is what a record of the topic is. Flat columns are fields; dotted columns are entries of maps:
/// features.amount, segments.region, scores.cat. `inferences.fields` and `labels.fields` of the configuration say
/// where a field lies otherwise. Times are milliseconds since 1970-01-01 UTC, RFC 3339 text, or a time type of Parquet.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge backfill -c fraud.toml --inferences 'history/*.parquet' --labels labels.csv
  tidegauge backfill -c fraud.toml --inferences a.jsonl --labels b.jsonl --dry-run
  tidegauge backfill -c fraud.toml --inferences day.parquet --job fraud-nightly-2026-11-27 --json

From cron, a systemd timer or a Kubernetes CronJob: the exit code says whether all rows are written, --json what was
done. Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused, 130 interrupted (start it again).")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    inputs: InputArgs,
    /// Owner of the rows; by default the configured job with a digest of the files and settings
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// Add records that can't be used, each with its file, number and reason, to this file (JSON Lines)
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Only read and check the files
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = args.config.load()?;
    // Lines of a log would break the bar.
    let has_bar = terminal::is_error_terminal();
    let level = if has_bar { "warn" } else { &settings.logs.level };
    set_up_log(settings.logs.format, level)?;
    let mut inputs = Inputs::find(settings, &args.inputs)?;
    if args.dry_run {
        return dry_run(&inputs, args.json);
    }
    inputs.settings.job = args.job.clone().unwrap_or_else(|| inputs.default_job());
    let (job, bytes) = (inputs.settings.job.clone(), inputs.bytes());
    tracing::info!(%job, bytes, "starting");
    let runtime = runtime()?;
    let filled = runtime.block_on(fill(inputs, args, has_bar));
    runtime.shutdown_background();
    let filled = filled?;
    terminal::print(&summary(&job, bytes, &filled, args.json));
    Ok(if filled.is_complete { ExitCode::SUCCESS } else { ExitCode::from(130) })
}

/// What was done, and whether that was all.
struct Filled {
    totals: Totals,
    is_complete: bool,
}

async fn fill(inputs: Inputs, args: &Args, has_bar: bool) -> Result<Filled, Failure> {
    let Inputs { mut settings, feeds, .. } = inputs.clone();
    let telemetry = Telemetry::new();
    let clickhouse = ClickHouse::new(settings.clickhouse());
    let binding = inputs.binding();
    settings.shard.generation = match bind_in_time(&clickhouse, &binding, &telemetry).await {
        // Whoever has not written anything under the name may change his mind.
        Err(refused @ BindError::OtherConfiguration { .. }) => {
            let unused = clickhouse.unused(&binding).await?;
            let Some(unused) = unused else { return Err(refused.into()) };
            clickhouse.rebind(&binding, &unused).await?
        }
        bound => bound?,
    };
    define_in_time(&clickhouse, &settings, &telemetry).await?;
    let progress = FeedProgress::default();
    let letters = Rejected::new(progress.clone(), args.rejected.as_deref())?;
    let refusal = Refusal::default();
    let sink = Guarded::of_files(clickhouse, binding, settings.shard.generation, refusal.clone());
    let pipeline_settings = PipelineSettings {
        decoders: settings.decoders(),
        schemas: settings.schemas()?,
        job: settings.job.clone(),
        partitions: 1,
        grains: settings.grains.clone(),
        flush_interval: settings.clickhouse.flush_interval,
        state_budget_bytes: settings.state_budget_bytes,
        drain_budget: settings.drain_budget,
        dead_letter_limit: dead_letter_limit(&settings),
        shard: Arc::new(settings.shard),
    };
    let source = Feed::new(feeds, progress.clone());
    let was_stopped = AtomicBool::new(false);
    let mut signals = terminal::Signals::catch()?;
    let stop = async {
        signals.next().await;
        was_stopped.store(true, Ordering::Relaxed);
    };
    let work =
        pipeline::run(pipeline_settings, vec![source], NoCommits, sink, letters, telemetry, stop);
    let shown = show(&progress, inputs.bytes(), has_bar);
    let ended = tokio::select! {
        ended = work => ended,
        () = shown => unreachable!("it is shown until the end"),
    };
    let totals = ended.map_err(|error| refusal.take().unwrap_or_else(|| error.into()))?;
    let is_complete = totals.is_drained && !was_stopped.load(Ordering::Relaxed);
    Ok(Filled { totals, is_complete })
}

/// Shows how far it is, until dropped.
async fn show(progress: &FeedProgress, bytes: u64, has_bar: bool) {
    let bar = if has_bar { ProgressBar::new(bytes) } else { ProgressBar::hidden() };
    let style = "{bar:30} {percent:>3} % of {total_bytes}  {msg}  {elapsed} gone, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is right"));
    let (mut tick, started) = (tokio::time::interval(TICK), terminal::start());
    let mut ticks: u32 = 0;
    loop {
        tick.tick().await;
        let (read, records) = (progress.bytes(), progress.records());
        let rate = per_second(records, started.elapsed());
        bar.set_position(read.min(bytes));
        let what = if read >= bytes { "writing" } else { "" };
        bar.set_message(format!("{records} records, {rate}/s {what}"));
        ticks += 1;
        if !has_bar && ticks.is_multiple_of(TICKS_A_LINE) {
            let percent = read.saturating_mul(100) / bytes.max(1);
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
fn per_second(count: u64, elapsed: Duration) -> u64 {
    (count as f64 / elapsed.as_secs_f64().max(1e-3)).round() as u64
}

fn summary(job: &str, bytes: u64, filled: &Filled, as_json: bool) -> String {
    let Filled { totals, is_complete } = filled;
    let sum = |outcome| totals.outcomes.iter().map(|of| of[outcome_index(outcome)]).sum::<u64>();
    let [inferences, labels] = totals.records;
    let (accepted, duplicate) = (sum(Outcome::Accepted), sum(Outcome::Duplicate));
    let rejected = sum(Outcome::Dead);
    let seconds = totals.elapsed.as_secs_f64();
    let rate = per_second(inferences + labels, totals.elapsed);
    let rows = totals.rows_written;
    if as_json {
        let object = serde_json::json!({
            "job": job, "complete": is_complete, "inferences": inferences, "labels": labels,
            "accepted": accepted, "duplicates": duplicate, "rejected": rejected,
            "rows_written": rows, "bytes": bytes, "seconds": seconds, "records_per_s": rate,
        });
        return format!("{object}\n");
    }
    let end = if *is_complete {
        "all rows are written and sealed"
    } else {
        "interrupted: start it again with the same arguments, nothing is lost"
    };
    format!(
        "job {job}: {inferences} inferences and {labels} labels read in {seconds:.1} s ({rate}/s)\n\
         accepted {accepted}, duplicates {duplicate}, rejected {rejected}; {rows} rows written\n{end}\n"
    )
}

/// Reads and decodes all files, and writes nothing.
fn dry_run(inputs: &Inputs, as_json: bool) -> Result<ExitCode, Failure> {
    let mut streams = serde_json::Map::new();
    for feed in &inputs.feeds {
        let Counts { good, bad } = inputs.decode(feed, &mut Names::default(), |_, _, _| ())?;
        let (name, files) = (feed.stream.name(), feed.files.files().len());
        let about = serde_json::json!({"files": files, "records": good, "rejected": bad});
        if !as_json {
            let text = format!("{name}: {files} files, {good} records, {bad} can't be used\n");
            terminal::print(&text);
        }
        streams.insert(name.to_owned(), about);
    }
    if as_json {
        terminal::print(&format!("{}\n", serde_json::Value::Object(streams)));
    }
    Ok(ExitCode::SUCCESS)
}
