//! `tidegauge backfill`: the same rows from files, or from a range of the topics.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::file_job::{self, DryRun, Filled, Judge};
use super::guard::{Guarded, Refusal};
use super::inputs::{InputArgs, Inputs};
use super::processor;
use super::ranges::{self, TopicArgs};
use super::terminal::Starting;
use super::watch::{self, WatchArgs};
use super::{ConfigFile, Failure, runtime, terminal, topic_job};
use crate::config;
use crate::engine::names::Names;
use crate::pipeline::{DeadLetterLimit, PipelineSettings};
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::{BindError, JobBinding};
use crate::sink::rejected::{Rejected, RejectedFile};
use crate::source::feed::{Feed, FeedProgress};
use crate::source::range::Bound;
use crate::telemetry::{Telemetry, set_up_log};

/// What is said at the end.
const END: &str = "all rows are written and sealed";

/// Measure files or a range of the topics: the same rows in ClickHouse as `run` writes
///
/// Reads files of inferences and, optionally, of labels, joins them by request ID and writes the rows that streaming
/// gives for the same records. Files hold all that there is: nothing is late, and all windows are sealed at the end.
/// The rows stand under a job name of their own, so it is safe while `run` is live. Started again with the same files
/// it goes on, and ends with the same rows.
///
/// With --topics it reads a bounded range of the configured topics: inferences from --from to --to, labels from
/// `windows.lateness` before a time in --from (else their first one) to --labels-to, else as long as one may match
/// an inference before a time in --to. Between times, rows are written of
/// the windows of each grain that lie wholly between them, as the stream gives them: inferences are read from
/// `windows.lateness` before to as long after, and what falls into other windows is only counted. Offsets are taken
/// as they are, and so are times where `windows.progress` is "event": all windows of the records get rows. Lateness is
/// judged and windows are sealed as in the stream that gave these records: a window whose end both ranges have not
/// passed by `windows.label_wait` and twice `windows.lateness` stays unsealed. No group is joined and no offset
/// committed. Without ends it goes to the ends that the topics have then: started again, it reads on.
///
/// A row of a file is what a record of the topic is. Flat columns are fields; dotted columns are entries of maps:
/// features.amount, segments.region, scores.cat. `inferences.fields` and `labels.fields` of the configuration say
/// where a field lies otherwise. Times are milliseconds since 1970-01-01 UTC, RFC 3339 text, or a time type of Parquet.
#[derive(Debug, clap::Args)]
#[command(group = ranges::source(), after_long_help = "\
Examples:
  tidegauge backfill -c fraud.toml --inferences 'history/*.parquet' \\
      --labels labels.csv
  tidegauge backfill -c fraud.toml --inferences a.jsonl --labels b.jsonl \\
      --dry-run --rejected bad.jsonl
  tidegauge backfill -c fraud.toml --inferences day.parquet \\
      --job fraud-nightly-2026-11-27 --json
  tidegauge backfill -c fraud.toml --watch /mnt/scored \\
      --inferences 'scored-*.parquet' --labels 'labels-*.csv'
  tidegauge backfill -c fraud.toml --topics --from 2026-01-01 \\
      --to 2026-02-01 --labels-to 2026-03-01
  tidegauge backfill -c fraud.toml --topics --from offset:1000 \\
      --to offset:50000 --job fraud-again

With --watch a file counts as whole when two looks, --every apart, find it with the same size and time of change. \
Whoever pauses for longer writes it under a name that begins with . or _ or ends in .tmp or .part, and renames it \
then. Each file is read through first: one that is broken gives nothing, is told with its reason, and is tried again \
when it changes. A line of JSON says which files are done. What was taken is remembered in ClickHouse (table `files`), \
under the job's name. Files stay where they are: a start reads those again that are not sealed, which are all, unless \
`windows.progress` is \"event\": then windows seal as event time passes, and records can be late. SIGTERM ends it cleanly.

Where more records of a kind than `dead_letters.limit` can't be used, five at least, or not one can, it ends with 1 \
once all are read. --dry-run says so before a row is written; with --watch such a file is not taken.

The first SIGTERM or Ctrl-C writes what is there and ends it; a second one ends it at once, and so does the first one \
while it still connects or hashes files. A start with the same arguments goes on from there.

From cron, a systemd timer or a Kubernetes CronJob: the exit code says whether all rows are written, --json what was \
done. Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused, 130 interrupted (start it again).")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    inputs: InputArgs,
    #[command(flatten)]
    topic: TopicArgs,
    /// The first labels that are no longer read, as --to says it (a day is its start in UTC); by default those that may
    /// match an inference before a time in --to, else all
    #[arg(long, value_name = "WHERE", conflicts_with_all = ranges::FILES, conflicts_with = "without_labels", value_parser = ranges::bound)]
    labels_to: Option<Bound>,
    /// Owner of the rows; by default the configured job with a digest of what is read and the settings
    #[arg(long, value_name = "NAME", value_parser = config::job_name)]
    job: Option<String>,
    /// Add records that can't be used, each with its place and reason, to this file (JSON Lines); in a dry run too
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// Evaluate the rules of the configuration (`alerts`) over the rows, and tell its targets (`notify`)
    #[arg(long, conflicts_with = "dry_run")]
    alerts: bool,
    /// Only read and check the records
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    watch: WatchArgs,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = args.config.load()?;
    if let Some(folder) = &args.watch.watch {
        set_up_log(settings.logs.format, &settings.logs.level)?;
        let named = watch::Named {
            job: args.job.clone(),
            rejected: args.rejected.clone(),
            alerts: args.alerts,
        };
        return watch::run(settings, folder, &args.inputs, &args.watch, &named);
    }
    // Lines of a log would break the bar.
    let has_bar = terminal::is_error_terminal();
    let level = if has_bar { "warn" } else { &settings.logs.level };
    set_up_log(settings.logs.format, level)?;
    let runtime = runtime()?;
    let starting = Starting::catch(&runtime)?;
    if args.topic.topics {
        let asked = topic_job::Asked {
            topic: &args.topic,
            labels_to: args.labels_to,
            job: args.job.as_deref(),
            rejected: args.rejected.as_deref(),
            alerts: args.alerts,
            as_json: args.json,
        };
        return asked.run(settings, args.dry_run, has_bar, (runtime, starting));
    }
    let inputs = Inputs::find(settings, &args.inputs)?;
    let judge = Judge::of_files(&inputs.settings);
    if args.dry_run {
        return dry_run(&inputs, DryRun::new(judge, args.json), args.rejected.as_deref());
    }
    let bytes = inputs.bytes();
    let of = |digests: Vec<String>| FileJob::new(&inputs, &digests, args.job.as_ref());
    let former = of(inputs.former_digests()?);
    // Asked first: what is wrong with ClickHouse shows before all files are read.
    let has_begun = runtime.block_on(former.has_begun()).map_err(|failure| match &args.job {
        Some(job) => file_job::failed(job, failure),
        None => failure,
    })?;
    let chosen = if has_begun {
        former
    } else {
        tracing::info!(bytes, "hashing the files");
        of(inputs.digests()?)
    };
    let job = chosen.name().to_owned();
    tracing::info!(%job, bytes, "starting");
    let label_wait = inputs.settings.shard.limits.label_wait;
    let filled = runtime.block_on(fill(chosen, args, has_bar, starting));
    runtime.shutdown_background();
    let filled = filled.map_err(|failure| file_job::failed(&job, failure))?;
    terminal::print(&file_job::summary(&job, Some(bytes), &filled, END, args.json));
    filled.note_oddities(label_wait, false);
    judge.of_job(&job, &filled)?;
    filled.exit().map_err(|failure| file_job::failed(&job, failure))
}

/// Files, with the name of their job in the settings, and what it is bound to.
struct FileJob {
    inputs: Inputs,
    binding: JobBinding,
}

impl FileJob {
    /// The job of the files of these digests, which by default are in its name too.
    fn new(inputs: &Inputs, digests: &[String], name: Option<&String>) -> Self {
        let binding = inputs.binding(digests);
        let mut inputs = inputs.clone();
        inputs.settings.job = name.cloned().unwrap_or_else(|| inputs.default_job(digests));
        Self { inputs, binding }
    }

    fn name(&self) -> &str {
        &self.inputs.settings.job
    }

    /// Whether a job of this name was begun over files of these digests, by an earlier version that is: says so.
    async fn has_begun(&self) -> Result<bool, Failure> {
        let clickhouse = ClickHouse::new(self.inputs.settings.clickhouse());
        let bound = processor::bound_in_time(&clickhouse, &Telemetry::new()).await?;
        let Some(bound) = bound else { return Ok(false) };
        let job = self.name();
        match self.binding.compare(job, &bound) {
            Ok(()) => {
                tracing::warn!(
                    %job,
                    "an earlier version began this job, and knew files by name, size and both ends: a change between \
                     them does not show. Where there is one, give the run another name (--job)"
                );
                Ok(true)
            }
            // Refused for that, and not for other files. One that has counted nothing takes the new digests.
            Err(BindError::OtherConfiguration { .. }) => {
                Ok(clickhouse.unused(&self.binding).await?.is_none())
            }
            Err(_) => Ok(false),
        }
    }
}

async fn fill(
    chosen: FileJob,
    args: &Args,
    has_bar: bool,
    starting: Starting,
) -> Result<Filled, Failure> {
    let FileJob { inputs, binding } = chosen;
    let Inputs { mut settings, feeds, .. } = inputs.clone();
    let telemetry = Telemetry::new();
    let clickhouse = ClickHouse::new(settings.clickhouse());
    file_job::bind(&clickhouse, &mut settings, &binding, &telemetry).await?;
    let progress = FeedProgress::default();
    let letters = Rejected::new(progress.clone(), args.rejected.as_deref())?;
    let refusal = Refusal::default();
    let alerting = file_job::alerting(&settings, args.alerts, 1, &clickhouse, &telemetry)?;
    let generation = settings.shard.generation;
    let sink = Guarded::of_files(clickhouse.clone(), binding, generation, refusal.clone());
    // All records are known at the end: they are judged there.
    let dead_letter_limit = DeadLetterLimit::NONE;
    let pipeline_settings = PipelineSettings { dead_letter_limit, ..settings.pipeline(1)? };
    let source = Feed::new(feeds, progress.clone());
    let shown = file_job::show(inputs.bytes(), "{total_bytes}", has_bar, || {
        (progress.bytes(), progress.records())
    });
    let sources = vec![source];
    let (to, told) = ((sink, &refusal), (telemetry, alerting));
    let filled =
        file_job::run(pipeline_settings, sources, to, letters, told, shown, starting).await?;
    Ok(filled.with_unlabelled(progress.left_out()).dated(&clickhouse).await)
}

/// Reads and decodes all files, and writes nothing but the records that can't be used.
fn dry_run(
    inputs: &Inputs,
    mut found: DryRun,
    rejected: Option<&Path>,
) -> Result<ExitCode, Failure> {
    let mut kept = RejectedFile::open(rejected)?;
    for feed in &inputs.feeds {
        let counts =
            inputs.decode_and_keep(feed, &mut Names::default(), &mut kept, |_, _, _| Ok(()));
        // Those before a fault too.
        kept.write()?;
        let files = feed.files.files().len();
        let from = format!("{files} file{}", if files == 1 { "" } else { "s" });
        found.tell(feed.stream, &from, Some(files), counts?);
    }
    found.end()
}
