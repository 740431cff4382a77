//! A job over a bounded range of the topics: `run`'s sources and pipeline, without a group and beside any live job.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::Runtime;

use super::file_job::{self, DryRun, Filled, Judge};
use super::guard::{Guarded, Refusal};
use super::inputs::default_job;
use super::ranges::{self, TopicArgs};
use super::terminal::Starting;
use super::{Failure, terminal};
use crate::config::Settings;
use crate::decode::DecoderSettings;
use crate::engine::Progress;
use crate::engine::event::Stream;
use crate::engine::names::Names;
use crate::engine::time::{EventTime, RecordTime};
use crate::engine::window::Window;
use crate::evaluate::grain_name;
use crate::pipeline::PipelineSettings;
use crate::sink::Sink as _;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::job::JobBinding;
use crate::sink::rejected::{Rejected, RejectedFile};
use crate::source::kafka::{self, KafkaSettings, Topics};
use crate::source::range::{Bound, Counted, TopicRange};
use crate::telemetry::Telemetry;

/// What is said at the end.
const END: &str = "all rows are written; windows that later labels may change are not sealed";
/// What is said where records were read, and none of them lies in a window that has rows.
const NO_WINDOW: &str = "no inference lies in a window that lies wholly within the range, so no row of metrics is \
                         written: begin earlier, or end later";
/// How long the end waits for what is only told.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// What the command line says.
pub(super) struct Asked<'a> {
    pub(super) topic: &'a TopicArgs,
    pub(super) labels_to: Option<Bound>,
    pub(super) job: Option<&'a str>,
    pub(super) rejected: Option<&'a Path>,
    pub(super) alerts: bool,
    pub(super) as_json: bool,
}

/// The topics, what is read of each, and within what the windows lie that get rows.
struct Found {
    of_job: KafkaSettings,
    topics: Topics,
    parts: Vec<(DecoderSettings, TopicRange)>,
    span: Window,
}

impl Asked<'_> {
    pub(super) fn run(
        &self,
        settings: Settings,
        is_dry: bool,
        has_bar: bool,
        (runtime, starting): (Runtime, Starting),
    ) -> Result<ExitCode, Failure> {
        let mut settings = self.topic.apply(settings);
        let found = self.find(&settings)?;
        let judge = Judge::of_topics(&settings);
        if is_dry {
            return self.dry_run(&settings, &found, DryRun::new(judge, self.as_json), &runtime);
        }
        if found.topics.append_time && settings.shard.progress == Progress::Log {
            // As in `run`.
            settings.shard.clock_stamps = 1;
        }
        let binding = self.binding(&settings, &found.topics);
        let what = format!("{} {:?}", binding.inferences.name, binding.labels);
        let name = self.job.map(str::to_owned);
        settings.job = name.unwrap_or_else(|| default_job(&settings, "topics", &what));
        let job = settings.job.clone();
        tracing::info!(%job, offsets = found.offsets(), "starting");
        let label_wait = settings.shard.limits.label_wait;
        let filled = runtime.block_on(self.fill(settings, found, binding, has_bar, starting));
        runtime.shutdown_background();
        let filled = filled.map_err(|failure| file_job::failed(&job, failure))?;
        terminal::print(&file_job::summary(&job, None, &filled, END, self.as_json));
        let is_part = self.topic.from.is_some() || self.topic.to.is_some();
        filled.note_oddities(label_wait, is_part);
        judge.of_job(&job, &filled)?;
        filled.exit().map_err(|failure| file_job::failed(&job, failure))
    }

    /// Refuses what no record can make right; gives within what the windows lie that get rows.
    fn check(&self, settings: &Settings) -> Result<Window, Failure> {
        let usage = |message: String| Err(Failure::new("usage", message));
        if self.labels_to.is_some() && settings.labels.is_none() {
            return usage(
                "`--labels-to` says where labels end, and the configuration names no topic of them: add `[labels]`, or \
                 leave the option out"
                    .to_owned(),
            );
        }
        let labels_from = ranges::labels_from(settings, self.topic);
        if let (Some(from), Some(to)) = (labels_from, ranges::time(self.labels_to))
            && to <= from
        {
            let (from, to) = (Bound::Time(from), Bound::Time(to));
            return usage(format!(
                "labels are read from {from}, `windows.lateness` before `--from`, and `--labels-to` {to} is not after \
                 that: give a later one, or none to read all that may match"
            ));
        }
        let span = ranges::span(settings, self.topic);
        let size = settings.shard.window;
        if span.holds_whole(size) {
            return Ok(span);
        }
        let typed = |EventTime(ms)| Bound::Time(RecordTime(ms)).to_string();
        let ends = |of: Window| format!("`--from {} --to {}`", typed(of.start), typed(of.end));
        let given = ends(span);
        let message = if span.start < span.end {
            let (name, whole) = (grain_name(size), ends(Window::of(span.start, size)));
            format!(
                "no window of {name} lies wholly within {given}, and only such have all their records: give {whole}, \
                 or more"
            )
        } else {
            format!("nothing lies between the ends of {given}: `--to` is to be the later one")
        };
        Err(Failure::new("range_empty", message))
    }

    fn find(&self, settings: &Settings) -> Result<Found, Failure> {
        let span = self.check(settings)?;
        // The group of the configured job: it is not joined, but brokers may have granted that one only.
        let of_job = settings.kafka(true);
        let topics = kafka::inspect(&of_job)?;
        let labels_to = self.labels_to.or_else(|| ranges::labels_to(settings, self.topic));
        let parts = ranges::find(settings, &of_job, &topics, self.topic, labels_to)?;
        parts[0].1.check_some()?;
        note_lacking(settings, &parts, span);
        for (_, range) in &parts {
            for (partition, first) in range.perhaps_trimmed() {
                let (topic, partition, first) = (range.topic(), partition.0, first.0);
                tracing::warn!(
                    topic,
                    partition,
                    first,
                    "earlier records of the range may be gone from the topic"
                );
            }
        }
        Ok(Found { of_job, topics, parts, span })
    }

    /// The topics, and which range of them: under one name there is one.
    fn binding(&self, settings: &Settings, topics: &Topics) -> JobBinding {
        let said = |bound: Option<Bound>, open: &str| {
            bound.map_or_else(|| open.to_owned(), |bound| bound.to_string())
        };
        let mut binding = settings.binding(topics);
        let (from, to) = (said(self.topic.from, "first"), said(self.topic.to, "end"));
        let name = &mut binding.inferences.name;
        *name = format!("{name} from {from} to {to}");
        if let Some(labels) = &mut binding.labels {
            labels.name = format!("{} to {}", labels.name, said(self.labels_to, "end"));
        }
        binding
    }

    async fn fill(
        &self,
        mut settings: Settings,
        found: Found,
        binding: JobBinding,
        has_bar: bool,
        starting: Starting,
    ) -> Result<Filled, Failure> {
        let telemetry = Telemetry::new();
        let clickhouse = ClickHouse::new(settings.clickhouse());
        check_whole(clickhouse.clone(), &found).await?;
        file_job::bind(&clickhouse, &mut settings, &binding, &telemetry).await?;
        let labels = settings.labels.as_ref().map_or("", |labels| &labels.name);
        let letters = Rejected::of_topics([&settings.inferences.name, labels], self.rejected)?;
        let range = |stream: Stream| found.parts.get(stream.index()).map(|(_, range)| range);
        let ranges = Stream::BOTH.map(range);
        let opened = tokio::task::block_in_place(|| {
            kafka::open_ranges(&found.of_job, &found.topics, ranges)
        })?;
        let refusal = Refusal::default();
        let partitions = found.topics.partitions;
        let alerting =
            file_job::alerting(&settings, self.alerts, partitions, &clickhouse, &telemetry)?;
        let sink = Guarded::new(
            clickhouse.clone(),
            (opened.watch, opened.health),
            (binding, settings.shard.generation),
            refusal.clone(),
        );
        drop(opened.commits);
        let count = Arc::<AtomicU64>::default();
        let counted = |source| Counted::new(source, Arc::clone(&count));
        let sources: Vec<_> = opened.sources.into_iter().map(counted).collect();
        let rows_within = found.span;
        let pipeline_settings = PipelineSettings { rows_within, ..settings.pipeline(partitions)? };
        let shown = file_job::show(found.offsets(), "{len} records", has_bar, || {
            let records = count.load(Ordering::Relaxed);
            (records, records)
        });
        let (to, told) = ((sink, &refusal), (telemetry, alerting));
        let filled =
            file_job::run(pipeline_settings, sources, to, letters, told, shown, starting).await?;
        let filled = filled.dated(&clickhouse).await;
        let accepted = filled.totals.accounts[Stream::Inferences.index()].first;
        let may_lack = filled.is_complete && rows_within != Window::ALL && accepted > 0;
        if may_lack && !has_rows(clickhouse).await {
            terminal::note(&format!("{NO_WINDOW}\n"));
        }
        Ok(filled)
    }

    /// Reads and decodes the range, and writes nothing but the records that can't be used.
    fn dry_run(
        &self,
        settings: &Settings,
        found: &Found,
        mut told: DryRun,
        runtime: &Runtime,
    ) -> Result<ExitCode, Failure> {
        ranges::refuse_trimmed(&found.parts)?;
        let mut kept = RejectedFile::open(self.rejected)?;
        let schemas = settings.schemas()?;
        let asking = runtime.spawn(Arc::clone(&schemas).serve());
        for part in &found.parts {
            let (decoder, range) = part;
            let names = &mut Names::default();
            let counts = ranges::decode_and_keep(part, &schemas, names, &mut kept, |_, _| Ok(()));
            // Those before a fault too.
            kept.write()?;
            let from = format!("topic {}", range.topic());
            told.tell(decoder.stream, &from, None, counts?);
        }
        asking.abort();
        told.end()
    }
}

impl Found {
    fn offsets(&self) -> u64 {
        self.parts.iter().map(|(_, range)| range.len()).sum()
    }
}

/// Says of which grains there will be no row, and where no label is read.
fn note_lacking(settings: &Settings, parts: &[(DecoderSettings, TopicRange)], span: Window) {
    let lacking = settings.grains.iter().filter(|grain| !span.holds_whole(**grain));
    let lacking: Vec<String> = lacking.map(|grain| grain_name(*grain)).collect();
    if !lacking.is_empty() {
        terminal::note(&format!(
            "no window of {} lies wholly within the range: there will be no row of that length\n",
            lacking.join(" or ")
        ));
    }
    let labels = parts.get(Stream::Labels.index());
    if let Some(Err(empty)) = labels.map(|(_, range)| range.check_some()) {
        terminal::note(&format!("no label is read, and no window can be sealed: {empty}\n"));
    }
}

/// Whether the job has rows of a window; where that can't be asked, it is taken for granted.
async fn has_rows(mut clickhouse: ClickHouse) -> bool {
    let starts = tokio::time::timeout(ASKED_FOR, clickhouse.window_starts()).await;
    starts.ok().and_then(Result::ok).is_none_or(|starts| !starts.is_empty())
}

/// Refuses a range whose first records are gone, before the name is bound to it. Partitions that the job has marked
/// go on from there.
async fn check_whole(mut clickhouse: ClickHouse, found: &Found) -> Result<(), Failure> {
    let trimmed: Vec<_> = found.parts.iter().flat_map(|(_, range)| range.trimmed()).collect();
    if trimmed.is_empty() {
        return Ok(());
    }
    if found.span == Window::ALL {
        clickhouse.check_schema().await?;
    } else {
        clickhouse.check_schema_but_rows().await?;
    }
    let partitions: Vec<_> = trimmed.iter().map(|(partition, _)| *partition).collect();
    let marks = clickhouse.marks(&partitions).await?;
    let is_marked = |partition| marks.iter().any(|mark| mark.partition == partition);
    match trimmed.into_iter().find(|(partition, _)| !is_marked(*partition)) {
        Some((_, gone)) => Err(gone.into()),
        None => Ok(()),
    }
}
