//! The rows in ClickHouse against the truth that the generator knows.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::database::Database;
use crate::commands::Failure;
use crate::traffic::{Counts, InferenceOutcomes, LabelOutcomes, Truth, TruthKey};

/// One row of the three metric tables, joined.
#[derive(Debug, Deserialize)]
struct Row {
    model: String,
    version: String,
    segment: String,
    window_start_ms: i64,
    inferences: Option<u64>,
    errors: Option<u64>,
    labelled: Option<u64>,
    tp: Option<u64>,
    fp: Option<u64>,
    #[serde(rename = "fn")]
    fn_: Option<u64>,
    tn: Option<u64>,
    label_corrections: Option<u64>,
    label_duplicates: Option<u64>,
}

/// Outcomes of one topic and model.
#[derive(Debug, Deserialize)]
struct Health {
    topic: String,
    model: String,
    records: i64,
    accepted: i64,
    duplicate: i64,
    late: i64,
    matched: i64,
    unmatched: i64,
    dead: i64,
}

const HEALTH: &str = "\
SELECT topic, model, sum(h.records) AS records, sum(h.accepted) AS accepted, sum(h.duplicate) AS duplicate,
    sum(h.late) AS late, sum(h.matched) AS matched, sum(h.kept) + sum(h.orphan) AS unmatched, sum(h.dead) AS dead
FROM tidegauge_bi.stream_health AS h GROUP BY topic, model";

/// A key that a table lacks gives NULLs, which differ from every count.
const ROWS: &str = "\
SELECT model, version, segment, window_start_ms, s.inferences AS inferences, s.errors AS errors, l.labelled AS labelled,
    q.tp AS tp, q.fp AS fp, q.fn AS fn, q.tn AS tn, l.label_corrections AS label_corrections,
    l.label_duplicates AS label_duplicates
FROM
    (SELECT *, toUnixTimestamp64Milli(window_start) AS window_start_ms FROM tidegauge_bi.serving WHERE grain = '10s') AS s
    FULL JOIN
    (SELECT *, toUnixTimestamp64Milli(window_start) AS window_start_ms FROM tidegauge_bi.labels WHERE grain = '10s') AS l
    USING (model, version, segment, window_start_ms)
    FULL JOIN
    (SELECT *, toUnixTimestamp64Milli(window_start) AS window_start_ms FROM tidegauge_bi.quality_binary WHERE grain = '10s') AS q
    USING (model, version, segment, window_start_ms)";

/// What a comparison found.
#[derive(Clone, Debug, Default)]
pub(super) struct Compared {
    /// Rows that were compared.
    pub(super) rows: usize,
    /// Records of both topics.
    pub(super) records: u64,
    /// One line for each difference.
    pub(super) differences: Vec<String>,
}

/// Records of both topics that the rows account for.
pub(super) async fn records_done(database: &Database) -> Result<u64, Failure> {
    let health: Vec<Health> = database.rows(HEALTH).await?;
    Ok(health.iter().map(|line| u64::try_from(line.records).unwrap_or(0)).sum())
}

/// Compares every row and every account.
pub(super) async fn compare(database: &Database, truth: &Truth) -> Result<Compared, Failure> {
    let mut compared = Compared {
        rows: truth.rows.len(),
        records: truth.inference_records() + truth.label_records(),
        differences: Vec::new(),
    };
    let rows: Vec<Row> = database.rows(ROWS).await?;
    let rows: BTreeMap<TruthKey, Option<Counts>> =
        rows.iter().map(|row| (row.key(), row.counts())).collect();
    differ(&truth.rows, &rows, &mut compared.differences);
    let health: Vec<Health> = database.rows(HEALTH).await?;
    let of = |topic| health.iter().filter(move |line: &&Health| line.topic == topic);
    let inferences = of("inferences").map(|line| (line.model.clone(), line.inferences()));
    differ(&truth.inferences, &inferences.collect(), &mut compared.differences);
    let labels = of("labels").map(|line| (line.model.clone(), line.labels()));
    differ(&truth.labels, &labels.collect(), &mut compared.differences);
    Ok(compared)
}

/// Names every key whose values differ, or that only one side has.
fn differ<K: Ord + std::fmt::Debug, V: Default + PartialEq + std::fmt::Debug>(
    sent: &BTreeMap<K, V>,
    found: &BTreeMap<K, Option<V>>,
    differences: &mut Vec<String>,
) {
    for (key, value) in sent {
        match found.get(key) {
            Some(Some(row)) if row == value => {}
            row => differences.push(format!("{key:?}: sent {value:?}, found {row:?}")),
        }
    }
    for (key, row) in found {
        // A line of zeros says no more than no line.
        let says_something = row.as_ref() != Some(&V::default());
        if says_something && !sent.contains_key(key) {
            differences.push(format!("{key:?}: nothing sent, found {row:?}"));
        }
    }
}

impl Row {
    fn key(&self) -> TruthKey {
        TruthKey {
            model: self.model.clone(),
            version: self.version.clone(),
            segment: self.segment.clone(),
            window_start_ms: self.window_start_ms,
        }
    }

    fn counts(&self) -> Option<Counts> {
        Some(Counts {
            inferences: self.inferences?,
            errors: self.errors?,
            labelled: self.labelled?,
            tp: self.tp?,
            fp: self.fp?,
            fn_: self.fn_?,
            tn: self.tn?,
            label_corrections: self.label_corrections?,
            label_duplicates: self.label_duplicates?,
        })
    }
}

impl Health {
    fn inferences(&self) -> Option<InferenceOutcomes> {
        let count = |value: i64| u64::try_from(value).ok();
        Some(InferenceOutcomes {
            accepted: count(self.accepted)?,
            duplicate: count(self.duplicate)?,
            late: count(self.late)?,
            dead: count(self.dead)?,
        })
    }

    fn labels(&self) -> Option<LabelOutcomes> {
        let count = |value: i64| u64::try_from(value).ok();
        Some(LabelOutcomes {
            matched: count(self.matched)?,
            unmatched: count(self.unmatched)?,
            dead: count(self.dead)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_difference_is_named() {
        let sent = BTreeMap::from([("same", 1), ("other", 2), ("missing", 3)]);
        let found = BTreeMap::from([
            ("same", Some(1)),
            ("other", Some(5)),
            ("extra", Some(4)),
            ("half", None),
        ]);
        let mut differences = Vec::new();
        differ(&sent, &found, &mut differences);
        assert_eq!(differences.len(), 4, "{differences:?}");
        assert!(differences.iter().all(|line| !line.contains("same")));
    }
}
