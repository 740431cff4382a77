//! The registry of metric families: one line each.

pub mod edges;
pub mod exact_sum;
mod pages;
pub mod cells;
pub mod lattice;
pub mod sign;
pub mod expected;
pub mod reference;
pub mod method;
pub mod accumulator;
pub mod dictionary;
pub mod weights;
pub mod distinct;
pub mod interval;
pub mod ranking;
mod stored;
pub mod serving;
pub mod labels;
pub mod binary;
pub mod calibration;
pub mod regression;
pub mod confusion;
pub mod one_vs_rest;
pub mod multiclass;
pub mod estimate;
pub mod class_estimate;
pub mod feature;
pub mod growing;
pub mod features;
pub mod targets;
pub mod data_quality;
pub mod categories;
pub mod drift;
pub mod custom;
mod denominator;

use std::borrow::Cow;
use std::collections::BTreeMap;

use accumulator::{Accumulator, Asked, Column, FigureContext, StateError, Value};
use binary::Binary;
use calibration::Calibration;
use class_estimate::ClassEstimate;
use dictionary::ClassCaps;
use drift::table::Compared;
use estimate::Estimate;
use feature::FeatureState;
use features::Features;
use labels::Labels;
use multiclass::Multiclass;
use regression::Regression;
use serving::Serving;
use targets::Targets;

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
    /// Quality of a model that decides between several classes.
    pub multiclass: Optional<Multiclass>,
    /// Estimates of the quality of a binary model whose reference has a calibrator.
    pub estimate: Optional<Estimate>,
    /// The same of a model with several classes.
    pub class_estimate: Optional<ClassEstimate>,
    /// What the features hold.
    pub features: Optional<Features>,
    /// Predictions and labels, as far as the reference has any.
    pub targets: Optional<Targets>,
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

    /// Folds records in, if there are any.
    pub fn add_any<'a>(&mut self, inputs: impl Iterator<Item = A::Input<'a>>) {
        let mut inputs = inputs.peekable();
        if inputs.peek().is_some() {
            self.get_mut().add_all(inputs);
        }
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

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
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
    /// Folds in what waits: afterwards the state is read without copies.
    pub fn settle(&mut self) {
        if let Some(features) = &mut self.features.0 {
            features.settle();
        }
    }

    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.serving.merge(&other.serving);
        self.labels.merge(&other.labels);
        self.binary.merge(&other.binary);
        self.calibration.merge(&other.calibration);
        self.regression.merge(&other.regression);
        self.multiclass.merge(&other.multiclass);
        self.estimate.merge(&other.estimate);
        self.class_estimate.merge(&other.class_estimate);
        self.features.merge(&other.features);
        self.targets.merge(&other.targets);
    }

    /// One value for each of [`state_columns`], in that order. Equal states give equal values.
    pub fn state(&self) -> Vec<Value> {
        let mut values = Vec::with_capacity(state_columns().count());
        self.serving.state(&mut values);
        self.labels.state(&mut values);
        self.binary.state(&mut values);
        self.calibration.state(&mut values);
        self.regression.state(&mut values);
        self.multiclass.state(&mut values);
        self.estimate.state(&mut values);
        self.class_estimate.state(&mut values);
        self.features.state(&mut values);
        self.targets.state(&mut values);
        values
    }

    /// Reads what [`state`](Self::state) gave of a state with these caps. One that holds more is of another job, and
    /// refused.
    pub fn restore(values: &[Value], caps: ClassCaps) -> Result<Self, StateError> {
        let mut values = values.iter();
        let mut restored = Self {
            serving: Serving::restore(&mut values)?,
            labels: Labels::restore(&mut values)?,
            binary: Optional::restore(&mut values)?,
            calibration: Optional::restore(&mut values)?,
            regression: Optional::restore(&mut values)?,
            multiclass: Optional::restore(&mut values)?,
            estimate: Optional::restore(&mut values)?,
            class_estimate: Optional::restore(&mut values)?,
            features: Optional::restore(&mut values)?,
            targets: Optional::restore(&mut values)?,
        };
        if values.next().is_some() {
            return Err(StateError::TooLong);
        }
        if let Some(multiclass) = &mut restored.multiclass.0 {
            multiclass.go_by(caps).check_caps()?;
        }
        if let Some(estimate) = &mut restored.class_estimate.0 {
            estimate.go_by(caps).check_caps()?;
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
            + self.multiclass.heap_bytes()
            + self.estimate.heap_bytes()
            + self.class_estimate.heap_bytes()
            + self.features.heap_bytes()
            + self.targets.heap_bytes()
    }

    /// The rows that are asked for of each metric table that has any: those of a task only where an inference of it was
    /// accepted.
    pub fn figures(&self, context: &FigureContext<'_>) -> Vec<(MetricTable, Vec<Value>)> {
        let mut rows = Vec::new();
        if context.rows == Asked::All {
            rows.push((MetricTable::Serving, figures_of(&self.serving, context)));
        }
        rows.push((MetricTable::Labels, figures_of(&self.labels, context)));
        if let Some(binary) = self.binary.get().filter(|binary| binary.inferences() > 0) {
            rows.push((MetricTable::QualityBinary, figures_of(binary, context)));
            let thresholds = binary.threshold_rows(context).into_iter();
            rows.extend(thresholds.map(|row| (MetricTable::QualityThreshold, row)));
        }
        if let Some(calibration) = self.calibration.get() {
            rows.push((MetricTable::Calibration, figures_of(calibration, context)));
            let bins = calibration.bin_rows(context).into_iter();
            rows.extend(bins.map(|row| (MetricTable::CalibrationBins, row)));
        }
        if let Some(regression) = self.regression.get().filter(|it| it.inferences() > 0) {
            rows.push((MetricTable::QualityRegression, figures_of(regression, context)));
        }
        if let Some(multiclass) = self.multiclass.get().filter(|it| it.inferences() > 0) {
            rows.push((MetricTable::QualityMulticlass, figures_of(multiclass, context)));
            let classes = multiclass.class_rows(context).into_iter();
            rows.extend(classes.map(|row| (MetricTable::QualityClasses, row)));
            let cells = multiclass.confusion_rows(context).into_iter();
            rows.extend(cells.map(|row| (MetricTable::Confusion, row)));
        }
        // A key has one row: that of binary records, should there be records of both kinds.
        if let Some(estimate) = self.estimate.get() {
            rows.push((MetricTable::QualityEstimated, figures_of(estimate, context)));
        } else if let Some(estimate) = self.class_estimate.get() {
            rows.push((MetricTable::QualityEstimated, figures_of(estimate, context)));
        }
        if context.rows == Asked::All {
            self.push_features(context, &mut rows);
        }
        if let Some(profile) = context.reference {
            let compared =
                drift::table::rows(profile, &self.compared(), context.drift, context.rows);
            rows.extend(compared.into_iter().map(|row| (MetricTable::Drift, row)));
        }
        rows
    }

    /// The rows of what features hold.
    fn push_features(
        &self,
        context: &FigureContext<'_>,
        rows: &mut Vec<(MetricTable, Vec<Value>)>,
    ) {
        let inferences = self.serving.inferences();
        let mut features: BTreeMap<_, _> =
            self.features.get().map(Features::sorted).unwrap_or_default().into_iter().collect();
        // One that no inference carries any more is missing in all of them.
        if let Some(profile) = context.reference.filter(|_| inferences > 0) {
            for name in profile.features.keys() {
                features.entry(name).or_insert_with(|| Cow::Owned(FeatureState::default()));
            }
        }
        let are_capped = self.features.get().is_some_and(Features::are_capped);
        let profile_of = |name: &str| {
            let profile = context.reference.and_then(|profile| profile.features.get(name));
            profile.map(|profile| &**profile)
        };
        rows.extend(features.iter().map(|(name, state)| {
            let of = (inferences, are_capped);
            (MetricTable::DataQuality, data_quality::row(name, state, profile_of(name), of))
        }));
        rows.extend(features.iter().flat_map(|(name, state)| {
            let rows = categories::rows(name, state, profile_of(name)).into_iter();
            rows.map(|row| (MetricTable::Categories, row))
        }));
    }

    /// What a profile is compared with.
    fn compared(&self) -> Compared<'_> {
        let (binary, regression) = (self.binary.get(), self.regression.get());
        let predictions = binary.map_or(0, Binary::inferences)
            + regression.map_or(0, Regression::inferences)
            + self.multiclass.get().map_or(0, Multiclass::inferences);
        Compared {
            features: self.features.get(),
            binary,
            targets: self.targets.get(),
            inferences: self.serving.inferences(),
            predictions,
            labelled: self.labels.labelled(),
        }
    }
}

impl PartialEq for Families {
    fn eq(&self, other: &Self) -> bool {
        self.serving == other.serving
            && self.labels == other.labels
            && self.binary == other.binary
            && self.calibration == other.calibration
            && self.regression == other.regression
            && self.multiclass == other.multiclass
            && self.estimate == other.estimate
            && self.class_estimate == other.class_estimate
            && self.features == other.features
            && self.targets == other.targets
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
    let families = [
        Serving::STATE,
        Labels::STATE,
        Binary::STATE,
        Calibration::STATE,
        Regression::STATE,
        Multiclass::STATE,
        Estimate::STATE,
        ClassEstimate::STATE,
        Features::STATE,
        Targets::STATE,
    ];
    families.into_iter().flatten()
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
    /// `quality_multiclass`.
    QualityMulticlass,
    /// `quality_classes`, by class.
    QualityClasses,
    /// `confusion`, by true and predicted class.
    Confusion,
    /// `quality_estimated`.
    QualityEstimated,
    /// `data_quality`, by feature.
    DataQuality,
    /// `categories`, by feature and category.
    Categories,
    /// `drift`, by what is compared and how.
    Drift,
    /// `custom`, by metric of the configuration.
    Custom,
}

impl MetricTable {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::Serving,
        Self::Labels,
        Self::QualityBinary,
        Self::QualityThreshold,
        Self::Calibration,
        Self::CalibrationBins,
        Self::QualityRegression,
        Self::QualityMulticlass,
        Self::QualityClasses,
        Self::Confusion,
        Self::QualityEstimated,
        Self::DataQuality,
        Self::Categories,
        Self::Drift,
        Self::Custom,
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
            Self::QualityMulticlass => "quality_multiclass",
            Self::QualityClasses => "quality_classes",
            Self::Confusion => "confusion",
            Self::QualityEstimated => "quality_estimated",
            Self::DataQuality => "data_quality",
            Self::Categories => "categories",
            Self::Drift => "drift",
            Self::Custom => "custom",
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
            Self::QualityMulticlass => {
                "Quality of models that decide between several classes, of the labelled inferences, with 95 % intervals."
            }
            Self::QualityClasses => {
                "Quality of models that decide between several classes: one row for each true or predicted class."
            }
            Self::Confusion => {
                "Confusion matrix of models that decide between several classes: one row for each cell with a count."
            }
            Self::QualityEstimated => {
                "Quality of models with classes estimated without labels, from scores that the reference calibrates, beside what labels say."
            }
            Self::DataQuality => {
                "What each feature of the inferences holds: missing values, wrong types, range, distribution."
            }
            Self::Categories => {
                "How often each category of a feature came, beside the reference: the 20 most frequent, and all others."
            }
            Self::Drift => {
                "How far features, scores, predictions and labels lie from those of the model's reference, by each method, and whether that is drift."
            }
            Self::Custom => {
                "Metrics that the configuration defines: one row for each, with the reason where it is undefined."
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
            | Self::QualityRegression
            | Self::QualityMulticlass
            | Self::QualityEstimated => 0,
            Self::QualityThreshold
            | Self::CalibrationBins
            | Self::QualityClasses
            | Self::DataQuality
            | Self::Custom => 1,
            Self::Confusion | Self::Categories => 2,
            Self::Drift => 3,
        }
    }

    /// Whether labels change anything in this row of the table; the others are of inferences alone, and stay as they are
    /// when labels come.
    pub fn row_reads_labels(self, values: &[Value]) -> bool {
        let is_of_inferences = matches!(self, Self::Serving | Self::DataQuality | Self::Categories)
            || (self == Self::Drift && !drift::table::is_of_labels(values));
        // A table that is not named is written with every label: that is always right.
        !is_of_inferences
    }

    /// Whether a row of a window can go again: that of a bin, class, cell or category that is empty by now, or of a
    /// category that others have overtaken.
    pub fn rows_can_go(self) -> bool {
        matches!(
            self,
            Self::CalibrationBins | Self::QualityClasses | Self::Confusion | Self::Categories
        )
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
            Self::QualityMulticlass => Multiclass::FIGURES,
            Self::QualityClasses => multiclass::CLASS_FIGURES,
            Self::Confusion => multiclass::CONFUSION_FIGURES,
            Self::QualityEstimated => Estimate::FIGURES,
            Self::DataQuality => data_quality::DATA_QUALITY_FIGURES,
            Self::Categories => categories::CATEGORY_FIGURES,
            Self::Drift => drift::table::DRIFT_FIGURES,
            Self::Custom => custom::CUSTOM_FIGURES,
        }
    }

    /// The table of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.name() == name)
    }

    /// Whether it has a column of this name.
    pub fn has(self, column: &str) -> bool {
        self.columns().iter().any(|known| known.name == column)
    }

    /// Whether a column is a limit of another's interval, which stands beside it: the edges of a bin are limits of
    /// nothing.
    pub fn is_limit(self, column: &str) -> bool {
        self.limited(column).is_some()
    }

    /// Whether a column's 95 % interval stands beside it. The limits in `drift` are none: those of distances say what
    /// binning may have changed.
    pub fn has_interval(self, column: &str) -> bool {
        self != Self::Drift
            && ["lower", "upper"].into_iter().all(|end| {
                let limit = format!("{column}_{end}");
                self.has(&limit) && self.is_limit(&limit)
            })
    }

    /// The column that another is a limit of.
    fn limited(self, column: &str) -> Option<&str> {
        let of = column.strip_suffix("_lower").or_else(|| column.strip_suffix("_upper"));
        let mut figures = self.columns().iter().skip(self.keys());
        of.filter(|of| figures.any(|figure| figure.name == *of))
    }

    /// Whether a column is computed from labels, so that it says little while few have come; of drift only rows of the
    /// kind label are.
    pub fn reads_labels(self, column: &str) -> bool {
        match self {
            Self::QualityBinary
            | Self::QualityThreshold
            | Self::Calibration
            | Self::CalibrationBins
            | Self::QualityRegression
            | Self::QualityMulticlass
            | Self::QualityClasses
            | Self::Confusion
            | Self::Drift => true,
            Self::QualityEstimated => estimate::reads_labels(column),
            Self::Serving | Self::Labels | Self::DataQuality | Self::Categories | Self::Custom => {
                false
            }
        }
    }
}
