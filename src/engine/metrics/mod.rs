//! The registry of metric families: one line each.

pub mod exact_sum;
pub mod accumulator;
pub mod histogram;
pub mod interval;
pub mod ranking;
mod stored;
pub mod serving;
pub mod labels;
pub mod binary;
pub mod calibration;
pub mod regression;
pub mod reference;
pub mod drift;

use accumulator::{Accumulator, Column, FigureContext, StateError, Value};
use binary::Binary;
use calibration::Calibration;
use labels::Labels;
use regression::Regression;
use serving::Serving;

/// All families of one key.
#[derive(Clone, Debug, Default)]
pub struct Families {
    /// Traffic, errors, latency.
    pub serving: Serving,
    /// Accounts of labels.
    pub labels: Labels,
    /// Quality of a binary model; none is the same as an empty one.
    pub binary: Optional<Binary>,
    /// Calibration of its scores.
    pub calibration: Optional<Calibration>,
    /// Quality of a model that predicts numbers.
    pub regression: Optional<Regression>,
}

/// A family that most keys do not need: made when the first record asks for it. None is the same as an empty one.
#[derive(Clone, Debug)]
pub struct Optional<A>(Option<Box<A>>);

impl<A> Default for Optional<A> {
    fn default() -> Self {
        Self(None)
    }
}

impl<A: Accumulator> Optional<A> {
    /// The family, if it is there.
    pub fn get(&self) -> Option<&A> {
        self.0.as_deref()
    }

    /// The family, made where there is none yet.
    pub fn get_mut(&mut self) -> &mut A {
        self.0.get_or_insert_default()
    }

    fn merge(&mut self, other: &Self) {
        if let Some(other) = other.get() {
            self.get_mut().merge(other);
        }
    }

    fn state(&self, values: &mut Vec<Value>) {
        match self.get() {
            Some(family) => family.state(values),
            None => A::default().state(values),
        }
    }

    fn restore(values: &mut dyn Iterator<Item = Value>) -> Result<Self, StateError> {
        let family = A::restore(values)?;
        Ok(Self((family != A::default()).then(|| Box::new(family))))
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    fn heap_bytes(&self) -> usize {
        self.get().map_or(0, |family| size_of::<A>() + family.heap_bytes())
    }
}

impl<A: Accumulator> PartialEq for Optional<A> {
    fn eq(&self, other: &Self) -> bool {
        match (self.get(), other.get()) {
            (Some(left), Some(right)) => left == right,
            (Some(only), None) | (None, Some(only)) => *only == A::default(),
            (None, None) => true,
        }
    }
}

impl Families {
    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.serving.merge(&other.serving);
        self.labels.merge(&other.labels);
        self.binary.merge(&other.binary);
        self.calibration.merge(&other.calibration);
        self.regression.merge(&other.regression);
    }

    /// One value for each of [`state_columns`], in that order. Equal states give equal values.
    pub fn state(&self) -> Vec<Value> {
        let mut values = Vec::with_capacity(state_columns().count());
        self.serving.state(&mut values);
        self.labels.state(&mut values);
        self.binary.state(&mut values);
        self.calibration.state(&mut values);
        self.regression.state(&mut values);
        values
    }

    /// Reads what [`state`](Self::state) gave.
    pub fn restore(values: Vec<Value>) -> Result<Self, StateError> {
        let mut values = values.into_iter();
        let restored = Self {
            serving: Serving::restore(&mut values)?,
            labels: Labels::restore(&mut values)?,
            binary: Optional::restore(&mut values)?,
            calibration: Optional::restore(&mut values)?,
            regression: Optional::restore(&mut values)?,
        };
        if values.next().is_some() {
            return Err(StateError::TooLong);
        }
        Ok(restored)
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.serving.heap_bytes()
            + self.labels.heap_bytes()
            + self.binary.heap_bytes()
            + self.calibration.heap_bytes()
            + self.regression.heap_bytes()
    }

    /// The rows of each metric table that has any: those of a task only where an inference of it was accepted.
    pub fn figures(&self, context: &FigureContext<'_>) -> Vec<(MetricTable, Vec<Value>)> {
        let mut rows = vec![
            (MetricTable::Serving, figures_of(&self.serving, context)),
            (MetricTable::Labels, figures_of(&self.labels, context)),
        ];
        if let Some(binary) = self.binary.get().filter(|binary| binary.inferences() > 0) {
            rows.push((MetricTable::QualityBinary, figures_of(binary, context)));
            let thresholds = binary.threshold_rows(context).into_iter();
            rows.extend(thresholds.map(|row| (MetricTable::QualityThreshold, row)));
        }
        if let Some(calibration) = self.calibration.get() {
            rows.push((MetricTable::Calibration, figures_of(calibration, context)));
            let bins = calibration.bin_rows().into_iter();
            rows.extend(bins.map(|row| (MetricTable::CalibrationBins, row)));
        }
        if let Some(regression) = self.regression.get().filter(|it| it.inferences() > 0) {
            rows.push((MetricTable::QualityRegression, figures_of(regression, context)));
        }
        rows
    }
}

impl PartialEq for Families {
    fn eq(&self, other: &Self) -> bool {
        self.serving == other.serving
            && self.labels == other.labels
            && self.binary == other.binary
            && self.calibration == other.calibration
            && self.regression == other.regression
    }
}

fn figures_of<A: Accumulator>(family: &A, context: &FigureContext<'_>) -> Vec<Value> {
    let mut values = Vec::with_capacity(A::FIGURES.len());
    family.figures(context, &mut values);
    debug_assert_eq!(values.len(), A::FIGURES.len(), "one value for each column");
    values
}

/// The columns of the state table that the families fill, in order.
pub fn state_columns() -> impl Iterator<Item = &'static Column> {
    [Serving::STATE, Labels::STATE, Binary::STATE, Calibration::STATE, Regression::STATE]
        .into_iter()
        .flatten()
}

/// A metric table: rows for each grain, model, version, segment and window, one or several with keys of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricTable {
    /// `serving`.
    Serving,
    /// `labels`.
    Labels,
    /// `quality_binary`.
    QualityBinary,
    /// `quality_threshold`, by threshold.
    QualityThreshold,
    /// `calibration`.
    Calibration,
    /// `calibration_bins`, by bin.
    CalibrationBins,
    /// `quality_regression`.
    QualityRegression,
}

impl MetricTable {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Serving,
        Self::Labels,
        Self::QualityBinary,
        Self::QualityThreshold,
        Self::Calibration,
        Self::CalibrationBins,
        Self::QualityRegression,
    ];

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Labels => "labels",
            Self::QualityBinary => "quality_binary",
            Self::QualityThreshold => "quality_threshold",
            Self::Calibration => "calibration",
            Self::CalibrationBins => "calibration_bins",
            Self::QualityRegression => "quality_regression",
        }
    }

    /// One sentence for the table's reader.
    pub fn comment(self) -> &'static str {
        match self {
            Self::Serving => {
                "Traffic, errors, latency and freshness of each model, version, segment and window."
            }
            Self::Labels => {
                "Which inferences have a label, how long it took, and how often labels were corrected or repeated."
            }
            Self::QualityBinary => {
                "Quality of binary models, of the labelled inferences, with 95 % intervals."
            }
            Self::QualityThreshold => {
                "Quality of binary models, if scores were decided at another threshold: one row for each configured one."
            }
            Self::Calibration => {
                "Whether binary scores are the probabilities that they claim to be, of the labelled scores."
            }
            Self::CalibrationBins => {
                "Mean score and rate of positives in each tenth of the scores: the points of a reliability diagram."
            }
            Self::QualityRegression => {
                "Quality of models that predict numbers, of the labelled inferences, with 95 % intervals."
            }
        }
    }

    /// How many of the [`columns`](Self::columns), from the first, tell rows of one window apart.
    pub fn keys(self) -> usize {
        match self {
            Self::Serving
            | Self::Labels
            | Self::QualityBinary
            | Self::Calibration
            | Self::QualityRegression => 0,
            Self::QualityThreshold | Self::CalibrationBins => 1,
        }
    }

    /// The columns between the segment and `undefined`.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Serving => Serving::FIGURES,
            Self::Labels => Labels::FIGURES,
            Self::QualityBinary => Binary::FIGURES,
            Self::QualityThreshold => binary::THRESHOLD_FIGURES,
            Self::Calibration => Calibration::FIGURES,
            Self::CalibrationBins => calibration::BIN_FIGURES,
            Self::QualityRegression => Regression::FIGURES,
        }
    }
}
