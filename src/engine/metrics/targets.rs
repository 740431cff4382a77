//! Predictions and labels, counted in the cells of the reference profile: what their drift is read from.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Value};
use super::cells::Cells;
use super::interval::cells;
use super::reference::{FeatureProfile, Profile, Values};
use super::sign::Sign;
use super::stored::Stored;
use crate::engine::event::Target;
use crate::engine::names::{ClassId, Names};

/// What one inference, or its winning label, adds: the place where [`TargetCells`] counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetsInput {
    /// The prediction of an accepted inference, or that it has none.
    Prediction(u16),
    /// The label.
    Label(u16),
}

/// Inferences without a prediction.
const ABSENT: u16 = 0;
/// Values of another kind than the profile's.
const OTHER_KIND: u16 = 1;
/// From here on the cells of a profile of numbers; or its categories in their order, and behind them what is in none.
const FIRST: u16 = 2;
/// More places than any profile needs.
const PLACES: u16 = u16::MAX;

/// Where the predictions and labels are counted that one profile is compared with. Classes are numbers of one table of
/// names.
#[derive(Debug)]
pub struct TargetCells {
    reference: Arc<Profile>,
    predicted: Classes,
    labelled: Classes,
}

impl TargetCells {
    /// Those of a profile; none where it has neither predictions nor labels.
    pub fn new(reference: &Arc<Profile>, names: &mut Names) -> Option<Self> {
        let Profile { prediction, label, .. } = &**reference;
        if prediction.is_none() && label.is_none() {
            return None;
        }
        let [predicted, labelled] =
            [prediction, label].map(|profile| Classes::of(profile.as_ref(), names));
        Some(Self { reference: Arc::clone(reference), predicted, labelled })
    }

    /// Whether they are those of this profile.
    pub fn is_of(&self, reference: &Arc<Profile>) -> bool {
        Arc::ptr_eq(&self.reference, reference)
    }

    /// What a prediction adds; nothing where the profile has none.
    #[inline]
    pub fn prediction(&self, value: Target) -> Option<TargetsInput> {
        let profile = self.reference.prediction.as_ref()?;
        Some(TargetsInput::Prediction(self.predicted.place(profile, value)))
    }

    /// What a label adds; nothing where the profile has none.
    #[inline]
    pub fn label(&self, value: Target) -> Option<TargetsInput> {
        let profile = self.reference.label.as_ref()?;
        Some(TargetsInput::Label(self.labelled.place(profile, value)))
    }
}

/// The places of a profile's categories among them; empty for numbers.
#[derive(Debug, Default)]
struct Classes(HashMap<(u8, u64), u16, FixedState>);

impl Classes {
    /// Classes are compared as texts: each number and truth value whose text is a category is one of it, too.
    fn of(profile: Option<&FeatureProfile>, names: &mut Names) -> Self {
        let mut places = HashMap::with_hasher(FixedState::default());
        let listed = profile.and_then(FeatureProfile::categories);
        for (at, (name, _)) in (0..).zip(listed.iter().flat_map(|listed| &listed.categories)) {
            places.insert(key(Target::Class(ClassId(names.intern(name)))), at);
            if let Ok(number) = name.parse::<f64>()
                && *number.to_string() == **name
            {
                places.insert(key(Target::Number(number)), at);
            }
            if let Ok(truth) = name.parse() {
                places.insert(key(Target::Boolean(truth)), at);
            }
        }
        Self(places)
    }

    fn place(&self, profile: &FeatureProfile, value: Target) -> u16 {
        match (&profile.values, value) {
            (_, Target::Absent) => ABSENT,
            (Values::Numeric(numeric), Target::Number(x)) => FIRST + numeric.cell(x),
            (Values::Numeric(_), Target::Boolean(_) | Target::Class(_)) => OTHER_KIND,
            (Values::Categorical(listed) | Values::Boolean(listed), value) => {
                let unlisted =
                    || u16::try_from(listed.categories.len()).expect("a checked profile has 2^15");
                FIRST + self.0.get(&key(value)).copied().unwrap_or_else(unlisted)
            }
        }
    }
}

/// A value as something that can be hashed: its kind and its bits.
fn key(value: Target) -> (u8, u64) {
    match value {
        Target::Absent => (0, 0),
        Target::Number(x) => (1, x.to_bits()),
        Target::Boolean(truth) => (2, u64::from(truth)),
        Target::Class(class) => (3, u64::from(class.0.0)),
    }
}

/// What a window holds of predictions or labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetCounts {
    /// By cell of a profile of numbers, or by the place of the category; what is in none stands behind the last.
    pub cells: Vec<(u64, u64)>,
    /// Inferences without a value.
    pub missing: u64,
}

/// The state of both. Empty where the reference has neither, and in states of programs that did not count them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Targets {
    predictions: Cells,
    labels: Cells,
}

impl Targets {
    /// The predictions of the inferences.
    pub fn predictions(&self) -> TargetCounts {
        counts(&self.predictions)
    }

    /// The winning labels of the inferences that have one.
    pub fn labels(&self) -> TargetCounts {
        counts(&self.labels)
    }
}

fn counts(all: &Cells) -> TargetCounts {
    let missing = all.iter().find(|(place, _)| *place == ABSENT).map_or(0, |(_, n)| n);
    let own = all.iter().filter(|(place, _)| *place >= FIRST);
    TargetCounts { cells: own.map(|(place, n)| (u64::from(place - FIRST), n)).collect(), missing }
}

impl Accumulator for Targets {
    type Input<'a> = TargetsInput;

    const STATE: &'static [Column] = &[
        cells(
            "prediction_cells",
            "Predictions by cell or category of the reference, from 2; 0: none, 1: of another kind.",
        ),
        cells(
            "label_cells",
            "Winning labels by cell or category of the reference, from 2; 1: of another kind.",
        ),
    ];

    /// The figures are in table `drift`.
    const FIGURES: &'static [Column] = &[];

    #[inline]
    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        match *input {
            TargetsInput::Prediction(place) => sign.cell(&mut self.predictions, place),
            TargetsInput::Label(place) => sign.cell(&mut self.labels, place),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.predictions.merge(&other.predictions);
        self.labels.merge(&other.labels);
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([&self.predictions, &self.labels].map(|cells| Value::Cells(cells.to_pairs())));
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        Ok(Self { predictions: stored.cells(PLACES)?, labels: stored.cells(PLACES)? })
    }

    fn figures(&self, _: &FigureContext<'_>, _: &mut Vec<Value>) {}

    fn heap_bytes(&self) -> usize {
        self.predictions.heap_bytes() + self.labels.heap_bytes()
    }
}
