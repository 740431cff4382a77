//! What a metric family is: additive state, its columns, and the figures read from it.

use std::sync::Arc;

use super::method::Options;
use super::reference::Profile;

use super::exact_sum::ExactSum;
use super::sign::{Minus, Plus, Sign};

/// One additive family of metrics. Laws, to the bit: `Default` is the identity of `merge`; `merge` commutes and
/// associates; `remove` undoes `add` (families that read no label are never asked to); `restore(state(x)) == x`;
/// `figures` only reads.
pub trait Accumulator: Default + Clone + PartialEq {
    /// What one record adds.
    type Input<'a>;
    /// Columns of the state table, in the order of [`state`](Self::state).
    const STATE: &'static [Column];
    /// Columns of the wide table, in the order of [`figures`](Self::figures).
    const FIGURES: &'static [Column];
    /// Folds one record in, or takes it back.
    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign);
    /// Folds one record in.
    #[inline]
    fn add(&mut self, input: &Self::Input<'_>) {
        self.fold(input, Plus);
    }
    /// Folds several records in: the same as each by itself.
    #[inline]
    fn add_all<'a>(&mut self, inputs: impl Iterator<Item = Self::Input<'a>>) {
        inputs.for_each(|input| self.add(&input));
    }
    /// Takes one record back.
    #[inline]
    fn remove(&mut self, input: &Self::Input<'_>) {
        self.fold(input, Minus);
    }
    /// Folds in all that `other` holds.
    fn merge(&mut self, other: &Self);
    /// Appends the state, one value for each column of `STATE`. Equal states give equal values.
    fn state(&self, out: &mut Vec<Value>);
    /// Takes the values of `STATE` off the iterator.
    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError>;
    /// Appends the figures, one value for each column of `FIGURES`.
    fn figures(&self, context: &FigureContext<'_>, out: &mut Vec<Value>);
    /// Memory beyond `size_of::<Self>()`, in bytes.
    fn heap_bytes(&self) -> usize;
}

/// What figures need beside the state.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FigureContext<'a> {
    /// Length of the row's window in milliseconds, greater than 0.
    pub window_ms: i64,
    /// The value of each confusion cell of a binary model, where configured.
    pub value: Option<ValueMatrix>,
    /// Thresholds of a binary model beside its own, which have rows of their own.
    pub thresholds: &'a [f64],
    /// Whether the model's figures take the weights of its labels.
    pub weighted: bool,
    /// What the model's windows are compared with.
    pub reference: Option<&'a Profile>,
    /// What the comparisons are judged by; none: the defaults.
    pub drift: Option<&'a Options>,
    /// Which rows are asked for.
    pub rows: Asked,
}

/// Which rows of a key are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// All.
    #[default]
    All,
    /// Those that labels change: where no more inferences have come, the others are as they were.
    OfLabels,
}

/// What a decision is worth; costs are negative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueMatrix {
    /// A true positive.
    pub tp: f64,
    /// A false positive.
    pub fp: f64,
    /// A false negative.
    pub fn_: f64,
    /// A true negative.
    pub tn: f64,
}

/// One column of a table, as data: DDL, rows and documentation follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// `[a-z0-9_]`, unit last.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// One sentence for the table's reader.
    pub comment: &'static str,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `UInt64`: [`Value::Count`].
    Count,
    /// `DateTime64(3, 'UTC')`: [`Value::Time`].
    Time,
    /// `LowCardinality(String)`: [`Value::Text`].
    Text,
    /// `Float64`, never NULL: [`Value::Figure`] that is always `Ok`.
    Number,
    /// `Nullable(Float64)`: [`Value::Figure`].
    Figure,
    /// `Array(String)`: [`Value::Names`]. State tables only.
    Names,
    /// `String`, the bytes of an [`ExactSum`]: [`Value::Sum`]. State tables only.
    Sum,
    /// `Array(String)`, the bytes of [`ExactSum`]s: [`Value::Sums`]. State tables only.
    Sums,
    /// `Array(Tuple(UInt64, UInt64))`: [`Value::Cells`]. State tables only.
    Cells,
}

/// One value of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A count.
    Count(u64),
    /// Milliseconds since 1970-01-01 UTC.
    Time(i64),
    /// An exact sum; boxed, as it would double the size of every value of every row.
    Sum(Box<ExactSum>),
    /// Exact sums by index; none where all are 0.
    Sums(Vec<ExactSum>),
    /// Cells with a count other than 0, by ascending index.
    Cells(Vec<(u64, u64)>),
    /// Names, in an order that the column's family fixes.
    Names(Vec<Arc<str>>),
    /// A name or a word.
    Text(Text),
    /// A finite number, or why there is none.
    Figure(Result<f64, Undefined>),
}

/// A text of a row. Most are words of this program, which cost nothing to write down once more.
#[derive(Clone, Debug)]
pub enum Text {
    /// A word of this program: a kind, a method, a verdict, a reason.
    Word(&'static str),
    /// A name from records or from the configuration.
    Name(Arc<str>),
}

impl std::ops::Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Name(name) => name,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl From<&'static str> for Text {
    fn from(word: &'static str) -> Self {
        Self::Word(word)
    }
}

impl From<Arc<str>> for Text {
    fn from(name: Arc<str>) -> Self {
        Self::Name(name)
    }
}

/// Why a figure is NULL. Of several reasons the first in this order is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Undefined {
    /// The figure does not exist for this task or kind of feature.
    NotApplicable,
    /// It needs an option that is not set.
    NotConfigured,
    /// There is no reference profile, or it lacks this feature.
    NoReference,
    /// The reference has no labels, so that nothing makes probabilities of scores.
    NoCalibrator,
    /// No labelled inference.
    NoLabels,
    /// No inference with a score, or of what reads labels none that is labelled.
    NoScores,
    /// No record carries the input.
    NoValues,
    /// A cap on names was hit, so the figure would not be exact.
    Capped,
    /// Only positives or only negatives among the scored.
    OneClass,
    /// The ratio's denominator is 0.
    ZeroDenominator,
    /// A spread that is divided by, or that makes the interval, is 0.
    ZeroVariance,
    /// Fewer than the figure needs.
    TooFewSamples,
    /// The interval has no accepted form for weighted labels.
    Weighted,
    /// A part of the figure is larger than a double can be, or than its cells tell apart.
    Overflow,
}

impl Undefined {
    /// The code in column `undefined`.
    pub fn code(self) -> &'static str {
        match self {
            Self::NotApplicable => "not_applicable",
            Self::NotConfigured => "not_configured",
            Self::NoReference => "no_reference",
            Self::NoCalibrator => "no_calibrator",
            Self::NoLabels => "no_labels",
            Self::NoScores => "no_scores",
            Self::NoValues => "no_values",
            Self::Capped => "capped",
            Self::OneClass => "one_class",
            Self::ZeroDenominator => "zero_denominator",
            Self::ZeroVariance => "zero_variance",
            Self::TooFewSamples => "too_few_samples",
            Self::Weighted => "weighted",
            Self::Overflow => "overflow",
        }
    }
}

/// A stored state that is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateError {
    /// The row ends before the state does.
    TooShort,
    /// The row goes on after the state's end.
    TooLong,
    /// The value of this column is of another kind.
    WrongKind(&'static str),
    /// The value of this column is not in the one form in which it is written.
    Malformed(&'static str),
}

impl StateError {
    /// The stable code.
    pub fn code(self) -> &'static str {
        "state_unreadable"
    }
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooShort => write!(f, "a state row has fewer values than its families need"),
            Self::TooLong => write!(f, "a state row has more values than its families need"),
            Self::WrongKind(column) => {
                write!(f, "column {column} of a state row holds another kind of value")
            }
            Self::Malformed(column) => {
                write!(
                    f,
                    "column {column} of a state row has a value that this program does not write"
                )
            }
        }
    }
}

impl std::error::Error for StateError {}
