//! Looks into the folder again and again, and takes what has landed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde_json::json;

use super::examine::{Examined, blocking, examine, found, still};
use super::{WatchArgs, finished, is_sealed};
use crate::commands::done::Done;
use crate::commands::inputs::InputArgs;
use crate::commands::{Failure, terminal};
use crate::config::Settings;
use crate::decode::registry::Schemas;
use crate::decode::{Decoder, DecoderSettings};
use crate::engine::event::Stream;
use crate::engine::floor::Mark;
use crate::pipeline::DeadLetterLimit;
use crate::sink::clickhouse::ClickHouse;
use crate::sink::files::FileRow;
use crate::sink::{FailureClass, SinkError};
use crate::source::feed::FeedFiles;
use crate::source::files::{Columns, Digests, File, FileList, Folder, Landed, Taken, TakenFile};

/// Codes of what may pass without a change of the file's size or time: rights are given, a mount comes back.
const PASSING: [&str; 2] = ["file_unreadable", "file_changed"];

/// The part of the folder that holds one stream.
struct Watched {
    stream: Stream,
    folder: Folder,
    columns: Columns,
    decoder: DecoderSettings,
    taken: Taken,
    /// How many files the job has taken, and their digests by name.
    count: i64,
    digests: BTreeMap<String, String>,
    /// The files that lie there and can't be used, by name, and what was told of them.
    untaken: BTreeMap<String, Failure>,
}

/// Looks for files and takes them.
pub(super) struct Watcher {
    path: PathBuf,
    streams: Vec<Watched>,
    clickhouse: ClickHouse,
    generation: u16,
    hashed: Digests,
    limit: DeadLetterLimit,
    every: Duration,
    finishes: bool,
    fails_fast: bool,
    /// Records that were read to see whether their files can be taken.
    pub(super) read: Arc<AtomicU64>,
    pub(super) done: Done,
}

impl Watcher {
    pub(super) fn new(
        settings: &Settings,
        path: &Path,
        patterns: &InputArgs,
        args: &WatchArgs,
        clickhouse: ClickHouse,
        mark: Option<Mark>,
    ) -> Result<Self, Failure> {
        let mut streams = Vec::new();
        let of_stream = [&patterns.inferences, &patterns.labels];
        for decoder in settings.decoders().into_iter().flatten() {
            // What is wrong with it shows before a file is looked at.
            Decoder::new(&decoder, Arc::new(Schemas::none()))?;
            let stream = decoder.stream;
            let folder = Folder::new(path, of_stream[stream.index()]);
            let columns = patterns.columns(&decoder.fields, settings);
            let taken = Taken::starting_at(0);
            let (count, digests, untaken) = (0, BTreeMap::new(), BTreeMap::new());
            streams.push(Watched {
                stream,
                folder,
                columns,
                decoder,
                taken,
                count,
                digests,
                untaken,
            });
        }
        let every = Duration::from_millis(u64::try_from(args.every.0).unwrap_or(1));
        Ok(Self {
            path: path.to_owned(),
            streams,
            clickhouse,
            generation: settings.shard.generation,
            hashed: Digests::default(),
            limit: settings.dead_letter_limit(),
            every,
            finishes: args.finish,
            fails_fast: args.fail_fast,
            read: Arc::default(),
            done: Done::new(mark),
        })
    }

    pub(super) fn feeds(&self) -> Vec<FeedFiles> {
        let of = |watched: &Watched| FeedFiles {
            stream: watched.stream,
            files: FileList::default(),
            columns: watched.columns.clone(),
            more: Some(watched.taken.clone()),
        };
        self.streams.iter().map(of).collect()
    }

    /// The files that the job has taken before. Those behind the floors are needed no more, and may be gone.
    pub(super) async fn restore(&mut self) -> Result<(), Failure> {
        let rows = self.clickhouse.taken_files(self.generation).await?;
        let floor = self.done.floor();
        for watched in &mut self.streams {
            let rows = &rows[watched.stream.index()];
            let floor = floor.of(watched.stream);
            let passed = rows.iter().take_while(|row| row.end() <= floor);
            let passed = passed.count();
            watched.taken =
                Taken::starting_at(passed.checked_sub(1).map_or(0, |at| rows[at].end()));
            for row in &rows[..passed] {
                watched.note(row);
            }
            for row in &rows[passed..] {
                let file = found(&self.path, row, &self.hashed).await?;
                watched.adopt(row, file);
                if !self.done.is_told(row) {
                    self.done.add(row);
                }
            }
        }
        Ok(())
    }

    /// Whether files lie there that the job did not take before it was finished. Refused where one that it took holds
    /// something else now, and where not all can be seen.
    pub(super) async fn finds_more(&self) -> Result<bool, Failure> {
        let rows = self.clickhouse.taken_files(self.generation).await?;
        let mut finds_more = false;
        for watched in &self.streams {
            let mut folder = watched.folder.clone();
            // Only two looks tell which files are whole.
            let (folder, looked) = blocking(move || {
                let looked = folder.look().and_then(|_| folder.look());
                (folder, looked)
            })
            .await?;
            let (landed, unfinished) = looked?;
            if let Some((_, error)) = folder.unread().into_iter().next() {
                return Err(error.into());
            }
            let digest = |row: &FileRow| (row.name.clone(), row.digest.clone());
            let taken: BTreeMap<String, String> =
                rows[watched.stream.index()].iter().map(digest).collect();
            let hashed = self.hashed.clone();
            let are_known = blocking(move || {
                let is_known = |landed: Landed| match taken.get(&landed.name) {
                    Some(digest) => still(landed.path, digest, &hashed).map(|()| true),
                    None => Ok(false),
                };
                landed.into_iter().map(is_known).collect::<Result<Vec<bool>, Failure>>()
            });
            finds_more |= unfinished > 0 || are_known.await??.contains(&false);
        }
        Ok(finds_more)
    }

    /// Takes files until something is wrong that only a person can put right; none where the job's windows are sealed.
    pub(super) async fn run(&mut self, is_sealed: bool) -> Failure {
        if is_sealed {
            return self.finish().await;
        }
        loop {
            let is_all = match self.look().await {
                Ok(is_all) => is_all,
                Err(failure) => return failure,
            };
            if self.finishes && is_all {
                // Nothing could take the file after the seal.
                if let Some(failure) = self.streams.iter_mut().find_map(Watched::untaken) {
                    return failure;
                }
                return self.finish().await;
            }
            tokio::time::sleep(self.every).await;
        }
    }

    /// Nothing more is taken: what the files hold is read to its end.
    async fn finish(&self) -> Failure {
        self.streams.iter().for_each(|watched| watched.taken.finish());
        std::future::pending().await
    }

    /// Takes what has landed; whether nothing is left that may still be taken. Files that were taken before come last,
    /// and only for a while: hashing them can take long after a start, and the next look gives the rest again.
    async fn look(&mut self) -> Result<bool, Failure> {
        let (mut is_all, mut known) = (true, Vec::new());
        for at in 0..self.streams.len() {
            let Some((landed, unfinished)) = self.landed(at).await? else {
                is_all = false;
                continue;
            };
            is_all &= unfinished == 0;
            for landed in landed {
                if self.streams[at].digests.contains_key(&landed.name) {
                    known.push((at, landed));
                } else {
                    is_all &= self.take(at, &landed).await?;
                }
            }
        }
        // Those that failed at the last look keep no others away.
        known.sort_by_key(|(at, landed)| self.streams[*at].untaken.contains_key(&landed.name));
        let begun = terminal::start();
        for (at, landed) in known {
            is_all &= self.take(at, &landed).await?;
            if !self.finishes && begun.elapsed() > self.every {
                return Ok(false);
            }
        }
        Ok(is_all)
    }

    /// The whole files of one stream that are not dealt with, and how many others may still be written to; none where
    /// the folder can't be looked into.
    async fn landed(&mut self, at: usize) -> Result<Option<(Vec<Landed>, usize)>, Failure> {
        let mut folder = self.streams[at].folder.clone();
        let (folder, looked) = blocking(move || {
            let looked = folder.look();
            (folder, looked)
        })
        .await?;
        self.streams[at].folder = folder;
        let looked = match looked {
            Ok(looked) => looked,
            // A mount may be away for a while.
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "can't look into the folder");
                return Ok(None);
            }
        };
        let Watched { folder, untaken, .. } = &mut self.streams[at];
        untaken.retain(|name, _| folder.has(name));
        for (below, error) in folder.unread() {
            if self.fails_fast {
                return Err(error.into());
            }
            let told = self.streams[at].untaken.remove(&below.name);
            self.streams[at].refuse(&below, error.into(), told.as_ref());
        }
        Ok(Some(looked))
    }

    /// Takes one file; whether it is dealt with.
    async fn take(&mut self, at: usize, landed: &Landed) -> Result<bool, Failure> {
        let watched = &mut self.streams[at];
        let told = watched.untaken.remove(&landed.name);
        let (path, columns) = (landed.path.clone(), watched.columns.clone());
        let known = watched.digests.get(&landed.name).cloned();
        let (decoder, limit, hashed) = (watched.decoder.clone(), self.limit, self.hashed.clone());
        let read = Arc::clone(&self.read);
        let looked_at = blocking(move || match known {
            Some(known) => still(path, &known, &hashed).map(|()| None),
            None => examine(path, columns, &decoder, limit, &hashed, &read).map(Some),
        });
        let looked_at = looked_at.await?;
        if !self.streams[at].folder.is_unchanged(&landed.path) {
            return Ok(false);
        }
        match looked_at {
            Ok(None) => {}
            Ok(Some(examined)) => {
                if !self.claim(at, landed, examined).await? {
                    return Ok(false);
                }
            }
            Err(failure) if self.fails_fast => return Err(failure),
            Err(failure) => {
                self.streams[at].refuse(landed, failure, told.as_ref());
                return Ok(true);
            }
        }
        self.streams[at].folder.settle(&landed.path);
        Ok(true)
    }

    /// Writes down that the job has the file, and feeds it; whether both succeeded.
    async fn claim(
        &mut self,
        at: usize,
        landed: &Landed,
        examined: Examined,
    ) -> Result<bool, Failure> {
        let watched = &mut self.streams[at];
        let row = FileRow {
            stream: watched.stream,
            number: watched.count,
            name: landed.name.clone(),
            bytes: examined.file.bytes,
            digest: examined.digest,
            first_offset: watched.taken.end(),
            offsets: examined.offsets,
            records: examined.records,
            rejected: examined.rejected,
        };
        let rows = match write_down(&self.clickhouse, self.generation, &row).await {
            Ok(Some(rows)) => rows,
            Ok(None) => return Err(finished(&self.clickhouse)),
            Err(error) if error.class() == FailureClass::Final => return Err(error.into()),
            Err(error) => {
                tracing::warn!(code = error.code(), %error, "the file is taken later");
                return Ok(false);
            }
        };
        if rows.is_empty() {
            tracing::warn!(
                file = row.name,
                "not taken: its row does not appear in table files. Where rows were deleted there, delete those of the \
                 job from every table, or watch under another --job"
            );
        }
        // Another process of the job may have taken others meanwhile.
        let is_ours = rows.iter().any(|taken| taken.name == row.name);
        for row in rows {
            let file = found(&self.path, &row, &self.hashed).await?;
            watched.adopt(&row, file);
            self.done.add(&row);
        }
        Ok(is_ours)
    }
}

/// Takes a file for the job; the files from its number on, and none where another process has finished the job: its
/// windows are sealed without the file.
async fn write_down(
    clickhouse: &ClickHouse,
    generation: u16,
    row: &FileRow,
) -> Result<Option<Vec<FileRow>>, SinkError> {
    if is_sealed(clickhouse).await? {
        return Ok(None);
    }
    clickhouse.take_file(generation, row).await.map(Some)
}

impl Watched {
    /// Tells what is wrong with a file, unless the last look did. Where it may pass, the next look gives it again.
    fn refuse(&mut self, landed: &Landed, failure: Failure, told: Option<&Failure>) {
        if told.is_none_or(|told| told.message != failure.message) {
            let reason = &failure.message;
            tracing::warn!(file = landed.name, code = failure.code, reason, "not taken");
            let line = json!({"file": landed.name, "stream": self.stream.name(), "code": failure.code,
                              "reason": reason});
            terminal::print(&format!("{line}\n"));
        }
        if !PASSING.contains(&failure.code) {
            self.folder.settle(&landed.path);
        }
        self.untaken.insert(landed.name.clone(), failure);
    }

    /// Why a file is not taken, where there is one.
    fn untaken(&mut self) -> Option<Failure> {
        let (_, failure) = self.untaken.pop_first()?;
        let remedy = "so nothing is sealed: mend the file or move it away, and finish again";
        Some(Failure::new(failure.code, format!("{}; {remedy}", failure.message)))
    }

    fn note(&mut self, row: &FileRow) {
        self.count = row.number + 1;
        self.digests.insert(row.name.clone(), row.digest.clone());
    }

    fn adopt(&mut self, row: &FileRow, file: File) {
        self.note(row);
        self.taken.push(TakenFile { file, first_offset: row.first_offset, offsets: row.offsets });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::examine::tests::settings;
    use super::*;
    use crate::commands::runtime;

    fn watched(settings: &Settings, folder: &Path) -> Watched {
        let [decoder, _] = settings.decoders();
        Watched {
            stream: Stream::Inferences,
            folder: Folder::new(folder, &["*.jsonl".to_owned()]),
            columns: Columns::default(),
            decoder: decoder.unwrap(),
            taken: Taken::starting_at(0),
            count: 0,
            digests: BTreeMap::new(),
            untaken: BTreeMap::new(),
        }
    }

    /// What four looks find that have no time for two files: whether nothing is left, and all files of which it is told
    /// by then that they are not as they were taken.
    fn told_by_looks(finishes: bool) -> Vec<(bool, Vec<String>)> {
        let (temp, settings, runtime) = (TempDir::new().unwrap(), settings(), runtime().unwrap());
        let mut stream = watched(&settings, temp.path());
        for name in ["a.jsonl", "b.jsonl"] {
            fs::write(temp.path().join(name), "{}\n").unwrap();
            stream.digests.insert(name.to_owned(), "whole-0".to_owned());
        }
        let mut watcher = Watcher {
            path: temp.path().to_owned(),
            streams: vec![stream],
            clickhouse: ClickHouse::new(settings.clickhouse()),
            generation: 0,
            hashed: Digests::default(),
            limit: settings.dead_letter_limit(),
            every: Duration::ZERO,
            finishes,
            fails_fast: false,
            read: Arc::default(),
            done: Done::new(None),
        };
        let mut look = || {
            let is_all = runtime.block_on(watcher.look()).unwrap();
            (is_all, watcher.streams[0].untaken.keys().cloned().collect())
        };
        (0..4).map(|_| look()).collect()
    }

    #[test]
    fn files_that_were_taken_before_do_not_hold_up_the_next_look() {
        let some = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let both = || some(&["a.jsonl", "b.jsonl"]);
        let nothing = (false, some(&[]));
        let expected =
            [nothing.clone(), (false, some(&["a.jsonl"])), (false, both()), (true, both())];
        assert_eq!(told_by_looks(false), expected);
        // An end waits for all of them.
        assert_eq!(told_by_looks(true), [nothing, (true, both()), (true, both()), (true, both())]);
    }

    #[test]
    fn a_file_that_could_not_be_read_is_given_again_and_a_broken_one_is_not() {
        let temp = TempDir::new().unwrap();
        let mut watched = watched(&settings(), temp.path());
        for name in ["broken.jsonl", "changed.jsonl", "unread.jsonl"] {
            fs::write(temp.path().join(name), "{}\n").unwrap();
        }
        watched.folder.look().unwrap();
        let (landed, _) = watched.folder.look().unwrap();
        let codes = ["file_broken", "file_changed", "file_unreadable"];
        for (landed, code) in landed.iter().zip(codes) {
            watched.refuse(landed, Failure::new(code, format!("a {code}")), None);
        }
        // Nobody has written to any of them.
        let (again, _) = watched.folder.look().unwrap();
        assert_eq!(again, landed[1..]);
        let untaken: Vec<_> = std::iter::from_fn(|| watched.untaken()).map(|it| it.code).collect();
        assert_eq!(untaken, codes, "nothing is sealed without any of them");
    }
}
