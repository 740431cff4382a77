//! The lattices that say which cell of a fixed set a value falls in.

#![expect(clippy::missing_panics_doc, reason = "each `expect` says why it holds")]

use super::cells::Cells;

/// Durations as whole microseconds or milliseconds: the cells of an HDR histogram with two significant digits
/// (hdrhistogram 7, `new_with_bounds(1, max, 2)`), at most 1/128 wide relative to their value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Durations {
    /// Larger values count as this one.
    pub max: u64,
}

/// Latency in microseconds, up to 2^32 - 1.
pub const LATENCY_US: Durations = Durations { max: 4_294_967_295 };
/// Freshness and label delay in milliseconds, up to 400 days.
pub const DELAY_MS: Durations = Durations { max: 400 * 86_400_000 };

/// Values of one power of two have 128 cells; the first 256 values have one each.
const HALF_BITS: u32 = 7;

impl Durations {
    /// The cell of a value.
    #[inline]
    pub fn cell(self, value: u64) -> u16 {
        let value = value.min(self.max);
        let octave = 56 - (value | 255).leading_zeros();
        let index = (u64::from(octave) << HALF_BITS) + (value >> octave);
        u16::try_from(index).expect("64 octaves of 128 cells")
    }

    /// The greatest value of a cell.
    pub fn highest(self, cell: u16) -> u64 {
        let cell = u64::from(cell);
        let octave = (cell >> HALF_BITS).saturating_sub(1);
        let lowest = (cell - (octave << HALF_BITS)) << octave;
        lowest + ((1 << octave) - 1)
    }

    /// How many cells there are.
    pub fn cells(self) -> u16 {
        self.cell(self.max) + 1
    }

    /// A quantile, represented by the greatest value of its cell, but never above the exact maximum; none without
    /// values.
    pub fn quantile(self, cells: &Cells, percent: u64, exact_max: u64) -> Option<u64> {
        cells.quantile(percent).map(|cell| self.highest(cell).min(exact_max))
    }
}

/// Sizes of real numbers, from 2^-64 up to 2^63: 2^m cells for each power of two, so at most 2^-m wide relative to
/// their value. Smaller numbers have cell 0, greater ones the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// m.
    pub bits: u32,
}

/// Absolute errors.
pub const ABS_ERROR: Sizes = Sizes { bits: 7 };

impl Sizes {
    const LEAST: f64 = 1.0 / 18_446_744_073_709_551_616.0;
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    const MANTISSA_BITS: u32 = 52;

    fn steps(self, x: f64) -> u64 {
        x.to_bits() >> (Self::MANTISSA_BITS - self.bits)
    }

    /// The cell of a number's size.
    #[inline]
    pub fn cell(self, x: f64) -> u16 {
        let size = x.abs();
        if size < Self::LEAST {
            return 0;
        }
        let cell = 1 + self.steps(size.min(Self::BEYOND.next_down())) - self.steps(Self::LEAST);
        u16::try_from(cell).expect("127 powers of two of at most 2^8 cells")
    }

    /// The upper edge of a cell; that of the last is 2^63.
    pub fn upper_edge(self, cell: u16) -> f64 {
        let steps = u64::from(cell) + self.steps(Self::LEAST);
        f64::from_bits(steps << (Self::MANTISSA_BITS - self.bits))
    }

    /// The middle of a cell, which represents the numbers in it; 0 for cell 0.
    pub fn middle(self, cell: u16) -> f64 {
        match cell.checked_sub(1) {
            None => 0.0,
            Some(before) => f64::midpoint(self.upper_edge(before), self.upper_edge(cell)),
        }
    }

    /// How many cells there are.
    pub fn cells(self) -> u16 {
        self.cell(Self::BEYOND) + 1
    }
}

/// Real numbers: the cells of [`Sizes`] on both sides of 0, rising with the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reals {
    /// The lattice of each side.
    pub sizes: Sizes,
}

/// Features that no reference profile knows.
pub const FEATURE: Reals = Reals { sizes: Sizes { bits: 5 } };

impl Reals {
    /// The cell of 0 and of the smallest numbers of either sign.
    fn zero(self) -> u16 {
        self.sizes.cells() - 1
    }

    /// The cell of a number.
    #[inline]
    pub fn cell(self, x: f64) -> u16 {
        let size = self.sizes.cell(x);
        if x < 0.0 { self.zero() - size } else { self.zero() + size }
    }

    /// The middle of a cell, which represents the numbers in it.
    pub fn middle(self, cell: u16) -> f64 {
        let zero = self.zero();
        if cell < zero { -self.sizes.middle(zero - cell) } else { self.sizes.middle(cell - zero) }
    }

    /// How many cells there are.
    pub fn cells(self) -> u16 {
        2 * self.zero() + 1
    }
}

/// How many cells the score lattice has.
pub const SCORE_CELLS: u16 = 9731;

/// The cell of a score in 0..=1: 256 for each halving of the distance to 0 or 1, down to 2^-20; 0.5 is an edge.
#[inline]
pub fn score_cell(score: f64) -> u16 {
    if score < 0.5 { half_cell(score) } else { SCORE_CELLS - 1 - half_cell(1.0 - score) }
}

/// The least distance to an end that does not fall in the outermost cell.
const LEAST_DISTANCE: f64 = 1.0 / 1_048_576.0;
/// The bits of a double that do not tell cells apart.
const BELOW_A_CELL: u32 = 44;

/// The cell of a distance in 0..=0.5 to the nearer end.
#[inline]
fn half_cell(distance: f64) -> u16 {
    if distance < LEAST_DISTANCE {
        return 0;
    }
    let steps = |x: f64| x.to_bits() >> BELOW_A_CELL;
    let cell = 1 + steps(distance) - steps(LEAST_DISTANCE);
    u16::try_from(cell).expect("20 halvings of 256 cells")
}

/// The lower edge of a cell of the score lattice, which is the upper edge of the one below; that of [`SCORE_CELLS`] is
/// 1. Scores of a cell lie between its two edges, both included.
pub fn score_edge(cell: u16) -> f64 {
    let distance = |cell: u16| match cell.checked_sub(1) {
        None => 0.0,
        Some(steps) => {
            let bits = (LEAST_DISTANCE.to_bits() >> BELOW_A_CELL) + u64::from(steps);
            f64::from_bits(bits << BELOW_A_CELL)
        }
    };
    if cell <= SCORE_CELLS / 2 {
        distance(cell)
    } else {
        1.0 - distance(SCORE_CELLS.saturating_sub(cell))
    }
}
