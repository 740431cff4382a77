//! Typed access to single settings: the value that was made or else the default, with the place for messages.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use super::error::{ConfigError, Place};
use super::options;
use super::raw::{Entry, Environment, RawConfig, from_text};
use super::values::{self, Secret};
use crate::engine::Positive;
use crate::engine::event::Target;
use crate::engine::time::Millis;

/// Reads settings of one configuration.
pub(super) struct Reader<'a> {
    pub(super) raw: &'a RawConfig,
    pub(super) environment: &'a Environment,
}

impl Reader<'_> {
    /// The setting, or its default; none where there is neither.
    pub(super) fn entry(&self, path: &[&str]) -> Option<Entry> {
        if let Some(entry) = self.raw.get(path) {
            return Some(entry.clone());
        }
        let owned: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        let option = options::at(&owned).expect("every key that is read is listed");
        (!option.default.is_empty()).then(|| Entry {
            key: path.join("."),
            value: from_text(option.kind, option.default),
            place: Place::Default(self.raw.file.clone()),
        })
    }

    fn must(&self, path: &[&str]) -> Entry {
        self.entry(path).expect("only options with a default are read this way")
    }

    pub(super) fn optional_text(&self, path: &[&str]) -> Option<String> {
        self.entry(path).map(|entry| text_of(&entry.value))
    }

    pub(super) fn required_text(&self, path: &[&str], remedy: &str) -> Result<String, ConfigError> {
        self.optional_text(path).filter(|text| !text.is_empty()).ok_or_else(|| {
            ConfigError::Required {
                place: Place::Default(self.raw.file.clone()),
                key: path.join("."),
                reason: remedy.to_owned(),
            }
        })
    }

    pub(super) fn text(&self, path: &[&str]) -> String {
        text_of(&self.must(path).value)
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(
        &self,
        path: &[&str],
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let entry = self.must(path);
        let given = text_of(&entry.value);
        choices.iter().find(|(name, _)| *name == given).map(|(_, choice)| *choice).ok_or_else(
            || {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                invalid(&entry, format!("is \"{given}\"; it must be {}", names.join(" or ")))
            },
        )
    }

    /// A span of at least `least`.
    pub(super) fn millis(&self, path: &[&str], least: Millis) -> Result<Millis, ConfigError> {
        let entry = self.must(path);
        let given = text_of(&entry.value);
        let span = values::duration(&given).ok_or_else(|| {
            invalid(
                &entry,
                format!("is \"{given}\"; it must be {}", options::Kind::Duration.expected()),
            )
        })?;
        if span < least || span > LONGEST {
            let (least, most) = (least.0, LONGEST.0 / 86_400_000);
            return Err(invalid(
                &entry,
                format!("is \"{given}\"; it must be {least}ms to {most}d"),
            ));
        }
        Ok(span)
    }

    pub(super) fn duration(&self, path: &[&str], least: Millis) -> Result<Duration, ConfigError> {
        let millis = self.millis(path, least)?;
        Ok(Duration::from_millis(u64::try_from(millis.0).expect("spans are not negative")))
    }

    /// A whole number within bounds.
    pub(super) fn integer(
        &self,
        path: &[&str],
        bounds: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, ConfigError> {
        let entry = self.must(path);
        let given = entry.value.as_integer().expect("the type was checked");
        usize::try_from(given).ok().filter(|n| bounds.contains(n)).ok_or_else(|| {
            let (least, most) = (bounds.start(), bounds.end());
            invalid(&entry, format!("is {given}; it must be {least} to {most}"))
        })
    }

    pub(super) fn bytes(&self, path: &[&str], least: usize) -> Result<usize, ConfigError> {
        let entry = self.must(path);
        let given = text_of(&entry.value);
        let reason = match values::bytes(&given) {
            Some(bytes) if bytes >= least => return Ok(bytes),
            Some(_) => format!("at least {}MiB, like \"4GiB\"", least >> 20),
            None => "a whole number and B, kB, MB, GB, KiB, MiB or GiB, like \"512MB\" or \"4GiB\""
                .to_owned(),
        };
        Err(invalid(&entry, format!("is \"{given}\"; it must be {reason}")))
    }

    /// A number within 0 to 1.
    pub(super) fn share(&self, path: &[&str]) -> Result<f64, ConfigError> {
        let entry = self.must(path);
        let given = number_of(&entry.value);
        if !(0.0..=1.0).contains(&given) {
            return Err(invalid(&entry, format!("is {given}; it must be 0 to 1")));
        }
        Ok(given)
    }

    pub(super) fn texts(&self, path: &[&str]) -> Vec<String> {
        list_of(&self.must(path).value)
    }

    /// A text that may be kept in the environment or in a file.
    pub(super) fn secret(&self, path: &[&str]) -> Result<Option<Secret>, ConfigError> {
        self.entry(path).map(|entry| self.reveal(&entry, &text_of(&entry.value))).transpose()
    }

    /// What `env:NAME` or `file:PATH` stands for; any other text stands for itself.
    pub(super) fn reveal(&self, entry: &Entry, text: &str) -> Result<Secret, ConfigError> {
        let fail = |reason: String| ConfigError::Secret {
            place: entry.place.clone(),
            key: entry.key.clone(),
            from: text.to_owned(),
            reason,
        };
        if let Some(name) = text.strip_prefix("env:") {
            let value = self.environment.get(name);
            let reason = "the variable is not set; set it, or name another";
            return value.map(|v| Secret::new(v.to_owned())).ok_or_else(|| fail(reason.to_owned()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let read = std::fs::read_to_string(self.beside(path));
            return read
                .map(|text| Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|error| fail(format!("{error}; check the path and its rights")));
        }
        Ok(Secret::new(text.to_owned()))
    }

    /// A path of the configuration: relative ones start at its folder.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        Path::new(&self.raw.file).parent().map_or_else(|| path.into(), |folder| folder.join(path))
    }
}

/// No span of time is longer: twenty years.
const LONGEST: Millis = Millis(20 * 366 * 86_400_000);

pub(super) fn invalid(entry: &Entry, reason: String) -> ConfigError {
    ConfigError::Invalid { place: entry.place.clone(), key: entry.key.clone(), reason }
}

/// A value that stands for a text: texts, and the numbers and booleans that Kafka's properties may hold.
pub(super) fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(super) fn number_of(value: &Value) -> f64 {
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "options are small")]
    let whole = value.as_integer().map(|n| n as f64);
    value.as_float().or(whole).expect("the type was checked")
}

/// One text or a list of texts.
pub(super) fn list_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(list) => list.iter().map(text_of).collect(),
        other => vec![text_of(other)],
    }
}

/// The values that a class in the configuration equals, as texts compare: `"1"`, `1` and `1.0` are one class.
pub(super) fn positives(value: &Value) -> Vec<Positive> {
    let truth = |flag: bool| vec![Positive::Boolean(flag), Positive::Class(flag.to_string())];
    let one = |value: &Value| match value {
        Value::Boolean(flag) => truth(*flag),
        Value::String(text) => match Target::of_text(text.as_bytes()) {
            Some(Target::Boolean(flag)) => truth(flag),
            Some(Target::Number(number)) => vec![Positive::Number(number)],
            _ => vec![Positive::Class(text.clone())],
        },
        number => vec![Positive::Number(number_of(number) + 0.0)],
    };
    match value {
        Value::Array(list) => list.iter().flat_map(one).collect(),
        other => one(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_compare_as_texts() {
        assert_eq!(positives(&Value::from("1")), [Positive::Number(1.0)]);
        assert_eq!(positives(&Value::from("-07")), [Positive::Number(-7.0)]);
        assert_eq!(positives(&Value::from("1.0")), [Positive::Number(1.0)]);
        assert_eq!(positives(&Value::from("1.5")), [Positive::Class("1.5".to_owned())]);
        assert_eq!(positives(&Value::from("yes")), [Positive::Class("yes".to_owned())]);
        let both = [Positive::Boolean(true), Positive::Class("true".to_owned())];
        assert_eq!(positives(&Value::from(true)), both);
        assert_eq!(positives(&Value::from("true")), both);
        assert_eq!(positives(&Value::from("True")), both);
    }
}
