//! Quality of models that predict numbers: bias, absolute and squared errors, explained variance.

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Undefined, Value};
use super::exact_sum::ExactSum;
use super::histogram::{ABS_ERROR, Cells};
use super::interval::{
    Figure, cells, count, figure, mean_limits, plain, put, put_with_limits, sum,
};
use super::stored::Stored;

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
}

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

    fn add_pair(&mut self, predicted: f64, actual: f64) {
        let terms = Terms::of(predicted, actual);
        self.n += 1;
        self.label.add(actual);
        self.label_squares.add_product(actual, actual);
        self.prediction.add(predicted);
        self.prediction_squares.add_product(predicted, predicted);
        self.products.add_product(predicted, actual);
        self.error.add(terms.error);
        self.error_squares.add_product(terms.error, terms.error);
        self.abs_error.add(terms.error.abs());
        self.abs_error_cells.add(ABS_ERROR.cell(terms.error));
        if let Some(error) = terms.relative_error {
            self.relative_error.add(error);
            self.relative_n += 1;
        }
        if let Some(error) = terms.log_error {
            self.log_error_squares.add_product(error, error);
            self.log_n += 1;
        }
    }

    fn remove_pair(&mut self, predicted: f64, actual: f64) {
        let terms = Terms::of(predicted, actual);
        self.n -= 1;
        self.label.remove(actual);
        self.label_squares.remove_product(actual, actual);
        self.prediction.remove(predicted);
        self.prediction_squares.remove_product(predicted, predicted);
        self.products.remove_product(predicted, actual);
        self.error.remove(terms.error);
        self.error_squares.remove_product(terms.error, terms.error);
        self.abs_error.remove(terms.error.abs());
        self.abs_error_cells.remove(ABS_ERROR.cell(terms.error));
        if let Some(error) = terms.relative_error {
            self.relative_error.remove(error);
            self.relative_n -= 1;
        }
        if let Some(error) = terms.log_error {
            self.log_error_squares.remove_product(error, error);
            self.log_n -= 1;
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

    /// A figure of all pairs; undefined without any.
    fn of_pairs(&self, figure: impl FnOnce() -> Figure) -> Figure {
        if self.n == 0 { Err(Undefined::NoLabels) } else { figure() }
    }

    /// The variance of labels or predictions, in population form; of one pair there is none.
    fn spread(&self, numbers: &ExactSum, squares: &ExactSum) -> Figure {
        if self.n < 2 {
            return Err(Undefined::TooFewSamples);
        }
        let spread = ExactSum::covariance(self.n, squares, numbers, numbers);
        if spread > 0.0 { Ok(spread) } else { Err(Undefined::ZeroVariance) }
    }

    /// Coefficient of determination: 1 - sum(e^2) / sum((y - mean y)^2) (scikit-learn `r2_score`). Where the labels'
    /// variance is so small that the quotient is no double, it counts as 0.
    fn r2(&self) -> Figure {
        let r2 = 1.0
            - self.error_squares.mean(self.n) / self.spread(&self.label, &self.label_squares)?;
        if r2.is_finite() { Ok(r2) } else { Err(Undefined::ZeroVariance) }
    }

    /// Correlation of predictions and labels (Pearson).
    fn pearson(&self) -> Figure {
        let labels = self.spread(&self.label, &self.label_squares)?.sqrt();
        let predictions = self.spread(&self.prediction, &self.prediction_squares)?.sqrt();
        let both = ExactSum::covariance(self.n, &self.products, &self.prediction, &self.label);
        Ok((both / labels / predictions).clamp(-1.0, 1.0))
    }

    /// The greatest absolute error is at most the upper edge of its cell, and at most the sum of all.
    fn abs_error_max(&self) -> Figure {
        let highest = self.abs_error_cells.iter().next_back();
        let edge =
            highest.map(|(cell, _)| ABS_ERROR.upper_edge(cell)).ok_or(Undefined::NoLabels)?;
        Ok(edge.min(self.abs_error.value()))
    }
}

/// A mean over some of the pairs; undefined where none of them counts.
fn mean_of(n: u64, total: &ExactSum) -> Figure {
    if n == 0 { Err(Undefined::ZeroDenominator) } else { Ok(total.mean(n)) }
}

/// A sum that columns hold beside its count: at most the greatest double.
fn total(sum: &ExactSum) -> Value {
    Value::Figure(Ok(sum.value().clamp(f64::MIN, f64::MAX)))
}

impl Accumulator for Regression {
    type Input<'a> = RegressionInput;

    const STATE: &'static [Column] = &[
        count("regression_inferences", "Accepted inferences of a regression model."),
        count("regression_n", "Labelled inferences with two numbers, y and its prediction p."),
        sum("regression_label_sum", "Exact sum of y."),
        sum("regression_label_square_sum", "Exact sum of y^2."),
        sum("regression_prediction_sum", "Exact sum of p."),
        sum("regression_prediction_square_sum", "Exact sum of p^2."),
        sum("regression_product_sum", "Exact sum of p y."),
        sum("regression_error_sum", "Exact sum of e = p - y."),
        sum("regression_error_square_sum", "Exact sum of e^2."),
        sum("regression_abs_error_sum", "Exact sum of |e|."),
        sum("regression_relative_error_sum", "Exact sum of |e| / |y|."),
        sum("regression_log_error_square_sum", "Exact sum of (log1p p - log1p y)^2."),
        cells("regression_abs_error_cells", "Pairs by cell of |e|."),
        count("regression_relative_n", "Pairs with y other than 0."),
        count("regression_log_n", "Pairs with y and p above -1."),
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
        plain("label_sum", "Sum of the labels."),
        plain("prediction_sum", "Sum of the predictions."),
        plain("abs_error_sum", "Sum of absolute errors: n times mae."),
        plain("error_square_sum", "Sum of squared errors: n times mse."),
    ];

    fn add(&mut self, input: &Self::Input<'_>) {
        match *input {
            RegressionInput::Inference => self.inferences += 1,
            RegressionInput::Labelled { predicted, actual } => self.add_pair(predicted, actual),
        }
    }

    fn remove(&mut self, input: &Self::Input<'_>) {
        match *input {
            RegressionInput::Inference => self.inferences -= 1,
            RegressionInput::Labelled { predicted, actual } => self.remove_pair(predicted, actual),
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
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([self.inferences, self.n].map(Value::Count));
        out.extend(self.sums().map(|sum| Value::Sum(sum.clone())));
        out.push(Value::Cells(self.abs_error_cells.to_pairs()));
        out.extend([self.relative_n, self.log_n].map(Value::Count));
    }

    fn restore(values: &mut dyn Iterator<Item = Value>) -> Result<Self, StateError> {
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
        })
    }

    fn figures(&self, _: &FigureContext<'_>, out: &mut Vec<Value>) {
        let n = self.n;
        let limits = |sum: &ExactSum| {
            if n == 0 { Err(Undefined::NoLabels) } else { mean_limits(n, sum, &self.error_squares) }
        };
        let mean = |sum: &ExactSum| self.of_pairs(|| Ok(sum.mean(n)));
        out.push(Value::Count(n));
        put_with_limits(out, mean(&self.error), limits(&self.error));
        let of_size = limits(&self.abs_error).map(|(lower, upper)| (lower.max(0.0), upper));
        put_with_limits(out, mean(&self.abs_error), of_size);
        let mse = mean(&self.error_squares);
        put(out, mse);
        put(out, mse.map(f64::sqrt));
        put(out, self.of_pairs(|| self.r2()));
        put(out, self.of_pairs(|| mean_of(self.relative_n, &self.relative_error)));
        out.push(Value::Count(self.relative_n));
        let rmsle = || mean_of(self.log_n, &self.log_error_squares).map(f64::sqrt);
        put(out, self.of_pairs(rmsle));
        out.push(Value::Count(self.log_n));
        put(out, self.of_pairs(|| self.pearson()));
        for percent in [50, 90, 99] {
            let cell = self.abs_error_cells.quantile(percent).ok_or(Undefined::NoLabels);
            put(out, cell.map(|cell| ABS_ERROR.middle(cell)));
        }
        put(out, self.abs_error_max());
        put(out, mean(&self.label));
        put(out, mean(&self.prediction));
        let sums = [&self.label, &self.prediction, &self.abs_error, &self.error_squares];
        out.extend(sums.map(total));
    }

    fn heap_bytes(&self) -> usize {
        self.sums().map(ExactSum::heap_bytes).iter().sum::<usize>()
            + self.abs_error_cells.heap_bytes()
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
        match &values[at.expect("a column")] {
            Value::Figure(figure) => *figure,
            Value::Count(n) => Ok(number(*n)),
            other @ (Value::Time(_)
            | Value::Sum(_)
            | Value::Sums(_)
            | Value::Cells(_)
            | Value::Names(_)
            | Value::Text(_)) => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn errors_of_any_size_leave_every_figure_finite_or_undefined() {
        let sizes = [0.0, -0.0, 5e-324, 1e-300, -1.0, 1e150, -1e150, 0.5];
        let mut family = Regression::default();
        for predicted in sizes {
            for actual in sizes {
                family.add(&RegressionInput::Labelled { predicted, actual });
            }
        }
        for column in Regression::FIGURES {
            let is = number_of(&family, column.name);
            assert!(is.is_ok_and(f64::is_finite), "{}: {is:?}", column.name);
        }
    }

    #[test]
    fn a_perfect_model_has_no_error_and_no_interval() {
        let mut family = Regression::default();
        for actual in [1.0, 2.0, 4.0] {
            family.add(&RegressionInput::Labelled { predicted: actual, actual });
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
        family.add(&RegressionInput::Labelled { predicted: 2.0, actual: 1.0 });
        assert_eq!(number_of(&family, "r2"), Err(Undefined::TooFewSamples));
        assert_eq!(number_of(&family, "mean_error_lower"), Err(Undefined::TooFewSamples));
        family.add(&RegressionInput::Labelled { predicted: 3.0, actual: 1.0 });
        assert_eq!(number_of(&family, "r2"), Err(Undefined::ZeroVariance));
        assert_eq!(number_of(&family, "pearson"), Err(Undefined::ZeroVariance));
        assert_eq!(number_of(&Regression::default(), "mape"), Err(Undefined::NoLabels));
    }
}
