//! Metric rows as a Parquet file: counts stay whole numbers, times stay times, NULL stays NULL.

use std::fmt::Write as _;
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use ::parquet::schema::parser::parse_message_type;
use serde_json::Value as Json;

use super::Failure;
use crate::engine::metrics::accumulator::Kind;

/// A column: its name and what it holds.
pub(super) type Column = (String, Kind);

/// The bytes of a file. Times are milliseconds since 1970-01-01 UTC.
pub(super) fn file(columns: &[Column], cells: &[Vec<Json>]) -> Result<Vec<u8>, Failure> {
    written(columns, cells)
        .map_err(|error| Failure::new("runtime", format!("can't write Parquet: {error}")))
}

fn written(columns: &[Column], cells: &[Vec<Json>]) -> Result<Vec<u8>, ParquetError> {
    let mut schema = "message rows {".to_owned();
    for (name, kind) in columns {
        let (physical, annotation) = types(*kind);
        write!(schema, " optional {physical} {name}{annotation};").expect("a String takes all");
    }
    let schema = Arc::new(parse_message_type(&format!("{schema} }}"))?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (at, (_, kind)) in columns.iter().enumerate() {
        let cells = || cells.iter().map(|row| &row[at]);
        match kind {
            Kind::Count => {
                let count = |cell: &Json| cell.as_u64().map(u64::cast_signed);
                column::<Int64Type>(&mut group, cells().map(count))?;
            }
            Kind::Time => column::<Int64Type>(&mut group, cells().map(Json::as_i64))?,
            Kind::Number | Kind::Figure => {
                column::<DoubleType>(&mut group, cells().map(Json::as_f64))?;
            }
            Kind::Text | Kind::Sum | Kind::Names | Kind::Sums | Kind::Cells => {
                let text = |cell: &Json| cell.as_str().map(ByteArray::from);
                column::<ByteArrayType>(&mut group, cells().map(text))?;
            }
        }
    }
    group.close()?;
    writer.into_inner()
}

/// Physical type and what it means.
fn types(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Count => ("int64", " (INTEGER(64,false))"),
        Kind::Time => ("int64", " (TIMESTAMP(MILLIS,true))"),
        Kind::Number | Kind::Figure => ("double", ""),
        Kind::Text | Kind::Sum | Kind::Names | Kind::Sums | Kind::Cells => ("binary", " (UTF8)"),
    }
}

/// The next column: values that are there, and of each row whether it has one.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, Vec<u8>>,
    cells: impl Iterator<Item = Option<T::T>>,
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    for cell in cells {
        levels.push(i16::from(cell.is_some()));
        values.extend(cell);
    }
    let mut column = group.next_column()?.expect("one for each of the schema");
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()
}

#[cfg(test)]
mod tests {
    use super::*;

    use ::parquet::basic::{ConvertedType, Type};
    use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
    use ::parquet::record::{Field, RowAccessor as _};
    use serde_json::json;

    #[test]
    fn types_and_nulls_come_back_as_they_were() {
        let columns: Vec<Column> = [
            ("window_start", Kind::Time),
            ("model", Kind::Text),
            ("n", Kind::Count),
            ("auroc", Kind::Figure),
            ("cut", Kind::Number),
        ]
        .map(|(name, kind)| (name.to_owned(), kind))
        .to_vec();
        let greatest = u64::MAX;
        let cells = vec![
            vec![
                json!(1_767_571_200_000_i64),
                json!("a\"b"),
                json!(greatest),
                json!(null),
                json!(0.1),
            ],
            vec![json!(-1), json!(""), json!(0), json!(1.0 / 3.0), json!(1)],
        ];
        let bytes = bytes::Bytes::from(file(&columns, &cells).unwrap());
        let reader = SerializedFileReader::new(bytes).unwrap();
        let schema = reader.metadata().file_metadata().schema().get_fields().to_vec();
        let kinds: Vec<_> = schema
            .iter()
            .map(|field| (field.get_physical_type(), field.get_basic_info().converted_type()))
            .collect();
        let expected = [
            (Type::INT64, ConvertedType::TIMESTAMP_MILLIS),
            (Type::BYTE_ARRAY, ConvertedType::UTF8),
            (Type::INT64, ConvertedType::UINT_64),
            (Type::DOUBLE, ConvertedType::NONE),
            (Type::DOUBLE, ConvertedType::NONE),
        ];
        assert_eq!(kinds, expected);
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        for (row, cells) in rows.iter().zip(&cells) {
            assert_eq!(Some(row.get_timestamp_millis(0).unwrap()), cells[0].as_i64());
            assert_eq!(Some(row.get_string(1).unwrap().as_str()), cells[1].as_str());
            assert_eq!(Some(row.get_ulong(2).unwrap()), cells[2].as_u64());
            assert_eq!(Some(row.get_double(4).unwrap()), cells[4].as_f64());
        }
        let figure = |row: usize| rows[row].get_column_iter().nth(3).unwrap().1.clone();
        assert_eq!([figure(0), figure(1)], [Field::Null, Field::Double(1.0 / 3.0)]);
    }

    #[test]
    fn a_file_without_rows_has_its_columns() {
        let bytes = bytes::Bytes::from(file(&[("n".to_owned(), Kind::Count)], &[]).unwrap());
        let reader = SerializedFileReader::new(bytes).unwrap();
        assert_eq!(reader.metadata().file_metadata().num_rows(), 0);
        assert_eq!(reader.metadata().file_metadata().schema().get_fields()[0].name(), "n");
    }
}
