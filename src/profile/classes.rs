//! Calibrators of models with several classes: one for each class, against the rest.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::calibrate::{Choice, EXACT_SCORES, FOLDS, LabelledScores, fold_of};
use super::document::MOST_CALIBRATED_CLASSES;
use crate::engine::event::RequestId;
use crate::engine::metrics::reference::Calibrator;

/// How many distinct scores all classes together keep as they are; about 40 MB.
const EXACT_IN_ALL: usize = 4 * EXACT_SCORES;

/// Labelled scores by class. A class that a record gives no score has 0.
#[derive(Clone, Debug)]
pub struct ClassScores {
    classes: HashMap<Box<str>, LabelledScores, FixedState>,
    /// Labelled records by fold.
    records: [u64; FOLDS],
    has_too_many: bool,
    is_rounded: bool,
}

impl Default for ClassScores {
    fn default() -> Self {
        Self {
            classes: HashMap::with_hasher(FixedState::default()),
            records: [0; FOLDS],
            has_too_many: false,
            is_rounded: false,
        }
    }
}

impl ClassScores {
    /// Adds a record's scores, at least one, and the class that its label names.
    pub fn add(&mut self, id: RequestId, scores: &[(&str, f64)], actual: &str) {
        if self.has_too_many {
            return;
        }
        self.records[usize::from(fold_of(id))] += 1;
        for (class, score) in scores {
            self.of(class).add(id, *score, *class == actual);
        }
        if !scores.iter().any(|(class, _)| *class == actual) {
            self.of(actual).add(id, 0.0, true);
        }
        if self.classes.len() > MOST_CALIBRATED_CLASSES {
            self.has_too_many = true;
            self.classes = HashMap::with_hasher(FixedState::default());
        }
        let distinct: usize = self.classes.values().map(LabelledScores::distinct).sum();
        if distinct > EXACT_IN_ALL && !self.is_rounded {
            self.is_rounded = true;
            self.classes.values_mut().for_each(LabelledScores::round);
        }
    }

    fn of(&mut self, class: &str) -> &mut LabelledScores {
        if !self.classes.contains_key(class) {
            let mut scores = LabelledScores::default();
            if self.is_rounded {
                scores.round();
            }
            self.classes.insert(Box::from(class), scores);
        }
        self.classes.get_mut(class).expect("just put there")
    }

    /// The calibrator of each class, by name; none where there are more than [`MOST_CALIBRATED_CLASSES`].
    pub fn calibrators(self, choice: Choice) -> Vec<(Arc<str>, Calibrator)> {
        let records = self.records;
        let of_class = |(class, mut scores): (Box<str>, LabelledScores)| {
            scores.fill_with_zeros(&records);
            let calibrator = scores.calibrator(choice).expect("a class has labelled scores");
            (Arc::from(class), calibrator)
        };
        let mut all: Vec<(Arc<str>, Calibrator)> = self.classes.into_iter().map(of_class).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
