//! Exact sums against a fixed-point number of single bytes, whose rounding is that of the standard library's parser.

use proptest::prelude::*;
use tidegauge::engine::metrics::exact_sum::ExactSum;

/// Bits right of the point.
const FRACTION_BITS: usize = 1088;
/// Bytes of the number: 1088 bits right of the point, 1216 left of it.
const BYTES: usize = 288;

/// A sum as a two's complement number of bytes, least first: slow, and nothing in it is shared with the engine.
#[derive(Clone, PartialEq, Debug)]
struct Oracle(Vec<u8>);

impl Oracle {
    fn zero() -> Self {
        Self(vec![0; BYTES])
    }

    fn of(terms: &[f64]) -> Self {
        let mut sum = Self::zero();
        for &term in terms {
            sum.add(term);
        }
        sum
    }

    fn add(&mut self, term: f64) {
        let mut term_bytes = vec![0; BYTES];
        let bits = term.to_bits();
        let exponent = usize::try_from(bits >> 52 & 0x7ff).unwrap();
        let whole = if exponent == 0 { 0 } else { 1_u64 << 52 } | bits & ((1 << 52) - 1);
        for i in 0..53 {
            if whole >> i & 1 == 1 {
                let at = FRACTION_BITS - 1074 + exponent.max(1) - 1 + i;
                term_bytes[at / 8] |= 1 << (at % 8);
            }
        }
        let term_number = Self(term_bytes);
        let term_number = if term.is_sign_negative() { term_number.negated() } else { term_number };
        self.add_number(&term_number);
    }

    fn add_number(&mut self, other: &Self) {
        let mut carry = 0_u16;
        for (byte, more) in self.0.iter_mut().zip(&other.0) {
            let total = u16::from(*byte) + u16::from(*more) + carry;
            *byte = u8::try_from(total % 256).unwrap();
            carry = total / 256;
        }
    }

    fn negated(&self) -> Self {
        let mut inverted = Self(self.0.iter().map(|byte| !byte).collect());
        let mut one = vec![0; BYTES];
        one[0] = 1;
        inverted.add_number(&Self(one));
        inverted
    }

    /// All decimals of the number.
    fn decimal(&self) -> String {
        let is_negative = self.0[BYTES - 1] >= 128;
        let magnitude = if is_negative { self.negated() } else { self.clone() }.0;
        let (fraction, whole) = magnitude.split_at(FRACTION_BITS / 8);
        let mut whole = whole.to_vec();
        let mut whole_digits = Vec::new();
        while whole.iter().any(|&byte| byte != 0) {
            let mut rest = 0_u16;
            for byte in whole.iter_mut().rev() {
                let part = rest * 256 + u16::from(*byte);
                *byte = u8::try_from(part / 10).unwrap();
                rest = part % 10;
            }
            whole_digits.push(char::from(b'0' + u8::try_from(rest).unwrap()));
        }
        let mut fraction = fraction.to_vec();
        let mut text: String = whole_digits.iter().rev().collect();
        text.insert_str(0, if is_negative { "-0" } else { "0" });
        text.push('.');
        while fraction.iter().any(|&byte| byte != 0) {
            let mut carry = 0_u16;
            for byte in &mut fraction {
                let part = u16::from(*byte) * 10 + carry;
                *byte = u8::try_from(part % 256).unwrap();
                carry = part / 256;
            }
            text.push(char::from(b'0' + u8::try_from(carry).unwrap()));
        }
        text.push('0');
        text
    }

    /// The nearest double, by the standard library.
    fn value(&self) -> f64 {
        self.decimal().parse().unwrap()
    }
}

fn sum_of(terms: &[f64]) -> ExactSum {
    let mut sum = ExactSum::default();
    for &term in terms {
        sum.add(term);
    }
    sum
}

fn squares_of(terms: &[f64]) -> ExactSum {
    let mut squares = ExactSum::default();
    for &term in terms {
        squares.add_product(term, term);
    }
    squares
}

/// The sum and that of the squares, added many at once.
fn at_once(terms: &[f64]) -> (ExactSum, ExactSum) {
    let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
    sum.add_with_squares(&mut squares, terms);
    (sum, squares)
}

/// Doubles of all sizes, and many that cancel, tie or lie at the ends.
fn term() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |term| term.is_finite()),
        -1.0..1.0_f64,
        (-1000_i32..1000).prop_map(f64::from),
        prop::sample::select(vec![
            0.0,
            -0.0,
            5e-324,
            -5e-324,
            f64::MIN_POSITIVE,
            f64::MIN_POSITIVE - 5e-324,
            1e300,
            -1e300,
            1e-300,
            f64::EPSILON,
            1.0,
            -1.0,
            1.0 + f64::EPSILON,
            f64::EPSILON / 2.0,
            9_007_199_254_740_992.0,
            4_294_967_296.0,
            -4_294_967_296.0,
        ]),
    ]
}

/// The same for the terms of one sum; the greatest doubles are kept out so that the sum stays finite.
fn terms() -> impl Strategy<Value = Vec<f64>> {
    let term = term().prop_map(|term| if term.abs() > 1e306 { term / 1024.0 } else { term });
    prop::collection::vec(term, 0..40)
}

proptest! {
    #[test]
    fn sum_is_rounded_once(terms in terms()) {
        let oracle = Oracle::of(&terms);
        let expected = oracle.value();
        prop_assert_eq!(sum_of(&terms).value().abs().to_bits(), expected.abs().to_bits());
        prop_assert!(sum_of(&terms).value() == expected);
    }

    #[test]
    fn order_and_split_do_not_matter(
        (terms, shuffled) in terms().prop_flat_map(|terms| {
            (Just(terms.clone()), Just(terms).prop_shuffle())
        }),
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = sum_of(&terms);
        let (left, right) = shuffled.split_at(cut.index(shuffled.len() + 1));
        let mut merged = sum_of(right);
        merged.merge(&sum_of(left));
        prop_assert_eq!(whole.to_bytes(), merged.to_bytes());
        prop_assert_eq!(whole, merged);
    }

    #[test]
    fn many_at_once_are_each_by_itself(
        terms in terms(),
        similar in prop::collection::vec(0.5..99.0_f64, 0..40),
    ) {
        // Beyond 1e150 squares are no doubles.
        for numbers in [terms.iter().copied().filter(|x| x.abs() <= 1e150).collect(), similar] {
            // All of one size, also where the least of their squares have bits below the least double.
            for scale in [1.0, 1e-160, -1e-170, 1e-300, 5e-324] {
                let numbers: Vec<f64> = numbers.iter().map(|x| x * scale).collect();
                let (sum, squares) = at_once(&numbers);
                prop_assert_eq!(sum, sum_of(&numbers));
                prop_assert_eq!(squares, squares_of(&numbers));
            }
        }
    }

    #[test]
    fn a_square_is_the_product_with_itself(
        terms in terms(),
        times in prop_oneof![Just(1), 0..4_u64, any::<u64>()],
    ) {
        let (mut squares, mut products) = (ExactSum::default(), ExactSum::default());
        for (i, x) in terms.into_iter().filter(|x| x.abs() <= 1e150).enumerate() {
            let is_added = i % 3 > 0;
            squares.add_square_times(x, times, is_added);
            products.add_product_times(if is_added { x } else { -x }, x, times);
        }
        prop_assert_eq!(squares.to_bytes(), products.to_bytes());
        prop_assert_eq!(squares.heap_bytes(), products.heap_bytes());
    }

    #[test]
    fn what_is_taken_back_leaves_no_trace(kept in terms(), taken in terms()) {
        let mut sum = sum_of(&taken);
        for &term in &kept {
            sum.add(term);
        }
        for &term in taken.iter().rev() {
            sum.remove(term);
        }
        prop_assert_eq!(&sum, &sum_of(&kept));
        prop_assert_eq!(sum.to_bytes(), sum_of(&kept).to_bytes());
    }

    #[test]
    fn bytes_are_read_back(terms in terms(), more in terms()) {
        let sum = sum_of(&terms);
        let bytes = sum.to_bytes();
        let mut read = ExactSum::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&read, &sum);
        prop_assert_eq!(read.to_bytes(), bytes);
        for &term in &more {
            read.add(term);
        }
        let all: Vec<f64> = terms.iter().chain(&more).copied().collect();
        prop_assert_eq!(read, sum_of(&all));
    }

    #[test]
    fn bytes_have_one_form(bytes in prop::collection::vec(any::<u8>(), 0..14)) {
        if let Some(sum) = ExactSum::from_bytes(&bytes) {
            prop_assert_eq!(sum.to_bytes(), bytes);
        }
    }

    #[test]
    fn bytes_of_few_values_have_one_form(
        start in 0_u8..90,
        digits in prop::collection::vec(
            prop::sample::select(vec![0_u32, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]), 0..6),
    ) {
        let mut bytes = vec![start];
        bytes.extend(digits.iter().flat_map(|digit| digit.to_le_bytes()));
        if let Some(sum) = ExactSum::from_bytes(&bytes) {
            prop_assert_eq!(sum.to_bytes(), bytes);
        }
    }

    #[test]
    fn products_are_exact(pairs in prop::collection::vec((-1e9..1e9_f64, -1e9..1e9_f64), 0..20)) {
        let mut sum = ExactSum::default();
        let mut oracle = Oracle::zero();
        for &(a, b) in &pairs {
            sum.add_product(a, b);
            // The product in four exact parts: halves of 26 and 27 bits each.
            let split = |x: f64| {
                let high = f64::from_bits(x.to_bits() & !((1 << 27) - 1));
                (high, x - high)
            };
            let ((a_high, a_low), (b_high, b_low)) = (split(a), split(b));
            for part in [a_high * b_high, a_high * b_low, a_low * b_high, a_low * b_low] {
                oracle.add(part);
            }
        }
        prop_assert_eq!(sum.value(), oracle.value());
        for &(a, b) in &pairs {
            sum.add_product(-a, b);
        }
        prop_assert!(sum.is_zero());
    }

    #[test]
    fn products_of_any_size_are_the_rounded_ones_and_their_errors(
        pairs in prop::collection::vec((term(), term()), 0..20),
    ) {
        let pairs = || pairs.iter().filter(|(a, b)| (a * b).is_finite() && (a * b).abs() < 1e306);
        let (mut sum, mut expected) = (ExactSum::default(), ExactSum::default());
        for &(a, b) in pairs() {
            sum.add_product(a, b);
            expected.add(a * b);
            expected.add(a.mul_add(b, -(a * b)));
        }
        prop_assert_eq!(sum.to_bytes(), expected.to_bytes());
        for &(a, b) in pairs() {
            sum.add_product(-a, b);
        }
        prop_assert!(sum.is_zero());
    }

    #[test]
    fn covariance_of_whole_numbers_is_exact(
        base in -(1_i64 << 46)..1 << 46,
        steps in prop::collection::vec((0_i64..1000, -500_i64..500), 1..30),
    ) {
        let n = i128::try_from(steps.len()).unwrap();
        let pairs = || steps.iter().map(|&(left, right)| (base + left, right - base));
        let total = |of: fn((i64, i64)) -> i128| pairs().map(of).sum::<i128>();
        let lefts = total(|(left, _)| i128::from(left));
        let rights = total(|(_, right)| i128::from(right));
        let products = total(|(left, right)| i128::from(left) * i128::from(right));
        let squares = total(|(left, _)| i128::from(left) * i128::from(left));
        // Scaled by a power of two, so that the terms have a fraction and are still exact.
        let scale = 2.0_f64.powi(-20);
        let double = |whole: i128| whole.to_string().parse::<f64>().unwrap();
        let term = |whole: i64| double(i128::from(whole)) * scale;
        let mut sums: [ExactSum; 4] = Default::default();
        for (left, right) in pairs() {
            let (left, right) = (term(left), term(right));
            sums[0].add(left);
            sums[1].add(right);
            sums[2].add_product(left, right);
            sums[3].add_product(left, left);
        }
        let [left, right, product, square] = &sums;
        let count = u64::try_from(n).unwrap();
        let expected = |whole: i128| double(whole) * scale * scale / double(n) / double(n);
        let covariance = ExactSum::covariance(count, product, left, right);
        prop_assert_eq!(covariance, expected(n * products - lefts * rights));
        prop_assert_eq!(covariance, ExactSum::covariance(count, product, right, left));
        let variance = ExactSum::covariance(count, square, left, left);
        prop_assert_eq!(variance, expected(n * squares - lefts * lefts));
        prop_assert_eq!(left.mean(count), double(lefts) * scale / double(n));
    }
}

#[test]
fn equal_terms_have_no_variance() {
    for term in [0.1, 1.0 / 3.0, 1e-200, 1e100, 36.043_653_389_117_15] {
        let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
        for n in 1..200 {
            sum.add(term);
            squares.add_product(term, term);
            let variance = ExactSum::covariance(n, &squares, &sum, &sum);
            assert_eq!(variance, 0.0, "{n} times {term}");
        }
    }
}

#[test]
fn sum_beyond_the_greatest_double_comes_back() {
    let mut sum = sum_of(&[f64::MAX; 1000]);
    assert_eq!(sum.value(), f64::INFINITY);
    for _ in 0..999 {
        sum.remove(f64::MAX);
    }
    assert_eq!(sum.value(), f64::MAX);
}

#[test]
fn mean_and_variance_are_finite_where_the_sums_are_not() {
    let (mut sum, mut squares) = (ExactSum::default(), ExactSum::default());
    for _ in 0..100_000 {
        for term in [1e150, -1e150] {
            sum.add(term);
            squares.add_product(term, term);
        }
    }
    let variance = ExactSum::covariance(200_000, &squares, &sum, &sum);
    let means = [sum_of(&[f64::MAX; 1000]).mean(1000), sum_of(&[-f64::MAX; 3]).mean(4)];
    // Before the division 4e310, 1.8e311 and -5.4e308.
    let expected = [1e150 * 1e150, f64::MAX, -f64::MAX * 0.75];
    for (is, expected) in [variance, means[0], means[1]].into_iter().zip(expected) {
        assert!((is / expected - 1.0).abs() < 1e-15, "{is} for {expected}");
    }
}

#[test]
fn cancellation_keeps_the_least_term() {
    assert_eq!(sum_of(&[1e300, 5e-324, -1e300]).value(), 5e-324);
    assert_eq!(sum_of(&[1e300, 1.0, -1e300, -1.0]), ExactSum::default());
    assert!(sum_of(&[0.1, 0.2, -0.1, -0.2]).to_bytes().is_empty());
}

/// The most bits that sixteen numbers added up as one may have, and one more.
#[test]
fn many_at_once_fit_however_far_apart() {
    let longest = 2.0 - f64::EPSILON;
    for spread in 0..80 {
        for sign in [1.0, -1.0] {
            let mut numbers = vec![sign * longest * 2_f64.powi(spread); 15];
            numbers.insert(3, sign * (1.0 + f64::EPSILON));
            let (sum, squares) = at_once(&numbers);
            assert_eq!(sum, sum_of(&numbers), "{spread}");
            assert_eq!(squares, squares_of(&numbers), "{spread}");
        }
    }
}

/// From the least doubles to those whose squares are only just doubles.
#[test]
fn many_at_once_fit_whatever_their_size() {
    let mut scale = 5e-324;
    while scale < 1e150 {
        for least in [1.0, 1.0 + f64::EPSILON, 1.0 / 512.0, 1.0 / 1024.0] {
            let numbers = [3.7, -0.0, -1.0, 0.0, least, -3.9].map(|x| x * scale);
            let (sum, squares) = at_once(&numbers);
            assert_eq!(sum, sum_of(&numbers), "{numbers:?}");
            assert_eq!(squares, squares_of(&numbers), "{numbers:?}");
        }
        scale *= 2.0;
    }
    let (sum, squares) = at_once(&[0.0; 20]);
    assert!(sum.is_zero() && squares.is_zero());
}

#[test]
fn common_sums_are_small() {
    let mut sum = ExactSum::default();
    for i in 1..=10_000 {
        sum.add(1.0 / f64::from(i));
    }
    assert!(sum.heap_bytes() <= 48, "{} bytes", sum.heap_bytes());
    assert!(sum.to_bytes().len() <= 17);
}

#[test]
fn doubling_a_sum_many_times_takes_carries() {
    let mut sum = sum_of(&[-1.5, -0.1, 1e-9]);
    let oracle = Oracle::of(&[-1.5, -0.1, 1e-9]);
    for _ in 0..40 {
        let same = sum.clone();
        sum.merge(&same);
    }
    assert_eq!(sum.value(), oracle.value() * 2.0_f64.powi(40));
    for _ in 0..1000 {
        sum.add(-1.0);
    }
    assert!(sum.heap_bytes() < 100);
}

#[test]
fn greatest_stored_sum_can_be_added_to() {
    let mut bytes = vec![0];
    bytes.extend([0xff; 4 * 71]);
    bytes[1] = 0;
    bytes[2] = 0xc0;
    bytes.extend([0xff, 0xff, 0xff, 0x7f]);
    let stored = ExactSum::from_bytes(&bytes).unwrap();
    let mut sum = stored.clone();
    for _ in 0..1000 {
        sum.merge(&stored);
    }
    assert_eq!(sum.value(), f64::INFINITY);
    assert!(sum.to_bytes().len() > bytes.len());
}
