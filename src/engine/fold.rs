//! What records add to the states of their keys: an inference by itself, and with each label that it is joined with.

use std::borrow::Cow;

use super::event::{Inference, Label, Target};
use super::group::Group;
use super::held::{Entry, Prediction};
use super::kept::{MatchedLabels, Placed};
use super::lateness::delay_ms;
use super::metrics::Families;
use super::metrics::accumulator::Accumulator;
use super::metrics::binary::BinaryInput;
use super::metrics::calibration::CalibrationInput;
use super::metrics::class_estimate::{Chance, ClassEstimateInput, ClassesEstimated, chances};
use super::metrics::dictionary::ClassCaps;
use super::metrics::estimate::EstimateInput;
use super::metrics::features::FeaturesInput;
use super::metrics::labels::LabelsInput;
use super::metrics::multiclass::MulticlassInput;
use super::metrics::regression::RegressionInput;
use super::metrics::serving::ServingInput;
use super::metrics::sign::{Minus, Plus, Sign};
use super::metrics::targets::TargetsInput;
use super::metrics::weights::Weight;
use super::names::{ClassId, ModelId, Names};
use super::open::OpenWindow;
use super::scored::ScoreLists;
use super::settings::Task;
use super::waiting::{Inferred, Labelled, Row};

/// What an inference predicts, by the model's task or the record's own shape.
pub(super) fn predict(inference: &Inference<'_>, group: &Group, names: &mut Names) -> Prediction {
    match group.task.or_else(|| Task::of(inference)) {
        Some(Task::Binary) => {
            let own = (inference.prediction != Target::Absent)
                .then(|| group.is_positive(inference.prediction));
            let by_score = inference.score.map(|score| score >= group.threshold);
            Prediction::Binary {
                decision: own.or(by_score),
                off_threshold: own.zip(by_score).is_some_and(|(own, by_score)| own != by_score),
                score: inference.score,
            }
        }
        Some(Task::Regression) => Prediction::Regression(inference.prediction.number(names)),
        Some(Task::Multiclass) => {
            let class = match inference.prediction {
                Target::Absent => inference.likeliest(names),
                Target::Class(class) => Some(class),
                other @ (Target::Number(_) | Target::Boolean(_)) => {
                    let text = other.text(names).into_owned();
                    Some(ClassId(names.intern(&text)))
                }
            };
            Prediction::Multiclass { class, scores: 0 }
        }
        None => Prediction::None,
    }
}

/// What an inference predicts, as its drift is measured: its own prediction, or else what follows from its scores.
pub(super) fn said(own: Target, prediction: &Prediction, group: &Group) -> Target {
    match (own, *prediction) {
        (Target::Absent, Prediction::Multiclass { class: Some(class), .. }) => Target::Class(class),
        (Target::Absent, Prediction::Binary { decision: Some(decision), .. }) => {
            group.decided[usize::from(decision)]
        }
        (Target::Class(_), Prediction::Regression(Some(number))) => Target::Number(number),
        (own, _) => own,
    }
}

/// Folds an inference into the states of its keys. Records before the mark have epoch 0: they make no key dirty.
pub(super) fn fold_inference(
    window: &mut OpenWindow,
    group: &Group,
    serving: &ServingInput,
    features: &FeaturesInput<'_>,
    (prediction, said): (&Prediction, Target),
    epoch: u64,
) {
    let target = group.targets.as_ref().and_then(|targets| targets.prediction(said));
    window.fold_features(group, features);
    if let Prediction::Binary { .. } = prediction {
        let row = Inferred { serving: *serving, prediction: *prediction, target };
        return window.fold_row(group, epoch, Row::Inferred(row));
    }
    let scores = || scores_of(*prediction, &window.scores, features.names);
    let chances = class_chances(group, scores);
    window.fold(group, epoch, |families| {
        families.serving.add(serving);
        families.labels.add(&LabelsInput::Inference { decision: prediction.decision() });
        families.targets.add_any(target.into_iter());
        match prediction {
            Prediction::None | Prediction::Binary { .. } => {}
            Prediction::Regression(_) => {
                families.regression.get_mut().add(&RegressionInput::Inference);
            }
            Prediction::Multiclass { class, .. } => {
                families.multiclass.get_mut().go_by(group.classes).add(&MulticlassInput::Inference);
                let class = class.map(|class| &**features.names.text(class.0));
                if let Some(of) = estimated_of(class, &chances) {
                    let input = ClassEstimateInput::Inference(of);
                    families.class_estimate.get_mut().go_by(group.classes).add(&input);
                }
            }
        }
    });
}

/// The scores by class of an inference.
fn scores_of<'a>(
    prediction: Prediction,
    lists: &ScoreLists,
    names: &'a Names,
) -> Vec<(&'a str, f64)> {
    match prediction {
        Prediction::Multiclass { scores, .. } => {
            lists.get(scores).map(|(class, score)| (&**names.text(class.0), score)).collect()
        }
        Prediction::None | Prediction::Binary { .. } | Prediction::Regression(_) => Vec::new(),
    }
}

/// What the reference makes of scores by class; nothing without scores or calibrators.
fn class_chances<'a>(
    group: &'a Group,
    scores: impl FnOnce() -> Vec<(&'a str, f64)>,
) -> Vec<Chance<'a>> {
    let Some(calibrators) = group.class_calibrators() else { return Vec::new() };
    let scores = scores();
    if scores.is_empty() { Vec::new() } else { chances(calibrators, &scores) }
}

fn estimated_of<'a>(
    predicted: Option<&'a str>,
    chances: &'a [Chance<'a>],
) -> Option<ClassesEstimated<'a>> {
    let predicted = predicted.filter(|_| !chances.is_empty())?;
    Some(ClassesEstimated { chances, predicted })
}

/// What an inference with its winning label adds to the families that read labels, or takes back.
struct Terms<'a> {
    binary: Option<BinaryInput<'a>>,
    calibration: Option<CalibrationInput>,
    estimate: Option<EstimateInput>,
    regression: Option<RegressionInput>,
    multiclass: Option<MulticlassTerms<'a>>,
    target: Option<TargetsInput>,
}

/// The terms of a multiclass inference, whose input borrows the label's text.
struct MulticlassTerms<'a> {
    predicted: Option<&'a str>,
    actual: Cow<'a, str>,
    scores: &'a [(&'a str, f64)],
    weight: Weight,
    chances: Vec<Chance<'a>>,
    caps: ClassCaps,
}

impl MulticlassTerms<'_> {
    fn input(&self) -> MulticlassInput<'_> {
        let Self { predicted, ref actual, scores, weight, .. } = *self;
        MulticlassInput::Labelled { predicted, actual, scores, weight }
    }

    fn estimate(&self) -> Option<ClassEstimateInput<'_>> {
        let of = estimated_of(self.predicted, &self.chances)?;
        Some(ClassEstimateInput::Labelled { of, actual: &self.actual })
    }
}

impl<'a> Terms<'a> {
    fn of(
        prediction: Prediction,
        scores: &'a [(&'a str, f64)],
        label: &Label,
        group: &'a Group,
        names: &'a Names,
    ) -> Self {
        let weight = group.weighted.then_some(label.weight);
        let number = match prediction {
            Prediction::Regression(_) => label.value.number(names),
            Prediction::None | Prediction::Binary { .. } | Prediction::Multiclass { .. } => None,
        };
        let value = number.map_or(label.value, Target::Number);
        let mut terms = Self {
            binary: None,
            calibration: None,
            estimate: None,
            regression: None,
            multiclass: None,
            target: group.targets.as_ref().and_then(|targets| targets.label(value)),
        };
        match prediction {
            Prediction::None => {}
            Prediction::Binary { .. } => {
                let row = labelled(prediction, 0, label, group);
                terms.binary = Some(row.binary(group));
                terms.calibration = row.calibration(group);
                terms.estimate = row.estimate(group);
            }
            Prediction::Regression(predicted) => {
                let both = predicted.zip(number);
                terms.regression = both.map(|(predicted, actual)| RegressionInput::Labelled {
                    predicted,
                    actual,
                    weight,
                });
            }
            Prediction::Multiclass { class, .. } => {
                let predicted = class.map(|class| &**names.text(class.0));
                let actual = label.value.text(names);
                let chances = class_chances(group, || scores.to_vec());
                let caps = group.classes;
                terms.multiclass =
                    Some(MulticlassTerms { predicted, actual, scores, weight, chances, caps });
            }
        }
        terms
    }

    fn fold(&self, families: &mut Families, sign: impl Sign) {
        if let Some(input) = &self.binary {
            families.binary.get_mut().fold(input, sign);
        }
        if let Some(input) = &self.calibration {
            families.calibration.get_mut().fold(input, sign);
        }
        if let Some(input) = &self.estimate {
            families.estimate.get_mut().fold(input, sign);
        }
        if let Some(input) = &self.regression {
            families.regression.get_mut().fold(input, sign);
        }
        if let Some(terms) = &self.multiclass {
            families.multiclass.get_mut().go_by(terms.caps).fold(&terms.input(), sign);
            if let Some(input) = terms.estimate() {
                families.class_estimate.get_mut().go_by(terms.caps).fold(&input, sign);
            }
        }
        if let Some(input) = &self.target {
            families.targets.get_mut().fold(input, sign);
        }
    }
}

/// What a label does to an inference that it matches.
enum Effect {
    /// The first one joins.
    First,
    /// It wins with another value or weight than the winner's, which is taken back.
    Correction(Label),
    /// It says the same, or loses.
    Duplicate { conflict: bool },
}

/// Folds a label into one inference. Labels of one inference come in the order of their offsets.
pub(super) fn fold_label(
    window: &mut OpenWindow,
    group: &Group,
    entry: &mut Entry,
    placed: &Placed,
    names: &Names,
    epoch: u64,
) {
    let label = &placed.label;
    let effect = link(&mut window.labels, group.model, entry, placed);
    window.first_label =
        Some(window.first_label.map_or(placed.offset, |first| first.min(placed.offset)));
    let prediction = entry.prediction();
    let delay_ms = delay_ms(placed.arrival, entry.event_time(window.window));
    if let (Effect::First, Prediction::Binary { .. }) = (&effect, prediction) {
        let row = labelled(prediction, delay_ms, label, group);
        return window.fold_row(group, epoch, Row::Labelled(row));
    }
    let scores = scores_of(prediction, &window.scores, names);
    let terms = Terms::of(prediction, &scores, label, group, names);
    let earlier = match &effect {
        Effect::Correction(earlier) => Some(Terms::of(prediction, &scores, earlier, group, names)),
        Effect::First | Effect::Duplicate { .. } => None,
    };
    if earlier.is_some() {
        window.make_whole(group);
    }
    window.fold(group, epoch, |families| {
        families.labels.add(&match effect {
            Effect::First => LabelsInput::First { delay_ms, decision: prediction.decision() },
            Effect::Correction(_) => LabelsInput::Correction,
            Effect::Duplicate { conflict } => LabelsInput::Duplicate { conflict },
        });
        if let Some(earlier) = &earlier {
            earlier.fold(families, Minus);
        }
        if !matches!(effect, Effect::Duplicate { .. }) {
            terms.fold(families, Plus);
        }
    });
}

/// What a label adds as the first one of a binary inference.
fn labelled(prediction: Prediction, delay_ms: u64, label: &Label, group: &Group) -> Labelled {
    Labelled {
        delay_ms,
        prediction,
        positive: group.is_positive(label.value),
        weight: label.weight,
        target: group.targets.as_ref().and_then(|targets| targets.label(label.value)),
    }
}

/// Puts a label among those of an inference, the winner first, and tells what it does.
fn link(labels: &mut MatchedLabels, model: ModelId, entry: &mut Entry, placed: &Placed) -> Effect {
    if entry.label == 0 {
        entry.label = labels.push(placed, 0);
        return Effect::First;
    }
    let (winner, after) = labels.get(entry.label, placed.label.id, model);
    let is_same =
        (winner.label.value, winner.label.weight) == (placed.label.value, placed.label.weight);
    if (placed.label.time, placed.offset) > (winner.label.time, winner.offset) {
        entry.label = labels.push(placed, entry.label);
        return if is_same {
            Effect::Duplicate { conflict: false }
        } else {
            Effect::Correction(winner.label)
        };
    }
    let next = labels.push(placed, after);
    labels.set_next(entry.label, next);
    Effect::Duplicate { conflict: !is_same }
}
