//! Figures of a ranking, from positives and negatives by score cell: AUROC and average precision.

use super::accumulator::Undefined;
use super::cells::Cells;
use super::interval::{Figure, number, wide_number};

/// One cell with labelled scores.
#[derive(Clone, Copy, Debug)]
struct Cell {
    positives: u64,
    negatives: u64,
    /// Equal parts in which the positives come one after the other, when the least average precision is asked for.
    steps: u64,
}

/// Labelled scores by cell, ascending.
#[derive(Clone, Debug)]
pub struct Ranking {
    cells: Vec<Cell>,
    /// All positives.
    pub positives: u64,
    /// All negatives.
    pub negatives: u64,
}

impl Ranking {
    /// Puts positives and negatives of the same cells beside each other.
    pub fn new(positives: &Cells, negatives: &Cells) -> Self {
        Self::of_steps(positives, negatives, |_, positives| positives)
    }

    /// The same for units of weight. Of a cell and its units of positives `steps` says in how many equal parts they come
    /// at least: the number of records where these weigh the same, else that of units.
    pub fn of_steps(positives: &Cells, negatives: &Cells, steps: impl Fn(u16, u64) -> u64) -> Self {
        let mut cells = Vec::new();
        let mut left = positives.iter().peekable();
        let mut right = negatives.iter().peekable();
        while let Some(next) = [left.peek(), right.peek()].into_iter().flatten().map(|c| c.0).min()
        {
            let positives = left.next_if(|cell| cell.0 == next).map_or(0, |cell| cell.1);
            let negatives = right.next_if(|cell| cell.0 == next).map_or(0, |cell| cell.1);
            cells.push(Cell { positives, negatives, steps: steps(next, positives) });
        }
        Self { positives: positives.total(), negatives: negatives.total(), cells }
    }

    /// Twice the number of pairs of a positive and a negative: the unit in which pairs are counted is a half.
    fn half_pairs(&self) -> Result<f64, Undefined> {
        if self.positives == 0 || self.negatives == 0 {
            return Err(Undefined::OneClass);
        }
        Ok(wide_number(2 * i128::from(self.positives) * i128::from(self.negatives)))
    }

    /// For each cell, negatives below counted twice plus those inside.
    fn halves_below(&self) -> impl Iterator<Item = (Cell, u64)> + '_ {
        self.cells.iter().scan(0, |below, cell| {
            let halves = 2 * *below + cell.negatives;
            *below += cell.negatives;
            Some((*cell, halves))
        })
    }

    /// For each cell from the highest down, positives above counted twice plus those inside.
    fn halves_above(&self) -> impl Iterator<Item = (Cell, u64)> + '_ {
        self.cells.iter().rev().scan(0, |above, cell| {
            let halves = 2 * *above + cell.positives;
            *above += cell.positives;
            Some((*cell, halves))
        })
    }

    /// Pairs in which the positive scores higher, ties half, in halves.
    fn halves_won(&self) -> i128 {
        self.halves_below()
            .map(|(cell, halves)| i128::from(cell.positives) * i128::from(halves))
            .sum()
    }

    /// Area under the ROC curve, ties inside a cell counted half: `roc_auc_score(y, cell)` of scikit-learn.
    pub fn auroc(&self) -> Figure {
        Ok(wide_number(self.halves_won()) / self.half_pairs()?)
    }

    /// What [`auroc`](Self::auroc) differs at most from that of the raw scores: half the pairs inside cells.
    pub fn auroc_error_bound(&self) -> Figure {
        let inside: i128 =
            self.cells.iter().map(|c| i128::from(c.positives) * i128::from(c.negatives)).sum();
        Ok(wide_number(inside) / self.half_pairs()?)
    }

    /// Standard error of [`auroc`](Self::auroc), from the sample variances of the placement values of positives and
    /// of negatives (`DeLong` et al. 1988).
    pub fn auroc_standard_error(&self) -> Figure {
        let half_pairs = self.half_pairs()?;
        if self.positives < 2 || self.negatives < 2 {
            return Err(Undefined::TooFewSamples);
        }
        // A placement value less their mean, over 2 P N: a whole number, so equal ones give exactly 0.
        let won = self.halves_won();
        let distance = |of_all: u64, halves: u64| {
            wide_number(i128::from(of_all) * i128::from(halves) - won) / half_pairs
        };
        let mut of_positives = 0.0;
        for (cell, halves) in self.halves_below() {
            let distance = distance(self.positives, halves);
            of_positives += number(cell.positives) * distance * distance;
        }
        let mut of_negatives = 0.0;
        for (cell, halves) in self.halves_above() {
            let distance = distance(self.negatives, halves);
            of_negatives += number(cell.negatives) * distance * distance;
        }
        let (p, n) = (number(self.positives), number(self.negatives));
        let variance = of_positives / (p - 1.0) / p + of_negatives / (n - 1.0) / n;
        if variance > 0.0 { Ok(variance.sqrt()) } else { Err(Undefined::ZeroVariance) }
    }

    /// A sum over cells with positives, from the highest down, of what `of` makes of a cell and the positives and
    /// negatives above it; over all positives.
    fn over_positives(&self, of: impl Fn(Cell, u64, u64) -> f64) -> Figure {
        self.half_pairs()?;
        let (mut positives, mut negatives, mut sum) = (0, 0, 0.0);
        for &cell in self.cells.iter().rev() {
            if cell.positives > 0 {
                sum += of(cell, positives, negatives);
            }
            positives += cell.positives;
            negatives += cell.negatives;
        }
        Ok((sum / number(self.positives)).min(1.0))
    }

    /// Average precision of the cells: `average_precision_score(y, cell)` of scikit-learn.
    pub fn average_precision(&self) -> Figure {
        self.over_positives(|cell, positives, negatives| {
            let hits = positives + cell.positives;
            number(cell.positives) * number(hits) / number(hits + negatives + cell.negatives)
        })
    }

    /// The least average precision that the raw scores can have: inside a cell all negatives come first, then the
    /// positives one by one.
    pub fn average_precision_min(&self) -> Figure {
        self.over_positives(|cell, positives, negatives| {
            let step = number(cell.positives / cell.steps);
            let [hits, misses] = [positives, negatives + cell.negatives].map(number);
            step * precisions_one_by_one(hits / step, misses / step, cell.steps)
        })
    }

    /// The greatest average precision that the raw scores can have: inside a cell all positives come first, as one
    /// tie, since tied scores share the better precision.
    pub fn average_precision_max(&self) -> Figure {
        self.over_positives(|cell, positives, negatives| {
            let hits = positives + cell.positives;
            number(cell.positives) * number(hits) / number(hits + negatives)
        })
    }
}

/// Terms that are summed one by one before the closed form is worth it.
const FEW: u64 = 64;
/// Where the closed form's series has converged to the last bit.
const LARGE: u64 = 32;

/// The sum over j in 1..=k of (a + j) / (a + j + c): the precisions at k positives in a row, after a positives and c
/// negatives. Equal to k - c (digamma(a+c+k+1) - digamma(a+c+1)), but without its cancellation. Both a and c may be
/// fractions: of a step of several units.
fn precisions_one_by_one(a: f64, c: f64, k: u64) -> f64 {
    if c == 0.0 {
        return number(k);
    }
    let is_large = |j: &u64| a + c + number(*j) >= number(LARGE);
    let one_by_one = if k <= FEW { k } else { (0..LARGE).find(is_large).unwrap_or(LARGE) };
    let sum: f64 = (1..=one_by_one).map(|j| (a + number(j)) / (a + number(j) + c)).sum();
    if one_by_one == k {
        return sum;
    }
    sum + precisions_at_once(a + number(one_by_one), c, k - one_by_one)
}

/// The same for a + c of at least [`LARGE`]. With x = a + c + 1/2 and t = k / x, the series of digamma(y + 1/2), which
/// is ln y + 1/(24 y^2) less 7/(960 y^4) and so on, gives k (a + 1/2) / x + c (t - ln(1 + t)) + c (r(x) - r(x + k)),
/// all of whose parts are positive.
fn precisions_at_once(after: f64, misses: f64, k: u64) -> f64 {
    let count = number(k);
    let x = after + misses + 0.5;
    let tail = digamma_tail(x) - digamma_tail(x + count);
    count * (after + 0.5) / x + misses * above_log(count / x) + misses * tail
}

/// digamma(y + 1/2) - ln y.
fn digamma_tail(y: f64) -> f64 {
    let z = 1.0 / (y * y);
    z * (1.0 / 24.0 - z * (7.0 / 960.0 - z * (31.0 / 8064.0 - z * (127.0 / 30720.0))))
}

/// t - ln(1 + t) for t of at least 0, also where the two are nearly equal.
fn above_log(t: f64) -> f64 {
    if t > 0.1 {
        return t - libm::log1p(t);
    }
    // t^2/2 - t^3/3 + ...; at 0.1 the first term left out is 1e-17 of the first.
    (2..=18).rev().fold(0.0, |sum, i| 1.0 / f64::from(i) - t * sum) * t * t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_form_equals_the_sum() {
        for a in [0, 1, 7, 40, 1000, 1_000_000] {
            for c in [1, 2, 31, 32, 500, 100_000, 1_000_000_000] {
                for k in [1, 64, 65, 100, 1000, 20_000] {
                    let direct: f64 =
                        (1..=k).rev().map(|j| number(a + j) / number(a + j + c)).sum();
                    let closed = precisions_one_by_one(number(a), number(c), k);
                    assert!(
                        (closed / direct - 1.0).abs() < 1e-12,
                        "{a} {c} {k}: {closed} {direct}"
                    );
                }
            }
        }
    }
}
