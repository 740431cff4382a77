//! Predictions and labels in the form in which a profile is built of them.

use crate::engine::event::{FeatureValue, Inference, Target};
use crate::engine::names::Names;
use crate::engine::{ModelSettings, Positive, Task};

/// What predictions of one model are, as its windows count them.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    task: Option<Task>,
    threshold: f64,
    decided: [Positive; 2],
}

impl Predictions {
    /// Those of a model.
    pub fn of(settings: &ModelSettings) -> Self {
        let (task, threshold) = (settings.task, settings.threshold);
        Self { task, threshold, decided: settings.decided() }
    }

    /// What an inference predicts: its own prediction, else its likeliest class, or what its score decides.
    pub fn value<'a>(&'a self, inference: &Inference<'_>, names: &'a Names) -> FeatureValue<'a> {
        let own = inference.prediction;
        let task = self.task.or_else(|| Task::of(inference));
        match (own, task) {
            (Target::Absent, Some(Task::Multiclass)) => {
                value_of(inference.likeliest(names).map_or(own, Target::Class), task, names)
            }
            (Target::Absent, Some(Task::Binary)) => {
                inference.score.map_or(FeatureValue::Missing, |score| {
                    class(&self.decided[usize::from(score >= self.threshold)])
                })
            }
            (own, _) => value_of(own, task, names),
        }
    }
}

fn class(of: &Positive) -> FeatureValue<'_> {
    match of {
        Positive::Number(number) => FeatureValue::Number(*number),
        Positive::Boolean(truth) => FeatureValue::Boolean(*truth),
        Positive::Class(name) => FeatureValue::Text(name),
    }
}

/// A prediction or label as a record gives it. To a model that predicts numbers, text that says one is one.
pub fn value_of(target: Target, task: Option<Task>, names: &Names) -> FeatureValue<'_> {
    match target {
        Target::Absent => FeatureValue::Missing,
        Target::Number(number) => FeatureValue::Number(number),
        Target::Boolean(truth) => FeatureValue::Boolean(truth),
        Target::Class(class) => {
            let is_regression = task == Some(Task::Regression);
            let number = if is_regression { target.number(names) } else { None };
            number.map_or_else(|| FeatureValue::Text(names.text(class.0)), FeatureValue::Number)
        }
    }
}
