//! Metric rows of files alone: the engine in memory, no service. For `report` and `query`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use super::folded::{Folded, accounts};
use super::inputs::{CellArgs, InputArgs, Inputs, listed};
use super::select::SelectArgs;
use super::{ConfigFile, Failure, profile, terminal};
use crate::calendar::instant;
use crate::config::values::duration;
use crate::config::{Environment, Settings};
use crate::engine::ModelSettings;
use crate::engine::metrics::reference::Profile;
use crate::engine::state::{ALL, StateRow};
use crate::engine::time::{EventTime, Millis};
use crate::engine::window::Window;
use crate::evaluate::{self, WHOLE};
use crate::report::{References, Row, odd_labels};
use crate::sink::rows::RowFilter;
use crate::source::files::FileList;

/// Names that are listed where there may be many.
const NAMES_SHOWN: usize = 5;
/// The configuration that is used where it lies in the working folder and no other is named.
const DEFAULT_CONFIG: &str = "tidegauge.toml";
/// The configuration of files that come without one: no label is too late, and hours, days and weeks fit most of them.
pub(super) const FILES_ONLY: &str = "\
job = \"report\"
[inferences]
topic = \"inferences\"
[labels]
topic = \"labels\"
[windows]
size = \"1h\"
grains = [\"1d\", \"7d\"]
lateness = \"1d\"
label_wait = \"3650d\"
";

/// Which files, and what they are compared with.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct FileArgs {
    /// Files of inferences, in place of stored rows: paths and patterns, .jsonl, .csv, .tsv or .parquet
    #[arg(long, value_name = "FILES", num_args = 1.., conflicts_with = "job")]
    pub(super) inferences: Vec<String>,
    /// Files of their labels
    #[arg(long, value_name = "FILES", num_args = 1.., requires = "inferences")]
    labels: Vec<String>,
    /// What to compare with: files of past inferences of one model, or a profile that `tidegauge profile` wrote (.json)
    #[arg(long, value_name = "FILES", num_args = 1.., requires = "inferences")]
    reference: Vec<String>,
    /// Labels of the reference's inferences: with them quality is estimated without labels too
    #[arg(long, value_name = "FILES", num_args = 1.., requires = "reference")]
    reference_labels: Vec<String>,
    /// The model of the reference's files, where they hold several
    #[arg(long, value_name = "MODEL", requires = "reference")]
    reference_model: Option<String>,
    /// Dimensions each value of which gets rows of its own: region is column `segments.region`
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "inferences")]
    by: Vec<String>,
    #[command(flatten)]
    cells: CellArgs,
}

impl FileArgs {
    /// Those that are measured.
    fn inputs(&self) -> InputArgs {
        InputArgs {
            inferences: self.inferences.clone(),
            labels: self.labels.clone(),
            cells: self.cells.clone(),
        }
    }

    /// As they were named.
    fn named(&self) -> String {
        let of = |(what, files): (&str, &[String])| {
            let names = listed(files.iter().map(String::as_str), NAMES_SHOWN);
            (!files.is_empty()).then(|| format!("{what} {names}"))
        };
        let given = [
            ("inferences of", &self.inferences[..]),
            ("labels of", &self.labels),
            ("compared with", &self.reference),
            ("whose labels are of", &self.reference_labels),
        ];
        given.into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
    }

    /// Refuses an output that would take the place of what is read.
    pub(super) fn check_output(&self, output: Option<&Path>) -> Result<(), Failure> {
        let Some(output) = output.and_then(|path| path.canonicalize().ok()) else { return Ok(()) };
        for given in [&self.inferences, &self.labels, &self.reference, &self.reference_labels] {
            if given.is_empty() {
                continue;
            }
            let found = FileList::find(given)?;
            let is_output = |path: &Path| path.canonicalize().is_ok_and(|path| path == output);
            if let Some(file) = found.files().iter().find(|file| is_output(&file.path)) {
                let message = format!(
                    "the output would take the place of {}, which is read: name another one",
                    file.path.display()
                );
                return Err(Failure::new("usage", message));
            }
        }
        Ok(())
    }

    /// Settings by which all models are compared with the reference of the command line, where there is one.
    fn compared(&self, mut settings: Settings) -> Result<Settings, Failure> {
        if self.reference.is_empty() {
            return Ok(settings);
        }
        let profile = Arc::new(self.reference(&settings)?);
        for model in all_models(&mut settings) {
            model.reference = Some(Arc::clone(&profile));
        }
        Ok(settings)
    }

    /// Settings by which each value of the command line's dimensions has rows of its own, too.
    fn divided(&self, mut settings: Settings) -> Settings {
        let known = &mut settings.shard.dimensions;
        let mut wanted = Vec::new();
        for dimension in &self.by {
            let at = known.iter().position(|known| known == dimension).unwrap_or_else(|| {
                known.push(dimension.clone());
                known.len() - 1
            });
            wanted.push(u16::try_from(at).expect("nobody writes 65,536 dimensions"));
        }
        if !wanted.is_empty() {
            for model in all_models(&mut settings) {
                model.dimensions.extend(&wanted);
                model.dimensions.sort_unstable();
                model.dimensions.dedup();
            }
        }
        settings
    }

    /// What is said of dimensions that no record has.
    fn missing(&self, states: &[StateRow]) -> Vec<String> {
        let has = |dimension: &str| {
            let is_of =
                |segment: &str| segment.split_once('=').is_some_and(|(of, _)| of == dimension);
            states.iter().any(|row| is_of(&row.key.segment))
        };
        let missing = self.by.iter().filter(|dimension| !has(dimension));
        let said =
            |name| format!("no inference has a segment {name}: name its column `segments.{name}`");
        missing.map(said).collect()
    }

    /// The reference of the command line: a profile that was written before, or one of the files' inferences.
    fn reference(&self, settings: &Settings) -> Result<Profile, Failure> {
        let found = FileList::find(&self.reference)?;
        if let [file] = found.files()
            && is_document(&file.path)?
        {
            self.check_alone(&file.path)?;
            return document_at(&file.path);
        }
        let (inferences, labels) = (self.reference.clone(), self.reference_labels.clone());
        let wanted = profile::Wanted::new("reference", self.reference_model.clone());
        let files = InputArgs { inferences, labels, cells: self.cells.clone() };
        Ok(profile::of_files(&wanted, settings.clone(), &files)?.built.profile)
    }

    /// Refuses options that say which records a profile is made of beside one that is made.
    fn check_alone(&self, document: &Path) -> Result<(), Failure> {
        let given = [
            ("--reference-labels", !self.reference_labels.is_empty()),
            ("--reference-model", self.reference_model.is_some()),
        ];
        let option = given.into_iter().find(|(_, is_given)| *is_given);
        let Some((option, _)) = option else { return Ok(()) };
        let message = format!(
            "{} is a profile, which is of one model and has what its labels said: leave {option} out, or name the files of \
             inferences with --reference",
            document.display()
        );
        Err(Failure::new("usage", message))
    }
}

/// The settings of all models: those that no pattern fits go by the defaults.
fn all_models(settings: &mut Settings) -> &mut [ModelSettings] {
    settings.shard.models.push(ModelSettings::default());
    &mut settings.shard.models
}

/// What files say.
pub(super) struct Computed {
    /// What was read, by which configuration.
    pub(super) source: String,
    /// Of each window of each grain, and of the whole time.
    pub(super) rows: Vec<Row>,
    pub(super) references: References,
    /// What is odd about the records.
    pub(super) remarks: Vec<String>,
}

impl Computed {
    /// Reads files: rows of what `select` chooses, of segments that this glob fits. Refused where there are no windows
    /// of `grain`.
    pub(super) fn of(
        files: &FileArgs,
        config: &ConfigFile,
        select: &SelectArgs,
        segment: &str,
        grain: Option<&str>,
    ) -> Result<Self, Failure> {
        let (settings, configuration) = settings(config)?;
        grain.map_or(Ok(()), |grain| check_grain(&settings, grain))?;
        let filter = select.filter(segment, None, 0)?;
        let settings = files.compared(files.divided(settings))?;
        let inputs = Inputs::find(settings, &files.inputs())?;
        let (shard_settings, grains) = (&inputs.settings.shard, &inputs.settings.grains);
        let mut folded = Folded::of(&inputs)?;
        folded.check(&inputs.settings)?;
        folded.shard.finish();
        let mut states = folded.shard.freeze(&folded.names).states;
        let models: BTreeSet<_> = states.iter().map(|row| Arc::clone(&row.key.model)).collect();
        let missing = files.missing(&states);
        states.retain(|row| filter.admits(&row.key));
        let rows = evaluate::complete(shard_settings, grains, &states);
        let rows = rows.expect("states that were just made can be read");
        if rows.is_empty() {
            // A page that is there already is worth more than one that says nothing.
            let accounts = accounts(folded.read);
            let models = listed(models.iter().map(|name| &**name), NAMES_SHOWN);
            let more = if segment.is_empty() { "" } else { " --segment," };
            let options = format!("--model, --version,{more} --since and --until");
            let message =
                format!("no rows of what {options} choose: {accounts}, of models {models}");
            return Err(Failure::new("nothing_chosen", message));
        }
        let whole_windows = widened(&filter, shard_settings.window).unwrap_or_default();
        let said = folded.said(&inputs);
        let rows: Vec<Row> = rows.iter().map(Row::from).collect();
        let mut remarks = folded.remarks(shard_settings.limits.label_wait);
        remarks.extend(missing);
        remarks.extend(folded.labels.unused_weights(shard_settings));
        remarks.extend(folded.scores.odd());
        remarks.extend(folded.labels.odd(&rows, shard_settings, &folded.names));
        let named = files.named();
        Ok(Self {
            source: format!("Files with {said}; {configuration}{whole_windows}; {named}"),
            rows,
            references: shard_settings.references().collect(),
            remarks,
        })
    }
}

/// The name of a grain that may be written in another way: 24h for 1d.
pub(super) fn grain_named(text: &str) -> String {
    duration(text).map_or_else(|| text.to_owned(), evaluate::grain_name)
}

fn check_grain(settings: &Settings, grain: &str) -> Result<(), Failure> {
    let sizes = std::iter::once(&settings.shard.window).chain(&settings.grains);
    let names = sizes.map(|size| evaluate::grain_name(*size));
    let known: Vec<String> = std::iter::once(WHOLE.to_owned()).chain(names).collect();
    if known.iter().any(|known| known == grain) {
        return Ok(());
    }
    let message = format!(
        "there are no windows of {grain}: choose one of {} with --grain, or set windows.size and windows.grains in the \
         configuration",
        known.join(", ")
    );
    Err(Failure::new("usage", message))
}

/// Whoever has no configuration may have meant files.
pub(super) fn of_no_files(mut failure: Failure) -> Failure {
    if failure.code == "config_missing" {
        failure.message += "; or name files, which need none: `--inferences FILES`";
    }
    failure
}

/// Says on standard error what is odd about rows, and about the records that they are made of.
pub(super) fn tell(rows: &[Row], remarks: &[String]) {
    let of_whole = rows.iter().filter(|row| row.grain == WHOLE && row.segment == ALL);
    let odd = odd_labels(of_whole);
    for said in odd.iter().chain(remarks) {
        terminal::note(&format!("{said}\n"));
    }
}

/// Which windows are counted, where they hold more than the time that was asked for.
fn widened(filter: &RowFilter, size: Millis) -> Option<String> {
    let start = filter.since_ms.map(|ms| Window::of(EventTime(ms), size).start.0);
    let end = filter.until_ms.map(|ms| Window::of(EventTime(ms.saturating_sub(1)), size).end.0);
    if (start, end) == (filter.since_ms, filter.until_ms) {
        return None;
    }
    let from = start.map_or_else(String::new, |ms| format!(" from {}", instant(ms)));
    let to = end.map_or_else(String::new, |ms| format!(" to {}", instant(ms)));
    Some(format!("; counted are whole windows of {}{from}{to}", evaluate::grain_name(size)))
}

/// The configuration, and which one it is; files need none.
fn settings(config: &ConfigFile) -> Result<(Settings, String), Failure> {
    let file = &config.config;
    if file == DEFAULT_CONFIG && !Path::new(file).exists() {
        let settings = Settings::parse("the defaults", FILES_ONLY, &Environment::read())?;
        return Ok((settings, "no configuration".to_owned()));
    }
    let settings = config.load().map_err(|mut failure| {
        if file == DEFAULT_CONFIG {
            // Nobody need have asked for it.
            failure.message +=
                "; it is used since it lies in the working folder: name another one with -c, or start elsewhere";
        }
        failure
    })?;
    Ok((settings, format!("configuration: {file}")))
}

/// Whether a file with this name holds a profile, and not records, one on each line. One that is no JSON is taken for a
/// profile, which then says what is wrong.
fn is_document(path: &Path) -> Result<bool, Failure> {
    if !path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json")) {
        return Ok(false);
    }
    let file = BufReader::new(File::open(path).map_err(|error| unreadable(path, &error))?);
    // The first of them says it: there may be many more records than fit into memory.
    let first = serde_json::Deserializer::from_reader(file).into_iter::<serde_json::Value>().next();
    Ok(match first {
        Some(Ok(value)) => crate::profile::is_profile(&value),
        Some(Err(_)) | None => true,
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new("file_unreadable", format!("can't read {}: {error}", path.display()))
}

/// A profile that was written before.
fn document_at(path: &Path) -> Result<Profile, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    crate::profile::read(&text)
        .map_err(|error| Failure::new(error.code(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_files_says_which_windows_it_counts() {
        let of = |since_ms, until_ms| {
            let filter = RowFilter { since_ms, until_ms, ..RowFilter::default() };
            widened(&filter, Millis(3_600_000))
        };
        assert_eq!(of(None, None), None);
        assert_eq!(of(Some(7_200_000), Some(10_800_000)), None, "whole windows");
        let from = "; counted are whole windows of 1h from 1970-01-01T02:00:00.000Z";
        assert_eq!(of(Some(7_200_001), None).as_deref(), Some(from));
        let both = format!("{from} to 1970-01-01T03:00:00.000Z");
        assert_eq!(of(Some(7_200_000), Some(7_200_001)), Some(both));
    }
}
