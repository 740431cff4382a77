//! What the windows of a reference came to: `metrics.md` 9. Rules with learned limits hold windows against it (12).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::MetricTable;

/// In fewer windows a mean and its spread say little.
pub const FEWEST_WINDOWS: u64 = 10;

/// One column over the windows of a reference where it is defined.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// How many windows, at least [`FEWEST_WINDOWS`].
    pub windows: u64,
    /// Mean over their rows, one for each version of the model, in the column's unit.
    pub mean: f64,
    /// Standard deviation (ddof 0), in the column's unit.
    pub sd: f64,
}

impl Expectation {
    /// mean ± `k` · sd; none where a double cannot be so large.
    pub fn limits(&self, k: f64) -> Option<(f64, f64)> {
        let (low, high) = (self.mean - k * self.sd, self.mean + k * self.sd);
        (low.is_finite() && high.is_finite()).then_some((low, high))
    }

    /// Whether limits can be made of it.
    pub fn is_sound(&self) -> bool {
        self.windows >= FEWEST_WINDOWS
            && self.mean.is_finite()
            && self.sd.is_finite()
            && self.sd >= 0.0
    }
}

/// Expectations by name of the column, as [`name_of`] makes it.
pub type ByName = BTreeMap<Arc<str>, Expectation>;

/// What a reference expects: by grain, then by segment, then by name of the column.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected(pub BTreeMap<Arc<str>, BTreeMap<Arc<str>, ByName>>);

impl Expected {
    /// What is expected of a column in a segment's windows of a grain.
    pub fn get(&self, grain: &str, segment: &str, name: &str) -> Option<&Expectation> {
        self.0.get(grain)?.get(segment)?.get(name)
    }

    /// Whether anything is expected of a column, whatever the row's own keys, in a segment that `is_meant`.
    pub fn knows(&self, grain: &str, is_meant: impl Fn(&str) -> bool, column: &str) -> bool {
        let segments = self.0.get(grain).into_iter().flatten();
        segments.filter(|(segment, _)| is_meant(segment)).any(|(_, names)| {
            names.keys().any(|name| name.split('/').next().is_some_and(|own| own == column))
        })
    }

    /// Whether nothing is expected.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many figures have an expectation.
    pub fn len(&self) -> usize {
        self.0.values().flat_map(BTreeMap::values).map(BTreeMap::len).sum()
    }
}

/// `table.column`, and the row's own keys behind a `/` where it has any: `quality_classes.recall/cat`.
pub fn name_of(table: MetricTable, column: &str, item: &str) -> String {
    let mut name = format!("{}.{column}", table.name());
    if !item.is_empty() {
        write!(name, "/{item}").expect("a String takes all");
    }
    name
}

/// Whether a reference says what to expect of a column: figures and counts of sections 2 and 4 to 7. Freshness is not
/// one of them: it is made of log times, and a reference need not have any.
pub fn is_expected(table: MetricTable, column: &str) -> bool {
    let is_limit = column.ends_with("_lower") || column.ends_with("_upper");
    let is_of_section = match table {
        MetricTable::Serving => !column.starts_with("freshness_"),
        MetricTable::QualityBinary
        | MetricTable::QualityThreshold
        | MetricTable::Calibration
        | MetricTable::CalibrationBins
        | MetricTable::QualityRegression
        | MetricTable::QualityMulticlass
        | MetricTable::QualityClasses
        | MetricTable::Confusion => true,
        MetricTable::Labels
        | MetricTable::QualityEstimated
        | MetricTable::DataQuality
        | MetricTable::Categories
        | MetricTable::Drift
        | MetricTable::Custom => false,
    };
    is_of_section && !is_limit
}
