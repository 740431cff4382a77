//! What the configuration defines, written down at each start for people and BI tools: no figure is read from it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::BufMut;

use crate::engine::ModelSettings;
use crate::engine::metrics::custom::CustomMetric;
use crate::profile::document::format_of;
use crate::profile::write;

use super::SinkError;
use super::connection::{Connection, Parameter};
use super::row::{Batch, MAX_BATCH_BYTES};
use super::rowbinary::{Rows, put_bytes};
use super::tables::Table;

/// A custom metric with what the catalogue says of it.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricDefinition {
    /// What is evaluated.
    pub metric: Arc<CustomMetric>,
    /// The expression as the user wrote it.
    pub expression: String,
    /// What it is in.
    pub unit: String,
    /// `higher`, `lower`, `zero` or `none`.
    pub better: &'static str,
    /// For the reader.
    pub description: String,
}

const NAME: &str = "LowCardinality(String)";
/// Columns of `custom_metrics` after the job.
const METRIC_COLUMNS: [(&str, &str); 7] = [
    ("metric", NAME),
    ("expression", "String"),
    ("models", "String"),
    ("segments", "String"),
    ("unit", NAME),
    ("better", NAME),
    ("description", "String"),
];

impl MetricDefinition {
    /// The values of those columns.
    fn texts(&self) -> [String; 7] {
        let metric = &self.metric;
        [
            metric.name.to_string(),
            self.expression.clone(),
            metric.models.join(", "),
            metric.segments.join(", "),
            self.unit.clone(),
            self.better.to_owned(),
            self.description.clone(),
        ]
    }
}

/// Writes the definitions that are not stored as they are now.
pub(super) async fn write_metrics(
    connection: &Connection,
    definitions: &[MetricDefinition],
) -> Result<(), SinkError> {
    if definitions.is_empty() {
        return Ok(());
    }
    let stored = texts(connection, Table::CustomMetrics, &METRIC_COLUMNS).await?;
    let stored: BTreeSet<_> = stored.into_iter().collect();
    let changed = definitions.iter().map(MetricDefinition::texts);
    let changed = changed.filter(|texts| !stored.contains(texts.as_slice()));
    let mut batch = Batch::new(Table::CustomMetrics, MAX_BATCH_BYTES);
    for row in changed {
        let out = batch.row();
        put_bytes(out, connection.settings.job.as_bytes());
        for text in &row {
            put_bytes(out, text.as_bytes());
        }
        if batch.is_full() {
            insert(connection, &mut batch).await?;
        }
    }
    insert(connection, &mut batch).await
}

/// Columns that tell the job's rows of `reference_profiles` apart.
const PROFILE_KEY: [(&str, &str); 2] = [("model", NAME), ("reference_id", "String")];

/// Writes the profiles that the models name and that are not stored yet. A profile never changes: another content has
/// another id.
pub(super) async fn write_profiles(
    connection: &Connection,
    models: &[ModelSettings],
) -> Result<(), SinkError> {
    let named = models.iter().filter_map(|model| Some((model, model.reference.as_deref()?)));
    let mut named = named.peekable();
    if named.peek().is_none() {
        return Ok(());
    }
    let rows = texts(connection, Table::ReferenceProfiles, &PROFILE_KEY).await?;
    let stored: BTreeSet<Vec<String>> = rows.into_iter().collect();
    let mut batch = Batch::new(Table::ReferenceProfiles, MAX_BATCH_BYTES);
    for (model, profile) in named {
        if stored.contains(&vec![model.pattern.clone(), profile.id.to_string()]) {
            continue;
        }
        let out = batch.row();
        for text in [&connection.settings.job, &*model.pattern, &*profile.id, &*profile.name] {
            put_bytes(out, text.as_bytes());
        }
        out.put_u16_le(profile.generation);
        out.put_u32_le(
            u32::try_from(format_of(profile)).expect("the versions of the form are few"),
        );
        put_bytes(out, write(profile).as_bytes());
        if batch.is_full() {
            insert(connection, &mut batch).await?;
        }
    }
    insert(connection, &mut batch).await
}

/// Texts of the job's rows of a table.
async fn texts(
    connection: &Connection,
    table: Table,
    columns: &[(&'static str, &'static str)],
) -> Result<Vec<Vec<String>>, SinkError> {
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    let sql = format!(
        "SELECT {} FROM {} FINAL WHERE job = {{job:String}}",
        names.join(", "),
        connection.table(table.name())
    );
    let job = Parameter::Text(connection.settings.job.clone());
    let body = connection.fetch(&sql, &[("job", job)]).await?;
    let mut rows = Rows::new(body, table.name(), columns)?;
    let mut found = Vec::new();
    while !rows.is_empty() {
        let row = names.iter().map(|_| rows.text().map(|text| text.to_string()));
        found.push(row.collect::<Result<_, _>>()?);
    }
    Ok(found)
}

async fn insert(connection: &Connection, batch: &mut Batch) -> Result<(), SinkError> {
    match batch.take() {
        Some(batch) => connection.insert(&batch).await,
        None => Ok(()),
    }
}
