//! Edges of cells, and how many of them lie below a number.

use std::ops::Deref;

use crate::engine::names::index;

/// Parts of equal width between the first edge and the last; at most 256.
const PARTS: usize = 128;
/// So many are gone through one by one.
const FEW: usize = 4;

/// Finite numbers that rise. A number is looked for among the edges of its own part only.
#[derive(Clone, Debug)]
pub struct Edges {
    all: Vec<f64>,
    /// Edges in the parts before each, and behind the last.
    before: Box<[u32; PARTS + 1]>,
    first: f64,
    /// Parts for each unit.
    scale: f64,
}

impl Edges {
    /// How many edges are less than `x`.
    #[inline]
    pub fn below(&self, x: f64) -> usize {
        // The part rises with the number: edges in parts before are less, and those in parts behind are not.
        let part = self.part(x);
        let [from, to] = [part, part + 1].map(|part| index(self.before[part]));
        let own = &self.all[from..to];
        let below = if own.len() <= FEW {
            own.iter().take_while(|edge| **edge < x).count()
        } else {
            own.partition_point(|edge| *edge < x)
        };
        from + below
    }

    #[inline]
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what is below the first part is held to 0, and what is far behind the last to 255"
    )]
    fn part(&self, x: f64) -> usize {
        // A wider integer takes several times as long to be held to its range.
        usize::from(((x - self.first) * self.scale) as u8).min(PARTS - 1)
    }
}

impl From<Vec<f64>> for Edges {
    fn from(edges: Vec<f64>) -> Self {
        let width = edges.last().zip(edges.first()).map_or(0.0, |(last, first)| last - first);
        let parts = f64::from(u16::try_from(PARTS).expect("a few"));
        let (before, scale) = (Box::new([0; PARTS + 1]), parts / width);
        let first = edges.first().copied().unwrap_or_default();
        let mut found = Self { all: edges, before, first, scale };
        for at in 0..found.all.len() {
            let part = found.part(found.all[at]);
            found.before[part + 1] += 1;
        }
        let mut sum = 0;
        for count in found.before.iter_mut() {
            sum += *count;
            *count = sum;
        }
        found
    }
}

impl Deref for Edges {
    type Target = [f64];

    fn deref(&self) -> &[f64] {
        &self.all
    }
}

impl PartialEq for Edges {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_a_plain_search_counts() {
        let mut sets: Vec<Vec<f64>> = vec![
            vec![],
            vec![0.0],
            vec![-1e150, 1e150],
            vec![-f64::MAX, f64::MAX],
            vec![0.0, 5e-324],
            vec![1.0, 1.0 + f64::EPSILON, 2.0, 1e300],
        ];
        sets.push((0..99).map(|n| f64::from(n) / 7.0).collect());
        sets.push((0..99).map(|n| (f64::from(n) / 9.0).exp()).collect());
        sets.push((0..8000).map(|n| f64::from(n).powi(3) - 1e11).collect());
        for set in sets {
            let edges = Edges::from(set.clone());
            let around =
                set.iter().flat_map(|x| [*x, x.next_down(), x.next_up(), x + 0.5, x * 3.0]);
            let beyond = [f64::MIN, f64::MAX, f64::NEG_INFINITY, f64::INFINITY];
            for x in around.chain([0.0, -0.0, 1e-300, 12.0]).chain(beyond) {
                let plain = set.iter().filter(|edge| **edge < x).count();
                assert_eq!(edges.below(x), plain, "{x} among {} edges", set.len());
            }
            assert_eq!(edges.below(f64::NAN), 0);
        }
    }

    #[test]
    fn edges_that_are_refused_later_do_no_harm() {
        for set in
            [vec![f64::NAN, 1.0], vec![3.0, 1.0, 2.0], vec![f64::INFINITY; 3], vec![0.5; 70_000]]
        {
            let edges = Edges::from(set);
            for x in [f64::NAN, -1.0, 0.5, 2.5, f64::INFINITY] {
                assert!(edges.below(x) <= edges.len());
            }
        }
    }
}
