//! What a rule says of one window.

use std::sync::Arc;

use crate::engine::glob::fits;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::Kind;
use crate::engine::metrics::custom::CustomMetric;
use crate::engine::metrics::expected::{is_expected, name_of};
use crate::engine::metrics::reference::Profile;
use crate::engine::state::Version;
use crate::engine::time::Millis;
use crate::engine::window::Window;

/// A column of a metric table that a rule can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The table.
    pub table: MetricTable,
    /// The column.
    pub column: &'static str,
}

/// The column of `drift` that holds a word instead of a number.
const VERDICT: &str = "verdict";

impl Metric {
    /// The metric of this name, as `quality_binary.precision`.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|metric| metric.name() == name)
    }

    /// The value of custom metrics, which rules name one by one: [`Rule::custom`].
    pub const CUSTOM: Self = Self { table: MetricTable::Custom, column: "value" };

    /// Every column that a rule can be about: figures, counts and the verdict, but not limits of intervals.
    pub fn all() -> impl Iterator<Item = Self> {
        let built_in = MetricTable::ALL.into_iter().filter(|table| *table != MetricTable::Custom);
        built_in.flat_map(|table| {
            let own = table.columns().iter().skip(table.keys());
            let is_known = move |kind: Kind, name: &str| match kind {
                Kind::Count | Kind::Number | Kind::Figure => !table.is_limit(name),
                _ => table == MetricTable::Drift && name == VERDICT,
            };
            own.filter(move |column| is_known(column.kind, column.name))
                .map(move |column| Self { table, column: column.name })
        })
    }

    /// `table.column`.
    pub fn name(self) -> String {
        format!("{}.{}", self.table.name(), self.column)
    }

    /// Whether the table has a 95 % interval of it.
    pub fn has_interval(self) -> bool {
        self.table.has_interval(self.column)
    }

    /// Whether it is `drift.verdict`.
    pub fn is_verdict(self) -> bool {
        self.table == MetricTable::Drift && self.column == VERDICT
    }

    /// Whether it is computed from labels, so that it says little while few have come.
    pub fn reads_labels(self) -> bool {
        self.table.reads_labels(self.column)
    }

    /// Whether a sealed window without a row is a 0.
    pub fn counts_silence(self) -> bool {
        self.table == MetricTable::Serving && self.column == "inferences"
    }

    /// The column of its row that is held against `min_n`: the row's own `n` where it has one, else the records that the
    /// figure is made of. Where the table does not count those, what the first of the table's other figures stands on,
    /// as the support of a class for its AUROC.
    pub fn count_column(self) -> Option<&'static str> {
        match self.table {
            // Of the few that are positive alone a rare class would never be judged; `certain` asks for enough of them.
            MetricTable::QualityBinary
            | MetricTable::QualityThreshold
            | MetricTable::QualityRegression
            | MetricTable::QualityMulticlass
            | MetricTable::Drift => Some("n"),
            table => {
                let others = table.columns().iter().map(|column| column.name);
                let mut all = std::iter::once(self.column).chain(others);
                all.find_map(|column| table.denominator(column).first().copied())
            }
        }
    }

    /// Whether it is that number itself, of which few are news and no doubt.
    pub fn is_count(self) -> bool {
        self.count_column() == Some(self.column)
    }

    /// Whether a reference can say what to expect of it.
    pub fn can_be_learned(self) -> bool {
        is_expected(self.table, self.column)
    }
}

/// Where the good side ends, and where it begins again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Bad strictly below `at`, good again at or above `clear`.
    Below {
        /// The threshold.
        at: f64,
        /// At least `at`.
        clear: f64,
    },
    /// Bad strictly above `at`, good again at or below `clear`.
    Above {
        /// The threshold.
        at: f64,
        /// At most `at`.
        clear: f64,
    },
    /// Bad strictly outside, good again inside, the ends included.
    Outside {
        /// The thresholds, lower and upper.
        at: (f64, f64),
        /// Not outside them.
        clear: (f64, f64),
    },
    /// The same, where the thresholds are mean ± `at` · sd of the model's reference, and `clear` at most that. What they
    /// are depends on the key: [`Rule::bound_of`].
    Learned {
        /// Standard deviations, more than 0.
        at: f64,
        /// Standard deviations, at most `at`.
        clear: f64,
    },
    /// `drift` is bad, `ok` is good, `warn` is between.
    Verdict,
}

impl Bound {
    /// The threshold that this figure is held against, of two the one that it is beyond; a verdict has none.
    pub fn threshold(self, value: Option<f64>) -> Option<f64> {
        match self {
            Self::Below { at, .. } | Self::Above { at, .. } => Some(at),
            Self::Outside { at: (low, high), .. } => {
                value.map(|value| if value < low { low } else { high })
            }
            Self::Learned { .. } | Self::Verdict => None,
        }
    }
}

/// One rule of the configuration, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name: part of the key of its alerts.
    pub name: Arc<str>,
    /// Names and globs of models.
    pub models: Vec<String>,
    /// `all`, or globs like `region=*`.
    pub segments: Vec<String>,
    /// What it is about.
    pub metric: Metric,
    /// Which custom metric, where `metric` is [`Metric::CUSTOM`].
    pub custom: Option<Arc<CustomMetric>>,
    /// The name of the windows' length.
    pub grain: Arc<str>,
    /// The windows' length.
    pub size: Millis,
    /// What is bad.
    pub bound: Bound,
    /// Where limits are learned: the references of models, by pattern; the first that fits counts. Else empty.
    pub references: Vec<(String, Option<Arc<Profile>>)>,
    /// Breaches in a row that open an alert, at least 1.
    pub opens_after: u32,
    /// Clear windows in a row that resolve it, at least 1.
    pub clears_after: u32,
    /// Whether the whole 95 % interval must lie beyond the threshold.
    pub certain: bool,
    /// Fewer records than this say nothing.
    pub min_n: u64,
    /// A smaller share of labelled inferences says nothing; 0 to 1.
    pub min_coverage: f64,
    /// Whether only sealed windows count.
    pub sealed_only: bool,
    /// For whoever is told.
    pub severity: Arc<str>,
}

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertKey {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The model's version.
    pub version: Arc<str>,
    /// `all` or `dimension=value`.
    pub segment: Arc<str>,
    /// The feature, class or threshold, where the table has rows for each; else empty.
    pub feature: Arc<str>,
    /// The name of the windows' length.
    pub grain: Arc<str>,
}

/// One window of one key, as the rule needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The window.
    pub window: Window,
    /// The figure.
    pub value: Option<f64>,
    /// Lower limit of its interval.
    pub lower: Option<f64>,
    /// Upper limit of its interval.
    pub upper: Option<f64>,
    /// `drift.verdict`; empty for other metrics.
    pub verdict: Arc<str>,
    /// Records behind it; none where the table does not say.
    pub n: Option<u64>,
    /// Share of labelled inferences.
    pub coverage: Option<f64>,
    /// Whether nothing can reach the window any more.
    pub sealed: bool,
    /// The row's version; 0 where there is no row.
    pub version: Version,
}

impl Seen {
    /// A sealed window without a row, for metrics whose [`silence counts`](Metric::counts_silence).
    pub fn silent(window: Window) -> Self {
        Self {
            window,
            value: Some(0.0),
            lower: None,
            upper: None,
            verdict: "".into(),
            n: Some(0),
            coverage: None,
            sealed: true,
            version: Version(0),
        }
    }
}

/// What one window means to a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It says nothing, and is skipped.
    Unknown,
    /// Beyond the threshold.
    Breach,
    /// Neither bad nor good again.
    Between,
    /// On the good side.
    Clear,
}

impl Rule {
    /// Whether it is about this model and segment.
    pub fn is_about(&self, model: &str, segment: &str) -> bool {
        self.models.iter().any(|glob| fits(glob, model))
            && self.segments.iter().any(|glob| fits(glob, segment))
    }

    /// Whether an alert of this key is one of its own.
    pub fn owns(&self, key: &AlertKey) -> bool {
        self.name == key.rule && self.grain == key.grain && self.is_about(&key.model, &key.segment)
    }

    /// What it is about: `table.column`, or `custom.` and the metric's name.
    pub fn about(&self) -> String {
        match &self.custom {
            Some(metric) => format!("{}.{}", self.metric.table.name(), metric.name),
            None => self.metric.name(),
        }
    }

    /// Whether that is computed from labels.
    pub fn reads_labels(&self) -> bool {
        match &self.custom {
            Some(metric) => metric.reads_labels(),
            None => self.metric.reads_labels(),
        }
    }

    /// What is bad for one key: where limits are learned, those of its model's reference. None where that does not say
    /// what to expect: then every window is unknown.
    pub fn bound_of(&self, key: &AlertKey) -> Option<Bound> {
        let Bound::Learned { at, clear } = self.bound else { return Some(self.bound) };
        let mut references = self.references.iter();
        let (_, reference) = references.find(|(pattern, _)| fits(pattern, &key.model))?;
        // ClickHouse writes numbers in another way.
        let item = match key.feature.parse::<f64>() {
            Ok(threshold) if self.metric.table == MetricTable::QualityThreshold => {
                &threshold.to_string()
            }
            _ => &*key.feature,
        };
        let name = name_of(self.metric.table, self.metric.column, item);
        let expected = reference.as_ref()?.expected.get(&key.grain, &key.segment, &name)?;
        let [at, clear] = [expected.limits(at)?, expected.limits(clear)?];
        Some(Bound::Outside { at, clear })
    }

    /// What a window means, held against a [bound](Self::bound_of).
    pub fn judge(&self, bound: Option<Bound>, seen: &Seen) -> Judgement {
        let is_thin = seen.n.is_some_and(|n| n < self.min_n)
            || (self.min_coverage > 0.0
                && seen.coverage.is_none_or(|share| share < self.min_coverage))
            || (self.sealed_only && !seen.sealed);
        if is_thin {
            return Judgement::Unknown;
        }
        match bound {
            None | Some(Bound::Learned { .. }) => Judgement::Unknown,
            Some(Bound::Verdict) => match &*seen.verdict {
                "drift" => Judgement::Breach,
                "ok" => Judgement::Clear,
                "warn" => Judgement::Between,
                _ => Judgement::Unknown,
            },
            Some(Bound::Below { at, clear }) => {
                self.between(seen, (at, f64::INFINITY), (clear, f64::INFINITY))
            }
            Some(Bound::Above { at, clear }) => {
                self.between(seen, (f64::NEG_INFINITY, at), (f64::NEG_INFINITY, clear))
            }
            Some(Bound::Outside { at, clear }) => self.between(seen, at, clear),
        }
    }

    fn between(&self, seen: &Seen, (low, high): (f64, f64), clear: (f64, f64)) -> Judgement {
        let Some(value) = seen.value else { return Judgement::Unknown };
        // Without limits nothing is certain, so nothing is a breach.
        let (nearer_low, nearer_high) =
            if self.certain { (seen.upper, seen.lower) } else { (Some(value), Some(value)) };
        if nearer_low.is_some_and(|x| x < low) || nearer_high.is_some_and(|x| x > high) {
            Judgement::Breach
        } else if (clear.0..=clear.1).contains(&value) {
            Judgement::Clear
        } else {
            Judgement::Between
        }
    }
}
