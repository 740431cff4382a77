//! What the engine goes by: windows, limits, caps and models.

use std::sync::Arc;

use super::drift;
use super::error::{ConfigError, Place};
use super::reader::{Reader, invalid, list_of, number_of, positives, text_of};
use super::values;
use crate::engine::keys::GATHER_AFTER;
use crate::engine::lateness::Limits;
use crate::engine::metrics::accumulator::ValueMatrix;
use crate::engine::metrics::binary::MOST_THRESHOLDS;
use crate::engine::metrics::confusion::MOST_CLASSES;
use crate::engine::metrics::one_vs_rest::MOST_SCORED_CLASSES;
use crate::engine::metrics::reference::Profile;
use crate::engine::time::Millis;
use crate::engine::{Caps, ModelSettings, Positive, Progress, ShardSettings, Task};
use crate::evaluate::grain_name;

const DAY: Millis = Millis(86_400_000);
/// The engine holds an inference's time within its window in 32 bits of milliseconds: 49.7 days.
const LONGEST_WINDOW: Millis = Millis(49 * 86_400_000);
/// Beyond it a sum over many decisions would say nothing any more about one of them.
const GREATEST_VALUE: f64 = 1e12;

pub(super) fn shard(reader: &Reader<'_>, has_labels: bool) -> Result<ShardSettings, ConfigError> {
    let window = reader.millis(&["windows", "size"], Millis(1))?;
    let entry = reader.entry(&["windows", "size"]).expect("has a default");
    if window > LONGEST_WINDOW {
        let reason = format!("is \"{}\"; it must be 1ms to 49d", text_of(&entry.value));
        return Err(invalid(
            &entry,
            format!("{reason}: longer spans are grains, like grains = [\"90d\"]"),
        ));
    }
    fits_a_day(window).map_err(|reason| {
        invalid(&entry, format!("is \"{}\"; it {reason}", text_of(&entry.value)))
    })?;
    let (models, dimensions) = models(reader)?;
    Ok(ShardSettings {
        window,
        limits: Limits {
            lateness: reader.millis(&["windows", "lateness"], Millis(0))?,
            label_wait: reader.millis(&["windows", "label_wait"], Millis(0))?,
            max_future: reader.millis(&["windows", "max_future"], Millis(0))?,
            max_gap: reader.millis(&["windows", "max_gap"], Millis(1))?,
        },
        clock_stamps: reader.integer(&["windows", "clock_stamps"], 1..=64)?,
        progress: reader.choice(
            &["windows", "progress"],
            &[("log", Progress::Log), ("event", Progress::Event)],
        )?,
        has_labels,
        generation: 0,
        caps: Caps {
            models: reader.integer(&["caps", "models"], 1..=1_000_000)?,
            versions: reader.integer(&["caps", "versions"], 1..=1_000_000)?,
            segments: reader.integer(&["caps", "segments"], 1..=1_000_000)?,
            features: reader.integer(&["caps", "features"], 1..=10_000)?,
            max_classes: reader.integer(&["caps", "max_classes"], 1..=MOST_CLASSES)?,
            auroc_classes: reader.integer(&["caps", "auroc_classes"], 0..=MOST_SCORED_CLASSES)?,
        },
        gather_after: GATHER_AFTER,
        dimensions,
        models,
        custom: Vec::new(),
    })
}

fn fits_a_day(span: Millis) -> Result<(), String> {
    let fits = DAY.0 % span.0 == 0 || span.0 % DAY.0 == 0;
    if fits {
        Ok(())
    } else {
        Err("must divide a day or be whole days, like \"5m\" or \"7d\"".into())
    }
}

/// The configured grains, ascending. Of the default ones, those that the window size does not divide are left out.
pub(super) fn grains(reader: &Reader<'_>, window: Millis) -> Result<Vec<Millis>, ConfigError> {
    let entry = reader.entry(&["windows", "grains"]).expect("has a default");
    let mut grains = Vec::new();
    for text in list_of(&entry.value) {
        let Some(grain) = values::duration(&text).filter(|grain| grain.0 > 0) else {
            let reason = format!("has \"{text}\"; a grain is a duration, like \"1h\"");
            return Err(invalid(&entry, reason));
        };
        let is_multiple = grain.0 % window.0 == 0 && grain > window;
        if !is_multiple && matches!(entry.place, Place::Default(_)) {
            continue;
        }
        if !is_multiple {
            let size = grain_name(window);
            let reason = format!(
                "has \"{text}\"; a grain is two times windows.size ({size}) or more, and a multiple of it"
            );
            return Err(invalid(&entry, reason));
        }
        fits_a_day(grain)
            .map_err(|reason| invalid(&entry, format!("has \"{text}\", which {reason}")))?;
        grains.push(grain);
    }
    grains.sort_unstable();
    grains.dedup();
    Ok(grains)
}

/// The models' settings in the order of the file, and all segment dimensions that they name.
fn models(reader: &Reader<'_>) -> Result<(Vec<ModelSettings>, Vec<String>), ConfigError> {
    let (mut models, mut dimensions) = (Vec::new(), Vec::new());
    for pattern in &reader.raw.models {
        let key = |name| ["models", pattern.as_str(), name];
        let task = match reader.optional_text(&key("task")) {
            None => None,
            Some(_) => Some(reader.choice(
                &key("task"),
                &[
                    ("binary", Task::Binary),
                    ("multiclass", Task::Multiclass),
                    ("regression", Task::Regression),
                ],
            )?),
        };
        let positive = match reader.raw.get(&key("positive")) {
            Some(entry) => positives(&entry.value),
            None => default_positive(),
        };
        let mut own = Vec::new();
        for dimension in reader.texts(&key("segments")) {
            let at = dimensions.iter().position(|known| *known == dimension).unwrap_or_else(|| {
                dimensions.push(dimension);
                dimensions.len() - 1
            });
            own.push(u16::try_from(at).expect("nobody writes 65,536 dimensions"));
        }
        own.sort_unstable();
        own.dedup();
        models.push(ModelSettings {
            pattern: pattern.clone(),
            task,
            positive,
            threshold: reader.share(&key("threshold"))?,
            thresholds: thresholds(reader, &key("thresholds"))?,
            reference: reference(reader, &key("reference"))?,
            drift: drift::options(reader, pattern)?,
            dimensions: own,
            value: value_matrix(reader, &key("value"))?,
            weighted: reader.choice(&key("weights"), &[("ignore", false), ("use", true)])?,
            distinct: reader.texts(&key("distinct")).into(),
        });
    }
    Ok((models, dimensions))
}

/// The profile that a file holds.
fn reference(reader: &Reader<'_>, path: &[&str]) -> Result<Option<Arc<Profile>>, ConfigError> {
    let Some(entry) = reader.entry(path) else { return Ok(None) };
    let file = text_of(&entry.value);
    if file.is_empty() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(reader.beside(&file)).map_err(|error| {
        let remedy = "write one with `tidegauge profile`";
        invalid(&entry, format!("names the profile {file}: {error}; {remedy}"))
    })?;
    let profile = crate::profile::read(&text).map_err(|error| ConfigError::Profile {
        place: entry.place,
        key: entry.key,
        file,
        code: error.code(),
        reason: error.to_string(),
    })?;
    Ok(Some(Arc::new(profile)))
}

/// Other thresholds, ascending, each once.
fn thresholds(reader: &Reader<'_>, path: &[&str]) -> Result<Vec<f64>, ConfigError> {
    let entry = reader.entry(path).expect("has a default");
    let list = entry.value.as_array().expect("the type was checked");
    let mut thresholds: Vec<f64> = list.iter().map(number_of).collect();
    if let Some(given) = thresholds.iter().find(|given| !(0.0..=1.0).contains(*given)) {
        return Err(invalid(&entry, format!("has {given}; a threshold is 0 to 1")));
    }
    thresholds.sort_by(f64::total_cmp);
    thresholds.dedup();
    if thresholds.len() > usize::from(MOST_THRESHOLDS) {
        let given = thresholds.len();
        return Err(invalid(&entry, format!("has {given} thresholds, at most {MOST_THRESHOLDS}")));
    }
    Ok(thresholds)
}

/// What is positive where nothing is configured.
fn default_positive() -> Vec<Positive> {
    vec![Positive::Number(1.0), Positive::Boolean(true)]
}

fn value_matrix(reader: &Reader<'_>, path: &[&str]) -> Result<Option<ValueMatrix>, ConfigError> {
    let Some(entry) = reader.entry(path) else {
        return Ok(None);
    };
    let table = entry.value.as_table().expect("the type was checked");
    let cells = ["tp", "fp", "fn", "tn"];
    if let Some(other) = table.keys().find(|key| !cells.contains(&key.as_str())) {
        return Err(invalid(&entry, format!("has `{other}`; its cells are tp, fp, fn and tn")));
    }
    let cell = |name: &str| match table.get(name).map(number_of) {
        Some(number) if number.abs() <= GREATEST_VALUE => Ok(number),
        _ => Err(invalid(&entry, format!("needs a number of at most 1e12 in size for `{name}`"))),
    };
    Ok(Some(ValueMatrix { tp: cell("tp")?, fp: cell("fp")?, fn_: cell("fn")?, tn: cell("tn")? }))
}
