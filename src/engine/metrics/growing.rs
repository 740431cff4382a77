//! The states of features while records come. Most windows of most models hold few inferences, and a state takes much
//! more memory than a few numbers do: so those of the first inferences are kept as they are, until they are many. Later
//! numbers wait for some others too, because to fold many of one feature at once is cheaper, and all numbers of an
//! inference wait in one place, because to write them side by side is cheaper than to visit each feature.

use std::borrow::Cow;
use std::sync::Arc;

use super::feature::FeatureState;
use super::reference::FeatureProfile;
use crate::engine::event::FeatureValue;

/// How many numbers of a feature wait.
pub const FEW: usize = 16;

/// The state of one feature, but for the numbers that still wait.
#[derive(Clone, Debug)]
pub struct Growing(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Nothing was folded in yet; the values are to be held against this profile.
    Empty(Option<Arc<FeatureProfile>>),
    Some(Box<FeatureState>),
}

impl Default for Growing {
    fn default() -> Self {
        Self(Form::Empty(None))
    }
}

impl From<FeatureState> for Growing {
    fn from(state: FeatureState) -> Self {
        Self(Form::Some(Box::new(state)))
    }
}

impl Growing {
    /// An empty state whose values are held against this profile, and whether its numbers are told apart.
    pub fn of(profile: Option<&Arc<FeatureProfile>>, is_distinct: bool) -> Self {
        if is_distinct {
            return FeatureState::of(profile, true).into();
        }
        Self(Form::Empty(profile.cloned()))
    }

    /// Folds one value in.
    #[inline]
    pub fn add(&mut self, value: &FeatureValue<'_>) {
        match (&mut self.0, value) {
            (_, FeatureValue::Missing) => {}
            (Form::Some(state), value) => state.add(value),
            (Form::Empty(_), value) => self.state_mut().add(value),
        }
    }

    /// Folds in numbers that have waited.
    pub fn add_numbers(&mut self, numbers: &[f64]) {
        if !numbers.is_empty() {
            self.state_mut().add_numbers(numbers);
        }
    }

    fn state_mut(&mut self) -> &mut FeatureState {
        if let Form::Empty(profile) = &self.0 {
            *self = FeatureState::of(profile.as_ref(), false).into();
        }
        match &mut self.0 {
            Form::Some(state) => state,
            Form::Empty(_) => unreachable!("it was replaced above"),
        }
    }

    /// All that was folded in, and the numbers that wait.
    pub fn with(&self, waiting: &[f64]) -> Cow<'_, FeatureState> {
        let mut state = match &self.0 {
            Form::Some(state) if waiting.is_empty() => return Cow::Borrowed(state),
            Form::Some(state) => FeatureState::clone(state),
            Form::Empty(profile) => FeatureState::of(profile.as_ref(), false),
        };
        state.add_numbers(waiting);
        Cow::Owned(state)
    }

    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &FeatureState) {
        self.state_mut().merge(other);
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Empty(_) => 0,
            Form::Some(state) => size_of::<FeatureState>() + state.heap_bytes(),
        }
    }
}

/// Finite numbers that wait, in rows in which each feature has a place: one for each inference, or for several that have
/// few features and, together, none of them twice.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    /// Row by row; NaN where a feature has no number in a row.
    numbers: Vec<f64>,
    /// Places of a row.
    width: usize,
}

impl Waiting {
    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// Whether there are as many rows as may be: they are to be [cleared](Self::clear) then.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.numbers.len() >= FEW * self.width
    }

    /// One more row, without numbers yet, that has so many places at least.
    #[inline]
    pub fn begin(&mut self, width: usize) -> &mut [f64] {
        if width > self.width {
            self.widen(width);
        }
        let first = self.numbers.len();
        if self.numbers.capacity() - first < self.width {
            self.make_room();
        }
        self.numbers.resize(first + self.width, f64::NAN);
        &mut self.numbers[first..]
    }

    /// Writes a number into the newest row. False, with nothing done, if there is none that has the place free.
    #[inline]
    pub fn put(&mut self, place: usize, x: f64) -> bool {
        if self.is_empty() || place >= self.width {
            return false;
        }
        let first = self.numbers.len() - self.width;
        let slot = &mut self.numbers[first + place];
        let is_free = slot.is_nan();
        if is_free {
            *slot = x;
        }
        is_free
    }

    /// The numbers of the feature at this place.
    #[inline]
    pub fn of<'n>(&self, place: usize, room: &'n mut [f64; FEW]) -> &'n [f64] {
        let mut count = 0;
        if place < self.width {
            for &x in self.numbers[place.min(self.numbers.len())..].iter().step_by(self.width) {
                room[count] = x;
                count += usize::from(!x.is_nan());
            }
        }
        &room[..count]
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.numbers.clear();
    }

    #[cold]
    fn widen(&mut self, width: usize) {
        let old = std::mem::take(&mut self.numbers);
        let rows = old.chunks(self.width.max(1));
        self.numbers.reserve_exact(rows.len().max(1) * width);
        for row in rows {
            self.numbers.extend_from_slice(row);
            self.numbers.resize(self.numbers.len() + width - self.width, f64::NAN);
        }
        self.width = width;
    }

    #[cold]
    fn make_room(&mut self) {
        let rows = self.numbers.len() / self.width;
        // One is frequent, and for more this takes few steps.
        self.numbers.reserve_exact((rows + 1).min(FEW - rows) * self.width);
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.numbers.capacity() * size_of::<f64>()
    }
}
