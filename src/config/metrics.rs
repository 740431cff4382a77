//! `[[metrics]]`: metrics that the user defines. Messages name the metric.

use std::sync::Arc;

use super::error::ConfigError;
use super::expression;
use super::reader::{Reader, text_of};
use super::section::Section;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::custom::CustomMetric;
use crate::sink::definitions::MetricDefinition;

/// Each is a row more for each key and window.
const MOST_METRICS: usize = 100;
const LONGEST_NAME: usize = 64;

/// Every metric, by name: their order in the file means nothing.
pub(super) fn metrics(reader: &Reader<'_>) -> Result<Vec<MetricDefinition>, ConfigError> {
    let mut metrics: Vec<MetricDefinition> = Vec::new();
    for at in 0..reader.raw.list_len("metrics") {
        let section = Section::new(reader, "metrics", at)?;
        check_name(&section)?;
        if metrics.iter().any(|known| *known.metric.name == section.name) {
            return Err(section.wrong("name", "stands twice: give each metric a name of its own"));
        }
        if metrics.len() == MOST_METRICS {
            let reason = format!("is one too many: at most {MOST_METRICS} metrics are computed");
            return Err(section.wrong("name", &reason));
        }
        metrics.push(metric(&section)?);
    }
    metrics.sort_by(|a, b| a.metric.name.cmp(&b.metric.name));
    Ok(metrics)
}

fn metric(section: &Section<'_>) -> Result<MetricDefinition, ConfigError> {
    let Some(written) = section.entry("expression").map(|entry| text_of(&entry.value)) else {
        let reason = "needs an `expression`, like \"inferences_positive / inferences\"";
        return Err(section.wrong("expression", reason));
    };
    let expression =
        expression::parse(&written).map_err(|reason| section.wrong("expression", &reason))?;
    let choices = ["higher", "lower", "zero", "none"].map(|better| (better, better));
    let better = section.reader.choice(&section.path("better"), &choices)?;
    let text = |key: &str| section.entry(key).map(|entry| text_of(&entry.value));
    let globs = |key: &str| section.texts(key).iter().map(ToString::to_string).collect();
    Ok(MetricDefinition {
        metric: Arc::new(CustomMetric {
            name: section.name.as_str().into(),
            models: globs("models"),
            segments: globs("segments"),
            expression,
        }),
        unit: text("unit").unwrap_or_default(),
        better,
        description: text("description").unwrap_or_else(|| written.clone()),
        expression: written,
    })
}

/// A name is that of no other metric, so that nobody takes the one for the other.
fn check_name(section: &Section<'_>) -> Result<(), ConfigError> {
    let name = section.name.as_str();
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !begins || name.len() > LONGEST_NAME || !name.chars().all(is_plain) {
        let reason = format!(
            "must be 1 to {LONGEST_NAME} of a to z, 0 to 9 and _, and begin with a letter, like \"approval_rate\""
        );
        return Err(section.wrong("name", &reason));
    }
    let has_it = |table: &MetricTable| table.columns().iter().any(|column| column.name == name);
    let Some(table) = MetricTable::ALL.into_iter().find(has_it) else { return Ok(()) };
    let table = table.name();
    let reason = format!("is the name of {table}.{name}: choose another, like \"own_{name}\"");
    Err(section.wrong("name", &reason))
}
