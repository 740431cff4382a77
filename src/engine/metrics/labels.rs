//! Which inferences have a label, how long it took, and how often labels were corrected, repeated or in conflict.

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Undefined, Value};
use super::cells::Cells;
use super::interval::{Figure, cells, count, figure, number, put, ratio};
use super::lattice::DELAY_MS;
use super::sign::Sign;
use super::stored::Stored;

/// What one accepted inference, or one label that matches it, adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelsInput {
    /// An accepted inference.
    Inference {
        /// Whether it was decided positive; none where it is not binary or has no decision.
        decision: Option<bool>,
    },
    /// The first label of an inference.
    First {
        /// The label's arrival less the inference's event time, at least 0, in milliseconds.
        delay_ms: u64,
        /// The inference's decision, as for [`Inference`](Self::Inference).
        decision: Option<bool>,
    },
    /// A later label that wins with another value or weight.
    Correction,
    /// Any other later label.
    Duplicate {
        /// Whether its value or weight differs from the winner's.
        conflict: bool,
    },
}

/// The delays up to which labelled inferences are counted, in milliseconds: 1 minute, 10 minutes, 1 hour, 1 day.
const WITHIN_MS: [u64; 4] = [60_000, 600_000, 3_600_000, 86_400_000];

/// The state of table `labels`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    inferences: u64,
    labelled: u64,
    expired: u64,
    corrections: u64,
    duplicates: u64,
    conflicts: u64,
    delay_sum_ms: u64,
    delay_max_ms: u64,
    delay: Cells,
    within: [u64; 4],
    inferences_positive: u64,
    labelled_positive: u64,
    inferences_negative: u64,
    labelled_negative: u64,
}

impl Labels {
    /// The window seals: what has no label now will have none.
    pub fn seal(&mut self) {
        self.expired = self.inferences - self.labelled;
    }

    /// Accepted inferences.
    pub fn inferences(&self) -> u64 {
        self.inferences
    }

    /// Inferences with a label.
    pub fn labelled(&self) -> u64 {
        self.labelled
    }

    fn first(&mut self, delay_ms: u64, decision: Option<bool>) {
        self.labelled += 1;
        self.delay_sum_ms += delay_ms;
        self.delay_max_ms = self.delay_max_ms.max(delay_ms);
        self.delay.add(DELAY_MS.cell(delay_ms));
        for (count, limit_ms) in self.within.iter_mut().zip(WITHIN_MS) {
            *count += u64::from(delay_ms <= limit_ms);
        }
        match decision {
            Some(true) => self.labelled_positive += 1,
            Some(false) => self.labelled_negative += 1,
            None => {}
        }
    }

    /// A quantile of label delay in milliseconds.
    fn delay_ms(&self, percent: u64) -> Figure {
        DELAY_MS
            .quantile(&self.delay, percent, self.delay_max_ms)
            .map(number)
            .ok_or(Undefined::NoLabels)
    }

    /// Coverage among the inferences of one decision.
    fn coverage_of(&self, labelled: u64, inferences: u64) -> Figure {
        if self.inferences_positive + self.inferences_negative == 0 {
            return Err(Undefined::NotApplicable);
        }
        ratio(labelled, inferences, Undefined::ZeroDenominator)
    }
}

impl Accumulator for Labels {
    type Input<'a> = LabelsInput;

    const STATE: &'static [Column] = &[
        count("label_inferences", "Accepted inferences that labels are awaited for."),
        count("labelled", "Inferences with a label."),
        count("expired", "Inferences without a label when the window sealed."),
        count("label_corrections", "Later labels that won with another value or weight."),
        count("label_duplicates", "Labels that joined nothing and changed nothing."),
        count("label_conflicts", "Duplicates with another value or weight than the winner."),
        count("label_delay_sum_ms", "Sum of label delays in milliseconds."),
        count("label_delay_max_ms", "Greatest label delay in milliseconds."),
        cells("label_delay_ms_cells", "Inferences by cell of the duration lattice of label delay."),
        count("labelled_within_1m", "Inferences with a label delay of at most one minute."),
        count("labelled_within_10m", "Inferences with a label delay of at most ten minutes."),
        count("labelled_within_1h", "Inferences with a label delay of at most one hour."),
        count("labelled_within_1d", "Inferences with a label delay of at most one day."),
        count("inferences_positive", "Inferences decided positive."),
        count("labelled_positive", "Inferences decided positive, with a label."),
        count("inferences_negative", "Inferences decided negative."),
        count("labelled_negative", "Inferences decided negative, with a label."),
    ];

    const FIGURES: &'static [Column] = &[
        count("inferences", "Accepted inferences: labelled + pending + expired."),
        count("labelled", "Inferences with a label."),
        count("pending", "Inferences of open windows without a label yet."),
        count("expired", "Inferences of sealed windows without a label."),
        figure("coverage", "labelled / inferences."),
        figure("settled_ratio", "(labelled + expired) / inferences."),
        count("labels_matched", "labelled + label_corrections + label_duplicates."),
        count("label_corrections", "Later labels that won with another value or weight."),
        count("label_duplicates", "Labels that joined nothing and changed nothing."),
        count("label_conflicts", "Duplicates with another value or weight than the winner."),
        figure("label_delay_p50_ms", "Median label delay, at most 1/128 above the exact one."),
        figure("label_delay_p90_ms", "90 % quantile of label delay, at most 1/128 above."),
        figure("label_delay_p99_ms", "99 % quantile of label delay, at most 1/128 above."),
        figure("label_delay_max_ms", "Greatest label delay, exact."),
        figure("label_delay_mean_ms", "Mean label delay."),
        count("labelled_within_1m", "Inferences with a label delay of at most one minute."),
        count("labelled_within_10m", "Inferences with a label delay of at most ten minutes."),
        count("labelled_within_1h", "Inferences with a label delay of at most one hour."),
        count("labelled_within_1d", "Inferences with a label delay of at most one day."),
        figure("coverage_positive", "labelled_positive / inferences_positive."),
        figure("coverage_negative", "labelled_negative / inferences_negative."),
        count("inferences_positive", "Inferences decided positive (binary)."),
        count("labelled_positive", "Inferences decided positive, with a label."),
        count("inferences_negative", "Inferences decided negative (binary)."),
        count("labelled_negative", "Inferences decided negative, with a label."),
    ];

    /// Never asked to take back: a correction is counted here, and leaves the first label's delay as it is.
    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        assert!(sign.adds(), "accounts of labels only grow, so nothing is taken back: {input:?}");
        match *input {
            LabelsInput::Inference { decision } => {
                self.inferences += 1;
                match decision {
                    Some(true) => self.inferences_positive += 1,
                    Some(false) => self.inferences_negative += 1,
                    None => {}
                }
            }
            LabelsInput::First { delay_ms, decision } => self.first(delay_ms, decision),
            LabelsInput::Correction => self.corrections += 1,
            LabelsInput::Duplicate { conflict } => {
                self.duplicates += 1;
                self.conflicts += u64::from(conflict);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.inferences += other.inferences;
        self.labelled += other.labelled;
        self.expired += other.expired;
        self.corrections += other.corrections;
        self.duplicates += other.duplicates;
        self.conflicts += other.conflicts;
        self.delay_sum_ms += other.delay_sum_ms;
        self.delay_max_ms = self.delay_max_ms.max(other.delay_max_ms);
        self.delay.merge(&other.delay);
        for (count, more) in self.within.iter_mut().zip(other.within) {
            *count += more;
        }
        self.inferences_positive += other.inferences_positive;
        self.labelled_positive += other.labelled_positive;
        self.inferences_negative += other.inferences_negative;
        self.labelled_negative += other.labelled_negative;
    }

    fn state(&self, out: &mut Vec<Value>) {
        let counts = [self.inferences, self.labelled, self.expired];
        out.extend(counts.map(Value::Count));
        out.extend([self.corrections, self.duplicates, self.conflicts].map(Value::Count));
        out.extend([self.delay_sum_ms, self.delay_max_ms].map(Value::Count));
        out.push(Value::Cells(self.delay.to_pairs()));
        out.extend(self.within.map(Value::Count));
        out.extend([self.inferences_positive, self.labelled_positive].map(Value::Count));
        out.extend([self.inferences_negative, self.labelled_negative].map(Value::Count));
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let restored = Self {
            inferences: stored.count()?,
            labelled: stored.count()?,
            expired: stored.count()?,
            corrections: stored.count()?,
            duplicates: stored.count()?,
            conflicts: stored.count()?,
            delay_sum_ms: stored.count()?,
            delay_max_ms: stored.count()?,
            delay: stored.cells(DELAY_MS.cells())?,
            within: [stored.count()?, stored.count()?, stored.count()?, stored.count()?],
            inferences_positive: stored.count()?,
            labelled_positive: stored.count()?,
            inferences_negative: stored.count()?,
            labelled_negative: stored.count()?,
        };
        Ok(restored)
    }

    fn figures(&self, _: &FigureContext<'_>, out: &mut Vec<Value>) {
        let settled = self.labelled + self.expired;
        // Only parts that are put together wrongly could have more labelled than inferences.
        let pending = self.inferences.saturating_sub(settled);
        let matched = self.labelled + self.corrections + self.duplicates;
        let labelled =
            |value: f64| if self.labelled == 0 { Err(Undefined::NoLabels) } else { Ok(value) };
        let counts = [self.inferences, self.labelled, pending, self.expired];
        out.extend(counts.map(Value::Count));
        put(out, ratio(self.labelled, self.inferences, Undefined::ZeroDenominator));
        put(out, ratio(settled, self.inferences, Undefined::ZeroDenominator));
        let counts = [matched, self.corrections, self.duplicates, self.conflicts];
        out.extend(counts.map(Value::Count));
        for percent in [50, 90, 99] {
            put(out, self.delay_ms(percent));
        }
        put(out, labelled(number(self.delay_max_ms)));
        put(out, labelled(number(self.delay_sum_ms) / number(self.labelled.max(1))));
        out.extend(self.within.map(Value::Count));
        put(out, self.coverage_of(self.labelled_positive, self.inferences_positive));
        put(out, self.coverage_of(self.labelled_negative, self.inferences_negative));
        out.extend([self.inferences_positive, self.labelled_positive].map(Value::Count));
        out.extend([self.inferences_negative, self.labelled_negative].map(Value::Count));
    }

    fn heap_bytes(&self) -> usize {
        self.delay.heap_bytes()
    }
}
