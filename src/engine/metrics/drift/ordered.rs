//! Distances of two distribution functions that are known at the edges of fine cells.

use super::tail::kolmogorov_tail;
use crate::engine::metrics::accumulator::Undefined;
use crate::engine::metrics::interval::{Figure, number};
use crate::engine::metrics::reference::NumericProfile;

/// A distance and the bracket in which that of the raw values lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bracketed {
    /// The distance.
    pub value: f64,
    /// That of the raw values is at least this.
    pub lower: f64,
    /// And at most this.
    pub upper: Figure,
}

/// The distribution functions of a reference and of a window with values.
pub struct Ordered<'a> {
    profile: &'a NumericProfile,
    /// At the upper edge of each fine cell, the two outermost included.
    reference: Vec<f64>,
    current: Vec<f64>,
    n: u64,
}

impl<'a> Ordered<'a> {
    /// Of the window's counts by fine cell, of which there is at least one.
    pub fn new(profile: &'a NumericProfile, counts: &[u64]) -> Self {
        let mut reference = vec![0];
        reference.extend(&profile.counts);
        reference.push(0);
        Self {
            profile,
            reference: distribution(&reference),
            current: distribution(counts),
            n: counts.iter().sum(),
        }
    }

    /// Kolmogorov-Smirnov distance: the greatest difference of the distribution functions at an edge. Inside a cell the
    /// raw functions differ by no more than one at its right and the other at its left edge.
    pub fn ks(&self) -> Bracketed {
        let pairs = || self.reference.iter().zip(&self.current);
        let value = pairs().map(|(f, g)| (f - g).abs()).fold(0.0, f64::max);
        let cross = |right: &[f64], left: &[f64]| {
            right[1..].iter().zip(left).map(|(right, left)| right - left).fold(0.0, f64::max)
        };
        let upper = value
            .max(cross(&self.reference, &self.current))
            .max(cross(&self.current, &self.reference));
        Bracketed { value, lower: value, upper: Ok(upper) }
    }

    /// The p-value of that distance.
    pub fn p_value(&self, ks: &Bracketed) -> f64 {
        kolmogorov_tail(ks.value, self.n, self.profile.total())
    }

    /// Wasserstein distance in standard deviations of the reference: the area between the distribution functions, taken
    /// as linear inside the cells. Values beyond the reference's range count as lying on its edge, so that the raw
    /// distance then has no upper bound.
    pub fn wasserstein(&self) -> Result<Bracketed, Undefined> {
        if self.profile.sd <= 0.0 {
            return Err(Undefined::ZeroVariance);
        }
        let bounds = self.profile.bounds();
        let cells = bounds.len() - 1;
        let last = self.current.len() - 1;
        let (mut area, mut doubt) = (0.0, 0.0);
        for cell in 0..cells {
            let width = bounds[cell + 1] - bounds[cell];
            let left = self.reference[cell] - self.current[cell];
            let right = self.reference[cell + 1] - self.current[cell + 1];
            area += width * area_between(left, right);
            let of_current = self.current[cell + 1] - self.current[cell];
            let mass = self.reference[cell + 1] - self.reference[cell] + of_current;
            doubt += width * mass / 2.0;
        }
        let (value, half) = (area / self.profile.sd, doubt / self.profile.sd);
        // A document may state any deviation, however small.
        if !(value + half).is_finite() {
            return Err(Undefined::Overflow);
        }
        let is_outside = self.current[0] > 0.0 || self.current[last - 1] < self.current[last];
        Ok(Bracketed {
            value,
            lower: (value - half).max(0.0),
            upper: if is_outside { Err(Undefined::NotApplicable) } else { Ok(value + half) },
        })
    }
}

/// Shares of the values up to the end of each cell; the last is 1.
fn distribution(counts: &[u64]) -> Vec<f64> {
    let total = number(counts.iter().sum());
    let below = counts.iter().scan(0, |sum, count| {
        *sum += count;
        Some(*sum)
    });
    below.map(|below| number(below) / total).collect()
}

/// The mean size of a line from one height to another.
fn area_between(left: f64, right: f64) -> f64 {
    let sizes = left.abs() + right.abs();
    if left * right >= 0.0 { sizes / 2.0 } else { (left * left + right * right) / (2.0 * sizes) }
}
