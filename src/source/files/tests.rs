use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::data_type::{
    ByteArray, ByteArrayType, DataType, DoubleType, FixedLenByteArrayType, Int32Type, Int64Type,
};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

mod csv;

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn columns() -> Columns {
    Columns {
        wanted: list(&[
            "request_id",
            "model",
            "version",
            "timestamp",
            "prediction",
            "score",
            "features",
            "segments",
        ]),
        required: vec![list(&["request_id"]), list(&["model"]), list(&["timestamp", "at"])],
        text: list(&["request_id", "model", "version", "segments.region"]),
        ..Columns::default()
    }
}

fn write(folder: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn read(pattern: &std::path::Path) -> Result<Vec<(i64, Value)>, FileError> {
    read_of(pattern, columns())
}

fn read_of(pattern: &std::path::Path, columns: Columns) -> Result<Vec<(i64, Value)>, FileError> {
    let files = FileList::find(&[pattern.to_str().unwrap().to_owned()])?;
    let mut reader = FileReader::new(files, columns);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record()? {
        records.push((record.offset, serde_json::from_slice(record.object).unwrap()));
    }
    assert_eq!(reader.bytes_read(), reader.files.bytes(), "all is read");
    Ok(records)
}

/// Two rows: all columns, and only what must be there. The time is in the given unit.
fn parquet(time: &str, stamps: [i64; 2], compression: Compression) -> Vec<u8> {
    let message = format!(
        "message schema {{ required binary request_id (UTF8); required binary model (UTF8); \
         required int64 timestamp {time}; optional double score; optional binary features.device (UTF8); \
         required group segments {{ optional binary region (UTF8); }} optional int64 unwanted (TIME_MICROS); }}"
    );
    let schema = Arc::new(parse_message_type(&message).unwrap());
    let properties = WriterProperties::builder().set_compression(compression).build();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let text = |text: &str| ByteArray::from(text);
    let mut next =
        |write: &mut dyn FnMut(&mut ::parquet::file::writer::SerializedColumnWriter<'_>)| {
            let mut column = group.next_column().unwrap().unwrap();
            write(&mut column);
            column.close().unwrap();
        };
    let texts = |values: Vec<ByteArray>, levels: Option<Vec<i16>>| {
        move |column: &mut ::parquet::file::writer::SerializedColumnWriter<'_>| {
            column.typed::<ByteArrayType>().write_batch(&values, levels.as_deref(), None).unwrap();
        }
    };
    next(&mut texts(vec![text("007"), text("b")], None));
    next(&mut texts(vec![text("fraud"), text("fraud")], None));
    next(&mut |column| {
        column.typed::<Int64Type>().write_batch(&stamps, None, None).unwrap();
    });
    next(&mut |column| {
        column.typed::<DoubleType>().write_batch(&[0.1], Some(&[1, 0]), None).unwrap();
    });
    next(&mut texts(vec![text("io\"s")], Some(vec![1, 0])));
    next(&mut texts(vec![text("eu")], Some(vec![1, 0])));
    next(&mut |column| {
        column.typed::<Int64Type>().write_batch(&[5], Some(&[1, 0]), None).unwrap();
    });
    group.close().unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn lines_are_taken_as_they_are() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "a.jsonl", "\u{feff}{\"a\":1}\r\n\n  {\"a\":2}\n{\"a\":3}");
    let expected = vec![(0, json!({"a": 1})), (2, json!({"a": 2})), (3, json!({"a": 3}))];
    assert_eq!(read(&path).unwrap(), expected);
}

#[test]
fn a_row_of_csv_becomes_a_nested_object() {
    let folder = TempDir::new().unwrap();
    let text = "request_id,model,timestamp,score,prediction,features.amount,features.code,segments.region,x\n\
                007,fraud,1700000000000,0.25,True,-1.5e3,007,12,y\n\
                \"a,\"\"b\",fraud,2024-01-01T00:00:00Z,NaN,,,,,\n";
    let path = write(&folder, "a.csv", text);
    let expected = vec![
        (
            0,
            json!({
                "request_id": "007", "model": "fraud", "timestamp": 1_700_000_000_000_i64, "score": 0.25,
                "prediction": true, "features": {"amount": -1.5e3, "code": "007"}, "segments": {"region": "12"},
            }),
        ),
        (1, json!({"request_id": "a,\"b", "model": "fraud", "timestamp": "2024-01-01T00:00:00Z"})),
    ];
    assert_eq!(read(&path).unwrap(), expected);
    let tabs = text.lines().next().unwrap().replace(',', "\t") + "\nr\tm\t5\t\t\t\t\t\t\n";
    let expected = vec![(0, json!({"request_id": "r", "model": "m", "timestamp": 5}))];
    assert_eq!(read(&write(&folder, "a.tsv", tabs)).unwrap(), expected);
}

#[test]
fn a_row_of_parquet_becomes_the_same_object_in_every_unit_of_time() {
    let folder = TempDir::new().unwrap();
    let cases = [
        ("", 1),
        ("(TIMESTAMP_MILLIS)", 1),
        ("(TIMESTAMP_MICROS)", 1000),
        ("(TIMESTAMP(NANOS,true))", 1_000_000),
    ];
    let codecs = [Compression::UNCOMPRESSED, Compression::SNAPPY];
    for ((unit, scale), codec) in cases.into_iter().zip(codecs.into_iter().cycle()) {
        let stamps = [1_700_000_000_123 * scale, -scale];
        let path = write(&folder, "a.parquet", parquet(unit, stamps, codec));
        let expected = vec![
            (
                0,
                json!({
                    "request_id": "007", "model": "fraud", "timestamp": 1_700_000_000_123_i64, "score": 0.1,
                    "features": {"device": "io\"s"}, "segments": {"region": "eu"},
                }),
            ),
            (1, json!({"request_id": "b", "model": "fraud", "timestamp": -1, "segments": {}})),
        ];
        assert_eq!(read(&path).unwrap(), expected, "{unit}");
    }
}

/// Writes the values of a column.
type Written = Box<dyn Fn(&mut SerializedColumnWriter<'_>)>;

/// Values of all rows; `within` a map each is that of its only entry.
fn column<T: DataType>(values: Vec<T::T>, within: bool) -> Written
where
    T::T: 'static,
{
    Box::new(move |column: &mut SerializedColumnWriter<'_>| {
        let levels = [1, 0].map(|level| vec![level; values.len()]);
        let [definition, repetition] = levels.each_ref().map(|levels| within.then_some(&**levels));
        column.typed::<T>().write_batch(&values, definition, repetition).unwrap();
    })
}

fn fixed(values: &[&[u8]], within: bool) -> Written {
    let values = values.iter().map(|bytes| bytes.to_vec().into()).collect();
    column::<FixedLenByteArrayType>(values, within)
}

/// A file of these columns, read with all of them.
fn read_parquet(folder: &TempDir, fields: &str, columns: &[Written]) -> Vec<Value> {
    let schema = parse_message_type(&format!("message schema {{ {fields} }}")).unwrap();
    let wanted = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(Vec::new(), Arc::new(schema), properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for write in columns {
        let mut column = group.next_column().unwrap().unwrap();
        write(&mut column);
        column.close().unwrap();
    }
    group.close().unwrap();
    let path = write(folder, "a.parquet", writer.into_inner().unwrap());
    let columns = Columns { wanted, maps: list(&["scores"]), ..Columns::default() };
    let records = read_of(&path, columns).unwrap();
    records.into_iter().map(|(_, record)| record).collect()
}

#[test]
fn decimals_of_every_scale_are_numbers() {
    let folder = TempDir::new().unwrap();
    let fields = "required int32 whole (DECIMAL(5,0)); required int32 part (DECIMAL(3,3)); \
                  required int64 both (DECIMAL(18,2)); required fixed_len_byte_array(4) bytes (DECIMAL(9,0)); \
                  required group features (MAP) { repeated group key_value { \
                  required int32 key (DECIMAL(5,0)); required int32 value (DECIMAL(5,0)); } }";
    let columns = [
        column::<Int32Type>(vec![123, -7, 0], false),
        column::<Int32Type>(vec![500, -5, 0], false),
        column::<Int64Type>(vec![12_345, -1, 100], false),
        fixed(&[&[0, 0, 1, 0], &[255; 4], &[0; 4]], false),
        column::<Int32Type>(vec![1, 2, 3], true),
        column::<Int32Type>(vec![40, -50, 0], true),
    ];
    let expected = [
        json!({"whole": 123, "part": 0.5, "both": 123.45, "bytes": 256, "features": {"1": 40}}),
        json!({"whole": -7, "part": -0.005, "both": -0.01, "bytes": -1, "features": {"2": -50}}),
        json!({"whole": 0, "part": 0.0, "both": 1.0, "bytes": 0, "features": {"3": 0}}),
    ];
    assert_eq!(read_parquet(&folder, fields, &columns), expected);
}

#[test]
fn uuids_have_dashes_other_16_bytes_are_hex_and_those_of_other_lengths_a_text_if_they_make_one() {
    let folder = TempDir::new().unwrap();
    let fields = "required fixed_len_byte_array(16) request_id (UUID); required binary model; \
                  required fixed_len_byte_array(8) version; required fixed_len_byte_array(16) prediction; \
                  required group segments { required fixed_len_byte_array(16) device (UUID); \
                  required int64 at (TIMESTAMP(NANOS,true)); } \
                  required group features (MAP) { repeated group key_value { \
                  required binary key (UTF8); required fixed_len_byte_array(16) value (UUID); } }";
    let text = |text: &str| ByteArray::from(text);
    let (readable, other): (&[u8], &[u8]) = (b"0123456789abcdef", &[255; 16]);
    let columns = [
        fixed(&[readable, other], false),
        column::<ByteArrayType>(vec![text("fraud"), vec![255_u8, 1].into()], false),
        fixed(&[b"v1.0\0\0\0\0", &[0, 1, 2, 3, 4, 5, 6, 7]], false),
        fixed(&[readable, other], false),
        fixed(&[other, readable], false),
        column::<Int64Type>(vec![1_700_000_000_123_000_000, -1], false),
        column::<ByteArrayType>(vec![text("x"), text("y")], true),
        fixed(&[readable, other], true),
    ];
    let [readable, other] =
        ["30313233-3435-3637-3839-616263646566", "ffffffff-ffff-ffff-ffff-ffffffffffff"];
    let expected = [
        json!({
            "request_id": readable, "model": "fraud", "version": "v1.0",
            "prediction": readable.replace('-', ""),
            "segments": {"device": other, "at": 1_700_000_000_123_i64}, "features": {"x": readable},
        }),
        json!({
            "request_id": other, "model": "ff01", "version": "0001020304050607",
            "prediction": other.replace('-', ""),
            "segments": {"device": readable, "at": -1}, "features": {"y": other},
        }),
    ];
    assert_eq!(read_parquet(&folder, fields, &columns), expected);
}

#[test]
fn a_file_without_a_byte_is_one_of_lines_without_a_record() {
    let folder = TempDir::new().unwrap();
    let line = r#"{"request_id":"r","model":"m","timestamp":5}"#;
    for (name, text) in [("a.jsonl", ""), ("b.ndjson", line), ("c.json", "")] {
        write(&folder, name, text);
    }
    assert_eq!(read(&folder.path().join("?.*json*")).unwrap().len(), 1);
    // Who watches a folder does not know whether it is complete.
    let error = File::find(folder.path().join("a.jsonl")).unwrap_err();
    assert_eq!(error.code(), "file_empty");
}

#[test]
fn all_that_follows_a_map_is_the_name_of_one_entry() {
    let folder = TempDir::new().unwrap();
    let names = [
        "in.x.Sepal.Length",
        "in.x.Sepal",
        "in.x.meta.p",
        "scores.a.b",
        "segments.eu.west",
        "in.at.ms",
    ];
    let path = write(&folder, "a.csv", names.join(",") + "\n5.1,1,0.5,0.25,7,8\n");
    let columns = |maps: &[&str]| Columns {
        wanted: list(&["in.x", "in.x.meta.p", "scores", "segments.eu.west", "in.at.ms"]),
        maps: list(maps),
        values: list(&["in.x.meta.p", "in.at.ms"]),
        text: list(&["segments.eu.west"]),
        ..Columns::default()
    };
    let expected = json!({
        "in": {"x": {"Sepal.Length": 5.1, "Sepal": 1, "meta": {"p": 0.5}}, "at": {"ms": 8}},
        "scores": {"a.b": 0.25}, "segments": {"eu.west": "7"},
    });
    let found = read_of(&path, columns(&["in.x", "scores", "segments"])).unwrap();
    assert_eq!(found, [(0, expected)]);
    let error = read_of(&path, columns(&[])).unwrap_err();
    assert!(error.to_string().contains("stands twice, or beside"), "{error}");

    let twice = write(&folder, "b.csv", "scores.a.b,scores.a.b\n1,2\n");
    let error = read_of(&twice, columns(&["scores"])).unwrap_err();
    assert!(error.to_string().contains("`scores.a.b` stands twice"), "{error}");
    let fields = "required double scores.a.b; required double scores.a;";
    let columns = [column::<DoubleType>(vec![0.5], false), column::<DoubleType>(vec![1.0], false)];
    let found = read_parquet(&folder, fields, &columns);
    assert_eq!(found, [json!({"scores": {"a.b": 0.5, "a": 1.0}})]);
}

#[test]
fn files_follow_each_other_by_name_and_each_is_read_once() {
    let folder = TempDir::new().unwrap();
    write(&folder, "b.jsonl", "{\"a\":2}\n");
    write(&folder, "a.jsonl", "{\"a\":1}\n\n");
    let pattern = folder.path().join("*.jsonl").to_str().unwrap().to_owned();
    let first = folder.path().join("b.jsonl").to_str().unwrap().to_owned();
    let list = FileList::find(&[first, pattern.clone()]).unwrap();
    let names: Vec<_> = list.files().iter().map(|f| f.path.file_name().unwrap()).collect();
    assert_eq!(names, ["b.jsonl", "a.jsonl"]);
    let records = read(std::path::Path::new(&pattern)).unwrap();
    assert_eq!(records, [(0, json!({"a": 1})), (1, json!({"a": 2}))]);
    let digest = |patterns: &[String]| FileList::find(patterns).unwrap().digest(|_| ()).unwrap();
    let before = digest(std::slice::from_ref(&pattern));
    assert_eq!(before, digest(std::slice::from_ref(&pattern)));
    write(&folder, "b.jsonl", "{\"a\":3}\n");
    assert_ne!(before, digest(&[pattern]), "other bytes, other digest");
}

/// A file of which a digest of both ends leaves out the middle.
fn long_file(folder: &TempDir) -> (Vec<u8>, PathBuf, impl Fn() -> File) {
    let bytes = vec![b'0'; 200 << 10];
    let path = write(folder, "a.csv", &bytes);
    let find = {
        let path = path.clone();
        move || File::find(path.clone()).unwrap()
    };
    (bytes, path, find)
}

#[test]
fn a_digest_is_of_all_bytes_and_one_of_an_earlier_version_of_both_ends() {
    let folder = TempDir::new().unwrap();
    let (mut bytes, path, find) = long_file(&folder);
    let (files, digests) = (FileList::from(find()), Digests::default());
    let mut read = 0;
    let whole = files.digest(|bytes| read += bytes).unwrap();
    assert_eq!(read, files.bytes());
    // Other ones would make other jobs of the same files. These are of another implementation of XXH3.
    assert_eq!(whole, "whole-5062d13b8776bb9f15df9afef915a6c6");
    let ends = files.digest_of_ends().unwrap();
    assert_eq!(ends, "74a6de686da47fb23bd6320b060babb6");
    let is_of = |digest: &str| digests.is_of(&find(), digest).unwrap();
    assert!(is_of(&whole) && is_of(&ends));

    // Corrected in the middle, it is as long as before.
    bytes[100 << 10] = b'1';
    set(&path, &bytes, 1);
    let corrected = files.digest(|_| ()).unwrap();
    assert_ne!(corrected, whole);
    assert_eq!(files.digest_of_ends().unwrap(), ends);
    assert!(is_of(&corrected) && !is_of(&whole) && is_of(&ends));

    bytes[0] = b'1';
    set(&path, &bytes, 2);
    assert!(!is_of(&corrected) && !is_of(&whole) && !is_of(&ends));
}

/// Writes the file, as so many seconds after 1970.
fn set(path: &Path, bytes: &[u8], seconds: u64) {
    fs::write(path, bytes).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_file_is_hashed_again_only_when_its_size_or_time_is_another_one() {
    let folder = TempDir::new().unwrap();
    let (mut bytes, path, find) = long_file(&folder);
    let digests = Digests::default();
    set(&path, &bytes, 1);
    let first = digests.clone().of(&find()).unwrap();
    // Not to be seen without reading it.
    bytes[100 << 10] = b'1';
    set(&path, &bytes, 1);
    assert_eq!(digests.of(&find()).unwrap(), first);
    set(&path, &bytes, 2);
    let second = digests.of(&find()).unwrap();
    assert_ne!(second, first);
    bytes.push(b'0');
    let as_before = find();
    set(&path, &bytes, 2);
    assert_ne!(digests.of(&find()).unwrap(), second);
    assert_eq!(digests.of(&as_before).unwrap(), second, "so many bytes of it");
    assert_ne!(digests.of(&find()).unwrap(), second);
}

#[test]
fn what_is_wrong_is_named_with_file_record_and_remedy() {
    let folder = TempDir::new().unwrap();
    let good = parquet("", [1, 2], Compression::ZSTD(ZstdLevel::default()));
    // The number of the codec stands in the footer, behind the column's name.
    let (zstd, lz4) = (b"request_id\x15\x0c", b"request_id\x15\x0e");
    let mut unread = good.clone();
    let at = unread.windows(zstd.len()).position(|part| part == zstd).unwrap();
    unread[at..at + lz4.len()].copy_from_slice(lz4);
    let header = "request_id,model,timestamp\n";
    let open = (0..300).map(|i| format!("r{i},{},1\n", if i == 9 { "\"m" } else { "m" }));
    let cases: [(&str, Vec<u8>, &str, &str); 13] = [
        ("a.txt", b"x".to_vec(), "file_format", "rename or convert"),
        ("empty.csv", Vec::new(), "file_empty", "empty.csv is empty"),
        ("array.json", b"[{}]".to_vec(), "file_broken", "array.json, record 1: holds an array"),
        (
            "few.csv",
            b"request_id,model\na,b\n".to_vec(),
            "file_column_missing",
            "`timestamp` or `at`",
        ),
        (
            "short.csv",
            format!("{header}a,m,1\nb,m\n").into(),
            "file_broken",
            "short.csv, record 2: ",
        ),
        (
            "latin.csv",
            [header.as_bytes(), b"\xe9,m,1\n"].concat(),
            "file_broken",
            "cell 1 is not UTF-8",
        ),
        (
            "twice.csv",
            b"request_id,model,model,timestamp\n".to_vec(),
            "file_broken",
            "`model` stands twice",
        ),
        (
            "quote.csv",
            format!("{header}{}", open.collect::<String>()).into(),
            "file_broken",
            "quote.csv, record 10: a cell opens with a quote in line 11 or later, and no quote closes it",
        ),
        (
            "semicolon.csv",
            header.replace(',', ";").into(),
            "file_broken",
            "the header is one cell that holds ';': separate cells by commas",
        ),
        (
            "last.tsv",
            b"request_id\tmodel\ttimestamp\na\tm\t\"1\n".to_vec(),
            "file_broken",
            "last.tsv, record 1: a cell opens with a quote",
        ),
        ("lz4.parquet", unread, "file_format", "is compressed with LZ4_RAW: write it with Snappy"),
        ("cut.parquet", good[..good.len() - 9].to_vec(), "file_broken", "it may be cut short"),
        ("head.parquet", good[..good.len() / 2].to_vec(), "file_broken", "it may be cut short"),
    ];
    for (name, bytes, code, text) in cases {
        let error = read(&write(&folder, name, bytes)).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let message = error.to_string();
        assert!(message.contains(text) && message.contains(name), "{name}: {message}");
    }
    let none = read(&folder.path().join("*.none")).unwrap_err();
    assert_eq!(none.code(), "file_missing");
    assert_eq!(read(folder.path()).unwrap_err().code(), "file_unreadable");
}

#[test]
fn what_the_system_can_not_read_is_not_called_broken() {
    // A folder can be opened and not read.
    let folder = TempDir::new().unwrap();
    write(&folder, "a", "x");
    let (path, bytes) = (folder.path().to_owned(), folder.path().metadata().unwrap().len());
    for format in [FileFormat::Lines, FileFormat::Csv { delimiter: b',' }, FileFormat::Parquet] {
        let file = File { path: path.clone(), format, bytes };
        let error = FileReader::new(file.into(), columns()).next_record().unwrap_err();
        assert!(matches!(error, FileError::Unreadable { .. }), "{format:?}: {error}");
    }
}

#[test]
fn a_file_that_grows_meanwhile_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "a.jsonl", "{}\n");
    let list = FileList::find(&[path.to_str().unwrap().to_owned()]).unwrap();
    let mut reader = FileReader::new(list, columns());
    assert!(reader.next_record().unwrap().is_some());
    write(&folder, "a.jsonl", "{}\n{}\n");
    let error = loop {
        match reader.next_record() {
            Ok(record) => assert!(record.is_some(), "the end was not to be reached"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, FileError::Changed { was: 3, is: 6, .. }), "{error}");
}

#[test]
fn what_is_read_ahead_is_what_is_read() {
    let folder = TempDir::new().unwrap();
    let line = |n: usize| json!({"request_id": n, "model": "m", "timestamp": n}).to_string() + "\n";
    let lines = |from: usize, to: usize| (from..to).map(line).collect::<String>();
    write(&folder, "a.jsonl", lines(0, 5000));
    write(&folder, "b.jsonl", lines(5000, 5003));
    let find = || FileList::find(&[folder.path().join("*").to_str().unwrap().to_owned()]).unwrap();
    let taken = |most: usize| {
        let mut taken = Vec::new();
        let ended = ahead::read(&find(), &columns(), |batch| {
            for (offset, object) in batch.records() {
                let number = usize::try_from(offset - batch.first_offset).unwrap();
                taken.push((batch.file, number, offset, object.to_vec()));
            }
            let reason = "enough".to_owned();
            let enough = || FileError::Broken { file: PathBuf::new(), record: 0, reason };
            if taken.len() < most { Ok(()) } else { Err(enough()) }
        });
        (taken, ended)
    };
    let (all, ended) = taken(usize::MAX);
    ended.unwrap();
    let plain = read(&folder.path().join("*")).unwrap();
    assert_eq!(all.len(), 5003);
    for ((file, number, offset, object), (plain_offset, value)) in all.iter().zip(plain) {
        assert_eq!(
            (*offset, serde_json::from_slice::<Value>(object).unwrap()),
            (plain_offset, value)
        );
        let place = usize::try_from(*offset).unwrap();
        let expected = if place < 5000 { (0, place) } else { (1, place - 5000) };
        assert_eq!((*file, *number), expected);
    }
    let (some, ended) = taken(2000);
    assert!(ended.is_err() && (2000..5003).contains(&some.len()), "{}", some.len());

    write(&folder, "d.parquet", "PAR1");
    let (most, ended) = taken(usize::MAX);
    assert!(matches!(ended, Err(FileError::Broken { .. })) && most.len() == 5003);
}

#[test]
fn rows_without_what_must_be_given_are_left_out_and_the_others_keep_their_places() {
    let temp = TempDir::new().unwrap();
    let csv = temp.path().join("a.csv");
    fs::write(&csv, "request_id,y.label,old\na,,\nb,0,\nc,NaN,\nd,,1\n").unwrap();
    let lines = temp.path().join("b.jsonl");
    let text = r#"{"request_id": "e", "y": {"label": null}}
{"request_id": "f", "y": {}}
{"request_id": "g", "y": {"label": false}}
{"request_id": "h", "y": {"lab
"#;
    fs::write(&lines, text).unwrap();
    let columns = Columns {
        wanted: list(&["request_id", "y.label", "old"]),
        given: list(&["y.label", "old"]),
        ..Columns::default()
    };
    let paths = [&csv, &lines].map(|path| path.to_str().unwrap().to_owned());
    let files = FileList::find(&paths).unwrap();
    let mut left_out = 0;
    let read_ahead = ahead::read(&files, &columns, |batch| {
        left_out = batch.left_out;
        Ok::<_, FileError>(())
    });
    assert_eq!((read_ahead, left_out), (Ok(()), 4));
    let mut reader = FileReader::new(files, columns);
    let mut offsets = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        offsets.push(record.offset);
    }
    // The last is broken, which is for the decoder to say.
    assert_eq!(offsets, [1, 3, 6, 7]);
    assert_eq!(reader.position(), 8);
    assert_eq!(reader.left_out(), 4);
}

#[test]
fn rows_left_out_count_for_messages_and_not_for_where_the_records_end() {
    let folder = TempDir::new().unwrap();
    let of = |name: &str, text: &str| {
        let file = File::find(write(&folder, name, text)).unwrap();
        let label = vec!["y".to_owned()];
        let columns = Columns { wanted: label.clone(), given: label, ..Columns::default() };
        FileReader::new(file.into(), columns)
    };
    let mut reader = of("a.csv", "x,y\n1,\n2,0\n3,\n4,\n");
    assert_eq!(reader.next_record().unwrap().unwrap().offset, 1);
    assert_eq!(reader.next_record().unwrap(), None);
    assert_eq!(reader.position(), 2);
    assert_eq!([1, 2, 3, 4].map(|offset| reader.ends_at(offset)), [false, true, false, true]);

    let mut reader = of("b.csv", "x,y\n1,\n2,\n3\n");
    let error = reader.next_record().unwrap_err();
    assert!(error.to_string().contains("b.csv, record 3: "), "{error}");
}
