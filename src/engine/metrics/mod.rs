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

use accumulator::{Accumulator, Column, FigureContext, StateError, Value};
use binary::Binary;
use labels::Labels;
use serving::Serving;

/// All families of one key.
#[derive(Clone, Debug, Default)]
pub struct Families {
    /// Traffic, errors, latency.
    pub serving: Serving,
    /// Accounts of labels.
    pub labels: Labels,
    /// Quality of a binary model; none is the same as an empty one.
    pub binary: Option<Box<Binary>>,
}

impl Families {
    /// The binary family, made where there is none yet.
    pub fn binary_mut(&mut self) -> &mut Binary {
        self.binary.get_or_insert_default()
    }

    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.serving.merge(&other.serving);
        self.labels.merge(&other.labels);
        if let Some(binary) = &other.binary {
            self.binary_mut().merge(binary);
        }
    }

    /// One value for each of [`state_columns`], in that order. Equal states give equal values.
    pub fn state(&self) -> Vec<Value> {
        let mut values = Vec::with_capacity(state_columns().count());
        self.serving.state(&mut values);
        self.labels.state(&mut values);
        match &self.binary {
            Some(binary) => binary.state(&mut values),
            None => Binary::default().state(&mut values),
        }
        values
    }

    /// Reads what [`state`](Self::state) gave.
    pub fn restore(values: Vec<Value>) -> Result<Self, StateError> {
        let mut values = values.into_iter();
        let serving = Serving::restore(&mut values)?;
        let labels = Labels::restore(&mut values)?;
        let binary = Binary::restore(&mut values)?;
        if values.next().is_some() {
            return Err(StateError::TooLong);
        }
        let binary = (!binary.is_empty()).then(|| Box::new(binary));
        Ok(Self { serving, labels, binary })
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let binary =
            self.binary.as_ref().map_or(0, |binary| size_of::<Binary>() + binary.heap_bytes());
        self.serving.heap_bytes() + self.labels.heap_bytes() + binary
    }

    /// The row of each wide table that has one: `quality_binary` only where a binary inference was accepted.
    pub fn figures(&self, context: &FigureContext) -> Vec<(MetricTable, Vec<Value>)> {
        let mut rows = vec![
            (MetricTable::Serving, figures_of(&self.serving, context)),
            (MetricTable::Labels, figures_of(&self.labels, context)),
        ];
        if let Some(binary) = self.binary.as_ref().filter(|binary| binary.inferences() > 0) {
            rows.push((MetricTable::QualityBinary, figures_of(&**binary, context)));
        }
        rows
    }
}

impl PartialEq for Families {
    fn eq(&self, other: &Self) -> bool {
        let binaries = match (&self.binary, &other.binary) {
            (Some(left), Some(right)) => left == right,
            (Some(only), None) | (None, Some(only)) => only.is_empty(),
            (None, None) => true,
        };
        binaries && self.serving == other.serving && self.labels == other.labels
    }
}

fn figures_of<A: Accumulator>(family: &A, context: &FigureContext) -> Vec<Value> {
    let mut values = Vec::with_capacity(A::FIGURES.len());
    family.figures(context, &mut values);
    debug_assert_eq!(values.len(), A::FIGURES.len(), "one value for each column");
    values
}

/// The columns of the state table that the families fill, in order.
pub fn state_columns() -> impl Iterator<Item = &'static Column> {
    [Serving::STATE, Labels::STATE, Binary::STATE].into_iter().flatten()
}

/// A wide table: one row for each grain, model, version, segment and window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricTable {
    /// `serving`.
    Serving,
    /// `labels`.
    Labels,
    /// `quality_binary`.
    QualityBinary,
}

impl MetricTable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Serving, Self::Labels, Self::QualityBinary];

    /// The table's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Labels => "labels",
            Self::QualityBinary => "quality_binary",
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
        }
    }

    /// The columns between the key and `undefined`.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Serving => Serving::FIGURES,
            Self::Labels => Labels::FIGURES,
            Self::QualityBinary => Binary::FIGURES,
        }
    }
}
