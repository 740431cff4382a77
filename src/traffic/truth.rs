//! What the rows must say about the traffic that was sent, as the generator knows it: from what it planted, not from
//! any rule of the engine.

use std::collections::BTreeMap;

use serde::Serialize;

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TruthKey {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: String,
    /// `all` or `region=...`.
    pub segment: String,
    /// Start of the window, milliseconds since 1970-01-01 UTC.
    pub window_start_ms: i64,
}

/// Counts of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Accepted inferences.
    pub inferences: u64,
    /// Those with an error.
    pub errors: u64,
    /// Those with a label.
    pub labelled: u64,
    /// Decided positive, labelled positive.
    pub tp: u64,
    /// Decided positive, labelled negative.
    pub fp: u64,
    /// Decided negative, labelled positive.
    #[serde(rename = "fn")]
    pub fn_: u64,
    /// Decided negative, labelled negative.
    pub tn: u64,
    /// Labels that replaced an earlier one.
    pub label_corrections: u64,
    /// Labels that said what was known.
    pub label_duplicates: u64,
}

impl Counts {
    /// The confusion cell of a decision and a label.
    pub(super) fn cell(&mut self, decision: bool, label: bool) -> &mut u64 {
        match (decision, label) {
            (true, true) => &mut self.tp,
            (true, false) => &mut self.fp,
            (false, true) => &mut self.fn_,
            (false, false) => &mut self.tn,
        }
    }
}

/// What became of the inference records that name one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct InferenceOutcomes {
    /// Counted in a window.
    pub accepted: u64,
    /// Sent again.
    pub duplicate: u64,
    /// Sent too late.
    pub late: u64,
    /// Broken.
    pub dead: u64,
}

/// What became of the label records that name, or matched, one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LabelOutcomes {
    /// For an accepted inference.
    pub matched: u64,
    /// For no inference: kept for a while, then orphans.
    pub unmatched: u64,
    /// Broken.
    pub dead: u64,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Counts by row of the base window.
    pub rows: BTreeMap<TruthKey, Counts>,
    /// Outcomes of inference records by model; `''` where the record can't be read.
    pub inferences: BTreeMap<String, InferenceOutcomes>,
    /// Outcomes of label records by model; `''` where the record names none.
    pub labels: BTreeMap<String, LabelOutcomes>,
}

/// One line of the printed truth.
#[derive(Serialize)]
#[serde(untagged)]
enum Line<'a> {
    Row {
        #[serde(flatten)]
        key: &'a TruthKey,
        #[serde(flatten)]
        counts: &'a Counts,
    },
    Inferences {
        topic: &'a str,
        model: &'a str,
        #[serde(flatten)]
        outcomes: &'a InferenceOutcomes,
    },
    Labels {
        topic: &'a str,
        model: &'a str,
        #[serde(flatten)]
        outcomes: &'a LabelOutcomes,
    },
}

impl Truth {
    /// Records of the inference topic.
    pub fn inference_records(&self) -> u64 {
        self.inferences.values().map(|o| o.accepted + o.duplicate + o.late + o.dead).sum()
    }

    /// Records of the label topic.
    pub fn label_records(&self) -> u64 {
        self.labels.values().map(|o| o.matched + o.unmatched + o.dead).sum()
    }

    /// One JSON object a line: rows first, then outcomes by topic and model.
    pub fn to_json_lines(&self) -> String {
        let rows = self.rows.iter().map(|(key, counts)| Line::Row { key, counts });
        let inferences = self.inferences.iter().map(|(model, outcomes)| Line::Inferences {
            topic: "inferences",
            model,
            outcomes,
        });
        let labels = self.labels.iter().map(|(model, outcomes)| Line::Labels {
            topic: "labels",
            model,
            outcomes,
        });
        let mut text = String::new();
        for line in rows.chain(inferences).chain(labels) {
            text.push_str(&serde_json::to_string(&line).expect("plain numbers and texts"));
            text.push('\n');
        }
        text
    }
}
