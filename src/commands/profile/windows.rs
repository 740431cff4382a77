//! The reference's own windows, by the engine itself: what learned limits are made of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::Settings;
use crate::engine::event::{Arrival, Event, Inference, Offset, Positions, Stream};
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::expected::Expected;
use crate::engine::names::Names;
use crate::engine::state::ALL;
use crate::engine::time::{Millis, RecordTime};
use crate::engine::window::Window;
use crate::engine::{Progress, Shard, ShardSettings};
use crate::evaluate;
use crate::profile::expected::ExpectedBuilder;
use crate::source::feed::PARTITION;

/// Records between two looks at the memory.
const WEIGH_EVERY: i64 = 1024;

/// Folds records as `backfill` does. An inference takes about 100 bytes until the end, and so does a label.
#[derive(Debug)]
pub(super) struct Windows {
    settings: Arc<ShardSettings>,
    grains: Vec<Millis>,
    budget: usize,
    /// Of a window that does not lie wholly within it, records may be missing: its figures would be those of a few.
    span: Window,
    /// None once it was larger than the budget.
    shard: Option<Shard>,
    /// Records of each stream.
    next: [i64; 2],
}

/// What came of them.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) expected: Expected,
    /// Whole windows with records, by grain in the order of the configuration; none where memory did not suffice.
    pub(super) windows: Option<Vec<(String, usize)>>,
}

impl Windows {
    pub(super) fn new(settings: &Settings, span: Window) -> Self {
        let mut shard = settings.shard.clone();
        shard.progress = Progress::End;
        shard.custom.clear();
        // What an earlier reference says is no part of a new one.
        shard.models.iter_mut().for_each(|model| model.reference = None);
        let settings_of_shard = Arc::new(shard);
        let clock_stamps = settings_of_shard.clock_stamps;
        let start = Mark::start(PARTITION, Positions::default(), clock_stamps);
        Self {
            shard: Some(Shard::new(Arc::clone(&settings_of_shard), &start)),
            settings: settings_of_shard,
            grains: settings.grains.clone(),
            budget: settings.state_budget_bytes,
            span,
            next: [0; 2],
        }
    }

    /// Folds a record in.
    pub(super) fn add(&mut self, event: &Event<'_>, names: &mut Names) {
        let Some(shard) = &mut self.shard else { return };
        // Figures of features are no part of what is expected.
        let (stream, event) = match event {
            Event::Inference(inference) => {
                let slim = Inference { features: &[], ..*inference };
                (Stream::Inferences, Event::Inference(slim))
            }
            Event::Label(label) => (Stream::Labels, Event::Label(*label)),
        };
        let next = &mut self.next[stream.index()];
        let at = Arrival { stream, offset: Offset(*next), time: RecordTime(0) };
        *next += 1;
        let _outcome = shard.observe(at, &event, names);
        let is_full = *next % WEIGH_EVERY == 0 && shard.standing().bytes > self.budget;
        if is_full {
            self.shard = None;
        }
    }

    /// What is expected, once all records are folded in.
    pub(super) fn finish(self, names: &Names) -> Found {
        let Some(mut shard) = self.shard else { return Found::default() };
        shard.finish();
        let states = shard.freeze(names).states;
        drop(shard);
        let rows = evaluate::windows(&self.settings, &self.grains, &states);
        let rows = rows.expect("states that were just made can be read");
        let mut builder = ExpectedBuilder::default();
        let mut starts: BTreeMap<Arc<str>, BTreeSet<_>> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| self.span.holds(row.key.window)) {
            builder.add(&row.grain, &row.key, row.table, &row.values);
            if row.table == MetricTable::Serving && &*row.key.segment == ALL {
                starts.entry(row.grain).or_default().insert(row.key.window.start);
            }
        }
        let count = |grain: Millis| {
            let name = evaluate::grain_name(grain);
            let windows = starts.get(name.as_str()).map_or(0, BTreeSet::len);
            (name, windows)
        };
        let grains = std::iter::once(self.settings.window).chain(self.grains.iter().copied());
        Found { expected: builder.finish(), windows: Some(grains.map(count).collect()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::engine::event::{RequestId, Target};
    use crate::engine::names::{ModelId, VersionId};
    use crate::engine::time::EventTime;

    /// Of one inference every second since 1970-01-01.
    fn of_inferences(count: i64, budget: usize, span: Window) -> Found {
        let mut settings =
            Settings::parse("t.toml", "[inferences]\ntopic = \"i\"\n", &Environment::default())
                .expect("the smallest configuration");
        settings.state_budget_bytes = budget;
        let (mut names, mut windows) = (Names::default(), Windows::new(&settings, span));
        let model = ModelId(names.intern("m"));
        for number in 0..count {
            let inference = Inference {
                id: RequestId::of(&number.to_le_bytes()),
                model,
                version: VersionId(Names::EMPTY),
                time: EventTime(number * 1000),
                prediction: Target::Boolean(true),
                latency_us: None,
                failed: false,
                score: None,
                scores: &[],
                features: &[],
                segments: &[],
            };
            windows.add(&Event::Inference(inference), &mut names);
        }
        windows.finish(&names)
    }

    /// How many windows of each grain there are.
    fn counts(found: &Found) -> Option<Vec<usize>> {
        found.windows.as_ref().map(|all| all.iter().map(|(_, n)| *n).collect())
    }

    #[test]
    fn windows_that_are_larger_than_the_budget_are_left_out() {
        let found = of_inferences(6000, 1 << 30, Window::ALL);
        let all = Some(vec![20, 2, 1]);
        assert_eq!(counts(&found), all, "6,000 s in windows of 5 minutes, an hour, a day");
        let inferences = found.expected.get("5m", "all", "serving.inferences").expect("20 windows");
        assert_eq!((inferences.windows, inferences.mean, inferences.sd), (20, 300.0, 0.0));
        let found = of_inferences(6000, 10_000, Window::ALL);
        assert!(found.windows.is_none() && found.expected.is_empty());
        let (said, expected) = (super::super::expected(None, 0), "more than state.budget");
        assert!(said.starts_with("no learned limits") && said.contains(expected), "{said}");
    }

    #[test]
    fn windows_that_an_end_cuts_say_nothing() {
        let between = |start, end| {
            let span = Window { start: EventTime(start), end: EventTime(end) };
            let found = of_inferences(6000, 1 << 30, span);
            let figure = found.expected.get("5m", "all", "serving.inferences");
            (counts(&found).unwrap(), figure.map(|it| (it.windows, it.mean, it.sd)))
        };
        let is_even = |windows| Some((windows, 300.0, 0.0));
        // A second is missing of the first five minutes and of the last, of both hours, and of the day.
        assert_eq!(between(1000, 5_999_000), (vec![18, 0, 0], is_even(18)));
        // The ends of windows are no cuts: here of the first hour, and of the day.
        assert_eq!(between(0, 5_999_000), (vec![19, 1, 0], is_even(19)));
        assert_eq!(between(0, 86_400_000), (vec![20, 2, 1], is_even(20)));
        let of_few = between(0, 9 * 300_000);
        assert_eq!(of_few, (vec![9, 0, 0], None), "nine windows are too few");
    }
}
