//! Metrics that the configuration defines: an expression over the counts and sums of a key's other rows. It is computed
//! from the merged state of the key, as those are, so that coarser windows are never averages of finer ones.

use std::sync::Arc;

use super::MetricTable;
use super::accumulator::{Column, Kind, Undefined, Value};
use super::interval::number;
use super::reference::Profile;

/// A metric that the configuration defines.
#[derive(Clone, Debug, PartialEq)]
pub struct CustomMetric {
    /// `[a-z0-9_]`; no other metric has it.
    pub name: Arc<str>,
    /// Names and globs of the models that have it.
    pub models: Vec<String>,
    /// Globs of the segments that have it: `all`, or like `region=*`.
    pub segments: Vec<String>,
    /// What it is.
    pub expression: Expression,
}

impl CustomMetric {
    /// Whether it is computed from labels, so that it says little while few have come.
    pub fn reads_labels(&self) -> bool {
        self.expression.inputs().any(|input| input.table.reads_labels(input.column))
    }

    /// Whether the labelled inferences are behind it: it reads labels, or is a ratio of what only these have. How many
    /// have a label at all, `labelled / inferences`, is said of all.
    fn is_of_labelled(&self) -> bool {
        let is_ratio = self.expression.divides() && self.expression.inputs().nth(1).is_some();
        self.reads_labels() || (is_ratio && self.expression.inputs().all(Input::is_of_labelled))
    }
}

/// A count or a sum of a key's rows, which an expression may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Input {
    /// A table with one row for each key and window.
    pub table: MetricTable,
    /// The column.
    pub column: &'static str,
}

/// The tables with one row for each key and window.
const TABLES: [MetricTable; 7] = [
    MetricTable::Serving,
    MetricTable::Labels,
    MetricTable::QualityBinary,
    MetricTable::Calibration,
    MetricTable::QualityRegression,
    MetricTable::QualityMulticlass,
    MetricTable::QualityEstimated,
];

/// Sums of probabilities, which are not named so.
const EXPECTED_COUNTS: [&str; 4] = ["est_tp", "est_fp", "est_fn", "est_tn"];

impl Input {
    /// Everything that an expression may name: what adds up over records, and nothing that is divided already.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLES.into_iter().flat_map(|table| {
            let additive = table.columns().iter().filter(|column| is_additive(column));
            additive.map(move |column| Self { table, column: column.name })
        })
    }

    fn is_of_labelled(self) -> bool {
        self.table == MetricTable::Labels && self.column.starts_with("label")
    }

    /// Whether it counts inferences by their decision, which only those of binary models have.
    fn is_of_decisions(self) -> bool {
        self.table == MetricTable::Labels
            && (self.column.ends_with("_positive") || self.column.ends_with("_negative"))
    }

    /// `table.column`.
    pub fn name(self) -> String {
        format!("{}.{}", self.table.name(), self.column)
    }
}

fn is_additive(column: &Column) -> bool {
    // How many classes have a figure is no count of records.
    let is_count = column.kind == Kind::Count && !column.name.ends_with("_classes");
    let is_sum = ["_sum", "_sum_ms", "_weight"].iter().any(|end| column.name.ends_with(end));
    is_count || is_sum || EXPECTED_COUNTS.contains(&column.name)
}

/// An expression, in the order in which it is evaluated: operands before their operator. It can only be put together so
/// that it has a value, and evaluating it takes one step for each part.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression(Vec<Step>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Number(f64),
    Input(Input),
    Negate,
    Apply(Operator),
}

/// What joins two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Left + right.
    Add,
    /// Left - right.
    Subtract,
    /// Left * right.
    Multiply,
    /// Left / right.
    Divide,
}

const WELL_FORMED: &str = "operands stand before their operator";

impl Expression {
    /// A finite number.
    pub fn number(number: f64) -> Self {
        Self(vec![Step::Number(number)])
    }

    /// A count or sum.
    pub fn input(input: Input) -> Self {
        Self(vec![Step::Input(input)])
    }

    /// The same with the other sign.
    #[must_use]
    pub fn negated(mut self) -> Self {
        self.0.push(Step::Negate);
        self
    }

    /// This and another one, joined.
    #[must_use]
    pub fn joined(mut self, operator: Operator, right: Self) -> Self {
        self.0.extend(right.0);
        self.0.push(Step::Apply(operator));
        self
    }

    /// The counts and sums that it names, as often as it does.
    pub fn inputs(&self) -> impl Iterator<Item = Input> {
        self.0.iter().filter_map(|step| match step {
            Step::Input(input) => Some(*input),
            Step::Number(_) | Step::Negate | Step::Apply(_) => None,
        })
    }

    fn divides(&self) -> bool {
        self.0.contains(&Step::Apply(Operator::Divide))
    }

    /// Its value in IEEE double arithmetic, part by part as written; finite always. Undefined where an input is, where
    /// a divisor is 0, and where a part is too large; of several reasons the first in the order of [`Undefined`] is
    /// given.
    pub fn value(&self, of: impl Fn(Input) -> Result<f64, Undefined>) -> Result<f64, Undefined> {
        let mut stack: Vec<Result<f64, Undefined>> = Vec::new();
        for step in &self.0 {
            let value = match *step {
                Step::Number(number) => Ok(number),
                Step::Input(input) => of(input),
                Step::Negate => stack.pop().expect(WELL_FORMED).map(|value| -value),
                Step::Apply(operator) => {
                    let right = stack.pop().expect(WELL_FORMED);
                    operator.apply(stack.pop().expect(WELL_FORMED), right)
                }
            };
            stack.push(value);
        }
        // Plus 0 turns -0 into 0.
        stack.pop().expect(WELL_FORMED).map(|value| value + 0.0)
    }
}

impl Operator {
    fn apply(
        self,
        left: Result<f64, Undefined>,
        right: Result<f64, Undefined>,
    ) -> Result<f64, Undefined> {
        let (left, right) = match (left, right) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(one), Err(other)) => return Err(one.min(other)),
            (Err(reason), Ok(_)) | (Ok(_), Err(reason)) => return Err(reason),
        };
        let value = match self {
            Self::Add => left + right,
            Self::Subtract => left - right,
            Self::Multiply => left * right,
            Self::Divide if right == 0.0 => return Err(Undefined::ZeroDenominator),
            Self::Divide => left / right,
        };
        if value.is_finite() { Ok(value) } else { Err(Undefined::Overflow) }
    }
}

/// Columns of `custom`, its key first.
pub(super) const CUSTOM_FIGURES: &[Column] = &[
    Column { name: "metric", kind: Kind::Text, comment: "The metric's name in the configuration." },
    Column {
        name: "value",
        kind: Kind::Figure,
        comment: "What the metric's expression gives; NULL where it is undefined.",
    },
    Column {
        name: "reason",
        kind: Kind::Text,
        comment: "Why the value is NULL; empty where it is not.",
    },
    Column {
        name: "n",
        kind: Kind::Count,
        comment: "Inferences behind it: the labelled where the expression reads labels, else all.",
    },
    Column { name: "inferences", kind: Kind::Count, comment: "Accepted inferences." },
    Column { name: "labelled", kind: Kind::Count, comment: "Inferences with a label." },
];

/// One row of `custom` for each metric, from the other rows of the key. The reference is the model's.
pub fn rows(
    metrics: &[Arc<CustomMetric>],
    others: &[(MetricTable, Vec<Value>)],
    reference: Option<&Profile>,
) -> Vec<Vec<Value>> {
    let count = |table, column| match found(others, Input { table, column }) {
        Some(Value::Count(count)) => *count,
        _ => 0,
    };
    let inferences = count(MetricTable::Serving, "inferences");
    let labelled = count(MetricTable::Labels, "labelled");
    let decided = ["inferences_positive", "inferences_negative"];
    let decided: u64 = decided.iter().map(|column| count(MetricTable::Labels, column)).sum();
    let input = |input: Input| match found(others, input) {
        Some(_) if decided == 0 && input.is_of_decisions() => Err(Undefined::NotApplicable),
        Some(Value::Count(count)) => Ok(number(*count)),
        Some(Value::Figure(figure)) => *figure,
        _ => Err(absent(input.table, others, labelled, reference)),
    };
    let row = |metric: &Arc<CustomMetric>| {
        let value = metric.expression.value(input);
        let n = if metric.is_of_labelled() { labelled } else { inferences };
        vec![
            Value::Text(Arc::clone(&metric.name).into()),
            Value::Figure(value),
            Value::Text(value.err().map_or("", Undefined::code).into()),
            Value::Count(n),
            Value::Count(inferences),
            Value::Count(labelled),
        ]
    };
    metrics.iter().map(row).collect()
}

fn found(others: &[(MetricTable, Vec<Value>)], input: Input) -> Option<&Value> {
    let at = input.table.columns().iter().position(|column| column.name == input.column)?;
    let (_, values) = others.iter().find(|(table, _)| *table == input.table)?;
    values.get(at)
}

/// Why a key has no row of a table.
fn absent(
    table: MetricTable,
    others: &[(MetricTable, Vec<Value>)],
    labelled: u64,
    reference: Option<&Profile>,
) -> Undefined {
    let is = |task| others.iter().any(|(table, _)| *table == task);
    let (is_binary, is_multiclass) =
        (is(MetricTable::QualityBinary), is(MetricTable::QualityMulticlass));
    if table == MetricTable::QualityEstimated && (is_binary || is_multiclass) {
        let Some(profile) = reference else { return Undefined::NoReference };
        let is_calibrated = (is_binary && profile.calibrator.is_some())
            || (is_multiclass && !profile.class_calibrators.is_empty());
        if is_calibrated { Undefined::NoScores } else { Undefined::NoCalibrator }
    } else if table == MetricTable::Calibration && is_binary {
        if labelled == 0 { Undefined::NoLabels } else { Undefined::NoScores }
    } else {
        Undefined::NotApplicable
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::metrics::expected::Expected;
    use crate::engine::metrics::reference::{CalibrationMap, Calibrator};

    fn input(column: &'static str) -> Expression {
        let input = Input::all().find(|input| input.column == column);
        Expression::input(input.expect(column))
    }

    fn metric(expression: &Expression) -> Arc<CustomMetric> {
        Arc::new(CustomMetric {
            name: "m".into(),
            models: vec!["*".to_owned()],
            segments: vec!["*".to_owned()],
            expression: expression.clone(),
        })
    }

    /// Of a binary key with 8 inferences, 6 of them labelled, where nothing was decided positive, without a reference.
    fn value(expression: &Expression) -> Result<f64, Undefined> {
        value_of(MetricTable::QualityBinary, expression, None)
    }

    /// The same, of a model of this task and with this reference.
    fn value_of(
        task: MetricTable,
        expression: &Expression,
        reference: Option<&Profile>,
    ) -> Result<f64, Undefined> {
        let row = |table: MetricTable, known: &[(&str, Value)]| {
            let value = |column: &Column| {
                let known = known.iter().find(|(name, _)| *name == column.name);
                known.map_or(Value::Count(0), |(_, value)| value.clone())
            };
            (table, table.columns().iter().map(value).collect())
        };
        let no_values = Value::Figure(Err(Undefined::NoValues));
        let decided = Value::Count(if task == MetricTable::QualityBinary { 8 } else { 0 });
        let others = [
            row(
                MetricTable::Serving,
                &[("inferences", Value::Count(8)), ("latency_sum_ms", no_values)],
            ),
            row(
                MetricTable::Labels,
                &[("labelled", Value::Count(6)), ("inferences_negative", decided)],
            ),
            row(task, &[("tn", Value::Count(6))]),
        ];
        let rows = rows(&[metric(expression)], &others, reference);
        let [Value::Text(name), Value::Figure(value), Value::Text(reason), counts @ ..] =
            rows[0].as_slice()
        else {
            panic!("{rows:?}")
        };
        assert_eq!((&**name, &**reason), ("m", value.err().map_or("", Undefined::code)));
        let n = if metric(expression).is_of_labelled() { 6 } else { 8 };
        assert_eq!(counts, [n, 8, 6].map(Value::Count));
        *value
    }

    #[test]
    fn operands_are_taken_in_the_order_written() {
        use Operator::{Add, Divide, Multiply, Subtract};
        let all = || input("inferences");
        assert_eq!(value(&input("labelled").joined(Divide, all())), Ok(0.75));
        assert_eq!(value(&Expression::number(1.0).joined(Subtract, all())), Ok(-7.0));
        assert_eq!(value(&all().negated().joined(Add, input("tn"))), Ok(-2.0));
        assert_eq!(value(&all().joined(Multiply, input("tn").negated())), Ok(-48.0));
    }

    #[test]
    fn nothing_is_infinite_and_zero_has_no_sign() {
        use Operator::{Divide, Multiply};
        let nothing = || Expression::number(0.0);
        assert_eq!(
            value(&input("tp").joined(Divide, input("tp"))),
            Err(Undefined::ZeroDenominator)
        );
        let hidden = input("tn").joined(Divide, input("tp"));
        let hidden = Expression::number(1.0).joined(Divide, hidden);
        assert_eq!(value(&hidden), Err(Undefined::ZeroDenominator), "1 / (6 / 0) is not 0");
        let large = || Expression::number(1e300);
        assert_eq!(value(&large().joined(Multiply, large())), Err(Undefined::Overflow));
        let tiny = Expression::number(5e-324);
        assert_eq!(value(&large().joined(Divide, tiny)), Err(Undefined::Overflow));
        let zero = value(&nothing().negated()).expect("a number");
        assert!(zero.is_sign_positive());
    }

    #[test]
    fn what_is_missing_says_why_and_the_first_reason_counts() {
        for (column, reason) in [
            ("error_square_sum", Undefined::NotApplicable),
            ("correct", Undefined::NotApplicable),
            ("est_tp", Undefined::NoReference),
            ("score_sum", Undefined::NoScores),
            ("latency_sum_ms", Undefined::NoValues),
        ] {
            assert_eq!(value(&input(column)), Err(reason), "{column}");
        }
        let both = input("latency_sum_ms").joined(Operator::Add, input("est_tp"));
        assert_eq!(value(&both), Err(Undefined::NoReference));
        let both = input("est_tp").joined(Operator::Add, input("latency_sum_ms"));
        assert_eq!(value(&both), Err(Undefined::NoReference));
    }

    /// A reference of scores alone, with or without calibrators of two classes and of several.
    fn reference(is_of_two: bool, is_of_several: bool) -> Profile {
        let calibrator = || Calibrator {
            map: CalibrationMap::Identity,
            n: 2,
            positives: 1,
            ece_identity: 0.0,
            ece_isotonic: 0.0,
        };
        Profile {
            id: "r-0123456789ab".into(),
            name: "r".into(),
            generation: 0,
            features: BTreeMap::new(),
            score: None,
            prediction: None,
            label: None,
            calibrator: is_of_two.then(calibrator),
            expected: Expected::default(),
            class_calibrators: is_of_several
                .then(|| ("a".into(), calibrator()))
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn an_estimate_lacks_a_reference_or_its_calibrator_or_scores() {
        let (binary, several) = (MetricTable::QualityBinary, MetricTable::QualityMulticlass);
        for (task, calibrated, reason) in [
            (binary, None, Undefined::NoReference),
            (binary, Some((false, false)), Undefined::NoCalibrator),
            (binary, Some((false, true)), Undefined::NoCalibrator),
            (binary, Some((true, false)), Undefined::NoScores),
            (several, None, Undefined::NoReference),
            (several, Some((true, false)), Undefined::NoCalibrator),
            (several, Some((false, true)), Undefined::NoScores),
            (MetricTable::QualityRegression, Some((true, true)), Undefined::NotApplicable),
        ] {
            let reference = calibrated.map(|(two, several)| reference(two, several));
            let found = value_of(task, &input("est_tp"), reference.as_ref());
            assert_eq!(found, Err(reason), "{} {calibrated:?}", task.name());
        }
        assert_eq!(Undefined::NoCalibrator.code(), "no_calibrator");
        assert!(Undefined::NoReference < Undefined::NoCalibrator);
        assert!(Undefined::NoCalibrator < Undefined::NoLabels);
    }

    #[test]
    fn counts_by_decision_are_those_of_binary_models() {
        for name in ["inferences_positive", "labelled_positive"] {
            let value = |task| value_of(task, &input(name), None);
            assert_eq!(value(MetricTable::QualityBinary), Ok(0.0), "{name}");
            for task in [MetricTable::QualityMulticlass, MetricTable::QualityRegression] {
                assert_eq!(value(task), Err(Undefined::NotApplicable), "{name}");
            }
        }
    }

    #[test]
    fn a_ratio_of_what_only_the_labelled_have_is_theirs() {
        use Operator::Divide;
        let ratio = |over: &str, under: &str| {
            let [over, under] = [over, under].map(|name| {
                let input = Input::all().find(|input| input.name() == name);
                Expression::input(input.expect(name))
            });
            metric(&over.joined(Divide, under)).is_of_labelled()
        };
        assert!(ratio("labels.labelled_positive", "labels.labelled"));
        assert!(ratio("labels.label_conflicts", "labels.labels_matched"));
        assert!(ratio("quality_binary.tp", "serving.inferences"));
        assert!(!ratio("labels.labelled", "labels.inferences"));
        assert!(!ratio("labels.labelled_positive", "labels.inferences_positive"));
        assert!(!ratio("labels.expired", "labels.inferences"));
        assert!(!ratio("serving.errors", "serving.inferences"));
        let labelled = || input("labelled");
        assert!(!metric(&labelled()).is_of_labelled(), "how many have one is said of all");
        let share = labelled().joined(Divide, Expression::number(100.0));
        assert!(!metric(&share).is_of_labelled());
    }

    #[test]
    fn only_what_adds_up_can_be_named() {
        let names: Vec<String> = Input::all().map(Input::name).collect();
        for name in [
            "serving.latency_sum_ms",
            "labels.inferences_positive",
            "quality_binary.tp",
            "quality_regression.error_square_sum",
            "quality_estimated.est_fn",
        ] {
            assert!(names.iter().any(|known| known == name), "{name}");
        }
        for name in ["quality_binary.accuracy", "serving.latency_p99_ms", "labels.coverage"] {
            assert!(names.iter().all(|known| known != name), "{name}");
        }
        assert!(names.iter().all(|name| !name.ends_with("_classes")));
    }
}
