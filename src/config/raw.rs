//! What file and environment say, before any value is judged: known keys only, each with the place that it came from.

use std::collections::BTreeMap;

use toml::Value;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Place};
use super::options::{self, Kind, OPTIONS, written};
use crate::engine::glob::fits;

/// Prefix of environment variables that set an option: `TIDEGAUGE__CLICKHOUSE__URL`.
const PREFIX: &str = "TIDEGAUGE__";
/// The same with a slip.
const SHORT_PREFIX: &str = "TIDEGAUGE_";

/// The environment, read once.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// That of this process. Variables that are not Unicode are left out.
    pub fn read() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// One of its variables.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Refuses a variable that was meant for an option, and would set none.
    ///
    /// Other names may begin like that: some are the program's own, and Kubernetes adds those of services, such as
    /// `TIDEGAUGE_PORT` and `TIDEGAUGE_SERVICE_HOST`. No option is called so.
    /// And whoever names one as `env:NAME`, in the file's text or in a variable, means just that.
    fn check_underscores(&self, text: &str) -> Result<(), ConfigError> {
        let is_meant = |name: &str| {
            let secret = format!("env:{name}");
            text.contains(&secret) || self.0.values().any(|value| *value == secret)
        };
        let names = self.0.keys().filter(|name| !name.starts_with(PREFIX) && !is_meant(name));
        for name in names {
            let Some(rest) = name.strip_prefix(SHORT_PREFIX) else { continue };
            let rest = rest.to_lowercase().replace("__", "_");
            let mut keys = OPTIONS.iter().map(|option| option.key);
            if let Some(key) = keys.find(|key| key.replace('.', "_") == rest) {
                let option = format!("{PREFIX}{}", key.replace('.', "__").to_uppercase());
                return Err(ConfigError::Underscore { name: name.clone(), option });
            }
        }
        Ok(())
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect())
    }
}

/// One setting as it was written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key as the user would write it.
    pub key: String,
    /// The value.
    pub value: Value,
    /// Where it stands.
    pub place: Place,
}

/// All settings that were made, by path of keys.
#[derive(Clone, Debug)]
pub struct RawConfig {
    /// The file's name, for messages.
    pub file: String,
    /// Names and globs under `[models]`, in the order of the file.
    pub models: Vec<String>,
    /// How many sections each list has, like `[[alerts]]`.
    lists: BTreeMap<String, usize>,
    entries: BTreeMap<Vec<String>, Entry>,
    sections: BTreeMap<Vec<String>, Place>,
}

impl RawConfig {
    /// Parses the file's text and lays the environment over it.
    pub fn parse(file: &str, text: &str, environment: &Environment) -> Result<Self, ConfigError> {
        environment.check_underscores(text)?;
        let mut raw = Self {
            file: file.to_owned(),
            models: Vec::new(),
            lists: BTreeMap::new(),
            entries: BTreeMap::new(),
            sections: BTreeMap::new(),
        };
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            place: Place::Line(
                file.to_owned(),
                error.span().map_or(1, |span| line_of(text, span.start)),
            ),
            reason: syntax_reason(error.message()),
        };
        let spans = DeTable::parse(text).map_err(syntax)?;
        let values: toml::Table = toml::from_str(text).map_err(syntax)?;
        raw.walk(text, &mut Vec::new(), spans.get_ref(), &values)?;
        let mut variables: Vec<(&str, &str, &str)> = environment
            .0
            .iter()
            .filter_map(|(name, value)| Some((&**name, name.strip_prefix(PREFIX)?, &**value)))
            .collect();
        // A list grows by one section after the other, and as text 10 stands before 2. All else keeps its order: of
        // models the first that fits counts.
        variables.sort_by_key(|(_, path, _)| path.split("__").nth(1)?.parse::<usize>().ok());
        for (name, path, value) in variables {
            raw.overlay(name, path, value)?;
        }
        raw.check_models()?;
        Ok(raw)
    }

    /// Refuses a section of `[models]` to which an earlier one leaves no model: it would be read and change nothing.
    fn check_models(&self) -> Result<(), ConfigError> {
        let named = |pattern: &str| written(&["models".to_owned(), pattern.to_owned()]);
        let place = |pattern: &str| {
            self.section(&["models", pattern]).cloned().expect("all models have a section")
        };
        for (at, pattern) in self.models.iter().enumerate() {
            // A glob that fits another one, taken as a text, fits all that the other one does.
            let Some(earlier) = self.models[..at].iter().find(|earlier| fits(earlier, pattern))
            else {
                continue;
            };
            let (key, other) = (named(pattern), named(earlier));
            let reason = format!(
                "changes nothing: `{other}` ({}) stands before it and fits it too, and the first section that fits a \
                 model counts; put `[{key}]` into the file before that one, with all that it is to have",
                place(earlier)
            );
            return Err(ConfigError::Conflict { place: place(pattern), key, reason });
        }
        Ok(())
    }

    fn walk(
        &mut self,
        text: &str,
        path: &mut Vec<String>,
        spans: &DeTable<'_>,
        values: &toml::Table,
    ) -> Result<(), ConfigError> {
        let mut keys: Vec<_> = spans.iter().collect();
        keys.sort_by_key(|(key, _)| key.span().start);
        for (key, inner) in keys {
            path.push(key.get_ref().to_string());
            let place = Place::Line(self.file.clone(), line_of(text, key.span().start));
            let value = values.get(&**key.get_ref()).expect("both were parsed from one text");
            if let Some(option) = options::at(path) {
                self.insert(path.clone(), option.kind, value.clone(), place)?;
            } else if options::is_list(path) {
                self.walk_list(text, path, inner, value, &place)?;
            } else if options::is_section(path) {
                let (DeValue::Table(inner), Value::Table(value)) = (inner.get_ref(), value) else {
                    let expected = "a section with keys of its own";
                    let (key, found) = (written(path), shown(value));
                    return Err(ConfigError::WrongType { place, key, expected, found });
                };
                if path.len() == 2 && path[0] == "models" {
                    self.models.push(path[1].clone());
                }
                self.sections.insert(path.clone(), place);
                self.walk(text, path, inner, value)?;
            } else {
                let closest = options::closest(path);
                return Err(ConfigError::UnknownKey { place, key: written(path), closest });
            }
            path.pop();
        }
        Ok(())
    }

    /// The sections of a list, each under its place.
    fn walk_list(
        &mut self,
        text: &str,
        path: &mut Vec<String>,
        spans: &toml::Spanned<DeValue<'_>>,
        value: &Value,
        place: &Place,
    ) -> Result<(), ConfigError> {
        let wrong = |value: &Value| ConfigError::WrongType {
            place: place.clone(),
            key: written(path),
            expected: "a list of sections, each below its name in two pairs of brackets",
            found: shown(value),
        };
        let (DeValue::Array(spans), Value::Array(values)) = (spans.get_ref(), value) else {
            return Err(wrong(value));
        };
        if let Some(other) = values.iter().find(|value| !value.is_table()) {
            return Err(wrong(other));
        }
        self.lists.insert(path[0].clone(), values.len());
        for (i, (span, value)) in spans.iter().zip(values).enumerate() {
            let begin = span.span().start;
            let (DeValue::Table(span), Value::Table(value)) = (span.get_ref(), value) else {
                continue;
            };
            path.push(i.to_string());
            let line = line_of(text, begin);
            self.sections.insert(path.clone(), Place::Line(self.file.clone(), line));
            self.walk(text, path, span, value)?;
            path.pop();
        }
        Ok(())
    }

    /// Checks the value's type and takes it in.
    fn insert(
        &mut self,
        path: Vec<String>,
        kind: Kind,
        value: Value,
        place: Place,
    ) -> Result<(), ConfigError> {
        if !has_kind(kind, &value) {
            // What may hold a secret is not shown, only what type it has.
            let found = match (kind, &value) {
                (Kind::Table, Value::Table(_)) => "a table with other values".to_owned(),
                (Kind::Secret | Kind::Table, _) => format!("{} (not shown)", value.type_str()),
                _ => shown(&value),
            };
            let key = written(&path);
            return Err(ConfigError::WrongType { place, key, expected: kind.expected(), found });
        }
        let key = written(&path);
        self.entries.insert(path, Entry { key, value, place });
        Ok(())
    }

    /// One variable: `__` between keys; keys in any case; lists and tables in TOML.
    fn overlay(&mut self, name: &str, path: &str, text: &str) -> Result<(), ConfigError> {
        let place = Place::Variable(name.to_owned());
        let mut path: Vec<String> = path.split("__").map(str::to_owned).collect();
        let of_model = path.len() > 2 && path[0].eq_ignore_ascii_case("models");
        for (i, part) in path.iter_mut().enumerate() {
            if !(of_model && i == 1) {
                *part = part.to_lowercase();
            }
        }
        let inner = (path.len() == 3 && options::at(&path[..2]).is_some()).then(|| path.remove(2));
        let Some(option) = options::at(&path) else {
            if options::is_section(&path) {
                let reason = format!("is a section: set its keys one by one, like {name}__KEY");
                return Err(ConfigError::Invalid { place, key: written(&path), reason });
            }
            let closest = options::closest(&path);
            return Err(ConfigError::UnknownKey { place, key: written(&path), closest });
        };
        if of_model && !self.models.contains(&path[1]) {
            self.models.push(path[1].clone());
        }
        if let (true, Some(Ok(at))) =
            (options::is_list(&path[..1]), path.get(1).map(|at| at.parse::<usize>()))
        {
            let count = self.lists.entry(path[0].clone()).or_default();
            if at > *count {
                let reason =
                    format!("is number {at} of a list that has {count}: numbers begin at 0");
                return Err(ConfigError::Invalid { place, key: written(&path), reason });
            }
            *count = (*count).max(at + 1);
        }
        for end in 1..path.len() {
            self.sections.entry(path[..end].to_vec()).or_insert_with(|| place.clone());
        }
        let Some(inner) = inner else {
            return self.insert(path, option.kind, from_text(option.kind, text), place);
        };
        let inner = if option.key == "kafka.properties" { inner.replace('_', ".") } else { inner };
        let mut table = match self.entries.get(&path).map(|entry| &entry.value) {
            Some(Value::Table(table)) => table.clone(),
            _ => toml::Table::new(),
        };
        table.insert(inner, from_text(Kind::Classes, text));
        self.insert(path, option.kind, Value::Table(table), place)
    }

    /// The setting of a key, if it was made.
    pub fn get(&self, path: &[&str]) -> Option<&Entry> {
        let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        self.entries.get(&path)
    }

    /// How many sections a list has.
    pub fn list_len(&self, name: &str) -> usize {
        self.lists.get(name).copied().unwrap_or(0)
    }

    /// Where a section begins, if it is there; one of a list stands under its number.
    pub fn section(&self, path: &[&str]) -> Option<&Place> {
        let path: Vec<String> = path.iter().map(|&part| part.to_owned()).collect();
        self.sections.get(&path)
    }
}

/// What the parser says, and what it does not say of names with other signs, as globs are.
fn syntax_reason(message: &str) -> String {
    if message.contains("invalid unquoted key") {
        return format!("{message}; put quotes around it, like [models.\"fraud-*\"]");
    }
    message.to_owned()
}

fn has_kind(kind: Kind, value: &Value) -> bool {
    let is_path = |value: &Value| match value {
        Value::String(_) => true,
        Value::Array(parts) => !parts.is_empty() && parts.iter().all(Value::is_str),
        _ => false,
    };
    let is_class = |value: &Value| !(value.is_array() || value.is_table() || value.is_datetime());
    match kind {
        Kind::Text | Kind::Duration | Kind::Secret => value.is_str(),
        Kind::Integer => value.is_integer(),
        Kind::Flag => value.is_bool(),
        Kind::Number => value.is_integer() || value.is_float(),
        Kind::Bytes => value.is_str() || value.is_integer(),
        Kind::Texts => value.as_array().is_some_and(|list| list.iter().all(Value::is_str)),
        Kind::NumberList => {
            value.as_array().is_some_and(|list| list.iter().all(|v| v.is_integer() || v.is_float()))
        }
        Kind::Table => value.as_table().is_some_and(|table| table.values().all(is_class)),
        Kind::Paths => value.as_table().is_some_and(|table| table.values().all(is_path)),
        Kind::Classes => match value {
            Value::Array(list) => !list.is_empty() && list.iter().all(is_class),
            other => is_class(other),
        },
        Kind::Methods | Kind::Features => {
            value.as_table().is_some_and(|table| table.values().all(Value::is_table))
        }
        Kind::Numbers => value
            .as_table()
            .is_some_and(|table| table.values().all(|v| v.is_integer() || v.is_float())),
    }
}

/// The text of a variable as a value of the option's type; what does not parse stays text and fails the type check.
pub(super) fn from_text(kind: Kind, text: &str) -> Value {
    let as_text = || Value::String(text.to_owned());
    let parsed = || {
        let table: Option<toml::Table> = toml::from_str(&format!("value = {text}")).ok();
        table.and_then(|mut table| table.remove("value")).unwrap_or_else(as_text)
    };
    match kind {
        Kind::Text | Kind::Duration | Kind::Secret | Kind::Bytes => as_text(),
        Kind::Classes if !text.trim_start().starts_with('[') => as_text(),
        Kind::Texts if !text.trim_start().starts_with('[') => Value::Array(
            text.split(',').filter(|t| !t.is_empty()).map(|t| Value::from(t.trim())).collect(),
        ),
        _ => parsed(),
    }
}

/// A value for a message; a long one by its type only.
fn shown(value: &Value) -> String {
    let shown = value.to_string();
    if shown.len() > 40 { value.type_str().to_owned() } else { shown }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|&b| b == b'\n').count()
}
