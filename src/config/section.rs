//! One section of a list, like `[[alerts]]`: its keys, and messages that name it.

use std::sync::Arc;

use super::error::ConfigError;
use super::raw::Entry;
use super::reader::{Reader, invalid, list_of, number_of};

/// Keys of one section of a list.
pub(super) struct Section<'a> {
    pub(super) reader: &'a Reader<'a>,
    list: &'static str,
    at: String,
    /// What the user calls it.
    pub(super) name: String,
}

impl<'a> Section<'a> {
    pub(super) fn new(
        reader: &'a Reader<'a>,
        list: &'static str,
        at: usize,
    ) -> Result<Self, ConfigError> {
        let at = at.to_string();
        let remedy = format!("every `[[{list}]]` has a name of its own, like `name = \"...\"`");
        let name = reader.required_text(&[list, &at, "name"], &remedy);
        // Its number in the list says little to a person; its line says all.
        let name = name.map_err(|error| match error {
            ConfigError::Required { place, reason, .. } => {
                let place = reader.raw.section(&[list, &at]).cloned().unwrap_or(place);
                ConfigError::Required { place, key: format!("{list}.name"), reason }
            }
            other => other,
        })?;
        Ok(Self { reader, list, at, name })
    }

    pub(super) fn path<'b>(&'b self, key: &'b str) -> [&'b str; 3] {
        [self.list, &self.at, key]
    }

    pub(super) fn entry(&self, key: &str) -> Option<Entry> {
        let entry = self.reader.entry(&self.path(key))?;
        Some(Entry { key: format!("{}.{key}", self.list), ..entry })
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        self.entry(key).map(|entry| number_of(&entry.value))
    }

    pub(super) fn texts(&self, key: &str) -> Vec<Arc<str>> {
        self.entry(key)
            .map_or(Vec::new(), |e| list_of(&e.value).into_iter().map(Into::into).collect())
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.entry(key).is_some_and(|entry| entry.value.as_bool().expect("the type was checked"))
    }

    /// A message about one key that names the section; of a key that is not there, about its name.
    pub(super) fn wrong(&self, key: &str, reason: &str) -> ConfigError {
        let entry = self.entry(key).or_else(|| self.entry("name")).expect("it has a name");
        invalid(&entry, format!("of \"{}\" {reason}", self.name))
    }
}
