//! Parquet, row by row.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::parquet::basic::{LogicalType, TimeUnit};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::Type;

use super::object::{self, Shape};
use super::{Columns, Fault, File, FileError, Rows, unreadable};

const DAY_MS: i64 = 86_400_000;

pub(super) struct ParquetRows {
    rows: RowIter<'static>,
    shape: Shape,
    /// For each column how many of its units make a millisecond, where the file says no more than a number.
    units: Vec<Option<i64>>,
    number: u64,
    count: u64,
}

impl ParquetRows {
    pub(super) fn open(file: &File, columns: &Columns) -> Result<Self, FileError> {
        let wrong = |fault: Fault| {
            let remedy = "write the file again; it may be cut short";
            fault.worded(|reason| format!("{reason}: {remedy}")).at(file, 0)
        };
        let open =
            std::fs::File::open(&file.path).map_err(|error| unreadable(&file.path, &error))?;
        let reader = guarded(|| SerializedFileReader::new(open)).map_err(wrong)?;
        let about = reader.metadata().file_metadata();
        let count = u64::try_from(about.num_rows()).unwrap_or(0);
        let fields = about.schema().get_fields().to_vec();
        let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
        columns.check(&file.path, &names)?;
        let used: Vec<Arc<Type>> =
            fields.into_iter().filter(|field| columns.wants(field.name())).collect();
        let units = used.iter().map(|field| nanoseconds(field)).collect();
        let shape = Shape::new(used.iter().enumerate().map(|(i, field)| (i, field.name())))
            .map_err(|reason| wrong(Fault::Content(reason)))?;
        let schema = Type::group_type_builder(about.schema().name()).with_fields(used).build();
        let rows = guarded(|| RowIter::from_file_into(Box::new(reader)).project(Some(schema?)))
            .map_err(wrong)?;
        Ok(Self { rows, shape, units, number: 0, count })
    }
}

impl Rows for ParquetRows {
    fn next(&mut self, object: &mut Vec<u8>) -> Result<Option<u64>, Fault> {
        let Some(row) = guarded(|| self.rows.next().transpose())? else { return Ok(None) };
        self.number += 1;
        let columns = row.into_columns();
        self.shape.write(object, &mut |column, out| {
            let (_, field) = &columns[column];
            match (field, self.units[column]) {
                (Field::Long(time), Some(unit)) => whole(out, time.div_euclid(unit)),
                (field, _) => value(out, field),
            }
        });
        Ok(Some(self.number))
    }

    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
    fn share(&self) -> f64 {
        self.number as f64 / self.count.max(1) as f64
    }
}

/// The reader of rows panics on some broken files, and on types that it does not know.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| Fault::of(&error)),
        Err(_) => Err(Fault::Content("not readable as Parquet".to_owned())),
    }
}

/// Of a column of times in nanoseconds, which rows give as bare numbers, how many make a millisecond.
fn nanoseconds(field: &Type) -> Option<i64> {
    match field.get_basic_info().logical_type_ref() {
        Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS => Some(1_000_000),
        _ => None,
    }
}

fn whole(out: &mut Vec<u8>, number: impl serde::Serialize) {
    serde_json::to_writer(out, &number).expect("a Vec takes all");
}

/// Writes a value; nothing for one that is not there.
fn value(out: &mut Vec<u8>, field: &Field) {
    match field {
        Field::Null => {}
        Field::Bool(value) => whole(out, value),
        Field::Byte(value) => whole(out, value),
        Field::Short(value) => whole(out, value),
        Field::Int(value) => whole(out, value),
        Field::Long(value) => whole(out, value),
        Field::UByte(value) => whole(out, value),
        Field::UShort(value) => whole(out, value),
        Field::UInt(value) => whole(out, value),
        Field::ULong(value) => whole(out, value),
        Field::Float16(value) => object::number(out, f64::from(f32::from(*value))),
        Field::Float(value) => object::number(out, f64::from(*value)),
        Field::Double(value) => object::number(out, *value),
        Field::Str(value) => object::text(out, value),
        Field::Bytes(value) => object::text(out, &bytes(value.data())),
        Field::Date(days) => whole(out, i64::from(*days) * DAY_MS),
        Field::TimeMillis(time) => whole(out, time),
        Field::TimeMicros(time) | Field::TimestampMillis(time) => whole(out, time),
        Field::TimestampMicros(time) => whole(out, time.div_euclid(1000)),
        // In Parquet's own notation, which is JSON's.
        Field::Decimal(_) => out.extend_from_slice(field.to_string().as_bytes()),
        Field::Group(row) => group(out, row),
        Field::MapInternal(map) => {
            let entries = map.entries().iter().map(|(key, field)| (plain(key), field));
            entries_of(out, entries);
        }
        Field::ListInternal(list) => {
            out.push(b'[');
            for (i, field) in list.elements().iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                let start = out.len();
                value(out, field);
                if out.len() == start {
                    out.extend_from_slice(b"null");
                }
            }
            out.push(b']');
        }
    }
}

/// Bytes as text: as they are, or in hex where they are none, as in a UUID.
fn bytes(bytes: &[u8]) -> String {
    std::str::from_utf8(bytes).map_or_else(|_| hex(bytes), str::to_owned)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes all");
    }
    text
}

fn group(out: &mut Vec<u8>, row: &Row) {
    entries_of(out, row.get_column_iter().map(|(name, field)| (name.clone(), field)));
}

fn entries_of<'a>(out: &mut Vec<u8>, entries: impl Iterator<Item = (String, &'a Field)>) {
    out.push(b'{');
    let first = out.len();
    for (name, field) in entries {
        let before = out.len();
        if before > first {
            out.push(b',');
        }
        object::text(out, &name);
        out.push(b':');
        let start = out.len();
        value(out, field);
        if out.len() == start {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

/// The key of a map.
fn plain(field: &Field) -> String {
    match field {
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    }
}
