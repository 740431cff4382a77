//! Parquet, row by row.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::parquet::basic::{Compression, ConvertedType, LogicalType, TimeUnit, Type as PhysicalType};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::RowGroupMetaData;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::reader::RowIter;
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::Type;

use super::object::{self, Shape};
use super::{Columns, Fault, File, FileError, Rows, unreadable};

const DAY_MS: i64 = 86_400_000;
const MS_NANOSECONDS: i64 = 1_000_000;

/// What the schema says of values that rows give as bare numbers or bytes.
#[derive(Debug)]
enum Kind {
    /// No more than the value itself.
    Plain,
    /// Times in nanoseconds.
    Nanoseconds,
    /// The bytes of UUIDs.
    Uuid,
    /// Sixteen bytes, as hashes and UUIDs without a type have them. That some of them make a text is chance.
    Hex,
    /// Bytes of another length that all rows have: shorter texts are filled up with zeros.
    Padded,
    /// Of a group the kinds of its fields, of a map those of its keys and of its values.
    Within(Vec<Self>),
}

impl Kind {
    fn of(field: &Type) -> Self {
        let about = field.get_basic_info();
        if field.is_primitive() {
            return match about.logical_type_ref() {
                Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS => {
                    Self::Nanoseconds
                }
                Some(LogicalType::Uuid) => Self::Uuid,
                _ if field.get_physical_type() != PhysicalType::FIXED_LEN_BYTE_ARRAY => Self::Plain,
                _ if matches!(field, Type::PrimitiveType { type_length: 16, .. }) => Self::Hex,
                _ => Self::Padded,
            };
        }
        let within = |group: &Type| {
            Self::Within(group.get_fields().iter().map(|field| Self::of(field)).collect())
        };
        // Rows know maps by this type, and hand over their entries without the group around them.
        match (about.converted_type(), field.get_fields()) {
            (ConvertedType::MAP | ConvertedType::MAP_KEY_VALUE, [entry]) if entry.is_group() => {
                within(entry)
            }
            _ => within(field),
        }
    }

    /// The kind of what lies within at that place.
    fn at(&self, place: usize) -> &Self {
        static PLAIN: Kind = Kind::Plain;
        match self {
            Self::Within(kinds) => kinds.get(place).unwrap_or(&PLAIN),
            _ => &PLAIN,
        }
    }
}

pub(super) struct ParquetRows {
    rows: RowIter<'static>,
    names: Vec<String>,
    shape: Shape,
    /// By column.
    kinds: Vec<Kind>,
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
        let mut chunks = reader.metadata().row_groups().iter().flat_map(RowGroupMetaData::columns);
        if let Some(chunk) = chunks.find(|chunk| !is_read(chunk.compression())) {
            // As `GZIP(GzipLevel(6))`.
            let codec = chunk.compression().to_string();
            let codec = codec.split('(').next().unwrap_or_default().to_owned();
            return Err(FileError::Compression { file: file.path.clone(), codec });
        }
        let about = reader.metadata().file_metadata();
        let count = u64::try_from(about.num_rows()).unwrap_or(0);
        let fields = about.schema().get_fields().to_vec();
        let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
        columns.check(&file.path, &names)?;
        let used: Vec<Arc<Type>> =
            fields.into_iter().filter(|field| columns.wants(field.name())).collect();
        let kinds = used.iter().map(|field| Kind::of(field)).collect();
        let placed = used.iter().enumerate().map(|(i, field)| (i, field.name()));
        let shape = Shape::new(placed, columns).map_err(|reason| wrong(Fault::Content(reason)))?;
        let schema = Type::group_type_builder(about.schema().name()).with_fields(used).build();
        let rows = guarded(|| RowIter::from_file_into(Box::new(reader)).project(Some(schema?)))
            .map_err(wrong)?;
        Ok(Self { rows, names, shape, kinds, number: 0, count })
    }
}

/// Whether there is a decompressor for it.
fn is_read(codec: Compression) -> bool {
    matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::ZSTD(_))
}

impl Rows for ParquetRows {
    fn next(&mut self, object: &mut Vec<u8>) -> Result<Option<u64>, Fault> {
        let Some(row) = guarded(|| self.rows.next().transpose())? else { return Ok(None) };
        self.number += 1;
        let columns = row.into_columns();
        self.shape.write(object, &mut |column, out| {
            value(out, &columns[column].1, &self.kinds[column]);
        });
        Ok(Some(self.number))
    }

    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a figure for people")]
    fn share(&self) -> f64 {
        self.number as f64 / self.count.max(1) as f64
    }

    fn columns(&self) -> &[String] {
        &self.names
    }
}

/// The reader of rows panics on some broken files, and on types that it does not know.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(read) => read.map_err(|error| Fault::of(&error)),
        Err(_) => Err(Fault::Content("not readable as Parquet".to_owned())),
    }
}

fn whole(out: &mut Vec<u8>, number: impl serde::Serialize) {
    serde_json::to_writer(out, &number).expect("a Vec takes all");
}

/// Writes a value; nothing for one that is not there.
fn value(out: &mut Vec<u8>, field: &Field, kind: &Kind) {
    match field {
        Field::Null => {}
        Field::Bool(value) => whole(out, value),
        Field::Byte(value) => whole(out, value),
        Field::Short(value) => whole(out, value),
        Field::Int(value) => whole(out, value),
        Field::Long(time) if matches!(kind, Kind::Nanoseconds) => {
            whole(out, time.div_euclid(MS_NANOSECONDS));
        }
        Field::Long(value) => whole(out, value),
        Field::UByte(value) => whole(out, value),
        Field::UShort(value) => whole(out, value),
        Field::UInt(value) => whole(out, value),
        Field::ULong(value) => whole(out, value),
        Field::Float16(value) => object::number(out, f64::from(f32::from(*value))),
        Field::Float(value) => object::number(out, f64::from(*value)),
        Field::Double(value) => object::number(out, *value),
        Field::Str(value) => object::text(out, value),
        Field::Bytes(value) => object::text(out, &bytes(value.data(), kind)),
        Field::Date(days) => whole(out, i64::from(*days) * DAY_MS),
        Field::TimeMillis(time) => whole(out, time),
        Field::TimeMicros(time) | Field::TimestampMillis(time) => whole(out, time),
        Field::TimestampMicros(time) => whole(out, time.div_euclid(1000)),
        Field::Decimal(_) => out.extend_from_slice(decimal(field).as_bytes()),
        Field::Group(row) => group(out, row, kind),
        Field::MapInternal(map) => {
            let entries = map.entries().iter();
            let named = entries.map(|(key, field)| (plain(key, kind.at(0)), field, kind.at(1)));
            entries_of(out, named);
        }
        Field::ListInternal(list) => {
            out.push(b'[');
            for (i, field) in list.elements().iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                let start = out.len();
                // Nothing is made of what lists hold.
                value(out, field, &Kind::Plain);
                if out.len() == start {
                    out.extend_from_slice(b"null");
                }
            }
            out.push(b']');
        }
    }
}

/// A decimal in the notation of the reader of rows, which is JSON's but for the point behind a whole number.
fn decimal(field: &Field) -> String {
    let mut text = field.to_string();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// Bytes as text. Where the schema says nothing of them, they are as they are, or in hex where they are no text.
fn bytes(bytes: &[u8], kind: &Kind) -> String {
    match (kind, std::str::from_utf8(bytes)) {
        (Kind::Uuid, _) => uuid(bytes),
        (Kind::Hex, _) | (_, Err(_)) => hex(bytes),
        (Kind::Padded, Ok(text)) => match text.trim_end_matches('\0') {
            text if text.contains(char::is_control) => hex(bytes),
            text => text.to_owned(),
        },
        (_, Ok(text)) => text.to_owned(),
    }
}

/// The usual text of a UUID, as other formats have it.
fn uuid(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        write!(text, "{byte:02x}").expect("a String takes all");
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes all");
    }
    text
}

fn group(out: &mut Vec<u8>, row: &Row, kind: &Kind) {
    let fields = row.get_column_iter().enumerate();
    entries_of(out, fields.map(|(i, (name, field))| (name.clone(), field, kind.at(i))));
}

fn entries_of<'a>(out: &mut Vec<u8>, entries: impl Iterator<Item = (String, &'a Field, &'a Kind)>) {
    out.push(b'{');
    let first = out.len();
    for (name, field, kind) in entries {
        let before = out.len();
        if before > first {
            out.push(b',');
        }
        object::text(out, &name);
        out.push(b':');
        let start = out.len();
        value(out, field, kind);
        if out.len() == start {
            out.truncate(before);
        }
    }
    out.push(b'}');
}

/// The key of a map.
fn plain(field: &Field, kind: &Kind) -> String {
    match field {
        Field::Str(text) => text.clone(),
        Field::Bytes(value) => bytes(value.data(), kind),
        Field::Decimal(_) => decimal(field),
        other => other.to_string(),
    }
}
