//! `tidegauge profile`: files of past inferences → a reference profile.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use indicatif::{ProgressBar, ProgressStyle};

use super::inputs::{InputArgs, Inputs};
use super::{ConfigFile, Failure, terminal};
use crate::decode::{Decoder, NotDecoded};
use crate::engine::event::{Event, FeatureValue, Inference, Label, RequestId, Target};
use crate::engine::metrics::reference::{CalibrationMap, FeatureKind};
use crate::engine::names::{ModelId, Names};
use crate::engine::settings::{ModelSettings, Positive, Task};
use crate::engine::time::EventTime;
use crate::profile::builder::{Built, Options, ProfileBuilder, Record, Targets};
use crate::profile::calibrate::Choice;
use crate::profile::target::{Predictions, value_of};
use crate::profile::write;
use crate::source::files::FileReader;

/// Records between two moves of the bar.
const BAR_STEP: u64 = 10_000;
/// Rejected records that are shown.
const SHOWN: u64 = 10;
/// Fewer records make thresholds that chance passes.
const ADVISED: u64 = 1000;

/// Build a reference profile, which drift is measured against, from files
///
/// Reads files of past inferences and, optionally, of their labels, as `backfill` does, and writes what the values of
/// each feature, of scores, predictions and labels look like into one JSON document. With labels the document also has
/// the calibrator of binary scores. Its id follows from its content; a document that was changed is refused.
///
/// Memory does not grow with the number of inferences; labels take about 60 bytes each. An inference that stands in the
/// files twice counts twice.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge profile -c fraud.toml --name fraud-2026-01 --inferences 'january/*.parquet' --labels labels.csv
  tidegauge profile -c fraud.toml --name eu --model fraud-eu --inferences a.jsonl --output eu.json --json

Exit codes: 0 done, 1 failed, 2 usage or configuration.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    inputs: InputArgs,
    /// First part of the profile's id: letters, digits, `.`, `_`, `-`
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    /// The model, where the files hold several
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// Only inferences of this version of the model
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Higher than those of the model's earlier profiles
    #[arg(long, value_name = "N", default_value_t = 1)]
    generation: u16,
    /// How many categories of a feature are listed; the rest is counted together
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_categories: u16,
    /// What makes probabilities of scores: isotonic where that is better on records that it was not fitted on
    #[arg(long, value_enum, default_value_t = Calibration::Auto)]
    calibrator: Calibration,
    /// Where the document goes; by default NAME.json
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Calibration {
    Auto,
    Identity,
    Isotonic,
}

fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=100).contains(&text.len()) && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 100 letters, digits, `.`, `_` or `-`".to_owned())
    }
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let inputs = Inputs::find(args.config.load()?, &args.inputs)?;
    let output =
        args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.json", args.name)));
    // Before the work, not after it.
    if output.exists() {
        return Err(exists(&output));
    }
    let mut reading = Reading::new(&inputs, args);
    // Labels first: each inference then finds its own.
    for index in (0..inputs.feeds.len()).rev() {
        reading.read(&inputs, index)?;
    }
    reading.bar.finish_and_clear();
    let (labelled, rejected) = (reading.labelled, reading.rejected);
    let nothing = || match &args.model {
        Some(model) => {
            let message = format!("the files have no inference of model `{model}` that is meant");
            Failure::new("profile_without_records", message)
        }
        None => Failure::new("profile_without_records", "the files have no inference".to_owned()),
    };
    let built = reading.builder.ok_or_else(nothing)?.finish()?;
    create(&output, &write(&built.profile))?;
    let summary = if args.json { summary_object } else { summary };
    terminal::print(&summary(&built, labelled, rejected, &output));
    Ok(ExitCode::SUCCESS)
}

fn exists(output: &Path) -> Failure {
    let message = format!("{} exists already", output.display());
    Failure::new("profile_exists", message)
}

/// Writes the whole document, or no file of that name.
fn create(output: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let message = format!("can't write {}: {error}", output.display());
        Failure::new("profile_not_written", message)
    };
    let partial = output.with_extension("partial");
    let mut file = std::fs::File::create(&partial).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    // A link fails where the name is taken, a renaming would not.
    let linked = std::fs::hard_link(&partial, output);
    drop(std::fs::remove_file(&partial));
    match linked {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(output)),
        linked => linked.map_err(failed),
    }
}

/// Whose label, and of which model if it names one.
type LabelKey = (RequestId, Option<ModelId>);

/// The files, read one stream after the other.
struct Reading<'a> {
    args: &'a Args,
    names: Names,
    /// The model that the profile is of, once one is found.
    model: Option<(ModelId, ModelSettings, Predictions)>,
    /// The winning label of each request, with its rank: time, then place in the files.
    labels: HashMap<LabelKey, ((EventTime, u64), Target), FixedState>,
    builder: Option<ProfileBuilder>,
    labelled: u64,
    rejected: u64,
    records: u64,
    bar: ProgressBar,
}

impl<'a> Reading<'a> {
    fn new(inputs: &Inputs, args: &'a Args) -> Self {
        let bar = ProgressBar::new(inputs.bytes());
        let style = "{bar:30} {percent:>3} % of {total_bytes}  {msg}  {elapsed} gone, {eta} left";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is right"));
        Self {
            args,
            names: Names::default(),
            model: None,
            labels: HashMap::with_hasher(FixedState::default()),
            builder: None,
            labelled: 0,
            rejected: 0,
            records: 0,
            bar,
        }
    }

    /// Reads all files of one stream.
    fn read(&mut self, inputs: &Inputs, index: usize) -> Result<(), Failure> {
        let feed = &inputs.feeds[index];
        let settings = inputs.settings.decoders()[feed.stream.index()].clone();
        let settings = settings.expect("files are found only of what is decoded");
        let mut decoder = Decoder::new(&settings, inputs.settings.schemas()?)?;
        let mut reader = FileReader::new(feed.files.clone(), feed.columns.clone());
        let bytes_before = if index == 0 { inputs.bytes() - feed.files.bytes() } else { 0 };
        while let Some(record) = reader.next_record()? {
            let offset = record.offset;
            match decoder.decode(Some(record.object), &mut self.names) {
                Ok(Event::Inference(inference)) => self.inference(inputs, &inference)?,
                Ok(Event::Label(label)) => self.label(&label),
                Err(NotDecoded::Waiting(_)) => unreachable!("JSON needs no schema"),
                Err(NotDecoded::Bad(reason)) => {
                    self.rejected += 1;
                    if self.rejected <= SHOWN {
                        let place = reader.place().expect("a record was read");
                        let (path, number) =
                            (place.path.display(), offset - place.first_offset + 1);
                        self.bar.suspend(|| {
                            terminal::note(&format!("{path}, record {number}: {reason}\n"));
                        });
                    }
                }
            }
            self.records += 1;
            if self.records.is_multiple_of(BAR_STEP) {
                self.bar.set_position(bytes_before + reader.bytes_read());
                self.bar.set_message(format!("{} records", self.records));
            }
        }
        Ok(())
    }

    /// Of several labels the one with the greatest time wins, of those the last.
    fn label(&mut self, label: &Label) {
        let rank = (label.time, self.records);
        let kept = self.labels.entry((label.id, label.model)).or_insert((rank, label.value));
        if rank > kept.0 {
            *kept = (rank, label.value);
        }
    }

    fn inference(&mut self, inputs: &Inputs, inference: &Inference<'_>) -> Result<(), Failure> {
        let model = self.names.text(inference.model.0);
        let is_other = |wanted: &Option<String>, found: &Arc<str>| {
            wanted.as_ref().is_some_and(|wanted| **wanted != **found)
        };
        let version = self.names.text(inference.version.0);
        if is_other(&self.args.model, model) || is_other(&self.args.version, version) {
            return Ok(());
        }
        match &self.model {
            None => {
                let settings = inputs.settings.shard.model(model);
                let predictions = Predictions::of(&settings);
                self.model = Some((inference.model, settings, predictions));
            }
            Some((known, ..)) if *known == inference.model => {}
            Some((known, ..)) => {
                let known = self.names.text(known.0);
                let message =
                    format!("the files hold models `{known}` and `{model}`, and maybe more");
                return Err(Failure::new("profile_several_models", message));
            }
        }
        self.add(inputs, inference)
    }

    fn add(&mut self, inputs: &Inputs, inference: &Inference<'_>) -> Result<(), Failure> {
        let (_, settings, predictions) = self.model.as_ref().expect("it was found above");
        let builder = match &mut self.builder {
            Some(builder) => builder,
            none => {
                let declared = inputs.settings.declared(self.names.text(inference.model.0));
                let options = Options { declared, ..options(self.args, settings, inference) };
                none.insert(ProfileBuilder::new(options)?)
            }
        };
        let general = self.labels.get(&(inference.id, None));
        let own = self.labels.get(&(inference.id, Some(inference.model)));
        let label = [general, own].into_iter().flatten().max_by_key(|(rank, _)| *rank);
        let label = label.map_or(Target::Absent, |(_, value)| *value);
        let is_labelled = label != Target::Absent;
        self.labelled += u64::from(is_labelled);
        let names = &self.names;
        let features: Vec<(&str, FeatureValue<'_>)> = inference
            .features
            .iter()
            .map(|feature| (&**names.text(feature.name.0), feature.value))
            .collect();
        let scores: Vec<(&str, f64)> = inference
            .scores
            .iter()
            .map(|(class, score)| (&**names.text(class.0), *score))
            .collect();
        builder.add(&Record {
            id: inference.id,
            features: &features,
            score: inference.score,
            scores: &scores,
            prediction: predictions.value(inference, names),
            label: value_of(label, names),
            positive: is_labelled.then(|| is_positive(label, settings, names)),
        })?;
        Ok(())
    }
}

/// The builder's options, without what is declared of features: predictions are numbers where the task or, without one,
/// the first inference says so.
fn options(args: &Args, settings: &ModelSettings, first: &Inference<'_>) -> Options {
    let is_number = matches!(first.prediction, Target::Number(_));
    let by_shape = first.score.is_none() && first.scores.is_empty() && is_number;
    let is_regression = settings.task.map_or(by_shape, |task| task == Task::Regression);
    Options {
        generation: args.generation,
        targets: if is_regression { Targets::Numbers } else { Targets::Classes },
        max_categories: usize::from(args.max_categories),
        calibration: match args.calibrator {
            Calibration::Auto => Choice::Auto,
            Calibration::Identity => Choice::Identity,
            Calibration::Isotonic => Choice::Isotonic,
        },
        ..Options::new(&args.name)
    }
}

fn is_positive(label: Target, settings: &ModelSettings, names: &Names) -> bool {
    settings.positive.iter().any(|positive| match (positive, label) {
        (Positive::Number(positive), Target::Number(label)) => positive.total_cmp(&label).is_eq(),
        (Positive::Boolean(positive), Target::Boolean(label)) => *positive == label,
        (Positive::Class(positive), Target::Class(label)) => **positive == **names.text(label.0),
        _ => false,
    })
}

fn map_name(map: &CalibrationMap) -> &'static str {
    match map {
        CalibrationMap::Identity => "identity",
        CalibrationMap::Isotonic { .. } => "isotonic",
    }
}

/// One JSON object.
fn summary_object(built: &Built, labelled: u64, rejected: u64, output: &Path) -> String {
    let Built { profile, records, without_values, rounded } = built;
    let calibrator = profile.calibrator.as_ref();
    let without_values: Vec<&str> = without_values.iter().map(|name| &**name).collect();
    let rounded: BTreeMap<&str, f64> =
        rounded.iter().map(|(name, error)| (&**name, *error)).collect();
    let object = serde_json::json!({
        "id": *profile.id, "file": output, "inferences": records, "labelled": labelled,
        "rejected": rejected, "features": profile.features.len(),
        "without_values": without_values, "rounded": rounded,
        "calibrator": calibrator.map(|it| map_name(&it.map)),
        "ece_identity": calibrator.map(|it| it.ece_identity),
        "ece_isotonic": calibrator.map(|it| it.ece_isotonic),
        "class_calibrators": profile
            .class_calibrators
            .iter()
            .map(|(class, it)| (class.to_string(), map_name(&it.map)))
            .collect::<BTreeMap<_, _>>(),
    });
    format!("{object}\n")
}

/// Lines for people.
fn summary(built: &Built, labelled: u64, rejected: u64, output: &Path) -> String {
    let Built { profile, records, without_values, rounded } = built;
    let mut kinds: BTreeMap<FeatureKind, usize> = BTreeMap::new();
    for feature in profile.features.values() {
        *kinds.entry(feature.kind()).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, n)| format!("{n} {}", kind.name())).collect();
    let (id, file) = (&profile.id, output.display());
    let mut lines = vec![
        format!("profile {id} of {records} inferences, {labelled} labelled, is in {file}"),
        format!(
            "features: {}",
            if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
        ),
    ];
    if let Some(calibrator) = &profile.calibrator {
        lines.push(format!(
            "calibrator: {}; calibration error {:.4} as the scores are, {:.4} isotonic",
            map_name(&calibrator.map),
            calibrator.ece_identity,
            calibrator.ece_isotonic
        ));
    }
    lines.extend(profile.class_calibrators.iter().map(|(class, it)| {
        let (map, plain, isotonic) = (map_name(&it.map), it.ece_identity, it.ece_isotonic);
        format!("class {class}: {map}; calibration error {plain:.4} as the scores are, {isotonic:.4} isotonic")
    }));
    if !without_values.is_empty() {
        lines.push(format!("left out, without values: {}", without_values.join(", ")));
    }
    lines.extend(rounded.iter().map(|(name, error)| {
        format!("{name} has many distinct numbers: edges are up to {error:.1e} of their size too high, counts exact")
    }));
    if rejected > 0 {
        lines.push(format!("{rejected} records can't be used"));
    }
    if *records < ADVISED {
        lines.push(format!("fewer than {ADVISED} inferences: verdicts on drift will be unsure"));
    }
    lines.join("\n") + "\n"
}
