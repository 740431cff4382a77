//! How many distinct values there are: counted while they are few, else estimated by `HyperLogLog` (Flajolet et al. 2007).

use datasketches::hll::HllSketch;
use xxhash_rust::xxh3::xxh3_64;

/// Binary logarithm of the number of registers. Estimates have a standard error of 1.04 / 2^6, which is 1.6 %.
const LG_REGISTERS: u8 = 12;
const REGISTERS: usize = 1 << LG_REGISTERS;
/// The bits of a hash that choose its register.
const CHOICE: u64 = (1 << LG_REGISTERS) - 1;
/// No hash gives more: all other bits are 0.
const MOST: u8 = 64 - LG_REGISTERS + 1;
/// Registers in a word of the stored form.
const IN_WORD: usize = 8;
/// Words of the stored form.
pub const WORDS: u64 = 512;

/// For each register the greatest number of leading zeros, plus one, of the hashes that chose it; 0 for none. A function
/// of the set of values. 4 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registers(Box<[u8; REGISTERS]>);

impl Registers {
    /// Notes a value by its XXH3-64.
    #[inline]
    pub fn add(&mut self, hash: u64) {
        let zeros = (hash | CHOICE).leading_zeros();
        let rank = u8::try_from(zeros + 1).expect("at most 64 zeros");
        let register = usize::try_from(hash & CHOICE).expect("below 4,096");
        self.0[register] = self.0[register].max(rank);
    }

    /// Notes all values that `other` has.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(&*other.0) {
            *own = (*own).max(*other);
        }
    }

    /// About how many distinct values there were, a whole number: the composite estimate of Apache `DataSketches`, which
    /// reads nothing but registers. Whole, so that the last bits of a platform's logarithm don't show.
    pub fn estimate(&self) -> f64 {
        let sketch = HllSketch::deserialize(&self.image()).expect("an image of a sketch");
        sketch.composite_estimate().round()
    }

    /// As Apache `DataSketches` store a sketch of 8 bits a register: the preamble of 40 bytes says that the order of the
    /// values is not known, and has the sum of 2^-register and the number of empty ones.
    fn image(&self) -> Vec<u8> {
        const PREAMBLE: [u8; 8] = [10, 1, 7, LG_REGISTERS, 0, 16, 0, 10];
        let inverse: f64 = self.0.iter().map(|&rank| 0.5_f64.powi(i32::from(rank))).sum();
        let empty = self.0.iter().map(|&rank| u32::from(rank == 0)).sum::<u32>();
        let mut image = Vec::with_capacity(40 + REGISTERS);
        image.extend(PREAMBLE);
        for number in [0.0, inverse, 0.0] {
            image.extend(number.to_le_bytes());
        }
        image.extend(empty.to_le_bytes());
        image.extend(0_u32.to_le_bytes());
        image.extend(&*self.0);
        image
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        REGISTERS
    }

    /// Eight registers in each word, the first as its lowest byte: index and word where any is not 0.
    pub fn words(&self) -> impl Iterator<Item = (u64, u64)> {
        let (words, _) = self.0.as_chunks::<IN_WORD>();
        (0..).zip(words).map(|(at, word)| (at, u64::from_le_bytes(*word))).filter(|it| it.1 > 0)
    }

    /// What [`words`](Self::words) gave; none when it is not of that form.
    pub fn from_words(pairs: &[(u64, u64)]) -> Option<Self> {
        let mut registers = Self::default();
        let (words, _) = registers.0.as_chunks_mut::<IN_WORD>();
        for &(at, word) in pairs {
            *words.get_mut(usize::try_from(at).ok()?)? = word.to_le_bytes();
        }
        let is_written = !pairs.is_empty()
            && pairs.is_sorted_by(|a, b| a.0 < b.0)
            && pairs.iter().all(|(_, word)| *word > 0)
            && registers.0.iter().all(|rank| *rank <= MOST);
        is_written.then_some(registers)
    }
}

impl Default for Registers {
    fn default() -> Self {
        Self(Box::new([0; REGISTERS]))
    }
}

impl FromIterator<u64> for Registers {
    fn from_iter<T: IntoIterator<Item = u64>>(hashes: T) -> Self {
        let mut registers = Self::default();
        hashes.into_iter().for_each(|hash| registers.add(hash));
        registers
    }
}

/// Distinct numbers by their bits: -0.0 is to come as 0.0. A function of the set of numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Numbers {
    /// Ascending, at most [`MOST_NUMBERS`].
    Few(Vec<u64>),
    /// Of more.
    Many(Registers),
}

/// How many distinct numbers are counted exactly.
pub const MOST_NUMBERS: usize = 100;

fn hash(bits: u64) -> u64 {
    xxh3_64(&bits.to_le_bytes())
}

impl Numbers {
    /// Notes a number.
    pub fn add(&mut self, x: f64) {
        self.add_bits(x.to_bits());
    }

    fn add_bits(&mut self, bits: u64) {
        match self {
            Self::Few(few) => {
                let Err(at) = few.binary_search(&bits) else { return };
                if few.len() < MOST_NUMBERS {
                    few.insert(at, bits);
                } else {
                    let all = few.iter().copied().chain([bits]);
                    *self = Self::Many(all.map(hash).collect());
                }
            }
            Self::Many(registers) => registers.add(hash(bits)),
        }
    }

    /// Notes all numbers that `other` has.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Few(few)) => {
                for bits in few {
                    self.add_bits(*bits);
                }
            }
            (Self::Many(registers), Self::Many(others)) => registers.merge(others),
            (Self::Few(few), Self::Many(others)) => {
                let mut registers = others.clone();
                for bits in few {
                    registers.add(hash(*bits));
                }
                *self = Self::Many(registers);
            }
        }
    }

    /// How many distinct numbers there were; of more than [`MOST_NUMBERS`] about how many.
    pub fn count(&self) -> f64 {
        match self {
            Self::Few(few) => f64::from(u32::try_from(few.len()).expect("at most 100")),
            Self::Many(registers) => registers.estimate(),
        }
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Few(few) => few.capacity() * size_of::<u64>(),
            Self::Many(registers) => registers.heap_bytes(),
        }
    }

    /// Few numbers as they are stored; none when they are not of that form.
    pub fn from_bits(few: Vec<u64>) -> Option<Self> {
        let is_number = |bits: &u64| f64::from_bits(*bits).is_finite();
        let is_written = few.len() <= MOST_NUMBERS
            && few.is_sorted_by(|a, b| a < b)
            && few.iter().all(is_number);
        is_written.then_some(Self::Few(few))
    }
}
