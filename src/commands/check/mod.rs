//! `tidegauge check`: everything that the configuration names, before the first start.

mod finding;
mod records;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::runtime::Runtime;

use super::processor::{check_retention, of_dead_letters};
use super::{ConfigFile, Failure, runtime, terminal};
use crate::config::Settings;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, SchemaId};
use crate::engine::Progress;
use crate::engine::event::Stream;
use crate::sink::clickhouse::ClickHouse;
use crate::source::kafka::{self, Topics};
use crate::source::sample::{self, Newest};
use crate::telemetry::check_level;
use finding::{Finding, Level};
use records::{Looked, ahead, partitioning};

/// How long the newest records of a topic may take to come, and a schema.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks for a schema.
const PAUSE: Duration = Duration::from_millis(100);
/// Clocks of two machines that differ by more than this are worth a line.
const CLOCKS_DIFFER_MS: i64 = 60_000;

/// Look at everything that the configuration names, before the first start
///
/// One line for each finding, with its remedy: topics, partitions and retention; whether the newest records can be
/// used, and how late they came; whether labels lie in the partitions of their inferences; ClickHouse, its tables,
/// and the clocks. Nothing is written, and no consumer group is joined. Ends with 1 if there is a problem.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge check -c fraud.toml                   is all as `run` needs it?
  tidegauge check -c fraud.toml --samples 100000  look at more records
  tidegauge check -c fraud.toml --json            for a script")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Newest records to look at, of each topic
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    samples: u32,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = args.config.load()?;
    let runtime = runtime()?;
    let mut report = Report { as_json: args.json, found: Vec::new() };
    report.configuration(&args.config.config, &settings);
    if let Some(topics) = report.topics(&settings) {
        report.records(&settings, &topics, args.samples, &runtime);
    }
    report.clickhouse(&settings, &runtime);
    Ok(report.end())
}

/// The findings, printed as they come.
struct Report {
    as_json: bool,
    found: Vec<Finding>,
}

impl Report {
    fn add(&mut self, finding: Finding) {
        if !self.as_json {
            terminal::print(&finding.text());
        }
        self.found.push(finding);
    }

    fn end(self) -> ExitCode {
        let count = |level| self.found.iter().filter(|it| it.level == level).count();
        let (problems, notes) = (count(Level::Problem), count(Level::Note));
        if self.as_json {
            let all: Vec<_> = self.found.iter().map(Finding::json).collect();
            let answer = json!({ "problems": problems, "notes": notes, "findings": all });
            terminal::print(&format!("{answer}\n"));
        } else {
            let plural =
                |count: usize, one| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
            terminal::print(&format!(
                "{}, {}\n",
                plural(problems, "problem"),
                plural(notes, "note")
            ));
        }
        if problems == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// What `run` alone refuses of a configuration that can be read.
    fn configuration(&mut self, file: &str, settings: &Settings) {
        self.add(Finding::good("configuration", format!("{file}: job {}", settings.job)));
        if let Err(error) = settings.check_rules() {
            self.add(Finding::of(error));
        }
        if let Err(error) = check_level(&settings.logs.level) {
            self.add(Finding::of(error));
        }
    }

    /// The topics and how long they keep records; none where they can't be read.
    fn topics(&mut self, settings: &Settings) -> Option<Topics> {
        let of_job = settings.kafka(true);
        let topics = match kafka::inspect(&of_job) {
            Ok(topics) => topics,
            Err(error) => {
                self.add(Finding::of(error));
                return None;
            }
        };
        let of = |topic: &str, labels: Option<&str>| match labels {
            Some(labels) => format!("{topic} and {labels}"),
            None => format!("{topic}, no labels,"),
        };
        let labels = topics.labels.as_ref().map(|labels| &*labels.name);
        let what = of(&topics.inferences.name, labels);
        self.add(Finding::good(
            "topics",
            format!("{what} at {}, {} partitions each", settings.brokers, topics.partitions),
        ));
        match kafka::inspect(&settings.kafka_of_letters()) {
            Ok(_) => {
                let what = format!("topic {} takes dead letters", settings.dead_letters.topic);
                self.add(Finding::good("topics", what));
            }
            Err(error) => self.add(Finding::of(of_dead_letters(error))),
        }
        self.retention(settings, &topics);
        Some(topics)
    }

    fn retention(&mut self, settings: &Settings, topics: &Topics) {
        const ABOUT: &str = "retention";
        if let Err(error) = check_retention(settings, topics) {
            return self.add(Finding::of(error));
        }
        let named = [Some(&topics.inferences), topics.labels.as_ref()];
        let mut is_known = true;
        for (topic, retention) in named.into_iter().zip(&topics.retention) {
            let Some(topic) = topic else { continue };
            let what = match retention {
                None => "the brokers do not say how long it keeps records",
                Some(it) if it.bytes.is_some() => {
                    "retention.bytes is set, which says nothing about time"
                }
                Some(_) if settings.shard.progress != Progress::Log => {
                    "how long it must keep records does not follow from windows.progress = \"event\""
                }
                Some(_) => continue,
            };
            is_known = false;
            self.add(Finding::note(
                ABOUT,
                format!("topic {}: {what}", topic.name),
                "see that records stay as long as a restart may need them: README, In production",
            ));
        }
        if is_known {
            let what = "records stay as long as a restart may need them";
            self.add(Finding::good(ABOUT, what.to_owned()));
        }
    }

    /// What the newest records of both topics say.
    fn records(&mut self, settings: &Settings, topics: &Topics, samples: u32, runtime: &Runtime) {
        let schemas = match settings.schemas() {
            Ok(schemas) => schemas,
            Err(error) => return self.add(Finding::of(error)),
        };
        let asking = runtime.spawn(Arc::clone(&schemas).serve());
        let mut all = Vec::new();
        for decoder in settings.decoders().into_iter().flatten() {
            let topic = match decoder.stream {
                Stream::Inferences => &topics.inferences,
                Stream::Labels => topics.labels.as_ref().expect("decoders are of topics"),
            };
            let mut decode = match Decoder::new(&decoder, Arc::clone(&schemas)) {
                Ok(decode) => decode,
                Err(error) => {
                    self.add(Finding::of(error));
                    continue;
                }
            };
            let most = usize::try_from(samples).unwrap_or(usize::MAX);
            if terminal::is_error_terminal() {
                terminal::note(&format!(
                    "reading the newest records of topic {} ...\n",
                    topic.name
                ));
            }
            let kafka = settings.kafka(true);
            let read = sample::newest(&kafka, &topic.name, topics.partitions, most, PATIENCE);
            let newest = match read {
                Ok(newest) => newest,
                Err(error) => {
                    self.add(Finding::of(error));
                    continue;
                }
            };
            let looked = look(settings, topics, &mut decode, &schemas, (&topic.name, &newest));
            let tolerated = settings.dead_letters.limit;
            let found = looked.decoding(newest.missing.as_deref(), tolerated);
            for finding in found {
                self.add(finding);
            }
            if let Some((records, id)) = looked.waiting() {
                self.schemas_missing(&schemas, records, id);
            }
            if settings.shard.progress == Progress::Log
                && let Some(found) = looked.times(&settings.shard)
            {
                self.add(found);
            }
            let ahead_ms = ahead(looked.newest(), terminal::now_ms());
            if ahead_ms > CLOCKS_DIFFER_MS {
                self.add(Finding::note(
                    "clock",
                    format!(
                        "topic {}: the newest record is {ahead_ms} ms ahead of this machine",
                        topic.name
                    ),
                    "set the clocks of the machines right, or see who stamps the records so",
                ));
            }
            all.push(looked);
        }
        asking.abort();
        if let [inferences, labels] = &all[..] {
            self.add(partitioning(inferences, labels));
        }
    }

    fn schemas_missing(&mut self, schemas: &Schemas, records: usize, id: SchemaId) {
        let why = schemas.waiting().into_iter().find(|waiting| waiting.id == id);
        let why = why.map_or_else(String::new, |it| format!(": {}", it.reason));
        self.add(Finding::problem(
            "schema",
            format!("{records} records wait for schemas, the first for {}{why}", id.0),
            "see that `schema_registry.url` is right and answers".to_owned(),
        ));
    }

    /// The server, its tables and its clock.
    fn clickhouse(&mut self, settings: &Settings, runtime: &Runtime) {
        let clickhouse = ClickHouse::new(settings.clickhouse());
        let url = settings.clickhouse.url.rsplit('@').next().unwrap_or_default();
        match runtime.block_on(clickhouse.check_schema()) {
            Ok(()) => {
                let database = &settings.clickhouse.database;
                let what = format!("ClickHouse at {url}: the tables of {database} are current");
                self.add(Finding::good("tables", what));
            }
            Err(error) => return self.add(Finding::of(error)),
        }
        match runtime.block_on(clickhouse.now_ms()) {
            Ok(theirs) if (theirs - terminal::now_ms()).abs() > CLOCKS_DIFFER_MS => {
                let apart = (theirs - terminal::now_ms()).abs();
                self.add(Finding::note(
                    "clock",
                    format!("the clocks of ClickHouse and of this machine are {apart} ms apart"),
                    "set both clocks right: times that people see will not fit together",
                ));
            }
            Ok(_) => {}
            Err(error) => self.add(Finding::of(error)),
        }
    }
}

/// Decodes the records; again while schemas are still to come.
#[expect(clippy::disallowed_methods, reason = "a deadline")]
fn look(
    settings: &Settings,
    topics: &Topics,
    decoder: &mut Decoder,
    schemas: &Schemas,
    (topic, newest): (&str, &Newest),
) -> Looked {
    let give_up = terminal::start() + PATIENCE;
    loop {
        let looked = Looked::at(topic, topics.partitions, newest, decoder, &settings.shard);
        if looked.waiting().is_none() || std::time::Instant::now() >= give_up {
            return looked;
        }
        schemas.wait(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_level_that_run_refuses_is_a_problem() {
        let about = |level: &str| {
            let text = format!("logs.level = \"{level}\"\n[inferences]\ntopic = \"i\"\n");
            let settings = Settings::parse("t.toml", &text, &Environment::default()).unwrap();
            let mut report = Report { as_json: true, found: Vec::new() };
            report.configuration("t.toml", &settings);
            report.found.iter().map(|found| (found.about, found.level)).collect::<Vec<_>>()
        };
        let good = ("configuration", Level::Good);
        assert_eq!(about("info,librdkafka=debug"), [good]);
        assert_eq!(about("loud"), [good, ("log_level", Level::Problem)]);
    }
}
