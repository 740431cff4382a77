//! Traffic, errors, latency and freshness of all accepted inferences of a key. Reads no label.

use super::accumulator::{Accumulator, Column, FigureContext, Kind, StateError, Undefined, Value};
use super::cells::Cells;
use super::interval::{
    Figure, cells, count, figure, number, put, put_with_limits, ratio, wilson_limits,
};
use super::lattice::{DELAY_MS, LATENCY_US};
use super::sign::Sign;
use super::stored::Stored;
use crate::engine::time::EventTime;

/// What one accepted inference adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServingInput {
    /// When it was made.
    pub time: EventTime,
    /// Its latency in microseconds, where it carries one.
    pub latency_us: Option<u32>,
    /// Whether it carries an error.
    pub failed: bool,
    /// Its arrival less its event time, at least 0, in milliseconds.
    pub freshness_ms: u64,
}

/// The state of table `serving`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Serving {
    inferences: u64,
    errors: u64,
    latency_sum_us: u64,
    latency_max_us: u64,
    latency: Cells,
    freshness_max_ms: u64,
    freshness: Cells,
    /// None exactly where there are no inferences.
    latest: Option<i64>,
}

impl Serving {
    /// Accepted inferences.
    pub fn inferences(&self) -> u64 {
        self.inferences
    }

    /// A quantile of latency in milliseconds.
    fn latency_ms(&self, percent: u64) -> Figure {
        LATENCY_US
            .quantile(&self.latency, percent, self.latency_max_us)
            .map(|us| number(us) / 1000.0)
            .ok_or(Undefined::NoValues)
    }

    /// A quantile of freshness in milliseconds.
    fn freshness_ms(&self, percent: u64) -> Figure {
        DELAY_MS
            .quantile(&self.freshness, percent, self.freshness_max_ms)
            .map(number)
            .ok_or(Undefined::NoValues)
    }
}

impl Accumulator for Serving {
    type Input<'a> = ServingInput;

    const STATE: &'static [Column] = &[
        count("inferences", "Accepted inferences."),
        count("errors", "Inferences with a non-empty error."),
        count("latency_sum_us", "Sum of latencies in microseconds."),
        count("latency_max_us", "Greatest latency in microseconds."),
        cells("latency_us_cells", "Inferences by cell of the duration lattice of latency."),
        count("freshness_max_ms", "Greatest freshness in milliseconds."),
        cells("freshness_ms_cells", "Inferences by cell of the duration lattice of freshness."),
        Column {
            name: "latest_event_time",
            kind: Kind::Time,
            comment: "Greatest event time of the inferences.",
        },
    ];

    const FIGURES: &'static [Column] = &[
        count("inferences", "Accepted inferences."),
        Column {
            name: "inferences_per_s",
            kind: Kind::Number,
            comment: "Inferences for each second of the whole window, also while it is open.",
        },
        count("errors", "Inferences with a non-empty error."),
        figure("error_rate", "errors / inferences."),
        figure("error_rate_lower", "Lower limit of the 95 % interval of error_rate (Wilson)."),
        figure("error_rate_upper", "Upper limit of the 95 % interval of error_rate (Wilson)."),
        count("latency_n", "Inferences that carry a latency, failed ones included."),
        figure("latency_p50_ms", "Median latency, at most 1/128 above the exact one."),
        figure("latency_p90_ms", "90 % quantile of latency, at most 1/128 above the exact one."),
        figure("latency_p99_ms", "99 % quantile of latency, at most 1/128 above the exact one."),
        figure("latency_max_ms", "Greatest latency, exact."),
        figure("latency_sum_ms", "Sum of latencies, exact."),
        figure("latency_mean_ms", "latency_sum_ms / latency_n."),
        figure(
            "freshness_p50_ms",
            "Median of arrival less event time, at most 1/128 above the exact one.",
        ),
        figure(
            "freshness_p90_ms",
            "90 % quantile of arrival less event time, at most 1/128 above the exact one.",
        ),
        figure(
            "freshness_p99_ms",
            "99 % quantile of arrival less event time, at most 1/128 above the exact one.",
        ),
        figure("freshness_max_ms", "Greatest arrival less event time, exact."),
        Column {
            name: "latest_event_time",
            kind: Kind::Time,
            comment: "Greatest event time of the inferences.",
        },
    ];

    /// Never asked to take back: no label changes what an inference adds here, and a maximum cannot be taken back.
    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        assert!(sign.adds(), "no label is read here, so nothing is taken back: {input:?}");
        self.inferences += 1;
        self.errors += u64::from(input.failed);
        if let Some(latency_us) = input.latency_us.map(u64::from) {
            self.latency_sum_us += latency_us;
            self.latency_max_us = self.latency_max_us.max(latency_us);
            self.latency.add(LATENCY_US.cell(latency_us));
        }
        self.freshness_max_ms = self.freshness_max_ms.max(input.freshness_ms);
        self.freshness.add(DELAY_MS.cell(input.freshness_ms));
        self.latest = self.latest.max(Some(input.time.0));
    }

    fn merge(&mut self, other: &Self) {
        self.inferences += other.inferences;
        self.errors += other.errors;
        self.latency_sum_us += other.latency_sum_us;
        self.latency_max_us = self.latency_max_us.max(other.latency_max_us);
        self.latency.merge(&other.latency);
        self.freshness_max_ms = self.freshness_max_ms.max(other.freshness_max_ms);
        self.freshness.merge(&other.freshness);
        self.latest = self.latest.max(other.latest);
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([
            Value::Count(self.inferences),
            Value::Count(self.errors),
            Value::Count(self.latency_sum_us),
            Value::Count(self.latency_max_us),
            Value::Cells(self.latency.to_pairs()),
            Value::Count(self.freshness_max_ms),
            Value::Cells(self.freshness.to_pairs()),
            Value::Time(self.latest.unwrap_or(0)),
        ]);
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let inferences = stored.count()?;
        Ok(Self {
            inferences,
            errors: stored.count()?,
            latency_sum_us: stored.count()?,
            latency_max_us: stored.count()?,
            latency: stored.cells(LATENCY_US.cells())?,
            freshness_max_ms: stored.count()?,
            freshness: stored.cells(DELAY_MS.cells())?,
            latest: Some(stored.time()?).filter(|_| inferences > 0),
        })
    }

    fn figures(&self, context: &FigureContext<'_>, out: &mut Vec<Value>) {
        let latency_n = self.latency.total();
        let with_latency =
            |value: f64| if latency_n == 0 { Err(Undefined::NoValues) } else { Ok(value) };
        let has_any = if self.inferences == 0 { Err(Undefined::NoValues) } else { Ok(()) };
        let latency_sum_ms = number(self.latency_sum_us) / 1000.0;
        let window_ms = number(context.window_ms.unsigned_abs());
        out.push(Value::Count(self.inferences));
        put(out, Ok(number(self.inferences) * 1000.0 / window_ms));
        out.push(Value::Count(self.errors));
        put_with_limits(
            out,
            ratio(self.errors, self.inferences, Undefined::ZeroDenominator),
            wilson_limits(self.errors, self.inferences, Undefined::ZeroDenominator),
        );
        out.push(Value::Count(latency_n));
        for percent in [50, 90, 99] {
            put(out, self.latency_ms(percent));
        }
        put(out, with_latency(number(self.latency_max_us) / 1000.0));
        put(out, with_latency(latency_sum_ms));
        put(out, with_latency(latency_sum_ms / number(latency_n.max(1))));
        for percent in [50, 90, 99] {
            put(out, self.freshness_ms(percent));
        }
        put(out, has_any.map(|()| number(self.freshness_max_ms)));
        out.push(Value::Time(self.latest.unwrap_or(0)));
    }

    fn heap_bytes(&self) -> usize {
        self.latency.heap_bytes() + self.freshness.heap_bytes()
    }
}
