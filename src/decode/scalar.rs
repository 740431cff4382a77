//! One value of a record as JSON or Avro gives it, before the checks.

/// The unit of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Days,
    Millis,
    Micros,
    Nanos,
}

/// 2^63: an integer that is written without a point is a float from twice that on, or below its negative.
const BEYOND_64_BITS: f64 = 9_223_372_036_854_775_808.0;

/// One value of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar<'a> {
    /// Not in the record.
    Absent,
    Null,
    Boolean(bool),
    Integer(i64),
    /// Beyond `i64::MAX`.
    Unsigned(u64),
    Float(f64),
    /// A number whose schema says that it is a time.
    Instant(i64, Unit),
    Text(Text<'a>),
    /// Something that serves for no field: what it is.
    Other(&'static str),
}

impl Scalar<'_> {
    pub(super) const OBJECT: &'static str = "an object";
    pub(super) const ARRAY: &'static str = "an array";

    /// What it is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) | Self::Unsigned(_) => "an integer",
            Self::Float(number) if number.abs() >= BEYOND_64_BITS => {
                "a number of more than 64 bits"
            }
            Self::Float(_) => "a number with a fraction",
            Self::Instant(..) => "a time",
            Self::Text(_) => "text",
            Self::Other(kind) => kind,
        }
    }

    /// Whether a value is there.
    pub(super) fn is_given(&self) -> bool {
        !matches!(self, Self::Absent | Self::Null)
    }

    /// As a number, where it is one.
    #[expect(
        clippy::as_conversions,
        clippy::cast_precision_loss,
        reason = "the nearest double is meant"
    )]
    pub(super) fn number(&self) -> Option<f64> {
        match *self {
            Self::Integer(x) | Self::Instant(x, _) => Some(x as f64),
            Self::Unsigned(x) => Some(x as f64),
            Self::Float(x) => Some(x),
            Self::Absent | Self::Null | Self::Boolean(_) | Self::Text(_) | Self::Other(_) => None,
        }
    }
}

/// Bytes that are known to be UTF-8. Most texts of a record are only hashed or compared, and most of them are ASCII,
/// which shows in a few steps; the check that a `str` needs takes several for each byte of a short text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    /// None where the bytes are no UTF-8.
    #[inline]
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        (is_ascii(bytes) || std::str::from_utf8(bytes).is_ok()).then_some(Self(bytes))
    }

    #[inline]
    pub(super) fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// A number that tells most texts apart.
    #[inline]
    pub(super) fn mixed(self) -> u64 {
        let [first, last] = ends(self.0);
        first ^ last.rotate_left(29)
    }

    pub(super) fn as_str(self) -> &'a str {
        std::str::from_utf8(self.0).expect("it was checked before")
    }
}

impl<'a> From<&'a str> for Text<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Self(text.as_bytes())
    }
}

#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let [first, last] = ends(bytes);
    let mut bits = first | last;
    if bytes.len() > 16 {
        for word in bytes.as_chunks::<8>().0 {
            bits |= u64::from_le_bytes(*word);
        }
    }
    bits & HIGH == 0
}

/// Whether both are the same. Most are short, and their ends tell.
#[inline]
pub(super) fn are_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && ends(one) == ends(other) && (one.len() <= 16 || one == other)
}

/// The first and the last eight bytes, which may overlap; less of a shorter text, but all of it.
#[inline]
fn ends(bytes: &[u8]) -> [u64; 2] {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        [u64::from_le_bytes(*first), u64::from_le_bytes(*last)]
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        [u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last))]
    } else {
        [bytes.iter().fold(0, |bits, &byte| bits << 8 | u64::from(byte)), 0]
    }
}

/// The decimal text of a whole number, without an allocation.
#[derive(Debug)]
pub(super) struct Digits {
    text: [u8; 20],
    start: usize,
}

impl Digits {
    /// Of a number of at most 20 characters, as every 64-bit one is.
    pub(super) fn of(number: i128) -> Self {
        let mut digits = Self { text: [b'0'; 20], start: 20 };
        let mut rest = number.unsigned_abs();
        loop {
            digits.push(u8::try_from(rest % 10).unwrap_or(0) + b'0');
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if number < 0 {
            digits.push(b'-');
        }
        digits
    }

    fn push(&mut self, byte: u8) {
        self.start = self.start.saturating_sub(1);
        if let Some(place) = self.text.get_mut(self.start) {
            *place = byte;
        }
    }

    pub(super) fn as_str(&self) -> &str {
        let digits = self.text.get(self.start..).and_then(|text| std::str::from_utf8(text).ok());
        digits.expect("only ASCII characters are written")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against the standard library's own check, with one odd character at every place of texts of every short length.
    #[test]
    fn a_text_is_what_the_standard_library_takes_for_one() {
        for length in 0..40 {
            for at in 0..=length {
                for odd in [
                    &b""[..],
                    b"\x7f",
                    b"\x80",
                    b"\xff",
                    "\u{e9}".as_bytes(),
                    b"\xe2\x82",
                    "\u{1f980}".as_bytes(),
                ] {
                    let mut bytes = vec![b'a'; length];
                    bytes.splice(at..at, odd.iter().copied());
                    let text = Text::new(&bytes);
                    assert_eq!(text.map(Text::as_str), std::str::from_utf8(&bytes).ok());
                    assert_eq!(text.map(Text::as_bytes), text.map(|text| text.as_str().as_bytes()));
                }
            }
        }
    }

    #[test]
    fn bytes_that_differ_anywhere_are_not_the_same() {
        for length in 0..40 {
            let bytes: Vec<u8> = (0..length).collect();
            assert!(are_same(&bytes, &bytes.clone()));
            assert!(!are_same(&bytes, &[&bytes[..], b"x"].concat()));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                *other.get_mut(at).unwrap() ^= 0x40;
                assert!(!are_same(&bytes, &other), "{at} of {length}");
            }
        }
    }
}
