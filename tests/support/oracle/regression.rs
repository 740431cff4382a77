//! Figures of predicted numbers, from the list of pairs.

use super::{Cells, Figure, Folded, careful_sum, count, divide, figure, mean};

/// The row of `quality_regression`.
pub fn figures(members: &[&Folded]) -> Cells {
    let mut cells = Cells::new();
    let pairs: Vec<(f64, f64)> = members
        .iter()
        .filter(|one| one.regression)
        .filter_map(|one| Some((one.number?, one.walk.number?)))
        .collect();
    let n = pairs.len();
    let errors: Vec<f64> = pairs.iter().map(|(predicted, actual)| predicted - actual).collect();
    let sizes: Vec<f64> = errors.iter().map(|error| error.abs()).collect();
    count(&mut cells, "n", n);
    let all = [f64::NEG_INFINITY, f64::INFINITY];
    mean(&mut cells, "mean_error", all, "no_labels", errors.clone());
    // The interval of the mean size comes from the squares of the errors, which are those of the sizes.
    mean(&mut cells, "mae", [0.0, f64::INFINITY], "no_labels", sizes.clone());
    let squares = careful_sum(errors.iter().map(|error| error * error));
    let mse = divide(squares, n, "no_labels");
    figure(&mut cells, "mse", mse);
    figure(&mut cells, "rmse", mse.map(f64::sqrt));
    let labels: Vec<f64> = pairs.iter().map(|(_, actual)| *actual).collect();
    let predictions: Vec<f64> = pairs.iter().map(|(predicted, _)| *predicted).collect();
    figure(&mut cells, "r2", spread(&labels).map(|spread| 1.0 - squares / spread));
    let relative: Vec<f64> = pairs
        .iter()
        .filter(|(_, actual)| *actual != 0.0)
        .map(|(predicted, actual)| (predicted - actual).abs() / actual.abs())
        .filter(|error| *error <= 1e150)
        .collect();
    let none = if n == 0 { "no_labels" } else { "zero_denominator" };
    figure(&mut cells, "mape", divide(careful_sum(relative.iter().copied()), relative.len(), none));
    count(&mut cells, "mape_n", relative.len());
    let logs: Vec<f64> = pairs
        .iter()
        .filter(|(predicted, actual)| *predicted > -1.0 && *actual > -1.0)
        .map(|(predicted, actual)| (predicted.ln_1p() - actual.ln_1p()).powi(2))
        .collect();
    let rmsle = divide(careful_sum(logs.iter().copied()), logs.len(), none).map(f64::sqrt);
    figure(&mut cells, "rmsle", rmsle);
    count(&mut cells, "rmsle_n", logs.len());
    figure(&mut cells, "pearson", pearson(&labels, &predictions));
    let mut sorted = sizes.clone();
    sorted.sort_by(f64::total_cmp);
    for percent in [50, 90, 99] {
        let rank = (n * percent).div_ceil(100).max(1);
        let value = sorted.get(rank - 1).map(|size| cell(*size)[1]).ok_or("no_labels");
        figure(&mut cells, &format!("abs_error_p{percent}"), value);
    }
    let total = careful_sum(sizes.iter().copied());
    let most = sorted.last().map(|size| cell(*size)[2].min(total)).ok_or("no_labels");
    figure(&mut cells, "abs_error_max", most);
    let sum = |all: &[f64]| careful_sum(all.iter().copied());
    figure(&mut cells, "label_mean", divide(sum(&labels), n, "no_labels"));
    figure(&mut cells, "prediction_mean", divide(sum(&predictions), n, "no_labels"));
    figure(&mut cells, "label_sum", Ok(sum(&labels)));
    figure(&mut cells, "prediction_sum", Ok(sum(&predictions)));
    figure(&mut cells, "abs_error_sum", Ok(total));
    figure(&mut cells, "error_square_sum", Ok(squares));
    cells
}

/// Sum of squared distances from the mean.
fn spread(all: &[f64]) -> Figure {
    let mean = divide(careful_sum(all.iter().copied()), all.len(), "no_labels")?;
    if all.len() < 2 {
        return Err("too_few_samples");
    }
    if all.iter().all(|one| one.total_cmp(&all[0]).is_eq()) {
        return Err("zero_variance");
    }
    Ok(careful_sum(all.iter().map(|one| (one - mean).powi(2))))
}

fn pearson(left: &[f64], right: &[f64]) -> Figure {
    let (of_left, of_right) = (spread(left)?, spread(right)?);
    let means = [left, right].map(|all| careful_sum(all.iter().copied()) / all.len() as f64);
    let products = left.iter().zip(right).map(|(a, b)| (a - means[0]) * (b - means[1]));
    Ok(careful_sum(products) / of_left.sqrt() / of_right.sqrt())
}

/// Lower edge, middle and upper edge of the cell of a size: 128 cells for each doubling from 2^-64 on.
fn cell(size: f64) -> [f64; 3] {
    let mut floor = 0.5_f64.powi(64);
    if size < floor {
        return [0.0, 0.0, floor];
    }
    while size >= 2.0 * floor {
        floor *= 2.0;
    }
    let step = floor / 128.0;
    let lower = floor + ((size - floor) / step).floor() * step;
    [lower, lower + step / 2.0, lower + step]
}
