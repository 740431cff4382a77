//! `tidegauge profile`: files of past inferences → a reference profile.

mod windows;
mod reading;
mod topics;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::file_job::Judge;
use super::inputs::{CellArgs, InputArgs, Inputs};
use super::output::{self, filled, partial};
use super::ranges::{self, TopicArgs};
use super::{ConfigFile, Failure, terminal};
use crate::config::Settings;
use crate::engine::metrics::expected::FEWEST_WINDOWS;
use crate::engine::metrics::reference::{CalibrationMap, FeatureKind};
use crate::engine::names::Names;
use crate::engine::window::Window;
use crate::profile::calibrate::Choice;
use crate::profile::{Built, write};
pub(super) use reading::Read;
use reading::Reading;

/// Categories of a feature that are listed by default.
const MAX_CATEGORIES: u16 = 100;
/// Fewer records make thresholds that chance passes.
const ADVISED: u64 = 1000;

/// Build a reference profile, which drift is measured against, from files or topics
///
/// Reads past inferences and, optionally, their labels, from files as `backfill` does or from the configured topics,
/// and writes what the values of each feature, of scores, predictions and labels look like into one JSON document.
/// With labels the document also has the calibrator of binary scores. Its id follows from its content; a document that
/// was changed is refused.
///
/// Where there are ten windows or more, it has the mean and the spread of each figure of quality and traffic over the
/// reference's own windows: the rows that `backfill` would write for the same files or range. Rules with `learned`
/// limits go by them. Between times these are whole windows. Of files, of offsets and where an end is left open, the
/// windows at the ends count too, since nothing says whether they are whole: in files of whole days in UTC they are, and
/// elsewhere such a part makes limits wider.
///
/// Topics are read without a consumer group, and one partition after the other; nothing is committed. Between times,
/// inferences count whose own times lie there, also those that came early or late; where `windows.progress` is "event",
/// Kafka's timestamps choose. The same records give the same document, wherever they come from, but for what is expected
/// of windows that --from or --to cuts. A range whose first offsets are gone from the topic is refused; where it begins
/// at a time, a line on standard error says that records may be gone.
///
/// Where more records of a kind than `dead_letters.limit` can't be used, five at least, or not one can, it ends with 1,
/// as `backfill` does, and writes nothing.
///
/// An inference that stands there twice counts twice, but for its windows. Inferences take about 100 bytes of
/// memory each for the windows, which are left out where that is more than `state.budget`; labels take 60 bytes more.
#[derive(Debug, clap::Args)]
#[command(group = ranges::source(), after_long_help = "\
Examples:
  tidegauge profile -c fraud.toml --name fraud-2026-01 \\
      --inferences 'january/*.parquet' --labels labels.csv
  tidegauge profile -c fraud.toml --name january --topics \\
      --from 2026-01-01 --to 2026-02-01
  tidegauge profile -c fraud.toml --name eu --model fraud-eu \\
      --inferences a.jsonl --output eu.json --json

Exit codes: 0 done, 1 failed, 2 usage or configuration.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Files of inferences: paths and patterns (`*`, `?`, `**`), .jsonl, .csv, .tsv or .parquet
    #[arg(long, value_name = "FILES", num_args = 1..)]
    inferences: Vec<String>,
    /// Files of labels; without them the profile has no calibrator
    #[arg(long, value_name = "FILES", num_args = 1..)]
    labels: Vec<String>,
    #[command(flatten)]
    cells: CellArgs,
    #[command(flatten)]
    topic: TopicArgs,
    #[command(flatten)]
    wanted: Wanted,
    /// Where the document goes; by default NAME.json
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Of which records, and what it is like.
#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
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
    #[arg(long, value_name = "N", default_value_t = MAX_CATEGORIES, value_parser = clap::value_parser!(u16).range(1..=1000))]
    max_categories: u16,
    /// What makes probabilities of scores: isotonic where that is better on records that it was not fitted on
    #[arg(long, value_enum, default_value_t = Calibration::Auto)]
    calibrator: Calibration,
}

impl Wanted {
    /// With this name, of this model, or of the only one; all else as it is by default.
    pub(super) fn new(name: &str, model: Option<String>) -> Self {
        Self {
            name: name.to_owned(),
            model,
            version: None,
            generation: 1,
            max_categories: MAX_CATEGORIES,
            calibrator: Calibration::Auto,
        }
    }
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Calibration {
    Auto,
    Identity,
    Isotonic,
}

impl Calibration {
    fn choice(self) -> Choice {
        match self {
            Self::Auto => Choice::Auto,
            Self::Identity => Choice::Identity,
            Self::Isotonic => Choice::Isotonic,
        }
    }
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
    let settings = args.config.load()?;
    let output =
        args.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.json", args.wanted.name)));
    // Before the work, not after it.
    if output.exists() {
        return Err(exists(&output));
    }
    output::can_be_made(&output).map_err(|error| not_written(&output, &error))?;
    let read = if args.topic.topics { topics::read(args, settings) } else { files(args, settings) };
    let read = read?;
    create(&output, &write(&read.built.profile), |partial, output| {
        std::fs::hard_link(partial, output)
    })?;
    let summary = if args.json { summary_object } else { summary };
    terminal::print(&summary(&read, &output));
    Ok(ExitCode::SUCCESS)
}

fn files(args: &Args, settings: Settings) -> Result<Read, Failure> {
    let files = InputArgs {
        inferences: args.inferences.clone(),
        labels: args.labels.clone(),
        cells: args.cells.clone(),
    };
    of_files(&args.wanted, settings, &files)
}

/// Reads the files, labels first: each inference then finds its own.
pub(super) fn of_files(
    wanted: &Wanted,
    settings: Settings,
    files: &InputArgs,
) -> Result<Read, Failure> {
    let inputs = Inputs::find(settings, files)?;
    let judge = Judge::of_files(&inputs.settings);
    // Files do not say from when to when they have all.
    let mut reading = Reading::new(wanted, &inputs.settings, "files", judge, Window::ALL);
    let mut names = Names::default();
    for feed in inputs.feeds.iter().rev() {
        let counts =
            inputs.decode(feed, &mut names, |_, event, names| reading.event(event, names))?;
        reading.count(feed.stream, counts)?;
    }
    reading.finish(&names)
}

fn exists(output: &Path) -> Failure {
    let message = format!("{} exists already", output.display());
    Failure::new("profile_exists", message)
}

fn not_written(output: &Path, error: &io::Error) -> Failure {
    let message = format!("can't write {}: {error}", output.display());
    Failure::new("profile_not_written", message)
}

/// Writes the whole document, or no file of that name. `link` gives a file a second name and fails where that is taken,
/// which a renaming would not.
fn create(
    output: &Path,
    text: &str,
    link: impl Fn(&Path, &Path) -> io::Result<()>,
) -> Result<(), Failure> {
    let failed = |error: io::Error| not_written(output, &error);
    let (partial, file) = partial(output).map_err(failed)?;
    if let Err(error) = filled(file, text.as_bytes()) {
        drop(std::fs::remove_file(&partial));
        return Err(failed(error));
    }
    let linked = link(&partial, output).or_else(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => Err(error),
        // Not every file system has links.
        _ => copied(output, text),
    });
    let Err(error) = linked else {
        drop(std::fs::remove_file(&partial));
        return Ok(());
    };
    let taken = error.kind() == io::ErrorKind::AlreadyExists;
    let mut failure = if taken { exists(output) } else { failed(error) };
    failure.message = format!("{}; the document is in {}", failure.message, partial.display());
    Err(failure)
}

/// Writes the text to a new file, or leaves none.
fn copied(output: &Path, text: &str) -> io::Result<()> {
    filled(File::create_new(output)?, text.as_bytes())
        .inspect_err(|_| drop(std::fs::remove_file(output)))
}

fn map_name(map: &CalibrationMap) -> &'static str {
    match map {
        CalibrationMap::Identity => "identity",
        CalibrationMap::Isotonic { .. } => "isotonic",
    }
}

/// One JSON object.
fn summary_object(read: &Read, output: &Path) -> String {
    let Read { built, labelled, rejected, windows } = read;
    let Built { profile, records, without_values, rounded } = built;
    let windows: Option<BTreeMap<_, _>> = windows.as_ref().map(|all| all.iter().cloned().collect());
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
        "windows": windows, "expected": profile.expected.len(),
    });
    format!("{object}\n")
}

/// Lines for people.
fn summary(read: &Read, output: &Path) -> String {
    let Read { built, labelled, rejected, windows } = read;
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
    lines.push(expected(windows.as_deref(), profile.expected.len()));
    if *rejected > 0 {
        lines.push(format!("{rejected} records can't be used"));
    }
    if *records < ADVISED {
        lines.push(format!("fewer than {ADVISED} inferences: verdicts on drift will be unsure"));
    }
    lines.join("\n") + "\n"
}

/// What learned limits can be made of, and why of nothing more.
fn expected(windows: Option<&[(String, usize)]>, figures: usize) -> String {
    let Some(windows) = windows else {
        let remedy = "raise it, or take fewer records";
        return format!("no learned limits: the windows need more than state.budget; {remedy}");
    };
    let fewest = usize::try_from(FEWEST_WINDOWS).expect("it is small");
    let of = |is_enough: bool| -> Vec<String> {
        let chosen = windows.iter().filter(|(_, count)| (*count >= fewest) == is_enough);
        chosen.map(|(grain, count)| format!("{count} of {grain}")).collect()
    };
    let (enough, too_few) = (of(true).join(", "), of(false).join(", "));
    let mut line = match figures {
        0 => "no learned limits".to_owned(),
        figures => format!("learned limits: {figures} figures, over windows: {enough}"),
    };
    if !too_few.is_empty() {
        let more = format!("; fewer than {fewest} windows say nothing: {too_few}");
        line.push_str(&more);
    }
    line
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// The names in a folder, and what each file holds.
    fn files(folder: &TempDir) -> Vec<(String, String)> {
        let entries = fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
        let read = |entry: fs::DirEntry| (name(&entry), fs::read_to_string(entry.path()).unwrap());
        let mut files: Vec<_> = entries.map(read).collect();
        files.sort();
        files
    }

    fn hard_link(partial: &Path, output: &Path) -> io::Result<()> {
        fs::hard_link(partial, output)
    }

    fn no_links(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
    }

    #[test]
    fn a_document_is_written_with_links_and_without_and_touches_no_other_file() {
        for link in [hard_link, no_links] {
            let folder = TempDir::new().unwrap();
            for name in ["a.partial", "a.json.1.partial"] {
                fs::write(folder.path().join(name), "mine").unwrap();
            }
            for output in ["a.json", "b.partial"] {
                create(&folder.path().join(output), "{}", link).unwrap();
            }
            let mine = [("a.json.1.partial", "mine"), ("a.partial", "mine")];
            assert_eq!(
                files(&folder),
                owned(&[("a.json", "{}"), mine[0], mine[1], ("b.partial", "{}")])
            );
        }
    }

    #[test]
    fn a_document_that_can_not_have_its_name_is_kept_under_another() {
        for link in [hard_link, no_links] {
            let folder = TempDir::new().unwrap();
            let output = folder.path().join("a.json");
            fs::write(&output, "mine").unwrap();
            let failure = create(&output, "{}", link).unwrap_err();
            assert_eq!(failure.code, "profile_exists");
            assert!(failure.message.ends_with("a.json.1.partial"), "{}", failure.message);
            assert_eq!(files(&folder), owned(&[("a.json", "mine"), ("a.json.1.partial", "{}")]));
        }
    }
}
