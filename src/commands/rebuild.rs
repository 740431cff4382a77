//! `tidegauge rebuild`: the metric rows of a job once more, from its state rows.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use super::inputs::{of_files, without_labels};
use super::query::instead;
use super::ranges::is_between_times;
use super::select::SelectArgs;
use super::{ConfigFile, Failure, file_job, runtime, terminal};
use crate::config::Settings;
use crate::engine::Progress;
use crate::engine::glob::fits;
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::pipeline::PipelineError;
use crate::pipeline::rebuild::{RebuildSettings, Rebuilt};
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::{BindError, JobBinding};
use crate::sink::rows::RowFilter;
use crate::sink::{FailureClass, Sink as _};

const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Write the metric rows of a job anew, from its states in ClickHouse
///
/// For a metric table that was lost or emptied, columns that `init` has added, or a version that computes a figure
/// better. Reads table `window_state` and neither Kafka nor files, so it also serves jobs whose records are gone. Whatever
/// measures the job may go on meanwhile: of two rows of one window the one of more records is the truth. Needs the
/// configuration that the job's rows were made with. Repeating it writes the same rows; what a newer version no longer
/// writes stays, so delete the job's rows of such a table first.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge rebuild -c fraud.toml --dry-run
  tidegauge rebuild -c fraud.toml
  tidegauge rebuild -c fraud.toml --since 30d --model 'fraud-*'
  tidegauge rebuild -c fraud.toml --job fraud.files-2b1c6ad1

Coarser windows are rebuilt whole: of a day of which --since meets a part, all records count. Memory holds the states of \
one model in one window of the longest grain.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    select: SelectArgs,
    /// Count the rows and write none
    #[arg(long)]
    dry_run: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut settings = args.config.load()?;
    if let Some(job) = &args.select.job {
        settings.job.clone_from(job);
    }
    let filter = args.select.filter("", None, 1)?;
    if filter.version.is_some() {
        let message = "all versions of a model are rebuilt together: leave `--version` out";
        return Err(Failure::new("usage", message.to_owned()));
    }
    let (done, spans) = runtime()?.block_on(rebuild(settings, &filter, args.dry_run))?;
    let Rebuilt { keys, rows, left } = done;
    let what = if args.dry_run { "would be written" } else { "written" };
    terminal::print(&format!(
        "{rows} rows of {keys} windows by model, version and segment {what}\n"
    ));
    if spans == 0 {
        terminal::note("the job has no states in that time\n");
    }
    if left > 0 {
        terminal::note(&format!(
            "{left} windows that begin in a month before that of the first states were left as they are: states of \
             theirs may have been dropped\n"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What was rebuilt, and how many spans that took.
async fn rebuild(
    settings: Settings,
    filter: &RowFilter,
    is_dry: bool,
) -> Result<(Rebuilt, usize), Failure> {
    let mut clickhouse = ClickHouse::new(settings.clickhouse());
    clickhouse.check_tables().await?;
    let Some(bound) = clickhouse.bound().await? else {
        let (job, jobs) = (&settings.job, clickhouse.jobs().await?);
        let hint = instead(&jobs, "--job");
        let message = format!("job {job} has written nothing that could be rebuilt{hint}");
        return Err(Failure::new("usage", message));
    };
    let mut settings = as_bound(settings, &bound)?;
    settings.shard.generation = clickhouse.bind(&bound).await?;
    let rebuild = RebuildSettings {
        shard: Arc::new(settings.shard),
        job: settings.job,
        partitions: bound.partitions,
        grains: settings.grains,
    };
    let time = |ms: Option<i64>, open| ms.map_or(open, EventTime);
    let wanted = Window {
        start: time(filter.since_ms, Window::ALL.start),
        end: time(filter.until_ms, Window::ALL.end),
    };
    let starts = clickhouse.window_starts().await?;
    let spans = rebuild.spans(&starts, wanted);
    let first = starts.first().copied().unwrap_or(Window::ALL.start);
    let bar = terminal::bar(u64::try_from(spans.len()).unwrap_or(u64::MAX), "{len} spans of time");
    let is_meant = |model: &str| filter.model.is_empty() || fits(&filter.model, model);
    let mut done = Rebuilt::default();
    for &span in &spans {
        let mut pauses = Pauses::default();
        done.add(loop {
            match rebuild.rebuild(&mut clickhouse, (span, first), is_meant, is_dry).await {
                Ok(more) => break more,
                Err(error) => pauses.next(error).await?,
            }
        });
        bar.inc(1);
        bar.set_message(format!("{} rows", done.rows));
    }
    bar.finish_and_clear();
    Ok((done, spans.len()))
}

/// How long one span is tried again, and the pauses between.
struct Pauses {
    next: Duration,
    left: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: Duration::from_millis(50), left: file_job::PATIENCE }
    }
}

impl Pauses {
    /// Waits before the next attempt, twice as long each time; the failure where none can help, or none has.
    async fn next(&mut self, error: PipelineError) -> Result<(), Failure> {
        let passes = matches!(&error, PipelineError::Sink(of) if of.class() == FailureClass::Retry);
        let mut failure = Failure::from(error);
        if !passes {
            return Err(failure);
        }
        if self.left.is_zero() {
            failure.message += "; start it again: it begins anew, and writes the same rows";
            return Err(failure);
        }
        tracing::warn!(code = failure.code, reason = failure.message, "tried again");
        let pause = self.next.min(self.left);
        tokio::time::sleep(pause).await;
        (self.next, self.left) =
            (pause.saturating_mul(2).min(LONGEST_PAUSE), self.left.saturating_sub(pause));
        Ok(())
    }
}

/// The settings as the job went by them: files, and topics of which a part is read, are read otherwise than by `run`.
/// Refused where none of these is what the job is bound to.
fn as_bound(settings: Settings, bound: &JobBinding) -> Result<Settings, Failure> {
    let job = settings.job.clone();
    let has_labels = bound.labels.is_some();
    let mut settings = if bound.is_of_files() {
        of_files(settings, has_labels)
    } else if is_between_times(&bound.inferences.name) {
        let message = format!(
            "job {job} is of a range of the topics, whose coarser windows are not all whole: repeat its `backfill \
             --topics` under another `--job`"
        );
        return Err(Failure::new("job_other_topics", message));
    } else if has_labels {
        settings
    } else {
        without_labels(settings)
    };
    for clock_stamps in [settings.shard.clock_stamps, 1] {
        for progress in [Progress::Log, Progress::Event, Progress::End] {
            settings.shard.clock_stamps = clock_stamps;
            settings.shard.progress = progress;
            let is_bound = settings.digest() == bound.configuration;
            if is_bound && settings.shard.window == bound.window {
                return Ok(settings);
            }
        }
    }
    Err(BindError::OtherConfiguration { job }.into())
}
