//! Groups: what the inferences of one window that are alike have in common.

use std::sync::Arc;

use super::event::{Segment, Target};
use super::held::Prediction;
use super::metrics::dictionary::ClassCaps;
use super::metrics::estimate::Estimated;
use super::metrics::reference::{Calibrator, Profile};
use super::metrics::targets::TargetCells;
use super::names::{ModelId, VersionId};
use super::settings::Task;

/// Inferences of one window with the same model, version and segments: what their entries need not repeat.
#[derive(Debug)]
pub struct Group {
    /// Its own, by which held inferences and open windows name it.
    pub number: u32,
    /// The slot of the window in [`Open`](super::open::Open); none once the window is dropped.
    pub window: Option<usize>,
    /// The model, before caps.
    pub model: ModelId,
    /// The version, before caps.
    pub version: VersionId,
    /// The segments, before caps.
    pub segments: Box<[Segment]>,
    /// Entries count their offset from here.
    pub base_offset: i64,
    /// The number of the [`Spread`](super::keys::Spread) in its window that its inferences are folded into; none for
    /// identities that are only remembered.
    pub spread: Option<u32>,
    /// Which values are positive.
    pub positive: Box<[Target]>,
    /// Scores at or above it are decided positive.
    pub threshold: f64,
    /// Other thresholds, of the model under which its inferences are counted.
    pub thresholds: Box<[f64]>,
    /// Whether the same model uses the weights of its labels.
    pub weighted: bool,
    /// What its inferences are held against, of the same model.
    pub reference: Option<Arc<Profile>>,
    /// Where its predictions and labels are counted, if the reference has any.
    pub targets: Option<Arc<TargetCells>>,
    /// What stands for a negative and a positive decision among predictions.
    pub decided: [Target; 2],
    /// Globs of the features whose distinct numbers are counted.
    pub distinct: Arc<[String]>,
    /// The configured task.
    pub task: Option<Task>,
    /// How many classes its states keep.
    pub classes: ClassCaps,
}

impl Group {
    /// Memory beyond `size_of::<Self>()`, in bytes, of what it has for itself.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.segments) + size_of_val(&*self.positive) + size_of_val(&*self.thresholds)
    }

    /// The number of its spread.
    pub fn spread(&self) -> u32 {
        self.spread.expect("inferences of the group were accepted")
    }

    /// Whether a value is the positive class.
    pub fn is_positive(&self, value: Target) -> bool {
        self.positive.contains(&value)
    }

    /// What makes probabilities of scores by class, if the reference has it.
    pub fn class_calibrators(&self) -> Option<&[(Arc<str>, Calibrator)]> {
        let reference = self.reference.as_ref()?;
        (!reference.class_calibrators.is_empty()).then_some(&*reference.class_calibrators)
    }

    /// What estimates are made of, where the reference has a calibrator and the prediction a score.
    pub fn estimated(&self, prediction: &Prediction) -> Option<Estimated> {
        let calibrator = self.reference.as_ref()?.calibrator.as_ref()?;
        match *prediction {
            Prediction::Binary { decision: Some(decision), score: Some(score), .. } => {
                let probability = calibrator.map.apply(score).clamp(0.0, 1.0);
                Some(Estimated { score, probability, decision })
            }
            Prediction::Binary { .. }
            | Prediction::Regression(_)
            | Prediction::Multiclass { .. }
            | Prediction::None => None,
        }
    }
}
