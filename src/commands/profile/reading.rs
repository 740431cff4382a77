//! Records in, one after the other, the labels first: each inference then finds its own.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Wanted;
use super::windows::{Found, Windows};
use crate::commands::file_job::Judge;
use crate::commands::inputs::Counts;
use crate::commands::{Failure, terminal};
use crate::config::Settings;
use crate::engine::event::{Event, FeatureValue, Inference, Label, RequestId, Stream, Target};
use crate::engine::names::{ModelId, Names};
use crate::engine::settings::{ModelSettings, Positive, Task};
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::profile::builder::{Built, Options, ProfileBuilder, Record, Targets};
use crate::profile::target::{Predictions, value_of};

/// Whose label, and of which model if it names one.
type LabelKey = (RequestId, Option<ModelId>);

/// What is collected of records.
pub(super) struct Reading<'a> {
    wanted: &'a Wanted,
    settings: &'a Settings,
    /// What they are read from, for messages.
    source: &'static str,
    judge: Judge,
    /// The model that the profile is of, once one is found.
    model: Option<(ModelId, ModelSettings, Predictions)>,
    /// The winning label of each request, with its rank: time, then place.
    labels: HashMap<LabelKey, ((EventTime, u64), Target), FixedState>,
    builder: Option<ProfileBuilder>,
    windows: Windows,
    labelled: u64,
    /// Records that could not be decoded.
    rejected: u64,
    /// All others.
    records: u64,
}

/// What came of all records.
pub(in crate::commands) struct Read {
    pub(in crate::commands) built: Built,
    pub(super) labelled: u64,
    pub(super) rejected: u64,
    /// Whole windows with records, by grain; none where memory did not suffice.
    pub(super) windows: Option<Vec<(String, usize)>>,
}

impl<'a> Reading<'a> {
    /// Windows that do not lie wholly within `span` say nothing of what to expect.
    pub(super) fn new(
        wanted: &'a Wanted,
        settings: &'a Settings,
        source: &'static str,
        judge: Judge,
        span: Window,
    ) -> Self {
        Self {
            wanted,
            settings,
            source,
            judge,
            model: None,
            labels: HashMap::with_hasher(FixedState::default()),
            builder: None,
            windows: Windows::new(settings, span),
            labelled: 0,
            rejected: 0,
            records: 0,
        }
    }

    /// Takes in the next record; all have their names from the same table.
    pub(super) fn event(&mut self, event: &Event<'_>, names: &mut Names) -> Result<(), Failure> {
        self.records += 1;
        match event {
            Event::Inference(inference) => self.inference(inference, names),
            Event::Label(label) => {
                self.label(label, names);
                Ok(())
            }
        }
    }

    /// Takes in what was counted of a stream, once all of it is read. Refused where `backfill` would fail for it.
    pub(super) fn count(&mut self, stream: Stream, counts: Counts) -> Result<(), Failure> {
        self.rejected += counts.bad;
        if let Some(said) = counts.doubt(stream) {
            terminal::note(&format!("{said}\n"));
        }
        self.judge.judge(stream, counts)
    }

    /// The profile of all records.
    pub(super) fn finish(self, names: &Names) -> Result<Read, Failure> {
        let source = self.source;
        let nothing = || {
            let message = match &self.wanted.model {
                Some(model) => {
                    format!("the {source} have no inference of model `{model}` that is meant")
                }
                None => format!("the {source} have no inference"),
            };
            Failure::new("profile_without_records", message)
        };
        let mut builder = self.builder.ok_or_else(nothing)?;
        let Found { expected, windows } = self.windows.finish(names);
        builder.expect(expected);
        let built = builder.finish()?;
        Ok(Read { built, labelled: self.labelled, rejected: self.rejected, windows })
    }

    /// Of several labels the one with the greatest time wins, of those the last.
    fn label(&mut self, label: &Label, names: &mut Names) {
        let rank = (label.time, self.records);
        let kept = self.labels.entry((label.id, label.model)).or_insert((rank, label.value));
        if rank > kept.0 {
            *kept = (rank, label.value);
        }
        self.windows.add(&Event::Label(*label), names);
    }

    fn inference(&mut self, inference: &Inference<'_>, names: &mut Names) -> Result<(), Failure> {
        let model = names.text(inference.model.0);
        let is_other = |one: &Option<String>, found: &Arc<str>| {
            one.as_ref().is_some_and(|one| **one != **found)
        };
        let version = names.text(inference.version.0);
        if is_other(&self.wanted.model, model) || is_other(&self.wanted.version, version) {
            return Ok(());
        }
        match &self.model {
            None => {
                let settings = self.settings.shard.model(model);
                let predictions = Predictions::of(&settings);
                self.model = Some((inference.model, settings, predictions));
            }
            Some((known, ..)) if *known == inference.model => {}
            Some((known, ..)) => {
                let (known, source) = (names.text(known.0), self.source);
                let message =
                    format!("the {source} hold models `{known}` and `{model}`, and maybe more");
                return Err(Failure::new("profile_several_models", message));
            }
        }
        self.add(inference, names)?;
        self.windows.add(&Event::Inference(*inference), names);
        Ok(())
    }

    fn add(&mut self, inference: &Inference<'_>, names: &Names) -> Result<(), Failure> {
        let (_, settings, predictions) = self.model.as_ref().expect("it was found above");
        let builder = match &mut self.builder {
            Some(builder) => builder,
            none => {
                let declared = self.settings.declared(names.text(inference.model.0));
                let options = Options { declared, ..options(self.wanted, settings, inference) };
                none.insert(ProfileBuilder::new(options)?)
            }
        };
        let general = self.labels.get(&(inference.id, None));
        let own = self.labels.get(&(inference.id, Some(inference.model)));
        let label = [general, own].into_iter().flatten().max_by_key(|(rank, _)| *rank);
        let label = label.map_or(Target::Absent, |(_, value)| *value);
        let is_labelled = label != Target::Absent;
        self.labelled += u64::from(is_labelled);
        let task = settings.task.or_else(|| Task::of(inference));
        let is_binary = task == Some(Task::Binary);
        let features: Vec<(&str, FeatureValue<'_>)> = inference
            .features
            .iter()
            .map(|feature| (&**names.text(feature.name.0), feature.value))
            .collect();
        let scores: Vec<(&str, f64)> = inference
            .scores
            .iter()
            .map(|(class, score)| (&**names.text(class.0), *score))
            .collect();
        builder.add(&Record {
            id: inference.id,
            features: &features,
            score: inference.score,
            scores: &scores,
            prediction: predictions.value(inference, names),
            label: value_of(label, task, names),
            // Only scores that decisions come from need a calibrator.
            positive: (is_labelled && is_binary).then(|| is_positive(label, settings, names)),
        })?;
        Ok(())
    }
}

/// The builder's options, without what is declared of features: predictions are numbers where the task or, without one,
/// the first inference says so.
fn options(wanted: &Wanted, settings: &ModelSettings, first: &Inference<'_>) -> Options {
    let is_number = matches!(first.prediction, Target::Number(_));
    let by_shape = first.score.is_none() && first.scores.is_empty() && is_number;
    let is_regression = settings.task.map_or(by_shape, |task| task == Task::Regression);
    Options {
        generation: wanted.generation,
        targets: if is_regression { Targets::Numbers } else { Targets::Classes },
        max_categories: usize::from(wanted.max_categories),
        calibration: wanted.calibrator.choice(),
        ..Options::new(&wanted.name)
    }
}

fn is_positive(label: Target, settings: &ModelSettings, names: &Names) -> bool {
    settings.positive.iter().any(|positive| match (positive, label) {
        (Positive::Number(positive), Target::Number(label)) => positive.total_cmp(&label).is_eq(),
        (Positive::Boolean(positive), Target::Boolean(label)) => *positive == label,
        (Positive::Class(positive), Target::Class(label)) => **positive == **names.text(label.0),
        _ => false,
    })
}
