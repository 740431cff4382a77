//! Which map makes probabilities of scores: the scores themselves, or an isotonic one.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::engine::event::RequestId;
use crate::engine::metrics::calibration::{BINS, bin_of};
use crate::engine::metrics::interval::number;
use crate::engine::metrics::reference::{CalibrationMap, Calibrator};

/// The map that a calibrator is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Isotonic where that has the lower calibration error on scores that it was not fitted on.
    #[default]
    Auto,
    /// The scores themselves.
    Identity,
    /// Isotonic.
    Isotonic,
}

/// Scores by request ID go into ten folds.
pub(super) const FOLDS: usize = 10;
/// How many distinct scores are kept as they are; more are rounded up by at most 2^-12 of their size.
pub(super) const EXACT_SCORES: usize = 1 << 18;
const DROPPED_BITS: u32 = 40;

/// Equal scores: how many, and how many of them positive.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Pool {
    score: f64,
    n: u64,
    positives: u64,
}

/// Labelled scores in bounded memory.
#[derive(Clone, Debug)]
pub struct LabelledScores {
    counts: HashMap<(u8, u64), [u64; 2], FixedState>,
    is_rounded: bool,
}

impl Default for LabelledScores {
    fn default() -> Self {
        Self { counts: HashMap::with_hasher(FixedState::default()), is_rounded: false }
    }
}

impl LabelledScores {
    /// Adds a score in 0..=1 with its label.
    pub fn add(&mut self, id: RequestId, score: f64, positive: bool) {
        let key = (fold_of(id), bits(score + 0.0, self.is_rounded));
        let [n, positives] = self.counts.entry(key).or_insert([0; 2]);
        *n += 1;
        *positives += u64::from(positive);
        if self.counts.len() > EXACT_SCORES && !self.is_rounded {
            self.round();
        }
    }

    /// Gives each fold so many records, those that have no score one of 0 and no positive label.
    pub(super) fn fill_with_zeros(&mut self, records: &[u64; FOLDS]) {
        let mut missing = *records;
        for ((fold, _), [n, _]) in &self.counts {
            missing[usize::from(*fold)] -= n;
        }
        for (fold, n) in (0..).zip(missing).filter(|(_, n)| *n > 0) {
            let key = (fold, bits(0.0, self.is_rounded));
            self.counts.entry(key).or_insert([0; 2])[0] += n;
        }
    }

    /// How many distinct scores of a fold are kept.
    pub(super) fn distinct(&self) -> usize {
        self.counts.len()
    }

    /// Keeps only the first 12 bits of scores.
    #[cold]
    pub(super) fn round(&mut self) {
        for ((fold, fine), [n, positives]) in std::mem::take(self).counts {
            let key = (fold, bits(f64::from_bits(fine), true));
            let sums = self.counts.entry(key).or_insert([0; 2]);
            sums[0] += n;
            sums[1] += positives;
        }
        self.is_rounded = true;
    }

    /// The pools of the folds that are wanted, by rising score.
    fn pools(&self, is_wanted: impl Fn(u8) -> bool) -> Vec<Pool> {
        let wanted = self.counts.iter().filter(|((fold, _), _)| is_wanted(*fold));
        let mut pools: Vec<Pool> = wanted
            .map(|((_, bits), [n, positives])| Pool {
                score: f64::from_bits(*bits),
                n: *n,
                positives: *positives,
            })
            .collect();
        pools.sort_by(|a, b| a.score.total_cmp(&b.score));
        pools.dedup_by(|next, kept| {
            let is_same = next.score.total_cmp(&kept.score).is_eq();
            if is_same {
                kept.n += next.n;
                kept.positives += next.positives;
            }
            is_same
        });
        pools
    }

    /// The calibrator; none without labelled scores.
    pub fn calibrator(&self, choice: Choice) -> Option<Calibrator> {
        let all = self.pools(|_| true);
        if all.is_empty() {
            return None;
        }
        let mut unfitted = ErrorBins::default();
        for pool in &all {
            unfitted.add(pool.score, pool);
        }
        let mut left_out = ErrorBins::default();
        for fold in 0..u8::try_from(FOLDS).expect("ten") {
            let map = isotonic(&self.pools(|other| other != fold));
            for pool in self.pools(|own| own == fold) {
                left_out.add(map.apply(pool.score), &pool);
            }
        }
        let (ece_identity, ece_isotonic) = (unfitted.error(), left_out.error());
        let is_isotonic = match choice {
            Choice::Auto => ece_isotonic < ece_identity,
            Choice::Identity => false,
            Choice::Isotonic => true,
        };
        Some(Calibrator {
            map: if is_isotonic { isotonic(&all) } else { CalibrationMap::Identity },
            n: all.iter().map(|pool| pool.n).sum(),
            positives: all.iter().map(|pool| pool.positives).sum(),
            ece_identity,
            ece_isotonic,
        })
    }
}

/// The fold of a request.
pub(super) fn fold_of(id: RequestId) -> u8 {
    let hash = u128::from(id.high) << 64 | u128::from(id.low);
    u8::try_from(hash % 10).expect("less than ten")
}

fn bits(score: f64, is_rounded: bool) -> u64 {
    let mask = (1_u64 << DROPPED_BITS) - 1;
    if is_rounded {
        f64::from_bits(score.to_bits() | mask).min(1.0).to_bits()
    } else {
        score.to_bits()
    }
}

/// Pools of one rate.
struct Block {
    first: f64,
    last: f64,
    n: u64,
    positives: u64,
}

impl Block {
    fn rate(&self) -> f64 {
        number(self.positives) / number(self.n)
    }

    /// Whether its rate is at least that of the next.
    fn reaches(&self, next: &Self) -> bool {
        u128::from(self.positives) * u128::from(next.n)
            >= u128::from(next.positives) * u128::from(self.n)
    }
}

/// The rising map that is nearest to the labels: neighbours whose rates fall are pooled (pool adjacent violators;
/// Barlow et al. 1972). The identity where there is nothing to fit.
fn isotonic(pools: &[Pool]) -> CalibrationMap {
    let mut blocks: Vec<Block> = Vec::new();
    for &Pool { score, n, positives } in pools {
        let mut block = Block { first: score, last: score, n, positives };
        while let Some(before) = blocks.pop_if(|before| before.reaches(&block)) {
            block.first = before.first;
            block.n += before.n;
            block.positives += before.positives;
        }
        blocks.push(block);
    }
    let (mut knots, mut rates) = (Vec::new(), Vec::new());
    for block in &blocks {
        knots.push(block.first);
        rates.push(block.rate());
        if block.last > block.first {
            knots.push(block.last);
            rates.push(block.rate());
        }
    }
    if knots.is_empty() {
        CalibrationMap::Identity
    } else {
        CalibrationMap::Isotonic { knots: knots.into(), rates }
    }
}

/// Expected calibration error, in the bins of table `calibration`.
#[derive(Default)]
struct ErrorBins {
    n: u64,
    /// Sum of the probabilities less number of positives.
    excess: [f64; BINS],
}

impl ErrorBins {
    fn add(&mut self, probability: f64, pool: &Pool) {
        self.n += pool.n;
        self.excess[usize::from(bin_of(probability))] +=
            probability * number(pool.n) - number(pool.positives);
    }

    fn error(&self) -> f64 {
        self.excess.iter().map(|excess| excess.abs()).sum::<f64>() / number(self.n)
    }
}
