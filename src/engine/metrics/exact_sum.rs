//! Sums of finite doubles that do not depend on order and can be taken back exactly.
//!
//! A fixed-point number wide enough for every double: digits of 32 bits in lanes of 64, so that carries may wait for
//! 2^30 additions. Only the lanes between the smallest and the greatest digit touched are held.

#![expect(clippy::missing_panics_doc, reason = "each `expect` says why it holds")]

use std::ops::Range;

/// Bit 0 of the fixed-point number is worth 2^-BIAS; the least double, 2^-1074, is bit 14.
const BIAS: usize = 1088;
/// Bit of the fixed-point number that the least double stands on.
const LEAST_BIT: usize = BIAS - 1074;
/// Digits that every possible sum fits in: 2112 bits for one double, 192 for how many there are.
const DIGITS: usize = 72;
/// Digits that carries may add to a sum that was read from bytes.
const CARRY_DIGITS: usize = 4;
/// Additions after which the carries are taken: each adds less than 2^32 to a lane.
const MAX_PENDING: u32 = 1 << 30;
/// Doubles that are added up before they are added to the lanes,
const TOGETHER: usize = 16;
/// and how many powers of two may lie between the least and the greatest of them: 16 mantissas of 53 bits, so far apart,
/// fit 127 bits.
const SPREAD: u64 = 127 - 53 - 4;
/// The same of their squares, in 128 bits.
const SPREAD_OF_SQUARES: u64 = (128 - 106 - 4) / 2;
/// Bits of a digit.
const DIGIT_BITS: usize = 32;
const DIGIT_MASK: u64 = 0xffff_ffff;

/// An exact sum of finite doubles. Equal when the sums are equal, however they came about.
#[derive(Clone, Debug, Default)]
pub struct ExactSum {
    /// The digit that the first lane stands for. Narrow, for a state holds many sums.
    start: u16,
    /// How many additions the lanes may hold since carries were last taken.
    pending: u32,
    /// Signed digits, least first.
    lanes: Box<[i64]>,
}

impl ExactSum {
    /// Adds a finite double.
    #[inline]
    pub fn add(&mut self, number: f64) {
        if let Some(term) = Term::of(number) {
            self.add_term(&term);
        }
    }

    /// Adds finite doubles, and their squares to `squares` as [`add_product`](Self::add_product) does. Those of similar
    /// size are first added up as whole numbers.
    pub fn add_with_squares(&mut self, squares: &mut Self, numbers: &[f64]) {
        for some in numbers.chunks(TOGETHER) {
            let (total, total_of_squares) =
                Together::of(some).map_or((None, None), |it| it.totals());
            match total {
                Some(total) => self.add_term(&total),
                None => some.iter().for_each(|&x| self.add(x)),
            }
            match total_of_squares {
                Some(total) => squares.add_term(&total),
                None => some.iter().for_each(|&x| squares.add_square_times(x, 1, true)),
            }
        }
    }

    /// Takes a finite double back.
    #[inline]
    pub fn remove(&mut self, number: f64) {
        self.add(-number);
    }

    /// Adds `a` times `b` exactly. The product must be finite; what of it lies below the least double is rounded, the
    /// same each time.
    #[inline]
    pub fn add_product(&mut self, a: f64, b: f64) {
        self.add_exactly(&Product::of(a, b));
    }

    /// Adds a finite double so many times.
    #[inline]
    pub fn add_times(&mut self, number: f64, times: u64) {
        match times {
            1 => self.add(number),
            _ => Term::of(number).iter().for_each(|term| self.add_term_times(term, times)),
        }
    }

    /// Adds `a` times `b` so many times, as [`add_product`](Self::add_product) does once.
    #[inline]
    pub fn add_product_times(&mut self, a: f64, b: f64, times: u64) {
        match (times, Product::of(a, b)) {
            (1, product) => self.add_exactly(&product),
            (_, Product::Exact(term)) => self.add_term_times(&term, times),
            (_, Product::Tiny(parts)) => {
                parts.iter().flatten().for_each(|term| self.add_term_times(term, times));
            }
        }
    }

    /// Adds `x` times `x` so many times, or takes that back: to the bit what
    /// [`add_product_times`](Self::add_product_times) does of `x` or `-x` and `x`.
    #[inline]
    pub fn add_square_times(&mut self, x: f64, times: u64, is_added: bool) {
        match split(x) {
            Some((mantissa, bit)) if times == 1 && 2 * bit >= BIAS + LEAST_BIT => {
                debug_assert!((x * x).is_finite(), "only finite squares have a sum");
                let whole = u128::from(mantissa) * u128::from(mantissa);
                self.add_term(&Term::of_product(whole, 2 * bit - BIAS, !is_added));
            }
            Some(_) => self.add_product_times(if is_added { x } else { -x }, x, times),
            None => {}
        }
    }

    /// Adds a term so many times, digit by digit: each is then three digits long.
    #[cold]
    fn add_term_times<const N: usize>(&mut self, term: &Term<N>, times: u64) {
        for (at, digit) in term.digits.iter().enumerate() {
            let whole = u128::from(digit.unsigned_abs()) * u128::from(times);
            if whole > 0 {
                let [low, high] = [low_u64(whole), low_u64(whole >> 64)];
                let digits = signed([low, low >> 32, high], *digit < 0);
                self.add_term(&Term { digit: term.digit + at, digits });
            }
        }
    }

    /// Adds a product.
    #[inline]
    pub fn add_exactly(&mut self, product: &Product) {
        match product {
            Product::Exact(term) => self.add_term(term),
            Product::Tiny(parts) => parts.iter().flatten().for_each(|term| self.add_term(term)),
        }
    }

    /// Adds a term.
    #[inline]
    pub fn add_term<const N: usize>(&mut self, term: &Term<N>) {
        if self.pending >= MAX_PENDING {
            self.carry();
        }
        self.pending += 1;
        let at = term.digit.wrapping_sub(self.start());
        let lanes = self.lanes.get_mut(at..).and_then(<[i64]>::first_chunk_mut::<N>);
        let Some(lanes) = lanes else { return self.add_beyond(term) };
        for (lane, digit) in lanes.iter_mut().zip(&term.digits) {
            // Never wraps, for carries are taken in time.
            *lane = lane.wrapping_add(*digit);
        }
    }

    /// The lanes do not reach so far yet.
    #[cold]
    fn add_beyond<const N: usize>(&mut self, term: &Term<N>) {
        self.widen(term.digit..term.digit + N);
        let at = term.digit - self.start();
        for (lane, digit) in self.lanes[at..].iter_mut().zip(&term.digits) {
            *lane += digit;
        }
    }

    #[inline]
    fn start(&self) -> usize {
        usize::from(self.start)
    }

    fn end(&self) -> usize {
        self.start() + self.lanes.len()
    }

    /// Makes the lanes cover `digits` too.
    #[cold]
    fn widen(&mut self, digits: Range<usize>) {
        let own = if self.lanes.is_empty() { digits.clone() } else { self.start()..self.end() };
        let (start, end) = (own.start.min(digits.start), own.end.max(digits.end));
        let mut lanes = Vec::with_capacity(end - start);
        lanes.resize(own.start - start, 0);
        lanes.extend_from_slice(&self.lanes);
        lanes.resize(end - start, 0);
        (self.start, self.lanes) = (narrow(start), lanes.into());
    }

    /// Takes the carries: all lanes but the last are then below 2^32, the last below 2^31 in magnitude.
    #[cold]
    fn carry(&mut self) {
        let mut carry = 0;
        let last = self.lanes.len().saturating_sub(1);
        for (i, lane) in self.lanes.iter_mut().enumerate() {
            let sum = *lane + carry;
            carry = sum >> 32;
            if i == last && i32::try_from(sum).is_ok() {
                *lane = sum;
                carry = 0;
            } else {
                *lane = sum & 0xffff_ffff;
            }
        }
        if carry != 0 {
            self.lanes = self.lanes.iter().copied().chain([carry]).collect();
        }
        self.pending = 1;
    }

    /// Adds all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        if other.lanes.is_empty() {
            return;
        }
        if other.start < self.start || other.end() > self.end() {
            self.widen(other.start()..other.end());
        }
        if self.pending + other.pending > MAX_PENDING {
            self.carry();
            if self.pending + other.pending > MAX_PENDING {
                let mut carried = other.clone();
                carried.carry();
                return self.merge(&carried);
            }
        }
        self.pending += other.pending;
        let at = other.start() - self.start();
        for (lane, term) in self.lanes[at..].iter_mut().zip(&other.lanes) {
            *lane += term;
        }
    }

    /// The sum, rounded once (to the nearest, ties to even). Infinite where it lies beyond the greatest double.
    pub fn value(&self) -> f64 {
        let digits = Canonical::of(self);
        let (is_negative, magnitude) = digits.magnitude();
        let rounded = round(&magnitude, digits.start * DIGIT_BITS);
        if is_negative { -rounded } else { rounded }
    }

    /// The sum divided by n, which is greater than 0; finite also where the sum is not.
    pub fn mean(&self, n: u64) -> f64 {
        let digits = Canonical::of(self);
        let (is_negative, magnitude) = digits.magnitude();
        let mean = divided(&magnitude, digits.start, 0, n, 1);
        if is_negative { -mean } else { mean }
    }

    /// `(n * products - left * right) / n^2`: the covariance of n pairs in population form, from the sums of their
    /// parts and of their products; n is greater than 0. Exact before it is rounded and divided, so it is 0 where one
    /// part is constant, and right for values that differ in their last digits.
    pub fn covariance(n: u64, products: &Self, left: &Self, right: &Self) -> f64 {
        let [products, left, right] = [products, left, right].map(Canonical::of);
        let (minuend_is_negative, minuend) = products.magnitude();
        let [(left_is_negative, left_digits), (right_is_negative, right_digits)] =
            [&left, &right].map(Canonical::magnitude);
        let minuend = product(&minuend, &[low_u32(n), low_u32(n >> 32)]);
        let subtrahend = product(&left_digits, &right_digits);
        // Both in units of 2^-(2 BIAS), from the lower of the two starts.
        let minuend_start = products.start + BIAS / DIGIT_BITS;
        let subtrahend_start = left.start + right.start;
        let start = minuend_start.min(subtrahend_start);
        let minuend = shifted(&minuend, minuend_start - start);
        let subtrahend = shifted(&subtrahend, subtrahend_start - start);
        let is_sum = minuend_is_negative != (left_is_negative != right_is_negative);
        let (is_negative, digits) = if is_sum {
            (minuend_is_negative, total(&minuend, &subtrahend))
        } else if let Some(rest) = difference(&minuend, &subtrahend) {
            (minuend_is_negative, rest)
        } else {
            let rest = difference(&subtrahend, &minuend).expect("one of the two is not greater");
            (!minuend_is_negative, rest)
        };
        let covariance = divided(&digits, start, BIAS / DIGIT_BITS, n, 2);
        if is_negative { -covariance } else { covariance }
    }

    /// The one written form: nothing for 0; else the number of the least digit that is not 0 (one byte), then the
    /// digits of the two's complement as little-endian u32, without digits that only repeat the sign.
    pub fn to_bytes(&self) -> Vec<u8> {
        let digits = Canonical::of(self);
        if digits.len == 0 {
            return Vec::new();
        }
        let mut bytes = Vec::with_capacity(1 + 4 * digits.len);
        bytes.push(u8::try_from(digits.start).expect("there are fewer than 256 digits"));
        for digit in digits.digits() {
            bytes.extend_from_slice(&digit.to_le_bytes());
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; none for any other bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let Some((&start, body)) = bytes.split_first() else {
            return Some(Self::default());
        };
        let start = usize::from(start);
        let (chunks, rest) = body.as_chunks::<4>();
        if chunks.is_empty() || !rest.is_empty() || start + chunks.len() > DIGITS {
            return None;
        }
        let digits: Vec<u32> = chunks.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect();
        if digits[0] == 0 || has_sign_digit(&digits) {
            return None;
        }
        // Bits below the least double cannot come from doubles.
        if start == 0 && digits[0] & ((1 << LEAST_BIT) - 1) != 0 {
            return None;
        }
        let mut lanes: Vec<i64> = digits.iter().map(|&digit| i64::from(digit)).collect();
        let last = lanes.last_mut().expect("there is at least one digit");
        *last = i64::from(digits[digits.len() - 1].cast_signed());
        Some(Self { start: narrow(start), pending: 1, lanes: lanes.into() })
    }

    /// Whether the sum is 0.
    pub fn is_zero(&self) -> bool {
        Canonical::of(self).len == 0
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        size_of_val(&*self.lanes)
    }
}

fn narrow(digit: usize) -> u16 {
    u16::try_from(digit).expect("there are fewer than 256 digits")
}

/// A number other than 0 as so many digits, ready to be added to any number of sums.
#[derive(Clone, Copy, Debug)]
pub struct Term<const N: usize> {
    /// The digit that the first one stands for.
    digit: usize,
    /// All of the number's sign, each below 2^32 in magnitude.
    digits: [i64; N],
}

impl Term<3> {
    /// A finite double; none for 0.
    #[inline]
    pub fn of(number: f64) -> Option<Self> {
        debug_assert!(number.is_finite(), "only finite doubles have a sum");
        let (mantissa, bit) = split(number)?;
        let shift = bit % DIGIT_BITS;
        let [low, high] = [mantissa << shift, (mantissa >> 1) >> (63 - shift)];
        let digits = signed([low, low >> 32, high], number.is_sign_negative());
        Some(Self { digit: bit / DIGIT_BITS, digits })
    }
}

impl Term<5> {
    /// A whole number, as the product of two mantissas is, whose lowest bit is this one.
    #[inline]
    fn of_product(whole: u128, bit: usize, is_negative: bool) -> Self {
        // At most 128 bits, and 31 more by the shift.
        let [low, high] = [low_u64(whole), low_u64(whole >> 64)];
        let shift = bit % DIGIT_BITS;
        let middle = high << shift | (low >> 1) >> (63 - shift);
        let [low, high] = [low << shift, (high >> 1) >> (63 - shift)];
        let digits = signed([low, low >> 32, middle, middle >> 32, high], is_negative);
        Self { digit: bit / DIGIT_BITS, digits }
    }
}

/// Finite doubles that are added up before they are added to their sum, and their squares to that of squares.
struct Together<'n> {
    /// At most [`TOGETHER`].
    numbers: &'n [f64],
    /// The least exponent of those other than 0.
    least: u64,
    /// How many powers of two the greatest stands above it.
    spread: u64,
}

impl<'n> Together<'n> {
    /// None without numbers other than 0.
    #[inline]
    fn of(numbers: &'n [f64]) -> Option<Self> {
        let (mut least, mut greatest) = (f64::INFINITY, 0.0);
        for x in numbers {
            let size = x.abs();
            greatest = if size > greatest { size } else { greatest };
            least = if size < least && size > 0.0 { size } else { least };
        }
        if greatest == 0.0 {
            return None;
        }
        let [least, greatest] = [least, greatest].map(|size| parts(size).1);
        Some(Self { numbers, least, spread: greatest - least })
    }

    /// What they, and their squares, add to a sum; none where they must be added one by one.
    #[inline]
    fn totals(&self) -> (Option<Term<5>>, Option<Term<5>>) {
        let bit = bit_of(self.least);
        if let Some(scale) = self.scale() {
            let (total, squares) = self.scaled(scale);
            let of_squares = (2 * bit).checked_sub(BIAS).filter(|bit| *bit >= LEAST_BIT);
            let of_squares = of_squares.map(|bit| Term::of_product(squares, bit, false));
            return (Some(Term::of_product(total.unsigned_abs(), bit, total < 0)), of_squares);
        }
        if self.spread > SPREAD {
            return (None, None);
        }
        let whole = |x: &f64| {
            let (mantissa, exponent) = parts(*x);
            // 0 is 0, however far it is moved.
            let size = i128::from(mantissa) << (exponent.max(self.least) - self.least);
            if x.is_sign_negative() { -size } else { size }
        };
        let total: i128 = self.numbers.iter().map(whole).sum();
        (Some(Term::of_product(total.unsigned_abs(), bit, total < 0)), None)
    }

    /// The power of two that makes whole numbers below 2^62 of them, if there is one: it is to be a normal double.
    #[inline]
    fn scale(&self) -> Option<f64> {
        /// The exponent of 2^52, whose last bit is worth 1, and that of 1.
        const WHOLE: u64 = 1023 + 52;
        let exponent = (WHOLE + 1023).checked_sub(self.least)?;
        let is_one = self.spread <= SPREAD_OF_SQUARES && exponent < 0x7ff;
        is_one.then(|| f64::from_bits(exponent << 52))
    }

    /// Their sum and that of their squares, as whole numbers.
    #[inline]
    #[expect(
        clippy::as_conversions,
        clippy::cast_possible_truncation,
        reason = "whole, see `scale`"
    )]
    fn scaled(&self, scale: f64) -> (i128, u128) {
        let (mut total, mut squares) = (0_i128, 0_u128);
        for x in self.numbers {
            // Exact: only the exponent changes.
            let whole = (x * scale) as i64;
            let size = u128::from(whole.unsigned_abs());
            // Sums of 16 of them don't wrap.
            total = total.wrapping_add(whole.into());
            squares = squares.wrapping_add(size * size);
        }
        (total, squares)
    }
}

/// The product of two finite doubles, as what it adds to a sum.
#[derive(Clone, Copy, Debug)]
pub enum Product {
    /// All of its bits.
    Exact(Term<5>),
    /// 0, or a product with bits below the least double: as the rounded product and its rounded error.
    Tiny([Option<Term<3>>; 2]),
}

impl Product {
    /// `a` times `b`, which must be finite.
    #[inline]
    pub fn of(a: f64, b: f64) -> Self {
        debug_assert!((a * b).is_finite(), "only finite products have a sum");
        match (split(a), split(b)) {
            (Some((left, left_bit)), Some((right, right_bit)))
                if left_bit + right_bit >= BIAS + LEAST_BIT =>
            {
                let is_negative = a.is_sign_negative() != b.is_sign_negative();
                let whole = u128::from(left) * u128::from(right);
                Self::Exact(Term::of_product(whole, left_bit + right_bit - BIAS, is_negative))
            }
            (Some(_), Some(_)) => Self::tiny(a, b),
            (None, _) | (_, None) => Self::Tiny([None; 2]),
        }
    }

    /// A product that reaches below the least double.
    #[cold]
    fn tiny(a: f64, b: f64) -> Self {
        let product = a * b;
        Self::Tiny([product, a.mul_add(b, -product)].map(Term::of))
    }
}

/// The low 32 bits of each, all of one sign.
#[inline]
fn signed<const N: usize>(digits: [u64; N], is_negative: bool) -> [i64; N] {
    let sign = -i64::from(is_negative);
    digits.map(|digit| ((digit & DIGIT_MASK).cast_signed() ^ sign).wrapping_sub(sign))
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (Canonical::of(self), Canonical::of(other));
        left.start == right.start && left.digits() == right.digits()
    }
}

impl Eq for ExactSum {}

/// A sum in its one form: two's complement digits without zeros below and repeated signs above; 0 has none.
struct Canonical {
    start: usize,
    len: usize,
    digits: [u32; DIGITS + CARRY_DIGITS],
}

impl Canonical {
    fn of(sum: &ExactSum) -> Self {
        let mut digits = [0; DIGITS + CARRY_DIGITS];
        let mut carry = 0_i64;
        let mut len = 0;
        for &lane in &sum.lanes {
            let total = lane + carry;
            digits[len] = low_u32(total.cast_unsigned());
            carry = total >> 32;
            len += 1;
        }
        // What is left of the carry, at least its sign, in at most two digits.
        while !(len > 0 && carry == i64::from(digits[len - 1].cast_signed() >> 31)) {
            if len == 0 && carry == 0 {
                break;
            }
            digits[len] = low_u32(carry.cast_unsigned());
            carry >>= 32;
            len += 1;
        }
        while len > 0 && has_sign_digit(&digits[..len]) {
            len -= 1;
        }
        let zeros = digits[..len].iter().take_while(|&&digit| digit == 0).count();
        digits.copy_within(zeros..len, 0);
        len -= zeros;
        let start = if len == 0 { 0 } else { sum.start() + zeros };
        Self { start, len, digits }
    }

    fn digits(&self) -> &[u32] {
        &self.digits[..self.len]
    }

    /// Sign and absolute value.
    fn magnitude(&self) -> (bool, Vec<u32>) {
        let mut digits = self.digits().to_vec();
        let is_negative = digits.last().is_some_and(|&digit| digit >> 31 == 1);
        if is_negative {
            let mut carry = true;
            for digit in &mut digits {
                (*digit, carry) = (!*digit).overflowing_add(u32::from(carry));
            }
            debug_assert!(!carry, "0 has no digits");
        }
        (is_negative, digits)
    }
}

/// Whether the last digit says no more than the sign bit before it (or, alone, that the sum is 0).
fn has_sign_digit(digits: &[u32]) -> bool {
    match digits {
        [] => false,
        [only] => *only == 0,
        [.., before, last] => last.cast_signed() == before.cast_signed() >> 31,
    }
}

/// Whole number and the bit of the fixed-point number that its last bit stands on; none for 0.
#[inline]
fn split(term: f64) -> Option<(u64, usize)> {
    let (mantissa, exponent) = parts(term);
    (mantissa != 0).then(|| (mantissa, bit_of(exponent)))
}

/// Mantissa as a whole number, 0 for 0, and exponent of a finite double's size.
#[inline]
fn parts(term: f64) -> (u64, u64) {
    let bits = term.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let exponent = (bits >> 52) & 0x7ff;
    let hidden = u64::from(exponent != 0);
    (fraction | (hidden << 52), exponent.max(1))
}

/// The bit of the fixed-point number that the last bit of a mantissa stands on.
#[inline]
fn bit_of(exponent: u64) -> usize {
    usize::try_from(exponent).expect("11 bits") + LEAST_BIT - 1
}

#[inline]
#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "it is to be cut")]
fn low_u64(wide: u128) -> u64 {
    wide as u64
}

/// The low 32 bits.
fn low_u32(wide: u64) -> u32 {
    u32::try_from(wide & DIGIT_MASK).expect("cut to 32 bits")
}

/// The double nearest to a whole number of units 2^-BIAS, whose digits begin at bit `start`.
fn round(digits: &[u32], start: usize) -> f64 {
    let Some(top) = digits.iter().rposition(|&digit| digit != 0) else {
        return 0.0;
    };
    let bit = |at: usize| {
        at.checked_sub(start)
            .is_some_and(|at| digits[at / DIGIT_BITS] >> (at % DIGIT_BITS) & 1 == 1)
    };
    let leading = usize::try_from(digits[top].leading_zeros()).expect("at most 32");
    let high = start + (top + 1) * DIGIT_BITS - 1 - leading;
    let low = high.saturating_sub(52).max(LEAST_BIT);
    let mut mantissa = 0_u64;
    for at in (low..=high).rev() {
        mantissa = mantissa << 1 | u64::from(bit(at));
    }
    let is_half = bit(low - 1);
    let has_rest = (start..low - 1).any(bit);
    if is_half && (has_rest || mantissa & 1 == 1) {
        mantissa += 1;
    }
    // The hidden bit adds one to the exponent, and so does a carry out of the mantissa.
    let exponent = u64::try_from(low - LEAST_BIT).expect("a few thousand");
    f64::from_bits(((exponent << 52) + mantissa).min(f64::INFINITY.to_bits()))
}

/// A number divided by n so many times. Its digits stand on digit `start` where digit `zero` is worth 2^-BIAS. What
/// is beyond the greatest double before the division is rounded in larger units.
fn divided(digits: &[u32], start: usize, zero: usize, n: u64, times: i32) -> f64 {
    /// More than two divisions by a u64 can take away.
    const LARGER_DIGITS: usize = 4;
    const LARGER: f64 = 340_282_366_920_938_463_463_374_607_431_768_211_456.0;
    let rounded = |zero: usize| match start.checked_sub(zero) {
        Some(above) => round(digits, above * DIGIT_BITS),
        // Below the least double: less than the rounding.
        None => round(&digits[(zero - start).min(digits.len())..], 0),
    };
    let divisor = round(&[low_u32(n), low_u32(n >> 32)], BIAS);
    let divide = |number: f64| (0..times).fold(number, |number, _| number / divisor);
    let direct = rounded(zero);
    if direct.is_finite() {
        return divide(direct);
    }
    divide(rounded(zero + LARGER_DIGITS)) * LARGER
}

/// The product of two whole numbers.
fn product(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut digits = vec![0_u32; a.len() + b.len()];
    for (i, &x) in a.iter().enumerate() {
        let mut carry = 0_u64;
        for (j, &y) in b.iter().enumerate() {
            let sum = u64::from(x) * u64::from(y) + u64::from(digits[i + j]) + carry;
            digits[i + j] = low_u32(sum);
            carry = sum >> 32;
        }
        digits[i + b.len()] = low_u32(carry);
    }
    digits
}

/// The digits with `by` zeros below them.
fn shifted(digits: &[u32], by: usize) -> Vec<u32> {
    let mut all = vec![0; by];
    all.extend_from_slice(digits);
    all
}

/// The sum of two whole numbers.
fn total(a: &[u32], b: &[u32]) -> Vec<u32> {
    let digit = |of: &[u32], i: usize| u64::from(of.get(i).copied().unwrap_or(0));
    let mut carry = 0;
    (0..=a.len().max(b.len()))
        .map(|i| {
            let sum = digit(a, i) + digit(b, i) + carry;
            carry = sum >> 32;
            low_u32(sum)
        })
        .collect()
}

/// a - b, or none where b is greater.
fn difference(a: &[u32], b: &[u32]) -> Option<Vec<u32>> {
    let digit = |of: &[u32], i: usize| i64::from(of.get(i).copied().unwrap_or(0));
    let mut borrow = 0;
    let digits = (0..a.len().max(b.len()))
        .map(|i| {
            let rest = digit(a, i) - digit(b, i) + borrow;
            borrow = rest >> 32;
            low_u32(rest.cast_unsigned())
        })
        .collect();
    (borrow == 0).then_some(digits)
}
