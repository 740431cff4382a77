//! What a file holds, before it is taken and when it is read again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::commands::Failure;
use crate::commands::inputs::Counts;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, DecoderSettings, NotDecoded};
use crate::engine::names::Names;
use crate::pipeline::DeadLetterLimit;
use crate::sink::files::FileRow;
use crate::source::files::{Columns, Digests, File, FileReader};

/// What a file holds.
pub(super) struct Examined {
    pub(super) file: File,
    pub(super) digest: String,
    pub(super) offsets: i64,
    pub(super) records: u64,
    pub(super) rejected: u64,
}

/// Reads a file through. Refused where it is broken, or where more of its records than the limit can't be used, or
/// none can: those of a good file among them would be counted without the rest. One whose times can hardly be meant is
/// only told. Adds each record to `read` when it is read.
pub(super) fn examine(
    path: PathBuf,
    columns: Columns,
    decoder: &DecoderSettings,
    limit: DeadLetterLimit,
    hashed: &Digests,
    read: &AtomicU64,
) -> Result<Examined, Failure> {
    let file = File::find(path)?;
    let digest = hashed.of(&file)?;
    let stream = decoder.stream;
    let mut decoder = Decoder::new(decoder, Arc::new(Schemas::none()))?;
    let mut reader = FileReader::new(file.clone().into(), columns);
    let mut names = Names::default();
    let (mut counts, mut first) = (Counts::default(), None);
    while let Some(record) = reader.next_record()? {
        read.fetch_add(1, Ordering::Relaxed);
        match decoder.decode(Some(record.object), &mut names) {
            Ok(event) => counts.take(&event),
            Err(NotDecoded::Waiting(_)) => unreachable!("JSON needs no schema"),
            Err(NotDecoded::Bad(reason)) => {
                counts.bad += 1;
                first.get_or_insert_with(|| (record.offset + 1, reason.to_string()));
            }
        }
    }
    let Counts { good: records, bad: rejected, .. } = counts;
    let all = records + rejected;
    if let Some((number, reason)) = first
        && (records == 0 || limit.is_exceeded_at_end(all, rejected))
    {
        let file = file.path.display();
        let message = format!(
            "{rejected} of {all} records of {file} can't be used; record {number}: {reason}"
        );
        return Err(Failure::new("file_unusable", message));
    }
    if let Some(doubt) = counts.doubt(stream) {
        tracing::warn!(file = %file.path.display(), "{doubt}");
    }
    Ok(Examined { file, digest, offsets: reader.position(), records, rejected })
}

/// Refused where a file that was taken is another one now.
pub(super) fn still(path: PathBuf, known: &str, hashed: &Digests) -> Result<(), Failure> {
    let file = File::find(path)?;
    if hashed.is_of(&file, known)? {
        return Ok(());
    }
    let file = file.path.display();
    let message = format!(
        "{file} was taken before and holds something else now. The job has counted what it held: put it back, \
         and give what is new a name of its own"
    );
    Err(Failure::new("file_not_as_taken", message))
}

/// The file that a job has taken, which must be as it was.
pub(super) async fn found(folder: &Path, row: &FileRow, hashed: &Digests) -> Result<File, Failure> {
    let (path, digest, hashed) = (folder.join(&row.name), row.digest.clone(), hashed.clone());
    let looked = blocking(move || {
        still(path.clone(), &digest, &hashed)?;
        Ok(File::find(path)?)
    });
    looked.await?.map_err(|failure: Failure| {
        let said = failure.message;
        let message = format!(
            "{said}. The job took {} as file {} of {} and reads it again, since not all of it is sealed",
            row.name,
            row.number,
            row.stream.name(),
        );
        Failure::new("file_not_as_taken", message)
    })
}

/// Does work that waits for a disk or a mount.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new("runtime", format!("a look at files failed: {error}")))
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::config::{Environment, Settings};

    pub(in crate::commands::watch) fn settings() -> Settings {
        let text = "[inferences]\ntopic = \"inferences\"\n";
        Settings::parse("test", text, &Environment::default()).unwrap()
    }

    /// Why a file of so many good and bad records is not taken, if it is not; and how many were read for that.
    fn looked_at(good: usize, bad: usize) -> (Option<Failure>, u64) {
        let temp = TempDir::new().unwrap();
        let path = temp.path().join("a.jsonl");
        let row = "{\"request_id\": \"1\", \"model\": \"m\", \"timestamp\": 1767571200000}\n";
        fs::write(&path, row.repeat(good) + &"{}\n".repeat(bad)).unwrap();
        let settings = settings();
        let [decoder, _] = settings.decoders();
        let limit = settings.dead_letter_limit();
        let (hashed, read) = (Digests::default(), AtomicU64::new(0));
        let examined = examine(path, Columns::default(), &decoder.unwrap(), limit, &hashed, &read);
        (examined.err(), read.into_inner())
    }

    fn refused(good: usize, bad: usize) -> Option<Failure> {
        looked_at(good, bad).0
    }

    #[test]
    fn what_is_read_of_a_file_is_counted_whether_it_is_taken_or_not() {
        assert_eq!([(40, 2), (1, 999)].map(|(good, bad)| looked_at(good, bad).1), [42, 1000]);
    }

    #[test]
    fn a_file_is_not_taken_where_too_great_a_share_of_it_is_bad() {
        let failure = refused(1, 999).unwrap();
        assert_eq!(failure.code, "file_unusable");
        let said = &failure.message;
        assert!(said.starts_with("999 of 1000 records of "), "{said}");
        assert!(said.contains("record 2: "), "{said}");
        assert!(refused(35, 5).is_some() && refused(0, 1).is_some());
        assert!(refused(90, 10).is_none() && refused(2, 1).is_none());
    }
}
