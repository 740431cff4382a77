//! All records of files, folded into one shard in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Failure;
use super::file_job::{Judge, repeated};
use super::inputs::{Counts, Inputs, listed, unmatched};
use crate::config::Settings;
use crate::engine::event::{
    Arrival, Event, Inference, Label, Offset, Positions, Stream, Target, WEIGHT_ONE,
};
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::names::Names;
use crate::engine::outcome::Outcome;
use crate::engine::time::{Millis, RecordTime};
use crate::engine::{ModelSettings, Shard, ShardSettings};
use crate::pipeline::{ManyNames, PipelineError};
use crate::report::{Row, count};
use crate::source::feed::PARTITION;

/// Records between two looks at the memory.
const WEIGH_EVERY: u64 = 1024;

/// All records of files, folded into one shard.
pub(super) struct Folded {
    pub(super) shard: Shard,
    pub(super) names: Names,
    /// By stream.
    pub(super) read: [Counts; 2],
    duplicates: u64,
    /// Labels.
    matched: u64,
    pub(super) labels: LabelValues,
    pub(super) scores: Scores,
}

/// How many scores lie closer to 0 or 1 than they are told apart.
#[derive(Default)]
pub(super) struct Scores {
    all: u64,
    close: u64,
}

impl Scores {
    /// What has the cell of 0 or 1, and is neither: see the lattice of scores.
    const CLOSE: f64 = 1.0 / 1_048_576.0;

    fn add(&mut self, inference: &Inference<'_>) {
        let Some(score) = inference.score else { return };
        let distance = score.min(1.0 - score);
        self.all += 1;
        self.close += u64::from(distance > 0.0 && distance < Self::CLOSE);
    }

    /// What is said where it is more than a tenth.
    pub(super) fn odd(&self) -> Option<String> {
        let Self { all, close } = *self;
        (close > all / 10).then(|| {
            format!(
                "{close} of {all} scores lie within a millionth of 0 or 1, where none is told from another: AUROC and \
                 average precision count them as equal, and auroc_error_bound says how far off they may be; to tell them \
                 apart divide their log odds, as by 10, before they are logged"
            )
        })
    }
}

/// What labels hold.
#[derive(Default)]
pub(super) struct LabelValues {
    /// The first different ones.
    first: Vec<Target>,
    /// Whether one weighs otherwise than 1.
    are_weighted: bool,
}

impl LabelValues {
    /// More are no classes, or not of a binary model.
    const MOST: usize = 5;

    fn add(&mut self, label: &Label) {
        self.are_weighted |= label.weight != WEIGHT_ONE;
        let value = label.value;
        if self.first.len() < Self::MOST && value != Target::Absent && !self.first.contains(&value)
        {
            self.first.push(value);
        }
    }

    /// What is said of weights that change nothing.
    pub(super) fn unused_weights(&self, settings: &ShardSettings) -> Option<String> {
        let is_used = settings.models.iter().any(|model| model.weighted);
        (self.are_weighted && !is_used).then(|| {
            "labels have weights, which count for nothing: to use them say so in the configuration, [models.\"*\"] \
             weights = \"use\""
                .to_owned()
        })
    }

    /// What is odd about those of binary models: some are 1 and others not 0, as where classes are counted from 1.
    pub(super) fn odd(
        &self,
        rows: &[Row],
        settings: &ShardSettings,
        names: &Names,
    ) -> Option<String> {
        const OF_TWO: [Target; 5] = [
            Target::Number(1.0),
            Target::Boolean(true),
            Target::Number(0.0),
            Target::Number(-1.0),
            Target::Boolean(false),
        ];
        let is = |table: MetricTable| rows.iter().any(|row| row.table == table.name());
        let of_others = is(MetricTable::QualityMulticlass) || is(MetricTable::QualityRegression);
        let by_default = ModelSettings::default().positive;
        let is_told = settings.models.iter().any(|model| model.positive != by_default);
        let is_odd = OF_TWO[..2].iter().any(|positive| self.first.contains(positive))
            && self.first.iter().any(|value| !OF_TWO.contains(value));
        if !is_odd || is_told || of_others || !is(MetricTable::QualityBinary) {
            return None;
        }
        let values: BTreeSet<_> = self.first.iter().map(|value| value.text(names)).collect();
        let values = listed(values.iter().map(|text| &**text), Self::MOST);
        let more = if self.first.len() == Self::MOST { " and maybe others" } else { "" };
        Some(format!(
            "labels are {values}{more}: 1 and true count as positive, and all others as negative; if that is wrong, name \
             the positive ones in the configuration, [models.\"*\"] positive = [\"2\"]"
        ))
    }
}

impl Folded {
    /// Reads the files. Refused where the records take more memory than the budget.
    pub(super) fn of(inputs: &Inputs) -> Result<Self, Failure> {
        let settings = Arc::new(inputs.settings.shard.clone());
        let start = Mark::start(PARTITION, Positions::default(), settings.clock_stamps);
        let mut shard = Shard::new(settings, &start);
        let (mut names, mut read) = (Names::default(), [Counts::default(); 2]);
        let (mut duplicates, mut matched, mut records) = (0_u64, 0_u64, 0_u64);
        let (mut labels, mut scores) = (LabelValues::default(), Scores::default());
        for feed in &inputs.feeds {
            let stream = feed.stream;
            read[stream.index()] = inputs.decode(feed, &mut names, |offset, event, names| {
                let at = Arrival { stream, offset: Offset(offset), time: RecordTime(0) };
                match event {
                    Event::Inference(inference) => scores.add(inference),
                    Event::Label(label) => labels.add(label),
                }
                match shard.observe(at, event, names) {
                    Outcome::Duplicate => duplicates += 1,
                    // All inferences come before the first label.
                    Outcome::Matched => matched += 1,
                    _ => {}
                }
                records += 1;
                if records.is_multiple_of(WEIGH_EVERY) {
                    weigh(&shard, names, inputs.settings.state_budget_bytes, records)?;
                }
                Ok(())
            })?;
        }
        Ok(Self { shard, names, read, duplicates, matched, labels, scores })
    }

    /// Refuses files without one inference that can be used, and those that `backfill` would refuse.
    pub(super) fn check(&self, settings: &Settings) -> Result<(), Failure> {
        let [inferences, _] = self.read;
        if inferences.good == 0 {
            let message = format!("no inference can be used: {}", accounts(self.read));
            return Err(Failure::new("report_empty", message));
        }
        let judge = Judge::of_files(settings);
        let mut streams = Stream::BOTH.into_iter().zip(self.read);
        streams.try_for_each(|(stream, counts)| judge.judge(stream, counts))
    }

    /// How many records of each kind the files have.
    pub(super) fn said(&self, inputs: &Inputs) -> String {
        let mut said = Vec::new();
        for stream in inputs.feeds.iter().map(|feed| feed.stream) {
            let Counts { good, bad, unlabelled, .. } = self.read[stream.index()];
            said.push(format!("{} {}", count(good), stream.name()));
            // Of labels none is: a later one corrects.
            if stream == Stream::Inferences && self.duplicates > 0 {
                said.push(format!("{} of them duplicates", count(self.duplicates)));
            }
            if bad > 0 {
                said.push(format!("{} {} that can't be used", count(bad), stream.name()));
            }
            if unlabelled > 0 {
                said.push(format!("{} rows without a label", count(unlabelled)));
            }
        }
        said.join(", ")
    }

    /// What is odd about the records; `wait` is `windows.label_wait`.
    pub(super) fn remarks(&self, wait: Millis) -> Vec<String> {
        let [inferences, labels] = self.read;
        let streams = Stream::BOTH.into_iter().zip(self.read);
        let doubts = streams.filter_map(|(stream, counts)| counts.doubt(stream));
        let repeated = repeated(inferences.good, self.duplicates);
        let unmatched = unmatched(labels.good, self.matched, wait);
        repeated.into_iter().chain(unmatched).chain(doubts).collect()
    }
}

/// Refuses what takes more than the budget: all that is read stays in memory until the end.
fn weigh(shard: &Shard, names: &Names, budget: usize, records: u64) -> Result<(), Failure> {
    let of_names = ManyNames { count: names.len(), bytes: names.bytes() };
    let bytes = shard.standing().bytes + of_names.bytes;
    if bytes <= budget {
        return Ok(());
    }
    if of_names.bytes > bytes / 2 {
        return Err(PipelineError::Names { names: of_names, budget }.into());
    }
    let enough = bytes.saturating_mul(2);
    let message = format!(
        "the first {records} records of the files take {bytes} bytes, more than the budget of {budget} bytes: set \
         state.budget (TIDEGAUGE__STATE__BUDGET) to {enough} bytes or more, or take fewer files"
    );
    Err(Failure::new("state_budget_exceeded", message))
}

/// How many records of each kind were read, and how many of them can't be used.
pub(super) fn accounts(read: [Counts; 2]) -> String {
    let of = |(stream, Counts { good, bad, .. }): (Stream, Counts)| {
        format!("{} {} read, of which {bad} can't be used", good + bad, stream.name())
    };
    Stream::BOTH.into_iter().zip(read).map(of).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::inputs::{CellArgs, InputArgs};
    use crate::config::Environment;

    const HOURS: &str = "\
job = \"t\"
[inferences]
topic = \"a\"
[labels]
topic = \"b\"
[windows]
size = \"1h\"
";

    /// What comes of files of 3000 inferences, so far apart, each of which predicts a class of its own, where memory is
    /// limited to so many bytes.
    fn folded(step_ms: i64, class: &str, budget: usize) -> Result<Folded, Failure> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("a.csv");
        let rows = (0..3000).map(|number| {
            let time = 1_767_571_200_000 + number * step_ms;
            format!("r-{number},fraud,{time},{class}{number}\n")
        });
        let text = format!("request_id,model,timestamp,prediction\n{}", rows.collect::<String>());
        std::fs::write(&path, text).unwrap();
        let mut settings = Settings::parse("t", HOURS, &Environment::default()).unwrap();
        settings.state_budget_bytes = budget;
        let inferences = vec![path.to_str().unwrap().to_owned()];
        let (labels, cells) = (Vec::new(), CellArgs::default());
        Folded::of(&Inputs::find(settings, &InputArgs { inferences, labels, cells })?)
    }

    #[test]
    fn a_report_of_files_that_are_larger_than_the_budget_is_refused() {
        let hour_ms = 3_600_000;
        assert_eq!(folded(hour_ms, "", 1 << 30).unwrap().read[0].good, 3000);
        let long = "c".repeat(1000);
        // Windows fill the memory, or names do.
        for (step_ms, class, said) in
            [(hour_ms, "", "the first 1024 records"), (1, &*long, "names take")]
        {
            let failure = folded(step_ms, class, 10_000).err().expect("it is refused");
            assert_eq!((failure.code, failure.exit), ("state_budget_exceeded", 1));
            assert!(failure.message.contains(said), "{failure:?}");
            assert!(failure.message.contains("budget of 10000 bytes"), "{failure:?}");
        }
    }
}
