//! The state of one feature while records come. Most windows of most models hold few inferences, and a state takes
//! much more memory than a few numbers do: so these are kept as they are, until they are many or something else comes.
//! Later numbers wait for some others too, because to fold many at once is cheaper.

use std::borrow::Cow;
use std::sync::Arc;

use super::feature::FeatureState;
use super::reference::FeatureProfile;
use crate::engine::event::FeatureValue;

/// How many numbers are kept as they are.
const FEW: usize = 16;

/// The state of one feature. Equal when the same values were folded in, in any order.
#[derive(Clone, Debug)]
pub struct Growing(Form);

#[derive(Clone, Debug)]
enum Form {
    /// Numbers that are still to be folded into a state with this profile.
    Few {
        numbers: Vec<f64>,
        profile: Option<Arc<FeatureProfile>>,
    },
    Many(Box<Many>),
}

#[derive(Clone, Debug, Default)]
struct Many {
    /// How many numbers wait.
    count: usize,
    waiting: [f64; FEW],
    state: FeatureState,
}

impl Default for Growing {
    fn default() -> Self {
        Self::from(FeatureState::default())
    }
}

impl From<FeatureState> for Growing {
    fn from(state: FeatureState) -> Self {
        Self(Form::Many(Box::new(Many { state, ..Many::default() })))
    }
}

impl PartialEq for Growing {
    fn eq(&self, other: &Self) -> bool {
        self.whole() == other.whole()
    }
}

impl Growing {
    /// An empty state whose values are held against this profile, and whether its numbers are told apart.
    pub fn of(profile: Option<&Arc<FeatureProfile>>, is_distinct: bool) -> Self {
        if is_distinct {
            return FeatureState::of(profile, true).into();
        }
        Self(Form::Few { numbers: Vec::new(), profile: profile.cloned() })
    }

    /// Folds one value in.
    #[inline]
    pub fn add(&mut self, value: &FeatureValue<'_>) {
        match (&mut self.0, value) {
            (Form::Many(many), FeatureValue::Number(x)) => many.add_number(*x),
            (Form::Many(many), value) => many.state.add(value),
            (Form::Few { .. }, value) => self.add_to_few(value),
        }
    }

    #[cold]
    fn add_to_few(&mut self, value: &FeatureValue<'_>) {
        match (value, &mut self.0) {
            (FeatureValue::Missing, _) => {}
            (FeatureValue::Number(x), Form::Few { numbers, .. }) if numbers.len() < FEW => {
                if numbers.len() == numbers.capacity() {
                    // One or two are frequent, and for more this takes few steps.
                    numbers.reserve_exact((numbers.len() + 2).min(FEW - numbers.len()));
                }
                numbers.push(*x);
            }
            _ => self.make_many().state.add(value),
        }
    }

    fn make_many(&mut self) -> &mut Many {
        if let Form::Few { .. } = self.0 {
            *self = Self::from(self.whole().into_owned());
        }
        match &mut self.0 {
            Form::Many(many) => many,
            Form::Few { .. } => unreachable!("it was replaced above"),
        }
    }

    /// Folds in what waits where much was folded in before, so that [`whole`](Self::whole) need not copy that.
    pub fn settle(&mut self) {
        if let Form::Many(many) = &mut self.0 {
            many.settle();
        }
    }

    /// All that was folded in.
    pub fn whole(&self) -> Cow<'_, FeatureState> {
        match &self.0 {
            Form::Few { numbers, profile } => {
                let mut state = FeatureState::of(profile.as_ref(), false);
                state.add_numbers(numbers);
                Cow::Owned(state)
            }
            Form::Many(many) if many.count == 0 => Cow::Borrowed(&many.state),
            Form::Many(many) => {
                let mut many = many.clone();
                many.settle();
                Cow::Owned(many.state)
            }
        }
    }

    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.make_many().state.merge(&other.whole());
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Form::Few { numbers, .. } => numbers.capacity() * size_of::<f64>(),
            Form::Many(many) => size_of::<Many>() + many.state.heap_bytes(),
        }
    }
}

impl Many {
    #[inline]
    fn add_number(&mut self, x: f64) {
        if self.count == FEW {
            self.settle();
        }
        self.waiting[self.count] = x;
        self.count += 1;
    }

    #[inline(never)]
    fn settle(&mut self) {
        self.state.add_numbers(&self.waiting[..self.count]);
        self.count = 0;
    }
}
