//! `tidegauge rebuild`: the metric rows of a job once more, from its state rows.

use std::process::ExitCode;
use std::sync::Arc;

use super::inputs::{of_files, without_labels};
use super::query::instead;
use super::select::SelectArgs;
use super::{ConfigFile, Failure, runtime, terminal};
use crate::config::Settings;
use crate::engine::Progress;
use crate::engine::glob::fits;
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::pipeline::rebuild::{RebuildSettings, Rebuilt};
use crate::sink::Sink as _;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::{BindError, JobBinding};
use crate::sink::rows::RowFilter;

/// Write the metric rows of a job anew, from its states in ClickHouse
///
/// For a metric table that was lost or emptied, columns that `init` has added, or a version that computes a figure
/// better. Reads table `window_state` and neither Kafka nor files, so it also serves jobs whose records are gone. Whatever
/// measures the job may go on meanwhile: of two rows of one window the one of more records is the truth. Needs the
/// configuration that the job's rows were made with. Repeating it writes the same rows.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge rebuild -c fraud.toml --dry-run
  tidegauge rebuild -c fraud.toml
  tidegauge rebuild -c fraud.toml --since 30d --model 'fraud-*'
  tidegauge rebuild -c fraud.toml --job fraud.files-2b1c6ad1

Coarser windows are rebuilt whole: of a day of which --since meets a part, all records count.")]
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
    let Rebuilt { keys, rows } = done;
    let what = if args.dry_run { "would be written" } else { "written" };
    terminal::print(&format!(
        "{rows} rows of {keys} windows by model, version and segment {what}\n"
    ));
    if spans == 0 {
        terminal::note("the job has no states in that time\n");
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
    clickhouse.check_schema().await?;
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
    let spans = rebuild.spans(&clickhouse.window_starts().await?, wanted);
    let bar = terminal::bar(u64::try_from(spans.len()).unwrap_or(u64::MAX), "{len} spans of time");
    let is_meant = |model: &str| filter.model.is_empty() || fits(&filter.model, model);
    let mut done = Rebuilt::default();
    for &span in &spans {
        let more = rebuild.rebuild(&mut clickhouse, span, is_meant, is_dry).await.map_err(again)?;
        done.keys += more.keys;
        done.rows += more.rows;
        bar.inc(1);
        bar.set_message(format!("{} rows", done.rows));
    }
    bar.finish_and_clear();
    Ok((done, spans.len()))
}

/// Nothing is lost where it breaks off.
fn again(error: impl Into<Failure>) -> Failure {
    let mut failure = error.into();
    failure.message += "; start it again: it begins anew, and writes the same rows";
    failure
}

/// The settings as the job went by them: files, and topics of which a part is read, are read otherwise than by `run`.
/// Refused where none of these is what the job is bound to.
fn as_bound(settings: Settings, bound: &JobBinding) -> Result<Settings, Failure> {
    let job = settings.job.clone();
    let has_labels = bound.labels.is_some();
    let topic = &settings.inferences.name;
    let mut settings = if bound.is_of_files() {
        of_files(settings, has_labels)
    } else if bound.inferences.name.starts_with(&format!("{topic} from ")) {
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
