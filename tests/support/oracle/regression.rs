//! Figures of predicted numbers, from the list of pairs.

use super::{
    Cells, Figure, Folded, Weighed, careful_sum, count, figure, mean, quotient, weight, weight_of,
};

/// Values with their weights.
type Weighted = Vec<(f64, f64)>;

fn sum(all: &[(f64, f64)]) -> f64 {
    careful_sum(all.iter().map(|(value, weight)| value * weight))
}

fn weights(all: &[(f64, f64)]) -> Weighed {
    Weighed::of(all.iter().map(|(_, weight)| *weight))
}

/// The row of `quality_regression`.
pub fn figures(members: &[&Folded], weighted: bool) -> Cells {
    let mut cells = Cells::new();
    let pairs: Vec<(f64, f64, f64)> = members
        .iter()
        .filter(|one| one.regression)
        .filter_map(|one| Some((one.number?, one.walk.number?, weight_of(one, weighted))))
        .collect();
    let n = Weighed::of(pairs.iter().map(|pair| pair.2));
    let of = |value: fn(f64, f64) -> f64| -> Weighted {
        pairs.iter().map(|(predicted, actual, w)| (value(*predicted, *actual), *w)).collect()
    };
    let errors = of(|predicted, actual| predicted - actual);
    let sizes = of(|predicted, actual| (predicted - actual).abs());
    count(&mut cells, "n", n.n);
    let all = [f64::NEG_INFINITY, f64::INFINITY];
    mean(&mut cells, "mean_error", all, "no_labels", errors.clone());
    // The interval of the mean size comes from the squares of the errors, which are those of the sizes.
    mean(&mut cells, "mae", [0.0, f64::INFINITY], "no_labels", sizes.clone());
    let squares = sum(&of(|predicted, actual| (predicted - actual) * (predicted - actual)));
    let mse = quotient(squares, n, "no_labels");
    figure(&mut cells, "mse", mse);
    figure(&mut cells, "rmse", mse.map(f64::sqrt));
    let labels = of(|_, actual| actual);
    let predictions = of(|predicted, _| predicted);
    figure(&mut cells, "r2", spread(&labels).map(|spread| 1.0 - squares / spread));
    let relative: Weighted = pairs
        .iter()
        .filter(|(_, actual, _)| *actual != 0.0)
        .map(|(predicted, actual, w)| ((predicted - actual).abs() / actual.abs(), *w))
        .filter(|(error, _)| *error <= 1e150)
        .collect();
    let some = quotient(0.0, n, "no_labels");
    let mape = quotient(sum(&relative), weights(&relative), "zero_denominator");
    figure(&mut cells, "mape", some.and(mape));
    count(&mut cells, "mape_n", relative.len());
    let logs: Weighted = pairs
        .iter()
        .filter(|(predicted, actual, _)| *predicted > -1.0 && *actual > -1.0)
        .map(|(predicted, actual, w)| ((predicted.ln_1p() - actual.ln_1p()).powi(2), *w))
        .collect();
    let rmsle = quotient(sum(&logs), weights(&logs), "zero_denominator").map(f64::sqrt);
    figure(&mut cells, "rmsle", some.and(rmsle));
    count(&mut cells, "rmsle_n", logs.len());
    figure(&mut cells, "pearson", pearson(&labels, &predictions));
    let total = sum(&sizes);
    let mut sorted = sizes.clone();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    // No more than the sum of all, of which one has a weight of at least 2^-20.
    let units = if weighted { 1_048_576.0 } else { 1.0 };
    let greatest = sorted.iter().rfind(|(_, weight)| *weight > 0.0);
    let most = greatest.map_or(Err("no_labels"), |(size, _)| cell(*size)).map(|it| it[2]);
    let most = most.map(|edge| edge.min(total * units));
    for percent in [50, 90, 99] {
        // The first whose weight, with all before it, is so much of the whole.
        let mut so_far = 0.0;
        let is_enough = |(_, weight): &&(f64, f64)| {
            so_far += weight;
            so_far > 0.0 && so_far * 100.0 >= n.w * f64::from(percent)
        };
        let size = sorted.iter().find(is_enough);
        let middle = size.map_or(Err("no_labels"), |(size, _)| cell(*size)).map(|it| it[1]);
        let value = middle.map(|middle| middle.min(most.unwrap_or(middle)));
        figure(&mut cells, &format!("abs_error_p{percent}"), some.and(value));
    }
    figure(&mut cells, "abs_error_max", some.and(most));
    figure(&mut cells, "label_mean", quotient(sum(&labels), n, "no_labels"));
    figure(&mut cells, "prediction_mean", quotient(sum(&predictions), n, "no_labels"));
    figure(&mut cells, "label_sum", Ok(sum(&labels)));
    figure(&mut cells, "prediction_sum", Ok(sum(&predictions)));
    figure(&mut cells, "abs_error_sum", Ok(total));
    figure(&mut cells, "error_square_sum", Ok(squares));
    weight(&mut cells, "n", n);
    weight(&mut cells, "mape_n", weights(&relative));
    weight(&mut cells, "rmsle_n", weights(&logs));
    figure(&mut cells, "n_eff", Ok(n.effective()));
    cells
}

/// Sum of squared distances from the mean.
fn spread(all: &[(f64, f64)]) -> Figure {
    let mean = quotient(sum(all), weights(all), "no_labels")?;
    if all.len() < 2 {
        return Err("too_few_samples");
    }
    let some: Vec<f64> = all.iter().filter(|one| one.1 > 0.0).map(|one| one.0).collect();
    if some.iter().all(|one| one.total_cmp(&some[0]).is_eq()) {
        return Err("zero_variance");
    }
    Ok(careful_sum(all.iter().map(|(one, w)| w * (one - mean).powi(2))))
}

fn pearson(left: &[(f64, f64)], right: &[(f64, f64)]) -> Figure {
    let (of_left, of_right) = (spread(left)?, spread(right)?);
    let means = [left, right].map(|all| sum(all) / weights(all).w);
    let products =
        left.iter().zip(right).map(|((a, w), (b, _))| w * (a - means[0]) * (b - means[1]));
    Ok(careful_sum(products) / of_left.sqrt() / of_right.sqrt())
}

/// Lower edge, middle and upper edge of the cell of a size: 128 cells for each doubling from 2^-64 on. The last one below
/// 2^63 has neither: all greater sizes are in it, too.
fn cell(size: f64) -> Result<[f64; 3], &'static str> {
    let mut floor = 0.5_f64.powi(64);
    if size < floor {
        return Ok([0.0, 0.0, floor]);
    }
    if size >= 2.0_f64.powi(63) * 255.0 / 256.0 {
        return Err("overflow");
    }
    while size >= 2.0 * floor {
        floor *= 2.0;
    }
    let step = floor / 128.0;
    let lower = floor + ((size - floor) / step).floor() * step;
    Ok([lower, lower + step / 2.0, lower + step])
}
