//! The engine's settings that say the same as the oracle's, and its tallies as the oracle has them.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::collections::BTreeMap;

use tidegauge::engine::event::Stream;
use tidegauge::engine::lateness::Limits;
use tidegauge::engine::metrics::accumulator::ValueMatrix;
use tidegauge::engine::metrics::method::Options;
use tidegauge::engine::outcome::Tally;
use tidegauge::engine::time::Millis;
use tidegauge::engine::{Caps, ModelSettings, Positive, Progress, ShardSettings, Task};

use super::oracle::{self, Given};

/// What each cell of the confusion matrix is worth.
pub fn value_matrix(worth: [f64; 4]) -> ValueMatrix {
    ValueMatrix { tp: worth[0], fp: worth[1], fn_: worth[2], tn: worth[3] }
}

/// The engine's settings that say the same as the oracle's.
pub fn settings(settings: &oracle::Settings) -> ShardSettings {
    let mut dimensions: Vec<String> = Vec::new();
    for dimension in settings.models.iter().flat_map(|rule| &rule.dimensions) {
        if !dimensions.contains(dimension) {
            dimensions.push(dimension.clone());
        }
    }
    let models = settings.models.iter().map(|rule| model_settings(rule, &dimensions)).collect();
    ShardSettings {
        window: Millis(settings.window),
        limits: Limits {
            lateness: Millis(settings.lateness),
            label_wait: Millis(settings.label_wait),
            max_future: Millis(settings.max_future),
            max_gap: Millis(settings.max_gap),
        },
        clock_stamps: settings.clock_stamps,
        progress: if settings.event_progress { Progress::Event } else { Progress::Log },
        has_labels: settings.has_labels,
        generation: settings.generation,
        caps: Caps {
            models: settings.caps[0],
            versions: settings.caps[1],
            segments: settings.caps[2],
            features: settings.most_features,
            max_classes: settings.class_caps[0],
            auroc_classes: settings.class_caps[1],
        },
        // So that short logs are gathered too.
        gather_after: 3,
        dimensions,
        models,
        custom: Vec::new(),
    }
}

/// Outcomes by topic and model, those that are zero left out.
pub fn counts(tally: &Tally) -> BTreeMap<(usize, String), [i64; 4]> {
    let mut all = BTreeMap::new();
    for stream in Stream::BOTH {
        for (model, counts) in tally.of(stream).filter(|(_, counts)| !counts.is_zero()) {
            let counts = [counts.first, counts.second, counts.third, counts.dead];
            all.insert((stream.index(), model.to_string()), counts);
        }
    }
    all
}

fn model_settings(rule: &oracle::ModelRule, dimensions: &[String]) -> ModelSettings {
    let index = |name: &String| dimensions.iter().position(|known| known == name).unwrap();
    ModelSettings {
        pattern: rule.pattern.clone(),
        task: rule.task.map(|task| match task {
            oracle::Task::Binary => Task::Binary,
            oracle::Task::Multiclass => Task::Multiclass,
            oracle::Task::Regression => Task::Regression,
        }),
        positive: rule
            .positive
            .iter()
            .map(|positive| match positive.normal() {
                Given::Number(number) => Positive::Number(number),
                Given::Boolean(boolean) => Positive::Boolean(boolean),
                Given::Text(text) => Positive::Class(text),
            })
            .collect(),
        threshold: rule.threshold,
        thresholds: rule.thresholds.clone(),
        weighted: rule.weighted,
        reference: None,
        drift: Options::default(),
        dimensions: rule
            .dimensions
            .iter()
            .map(|name| u16::try_from(index(name)).unwrap())
            .collect(),
        value: rule.value.map(value_matrix),
        distinct: rule.distinct.then(|| "*".to_owned()).into_iter().collect(),
    }
}
