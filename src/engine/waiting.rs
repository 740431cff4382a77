//! What the records of one group add to the families beside the features, while many come: it waits in a row of a few
//! words, and several are folded in together. Each by itself would ask for the cells and sums of every family, and for
//! the code of each, when those of another group have just taken their place in the caches. By the families' laws the
//! states are the same either way.

use super::group::Group;
use super::held::Prediction;
use super::metrics::Families;
use super::metrics::accumulator::Accumulator;
use super::metrics::binary::BinaryInput;
use super::metrics::calibration::CalibrationInput;
use super::metrics::estimate::EstimateInput;
use super::metrics::labels::LabelsInput;
use super::metrics::serving::ServingInput;
use super::metrics::targets::TargetsInput;

/// How many rows of a kind wait.
const FEW: usize = 16;

/// What an inference of a binary model adds.
#[derive(Clone, Copy, Debug)]
pub struct Inferred {
    /// To traffic and latency.
    pub serving: ServingInput,
    /// What it predicts: binary.
    pub prediction: Prediction,
    /// Where its prediction is counted.
    pub target: Option<TargetsInput>,
}

/// What the first label of an inference of a binary model adds.
#[derive(Clone, Copy, Debug)]
pub struct Labelled {
    /// The label's arrival less the inference's event time.
    pub delay_ms: u64,
    /// What the inference predicts: binary.
    pub prediction: Prediction,
    /// Whether the label is positive.
    pub positive: bool,
    /// What the label weighs, should its model use weights.
    pub weight: u64,
    /// Where the label is counted.
    pub target: Option<TargetsInput>,
}

/// What one record adds.
#[derive(Clone, Copy, Debug)]
pub enum Row {
    /// An inference.
    Inferred(Inferred),
    /// A label.
    Labelled(Labelled),
}

impl Row {
    /// Folds it in by itself.
    pub fn fold(&self, families: &mut Families, group: &Group) {
        match self {
            Self::Inferred(row) => fold_inferred(families, group, std::slice::from_ref(row)),
            Self::Labelled(row) => fold_labelled(families, group, std::slice::from_ref(row)),
        }
    }
}

/// Rows of one group that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    inferred: Vec<Inferred>,
    labelled: Vec<Labelled>,
}

impl Waiting {
    /// Puts a row behind the others. Whether those of its kind are as many as may wait: they are to be
    /// [folded in](Self::fold) then.
    #[inline]
    pub fn put(&mut self, row: Row) -> bool {
        match row {
            Row::Inferred(row) => put(&mut self.inferred, row),
            Row::Labelled(row) => put(&mut self.labelled, row),
        }
    }

    /// Folds all of them in.
    #[inline(never)]
    pub fn fold(&mut self, families: &mut Families, group: &Group) {
        fold_inferred(families, group, &self.inferred);
        self.inferred.clear();
        fold_labelled(families, group, &self.labelled);
        self.labelled.clear();
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.inferred.capacity() * size_of::<Inferred>()
            + self.labelled.capacity() * size_of::<Labelled>()
    }
}

#[inline]
fn put<R>(rows: &mut Vec<R>, row: R) -> bool {
    if rows.capacity() == 0 {
        rows.reserve_exact(FEW);
    }
    rows.push(row);
    rows.len() >= FEW
}

impl Labelled {
    fn weight(&self, group: &Group) -> Option<u64> {
        group.weighted.then_some(self.weight)
    }

    /// What it adds to the quality of decisions and scores.
    pub fn binary<'a>(&self, group: &'a Group) -> BinaryInput<'a> {
        BinaryInput::Labelled {
            decision: self.prediction.decision(),
            off_threshold: matches!(
                self.prediction,
                Prediction::Binary { off_threshold: true, .. }
            ),
            score: self.prediction.score(),
            positive: self.positive,
            thresholds: &group.thresholds,
            weight: self.weight(group),
        }
    }

    /// What it adds to calibration, if there is a score.
    pub fn calibration(&self, group: &Group) -> Option<CalibrationInput> {
        let (positive, weight) = (self.positive, self.weight(group));
        self.prediction.score().map(|score| CalibrationInput { score, positive, weight })
    }

    /// What it adds to estimates, if any are made.
    pub fn estimate(&self, group: &Group) -> Option<EstimateInput> {
        let estimated = group.estimated(&self.prediction);
        estimated.map(|of| EstimateInput::Labelled { of, positive: self.positive })
    }
}

fn fold_inferred(families: &mut Families, group: &Group, rows: &[Inferred]) {
    if rows.is_empty() {
        return;
    }
    families.serving.add_all(rows.iter().map(|row| row.serving));
    let decision = |row: &Inferred| LabelsInput::Inference { decision: row.prediction.decision() };
    families.labels.add_all(rows.iter().map(decision));
    let score = |row: &Inferred| BinaryInput::Inference { score: row.prediction.score() };
    families.binary.get_mut().add_all(rows.iter().map(score));
    families.targets.add_any(rows.iter().filter_map(|row| row.target));
    let estimated = rows.iter().filter_map(|row| group.estimated(&row.prediction));
    families.estimate.add_any(estimated.map(EstimateInput::Inference));
}

fn fold_labelled(families: &mut Families, group: &Group, rows: &[Labelled]) {
    if rows.is_empty() {
        return;
    }
    families.labels.add_all(rows.iter().map(|row| LabelsInput::First {
        delay_ms: row.delay_ms,
        decision: row.prediction.decision(),
    }));
    families.binary.get_mut().add_all(rows.iter().map(|row| row.binary(group)));
    families.calibration.add_any(rows.iter().filter_map(|row| row.calibration(group)));
    families.targets.add_any(rows.iter().filter_map(|row| row.target));
    families.estimate.add_any(rows.iter().filter_map(|row| row.estimate(group)));
}
