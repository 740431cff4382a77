//! ClickHouse's `RowBinaryWithNamesAndTypes`, as far as the tables need it: little-endian numbers, lengths as LEB128.

use std::sync::Arc;

use bytes::{BufMut, Bytes};

use super::SinkError;

/// Appends a length.
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = u64::try_from(length).expect("usize has at most 64 bits");
    while rest >= 0x80 {
        out.put_u8(u8::try_from(rest & 0x7f).expect("7 bits") | 0x80);
        rest >>= 7;
    }
    out.put_u8(u8::try_from(rest).expect("less than 0x80"));
}

/// Appends a `String`.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.put_slice(bytes);
}

/// Appends a `Nullable(Float64)`.
pub(super) fn put_figure(out: &mut Vec<u8>, figure: Option<f64>) {
    match figure {
        None => out.put_u8(1),
        Some(number) => {
            out.put_u8(0);
            out.put_f64_le(number);
        }
    }
}

/// Appends an `Array(Int64)`.
pub(super) fn put_stamps(out: &mut Vec<u8>, stamps: &[i64]) {
    put_length(out, stamps.len());
    for &stamp in stamps {
        out.put_i64_le(stamp);
    }
}

/// The names and types that stand before the first row.
pub(super) fn header<'a>(columns: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> Vec<u8> {
    let mut out = Vec::new();
    put_length(&mut out, columns.clone().count());
    for (name, _) in columns.clone() {
        put_bytes(&mut out, name.as_bytes());
    }
    for (_, data_type) in columns {
        put_bytes(&mut out, data_type.as_bytes());
    }
    out
}

/// Rows of an answer. Each value is taken in the order of the columns.
pub(super) struct Rows {
    body: Bytes,
    /// What of it was taken.
    at: usize,
    /// What is read, for messages.
    what: &'static str,
}

impl Rows {
    /// Checks the header against the columns that were asked for.
    pub(super) fn new(
        body: Bytes,
        what: &'static str,
        columns: &[(&str, &str)],
    ) -> Result<Self, SinkError> {
        let expected = header(columns.iter().copied());
        if !body.starts_with(&expected) {
            return Err(SinkError::Schema(format!(
                "{what} has other columns or types than this version reads. Run `tidegauge init` of this version"
            )));
        }
        Ok(Self { body, at: expected.len(), what })
    }

    /// Whether no row is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    #[inline]
    fn rest(&self) -> &[u8] {
        self.body.get(self.at..).unwrap_or_default()
    }

    pub(super) fn cut(&self) -> SinkError {
        SinkError::Unreadable(format!(
            "{} holds a value that this program did not write. Run `tidegauge init` of this version, or rebuild the \
             job under another name",
            self.what
        ))
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], SinkError> {
        let taken = *self.rest().first_chunk().ok_or_else(|| self.cut())?;
        self.at += N;
        Ok(taken)
    }

    pub(super) fn length(&mut self) -> Result<usize, SinkError> {
        let mut length = 0_u64;
        for shift in (0..63).step_by(7) {
            let [byte] = self.fixed()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(length).map_err(|_| self.cut());
            }
        }
        Err(self.cut())
    }

    /// A `String` as `item` reads it.
    pub(super) fn bytes<T>(
        &mut self,
        item: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, SinkError> {
        let length = self.length()?;
        let taken = self.rest().get(..length).and_then(item).ok_or_else(|| self.cut())?;
        self.at += length;
        Ok(taken)
    }

    pub(super) fn text(&mut self) -> Result<Arc<str>, SinkError> {
        self.bytes(|bytes| std::str::from_utf8(bytes).ok().map(Arc::from))
    }

    pub(super) fn u16(&mut self) -> Result<u16, SinkError> {
        self.fixed().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, SinkError> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, SinkError> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(super) fn i32(&mut self) -> Result<i32, SinkError> {
        self.fixed().map(i32::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, SinkError> {
        self.fixed().map(i64::from_le_bytes)
    }

    pub(super) fn f64(&mut self) -> Result<f64, SinkError> {
        self.fixed().map(f64::from_le_bytes)
    }

    /// A `Nullable` value.
    pub(super) fn optional<T>(
        &mut self,
        item: impl FnOnce(&mut Self) -> Result<T, SinkError>,
    ) -> Result<Option<T>, SinkError> {
        match self.fixed()? {
            [0] => item(self).map(Some),
            _ => Ok(None),
        }
    }

    /// An array: a length, then what `item` takes.
    pub(super) fn array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, SinkError>,
    ) -> Result<Vec<T>, SinkError> {
        let length = self.length()?;
        // Every item has at least one byte, so a length beyond the rest is a lie, and reserves nothing.
        if length > self.rest().len() {
            return Err(self.cut());
        }
        // Nor does one that the rest has too few bytes for reserve more than those.
        let likely = length.min(self.rest().len() / size_of::<T>().max(1));
        let mut items = Vec::with_capacity(likely);
        for _ in 0..length {
            items.push(item(self)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_leb128() {
        for (length, expected) in [
            (0, vec![0]),
            (127, vec![127]),
            (128, vec![0x80, 1]),
            (300, vec![0xac, 2]),
            (1 << 21, vec![0x80, 0x80, 0x80, 1]),
        ] {
            let mut out = Vec::new();
            put_length(&mut out, length);
            assert_eq!(out, expected);
            let columns = [];
            let mut body = header(columns.iter().copied());
            body.extend(out);
            let mut rows = Rows::new(body.into(), "a test", &columns).unwrap();
            assert_eq!(rows.length().unwrap(), length);
            assert!(rows.is_empty());
        }
    }

    #[test]
    fn a_cut_or_lying_body_is_unreadable() {
        let rows = |bytes: &[u8]| {
            let mut body = header([].iter().copied());
            body.extend_from_slice(bytes);
            Rows::new(body.into(), "a test", &[]).unwrap()
        };
        assert!(rows(&[5, b'a']).text().is_err());
        assert!(rows(&[1, 0xff]).text().is_err());
        assert!(rows(&[1, 2, 3]).u32().is_err());
        assert!(rows(&[0xff; 12]).length().is_err());
        assert!(rows(&[0xff, 0xff, 0xff, 0x7f]).array(Rows::u64).is_err());
    }

    #[test]
    fn another_header_is_a_schema_error() {
        let body = header([("a", "UInt64")].into_iter());
        let error = Rows::new(body.into(), "a test", &[("a", "Int64")]).err().unwrap();
        assert_eq!(error.code(), "clickhouse_schema");
    }
}
