//! Quality of models that predict numbers: bias, absolute and squared errors, explained variance.

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Undefined, Value};
use super::cells::Cells;
use super::exact_sum::ExactSum;
use super::interval::{
    Figure, cells, count, figure, mean, mean_limits, plain, put, put_with_limits, sum, whole,
};
use super::lattice::ABS_ERROR;
use super::sign::Sign;
use super::stored::Stored;
use super::weights::{Mass, Weight, Weights, one, times};

/// What one inference of a regression model, or its winning label, adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RegressionInput {
    /// An accepted inference.
    Inference,
    /// A predicted number with the number that the winning label has; both at most 1e150 in size.
    Labelled {
        /// The prediction.
        predicted: f64,
        /// The label.
        actual: f64,
        /// What the label weighs, where the model uses weights.
        weight: Weight,
    },
}

/// A relative error beyond it is left out, as if the label were 0: no double holds the sum of many.
const GREATEST_RELATIVE_ERROR: f64 = 1e150;

/// The state of table `quality_regression`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Regression {
    inferences: u64,
    n: u64,
    label: ExactSum,
    label_squares: ExactSum,
    prediction: ExactSum,
    prediction_squares: ExactSum,
    products: ExactSum,
    error: ExactSum,
    error_squares: ExactSum,
    abs_error: ExactSum,
    abs_error_cells: Cells,
    relative_error: ExactSum,
    relative_n: u64,
    log_error_squares: ExactSum,
    log_n: u64,
    /// Of all pairs, those with a relative error, those with a logarithmic one.
    weights: Weights,
}

/// The places of weights.
const ALL: u32 = 0;
const RELATIVE: u32 = 1;
const LOGARITHMIC: u32 = 2;
const PLACES: u32 = 3;

/// The terms of one pair, beside the two numbers themselves.
struct Terms {
    error: f64,
    relative_error: Option<f64>,
    log_error: Option<f64>,
}

impl Terms {
    fn of(predicted: f64, actual: f64) -> Self {
        let error = predicted - actual;
        let relative_error = error.abs() / actual.abs();
        let is_logarithmic = predicted > -1.0 && actual > -1.0;
        Self {
            error,
            relative_error: (actual != 0.0 && relative_error <= GREATEST_RELATIVE_ERROR)
                .then_some(relative_error),
            log_error: is_logarithmic.then(|| libm::log1p(predicted) - libm::log1p(actual)),
        }
    }
}

impl Regression {
    /// Accepted inferences of a regression model.
    pub fn inferences(&self) -> u64 {
        self.inferences
    }

    fn fold_pair(&mut self, predicted: f64, actual: f64, weight: Weight, sign: impl Sign) {
        let (terms, times) = (Terms::of(predicted, actual), times(weight));
        sign.count(&mut self.n, 1);
        self.weights.fold(ALL, weight, sign);
        self.label.add_times(sign.of(actual), times);
        self.label_squares.add_square_times(actual, times, sign.adds());
        self.prediction.add_times(sign.of(predicted), times);
        self.prediction_squares.add_square_times(predicted, times, sign.adds());
        self.products.add_product_times(sign.of(predicted), actual, times);
        self.error.add_times(sign.of(terms.error), times);
        self.error_squares.add_square_times(terms.error, times, sign.adds());
        self.abs_error.add_times(sign.of(terms.error.abs()), times);
        sign.cell_count(&mut self.abs_error_cells, ABS_ERROR.cell(terms.error), times);
        if let Some(error) = terms.relative_error {
            self.relative_error.add_times(sign.of(error), times);
            sign.count(&mut self.relative_n, 1);
            self.weights.fold(RELATIVE, weight, sign);
        }
        if let Some(error) = terms.log_error {
            self.log_error_squares.add_square_times(error, times, sign.adds());
            sign.count(&mut self.log_n, 1);
            self.weights.fold(LOGARITHMIC, weight, sign);
        }
    }

    fn sums(&self) -> [&ExactSum; 10] {
        [
            &self.label,
            &self.label_squares,
            &self.prediction,
            &self.prediction_squares,
            &self.products,
            &self.error,
            &self.error_squares,
            &self.abs_error,
            &self.relative_error,
            &self.log_error_squares,
        ]
    }

    /// The variance of labels or predictions, in population form; of one pair there is none.
    fn spread(n: Mass, numbers: &ExactSum, squares: &ExactSum) -> Figure {
        if n.records < 2 {
            return Err(Undefined::TooFewSamples);
        }
        let spread = ExactSum::covariance(n.units, squares, numbers, numbers);
        if spread > 0.0 { Ok(spread) } else { Err(Undefined::ZeroVariance) }
    }

    /// Coefficient of determination: 1 - sum(e^2) / sum((y - mean y)^2) (scikit-learn `r2_score`). Where the labels'
    /// variance is so small that the quotient is no double, it counts as 0.
    fn r2(&self, n: Mass) -> Figure {
        let r2 = 1.0
            - self.error_squares.mean(n.units) / Self::spread(n, &self.label, &self.label_squares)?;
        if r2.is_finite() { Ok(r2) } else { Err(Undefined::ZeroVariance) }
    }

    /// Correlation of predictions and labels (Pearson).
    fn pearson(&self, n: Mass) -> Figure {
        let labels = Self::spread(n, &self.label, &self.label_squares)?.sqrt();
        let predictions = Self::spread(n, &self.prediction, &self.prediction_squares)?.sqrt();
        let both = ExactSum::covariance(n.units, &self.products, &self.prediction, &self.label);
        Ok((both / labels / predictions).clamp(-1.0, 1.0))
    }

    /// The greatest absolute error is at most the upper edge of its cell, and at most the sum of all.
    fn abs_error_max(&self) -> Figure {
        let highest = self.abs_error_cells.iter().next_back();
        let cell = bounded(highest.map(|(cell, _)| cell).ok_or(Undefined::NoLabels)?)?;
        Ok(ABS_ERROR.upper_edge(cell).min(self.abs_error.value()))
    }

    /// A quantile of the absolute error is the middle of its cell, but never beyond the greatest.
    fn abs_error_quantile(&self, percent: u64) -> Figure {
        let cell = self.abs_error_cells.quantile(percent).ok_or(Undefined::NoLabels)?;
        let middle = ABS_ERROR.middle(bounded(cell)?);
        Ok(self.abs_error_max().map_or(middle, |greatest| middle.min(greatest)))
    }
}

/// A cell of absolute errors, unless it is the last: that one holds all that is greater, too. No number stands for these.
/// Not even the sum of all, which would be right for one of them, and for n of them n times too great.
fn bounded(cell: u16) -> Result<u16, Undefined> {
    if cell + 1 < ABS_ERROR.cells() { Ok(cell) } else { Err(Undefined::Overflow) }
}

/// A sum that columns hold beside its count, of so many units each: at most the greatest double.
fn total(sum: &ExactSum, one: f64) -> Value {
    Value::Figure(Ok((sum.value() / one).clamp(f64::MIN, f64::MAX)))
}

impl Accumulator for Regression {
    type Input<'a> = RegressionInput;

    const STATE: &'static [Column] = &[
        count("regression_inferences", "Accepted inferences of a regression model."),
        count("regression_n", "Labelled inferences with two numbers, y and its prediction p."),
        sum(
            "regression_label_sum",
            "Exact sum of y, each times its units of weight, as in all sums of pairs.",
        ),
        sum("regression_label_square_sum", "Exact sum of y^2."),
        sum("regression_prediction_sum", "Exact sum of p."),
        sum("regression_prediction_square_sum", "Exact sum of p^2."),
        sum("regression_product_sum", "Exact sum of p y."),
        sum("regression_error_sum", "Exact sum of e = p - y."),
        sum("regression_error_square_sum", "Exact sum of e^2."),
        sum("regression_abs_error_sum", "Exact sum of |e|."),
        sum("regression_relative_error_sum", "Exact sum of |e| / |y|."),
        sum("regression_log_error_square_sum", "Exact sum of (log1p p - log1p y)^2."),
        cells("regression_abs_error_cells", "Units of weight of pairs by cell of |e|."),
        count("regression_relative_n", "Pairs with y other than 0."),
        count("regression_log_n", "Pairs with y and p above -1."),
        cells(
            "regression_weight_cells",
            "Sums of label weights in units of 2^-20, and of their squares, by count. Where weights are ignored it is empty, and a record has one unit.",
        ),
    ];

    const FIGURES: &'static [Column] = &[
        count("n", "Labelled inferences whose prediction and label are numbers."),
        figure("mean_error", "Mean of prediction - label: positive is too high."),
        figure("mean_error_lower", "Lower limit of the 95 % interval of mean_error (normal)."),
        figure("mean_error_upper", "Upper limit of the 95 % interval of mean_error (normal)."),
        figure("mae", "Mean absolute error."),
        figure("mae_lower", "Lower limit of the 95 % interval of mae (normal)."),
        figure("mae_upper", "Upper limit of the 95 % interval of mae (normal)."),
        figure("mse", "Mean squared error."),
        figure("rmse", "Square root of mse."),
        figure(
            "r2",
            "Share of the labels' variance that the predictions explain; below 0 they are worse than the mean label.",
        ),
        figure("mape", "Mean of |error| / |label| over mape_n, a fraction."),
        count("mape_n", "Pairs whose label is not 0 (and whose relative error is at most 1e150)."),
        figure("rmsle", "Root of the mean squared difference of log(1 + x) over rmsle_n."),
        count("rmsle_n", "Pairs whose prediction and label are above -1."),
        figure("pearson", "Correlation of predictions and labels."),
        figure("abs_error_p50", "Median absolute error, within 1/256 of the exact one."),
        figure("abs_error_p90", "90 % quantile of the absolute error, within 1/256."),
        figure("abs_error_p99", "99 % quantile of the absolute error, within 1/256."),
        figure("abs_error_max", "Greatest absolute error, at most 1/128 too high."),
        figure("label_mean", "Mean label."),
        figure("prediction_mean", "Mean prediction."),
        plain("label_sum", "Sum of the labels, each as often as it weighs."),
        plain("prediction_sum", "Sum of the predictions, each as often as its label weighs."),
        plain("abs_error_sum", "Sum of absolute errors: n_weight times mae."),
        plain("error_square_sum", "Sum of squared errors: n_weight times mse."),
        plain("n_weight", "Sum of the label weights over n; n itself where weights are ignored."),
        plain("mape_n_weight", "Sum of the label weights over mape_n."),
        plain("rmsle_n_weight", "Sum of the label weights over rmsle_n."),
        plain("n_eff", "Effective sample size (Kish): n_weight^2 / sum of the squared weights."),
    ];

    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        match *input {
            RegressionInput::Inference => sign.count(&mut self.inferences, 1),
            RegressionInput::Labelled { predicted, actual, weight } => {
                self.fold_pair(predicted, actual, weight, sign);
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.inferences += other.inferences;
        self.n += other.n;
        self.label.merge(&other.label);
        self.label_squares.merge(&other.label_squares);
        self.prediction.merge(&other.prediction);
        self.prediction_squares.merge(&other.prediction_squares);
        self.products.merge(&other.products);
        self.error.merge(&other.error);
        self.error_squares.merge(&other.error_squares);
        self.abs_error.merge(&other.abs_error);
        self.abs_error_cells.merge(&other.abs_error_cells);
        self.relative_error.merge(&other.relative_error);
        self.relative_n += other.relative_n;
        self.log_error_squares.merge(&other.log_error_squares);
        self.log_n += other.log_n;
        self.weights.merge(&other.weights);
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([self.inferences, self.n].map(Value::Count));
        out.extend(self.sums().map(|sum| Value::Sum(Box::new(sum.clone()))));
        out.push(Value::Cells(self.abs_error_cells.to_pairs()));
        out.extend([self.relative_n, self.log_n].map(Value::Count));
        out.push(self.weights.to_value());
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        Ok(Self {
            inferences: stored.count()?,
            n: stored.count()?,
            label: stored.sum()?,
            label_squares: stored.sum()?,
            prediction: stored.sum()?,
            prediction_squares: stored.sum()?,
            products: stored.sum()?,
            error: stored.sum()?,
            error_squares: stored.sum()?,
            abs_error: stored.sum()?,
            relative_error: stored.sum()?,
            log_error_squares: stored.sum()?,
            abs_error_cells: stored.cells(ABS_ERROR.cells())?,
            relative_n: stored.count()?,
            log_n: stored.count()?,
            weights: stored.weights(PLACES)?,
        })
    }

    fn figures(&self, context: &FigureContext<'_>, out: &mut Vec<Value>) {
        let mass = |place, records| self.weights.mass(place, records, context.weighted);
        let n = mass(ALL, self.n);
        let (relative, logarithmic) =
            (mass(RELATIVE, self.relative_n), mass(LOGARITHMIC, self.log_n));
        let pairs = whole(n, Undefined::NoLabels);
        let limits = |sum| pairs.and_then(|n| mean_limits(n, sum, &self.error_squares));
        let of_all = |sum| mean(n, sum, Undefined::NoLabels);
        let of_some = |some, sum| pairs.and_then(|_| mean(some, sum, Undefined::ZeroDenominator));
        out.push(Value::Count(n.records));
        put_with_limits(out, of_all(&self.error), limits(&self.error));
        let of_size = limits(&self.abs_error).map(|(lower, upper)| (lower.max(0.0), upper));
        put_with_limits(out, of_all(&self.abs_error), of_size);
        let mse = of_all(&self.error_squares);
        put(out, mse);
        put(out, mse.map(f64::sqrt));
        put(out, pairs.and_then(|n| self.r2(n)));
        put(out, of_some(relative, &self.relative_error));
        out.push(Value::Count(relative.records));
        put(out, of_some(logarithmic, &self.log_error_squares).map(f64::sqrt));
        out.push(Value::Count(logarithmic.records));
        put(out, pairs.and_then(|n| self.pearson(n)));
        for percent in [50, 90, 99] {
            put(out, pairs.and_then(|_| self.abs_error_quantile(percent)));
        }
        put(out, pairs.and_then(|_| self.abs_error_max()));
        put(out, of_all(&self.label));
        put(out, of_all(&self.prediction));
        let sums = [&self.label, &self.prediction, &self.abs_error, &self.error_squares];
        out.extend(sums.map(|sum| total(sum, one(context.weighted))));
        out.extend([n, relative, logarithmic].map(|mass| Value::Figure(Ok(mass.weight()))));
        put(out, Ok(n.effective()));
    }

    fn heap_bytes(&self) -> usize {
        self.sums().map(ExactSum::heap_bytes).iter().sum::<usize>()
            + self.abs_error_cells.heap_bytes()
            + self.weights.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::interval::number;

    fn number_of(family: &Regression, name: &str) -> Figure {
        let mut values = Vec::new();
        family.figures(&FigureContext::default(), &mut values);
        let at = Regression::FIGURES.iter().position(|column| column.name == name);
        let value = &values[at.expect("a column")];
        if let Value::Count(n) = value {
            return Ok(number(*n));
        }
        let Value::Figure(figure) = value else { panic!("{name} is {value:?}") };
        *figure
    }

    #[test]
    fn errors_of_any_size_leave_every_figure_finite_or_undefined() {
        let sizes = [0.0, -0.0, 5e-324, 1e-300, -1.0, 1e150, -1e150, 0.5];
        let mut family = Regression::default();
        for predicted in sizes {
            for actual in sizes {
                family.add(&RegressionInput::Labelled { predicted, actual, weight: None });
            }
        }
        for column in Regression::FIGURES {
            let is = number_of(&family, column.name);
            match column.name {
                // Of 64 errors 26 have a size of 1e150 or more.
                "abs_error_p90" | "abs_error_p99" | "abs_error_max" => {
                    assert_eq!(is, Err(Undefined::Overflow), "{}", column.name);
                }
                name => assert!(is.is_ok_and(f64::is_finite), "{name}: {is:?}"),
            }
        }
    }

    fn of_errors(errors: &[f64]) -> [Figure; 5] {
        let mut family = Regression::default();
        for &predicted in errors {
            family.add(&RegressionInput::Labelled { predicted, actual: 0.0, weight: None });
        }
        ["abs_error_p50", "abs_error_p90", "abs_error_p99", "abs_error_max", "mae"]
            .map(|name| number_of(&family, name))
    }

    #[test]
    fn no_quantile_of_the_error_exceeds_the_greatest() {
        // The middle of the cell of 0.5 is 0.501953125, and its upper edge 0.50390625.
        for error in [0.5, -0.5, 0.1, 4e18] {
            assert_eq!(of_errors(&[error])[3..], [Ok(f64::abs(error)); 2]);
            let half = of_errors(&[error, 0.0]);
            assert_eq!(half[0], Ok(0.0));
            for quantile in of_errors(&[error])[..3].iter().chain(&half[1..3]) {
                assert!(quantile.is_ok_and(|it| it <= f64::abs(error)), "{error}: {quantile:?}");
            }
        }
        assert_eq!(of_errors(&[0.5])[..3], [Ok(0.5); 3]);
        assert_eq!(of_errors(&[0.5, 0.001])[1..4], [Ok(0.5 + 0.001); 3]);
        let both = [0.501_953_125, 0.501_953_125, 0.501_953_125, 0.503_906_25, 0.5];
        assert_eq!(of_errors(&[0.5, 0.5]), both.map(Ok));
    }

    #[test]
    fn errors_that_share_the_last_cell_have_no_size() {
        let (overflow, beyond) = (Err(Undefined::Overflow), 9_223_372_036_854_775_808.0);
        // 255/256 of 2^63 is where the last cell begins.
        let first: f64 = beyond / 256.0 * 255.0;
        let found = of_errors(&[first.next_down()]);
        assert!(found.iter().all(Result::is_ok), "{found:?}");
        for error in [first, beyond, 1e30, 1e150] {
            assert_eq!(of_errors(&[error]), [overflow, overflow, overflow, overflow, Ok(error)]);
        }
        // Those below have theirs.
        let found = of_errors(&[2.0, 2.0, 2.0, 1e30]);
        assert_eq!(found[..4], [Ok(2.007_812_5), overflow, overflow, overflow]);
    }

    #[test]
    fn a_perfect_model_has_no_error_and_no_interval() {
        let mut family = Regression::default();
        for actual in [1.0, 2.0, 4.0] {
            family.add(&RegressionInput::Labelled { predicted: actual, actual, weight: None });
        }
        for name in ["mean_error", "mae", "rmse", "mape", "rmsle", "abs_error_p99", "abs_error_max"]
        {
            assert_eq!(number_of(&family, name), Ok(0.0), "{name}");
        }
        assert_eq!(number_of(&family, "mae_lower"), Err(Undefined::ZeroVariance));
        assert_eq!(number_of(&family, "r2"), Ok(1.0));
        assert!(number_of(&family, "pearson").is_ok_and(|r| (r - 1.0).abs() < 1e-15));
    }

    #[test]
    fn one_pair_or_equal_labels_explain_nothing() {
        let mut family = Regression::default();
        family.add(&RegressionInput::Labelled { predicted: 2.0, actual: 1.0, weight: None });
        assert_eq!(number_of(&family, "r2"), Err(Undefined::TooFewSamples));
        assert_eq!(number_of(&family, "mean_error_lower"), Err(Undefined::TooFewSamples));
        family.add(&RegressionInput::Labelled { predicted: 3.0, actual: 1.0, weight: None });
        assert_eq!(number_of(&family, "r2"), Err(Undefined::ZeroVariance));
        assert_eq!(number_of(&family, "pearson"), Err(Undefined::ZeroVariance));
        assert_eq!(number_of(&Regression::default(), "mape"), Err(Undefined::NoLabels));
    }
}
