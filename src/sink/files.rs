//! The files that a job takes as they come: table `files`. It lies where the marks lie, since what they count goes
//! through it: the two are restored together, and nothing is written beside the files.

use super::SinkError;
use super::connection::{Connection, Parameter};
use super::job::created_ms;
use super::rowbinary::Rows;
use crate::engine::event::Stream;

/// A file that a job has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRow {
    /// What it holds.
    pub stream: Stream,
    /// Its place among the files of the stream, from 0 on.
    pub number: i64,
    /// Its path within the folder.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of its name, its size and all its bytes; of both its ends where an earlier version took it.
    pub digest: String,
    /// The offset of its first record.
    pub first_offset: i64,
    /// Offsets that it takes up, up to its last record: those of blank lines and of rows that are left out included.
    pub offsets: i64,
    /// Records that can be used.
    pub records: u64,
    /// Records that can't.
    pub rejected: u64,
}

impl FileRow {
    /// The offset after its last record.
    pub fn end(&self) -> i64 {
        self.first_offset + self.offsets
    }
}

const COLUMNS: [(&str, &str); 8] = [
    ("number", "Int64"),
    ("name", "String"),
    ("bytes", "UInt64"),
    ("digest", "String"),
    ("first_offset", "Int64"),
    ("offsets", "Int64"),
    ("records", "UInt64"),
    ("rejected", "UInt64"),
];

/// All files of the job, by stream.
pub(super) async fn taken(
    connection: &Connection,
    generation: u16,
) -> Result<[Vec<FileRow>; 2], SinkError> {
    let inferences = from(connection, generation, Stream::Inferences, 0).await?;
    Ok([inferences, from(connection, generation, Stream::Labels, 0).await?])
}

/// Writes that the file is the next of its stream, and reads back whether it is: the number's token lets the server
/// drop the second of two. A repeated attempt is dropped likewise. In the token stands when the job was bound, so that
/// files of a job of this name that was forgotten are others.
pub(super) async fn take(
    connection: &Connection,
    generation: u16,
    file: &FileRow,
) -> Result<Vec<FileRow>, SinkError> {
    let job = &connection.settings.job;
    let stream = file.stream.name();
    let created_ms = created_ms(connection).await?;
    let token = format!("file {} {generation} {stream} {created_ms} {job}", file.number);
    let text = |text: &str| Parameter::Text(text.to_owned());
    let count = |count: u64| Parameter::Number(i64::try_from(count).unwrap_or(i64::MAX));
    let parameters = [
        ("job", text(job)),
        ("generation", Parameter::Number(i64::from(generation))),
        ("stream", text(stream)),
        ("number", Parameter::Number(file.number)),
        ("name", text(&file.name)),
        ("bytes", count(file.bytes)),
        ("digest", text(&file.digest)),
        ("first_offset", Parameter::Number(file.first_offset)),
        ("offsets", Parameter::Number(file.offsets)),
        ("records", count(file.records)),
        ("rejected", count(file.rejected)),
    ];
    let values = "(job, generation, stream, number, name, bytes, digest, first_offset, offsets, records, rejected) \
                  SELECT {job:String}, {generation:UInt16}, {stream:String}, {number:Int64}, {name:String}, \
                  {bytes:UInt64}, {digest:String}, {first_offset:Int64}, {offsets:Int64}, {records:UInt64}, \
                  {rejected:UInt64}";
    let settings = [
        ("async_insert", "0"),
        ("insert_deduplicate", "1"),
        ("insert_deduplication_token", &token),
    ];
    connection.insert_values("files", values, &parameters, &settings).await?;
    from(connection, generation, file.stream, file.number).await
}

/// The files of a stream from a number on; of several rows of a number the first written, so that all readers agree.
async fn from(
    connection: &Connection,
    generation: u16,
    stream: Stream,
    number: i64,
) -> Result<Vec<FileRow>, SinkError> {
    let names = COLUMNS.map(|(name, _)| name).join(", ");
    let sql = format!(
        "SELECT {names} FROM {} WHERE job = {{job:String}} AND generation = {{generation:UInt16}} \
         AND stream = {{stream:String}} AND number >= {{number:Int64}} \
         ORDER BY number, taken, {names} LIMIT 1 BY number",
        connection.table("files")
    );
    let parameters = [
        ("job", Parameter::Text(connection.settings.job.clone())),
        ("generation", Parameter::Number(i64::from(generation))),
        ("stream", Parameter::Text(stream.name().to_owned())),
        ("number", Parameter::Number(number)),
    ];
    let body = connection.fetch(&sql, &parameters).await?;
    let mut rows = Rows::new(body, "table files", &COLUMNS)?;
    let mut files = Vec::new();
    while !rows.is_empty() {
        files.push(FileRow {
            stream,
            number: rows.i64()?,
            name: rows.text()?.to_string(),
            bytes: rows.u64()?,
            digest: rows.text()?.to_string(),
            first_offset: rows.i64()?,
            offsets: rows.i64()?,
            records: rows.u64()?,
            rejected: rows.u64()?,
        });
    }
    Ok(files)
}
