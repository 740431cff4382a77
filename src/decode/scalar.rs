//! One value of a record as JSON or Avro gives it, before the checks.

/// The unit of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Days,
    Millis,
    Micros,
    Nanos,
}

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
    Text(&'a str),
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
