//! What vouches for rows is written only once they are all there: they are read back before.

use super::attempts::{Failures, persist};
use super::{Commits, DeadLetters, Sink, Writer};
use crate::engine::event::PartitionId;
use crate::engine::floor::Mark;
use crate::engine::state::Key;
use crate::failpoint::{self, Point};
use crate::pipeline::PipelineError;
use crate::pipeline::audit::{self, Evaluated, Written};
use crate::sink::{RowBatch, SinkError};

/// What vouches for the rows before it: seal marks tell the other instances that a partition's rows of sealed windows
/// are all there, marks tell whoever starts next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vouch {
    Seals,
    Marks,
}

/// State rows that one question asks for.
pub(in crate::pipeline) const STATES_AT_ONCE: usize = 500;

impl<C: Commits, K: Sink, D: DeadLetters> Writer<C, K, D> {
    /// Writes the seal marks or the marks, once nothing can be missing that they vouch for: no mark of before is
    /// missing, the rows of sealed windows are as they were written, and when a call has failed since the flush began,
    /// all rows are there, since then ClickHouse may have been away and have come back without them. Gives the
    /// partitions whose marks are missing: then nothing was written.
    ///
    /// Any failure may hide that ClickHouse came back without what it has shown before, so from the question for the
    /// marks of before to the mark itself no call may fail, else all is asked again. That takes few questions, however
    /// many rows there are: what is asked in many parts is to see what the rows say, and that is asked once (see
    /// [`audit_states`](Self::audit_states)).
    pub(super) async fn vouch(
        &mut self,
        written: &mut Written,
        what: Vouch,
    ) -> Result<Vec<PartitionId>, PipelineError> {
        if what == Vouch::Seals && written.seals.is_empty() {
            return Ok(Vec::new());
        }
        let batch = match what {
            Vouch::Seals => self.seal_rows(&written.seals),
            Vouch::Marks => self.mark_rows(&written.marks),
        };
        if failpoint::is_broken(Point::AuditSkipped) {
            self.write_all(batch).await?;
            return Ok(Vec::new());
        }
        let mut failures = Failures::default();
        loop {
            let before = self.failures;
            let gone_back = self.gone_back(&written.all).await?;
            if !gone_back.is_empty() {
                // It has answered.
                failures.end(&self.telemetry);
                return Ok(gone_back);
            }
            let is_shaken = before != written.calm;
            let lost = match what {
                Vouch::Seals => self.audit_states(written, is_shaken).await?,
                Vouch::Marks => self.audit(written, is_shaken).await?,
            };
            if lost == 0 && self.failures != before {
                continue;
            }
            let vouched = if lost == 0 {
                self.write_once(batch.as_ref()).await
            } else {
                Err(SinkError::Unavailable(format!(
                    "{lost} rows that it acknowledged were not there"
                )))
            };
            match vouched {
                Ok(()) => {
                    failures.end(&self.telemetry);
                    return Ok(Vec::new());
                }
                Err(error) => {
                    self.failures += 1;
                    failures.pause(error, &self.telemetry).await?;
                }
            }
        }
    }

    /// The partitions of which ClickHouse has lost the last mark.
    async fn gone_back(&mut self, all: &[Mark]) -> Result<Vec<PartitionId>, PipelineError> {
        let known = all.iter().filter_map(|mark| self.marks.get(&mark.partition));
        let known: Vec<_> = known.map(|mark| (mark.partition, mark.order())).collect();
        if known.is_empty() {
            return Ok(Vec::new());
        }
        let partitions: Vec<PartitionId> = known.iter().map(|&(partition, _)| partition).collect();
        let stored = persist!(self, self.sink.mark_orders(&partitions));
        Ok(audit::gone_back(known.into_iter(), &stored))
    }

    /// Reads back what was written and writes again what is not there; how many rows that were.
    async fn audit(&mut self, written: &mut Written, all: bool) -> Result<usize, PipelineError> {
        let mut lost = self.audit_states(written, all).await?;
        if !written.seals.is_empty() {
            let stored = persist!(self, self.sink.seals());
            let seals = written.lost_seals(&stored);
            self.telemetry.audited("seals", written.seals.len(), seals.len());
            if !seals.is_empty() {
                lost += seals.len();
                self.write_all(self.seal_rows(&seals)).await?;
                // Whoever has evaluated meanwhile did not see them.
                self.evaluate_and_write(written).await?;
            }
        }
        lost += self.audit_metrics(written, all).await?;
        Ok(lost)
    }

    /// Reads state rows back and writes again what is not there; how many rows that were. What the rows of sealed
    /// windows say is compared once, in as many questions as it takes, whichever of them fail: a server that comes back
    /// without rows in between lacks them or has them in lower versions. So when a call has failed the versions of all
    /// rows are left to ask for, in a few questions.
    async fn audit_states(
        &mut self,
        written: &mut Written,
        all: bool,
    ) -> Result<usize, PipelineError> {
        let mut lost = Vec::new();
        if !written.is_compared {
            let sealed = written.sealed_states();
            let keys = sealed.iter().map(|row| (row.key.clone(), row.partition)).collect();
            let mut stored = Vec::with_capacity(sealed.len());
            for some in in_order(keys).chunks(STATES_AT_ONCE) {
                stored.extend(persist!(self, self.sink.states(some)));
            }
            lost = audit::changed_states(&sealed, &stored);
            self.telemetry.audited("window_state", sealed.len(), lost.len());
        }
        if all && lost.is_empty() {
            let mut stored = Vec::new();
            for span in self.parts.spans_of(&written.states) {
                stored.extend(persist!(self, self.sink.state_versions(span)));
            }
            lost = audit::lost_states(&written.states, &stored);
            self.telemetry.audited("window_state", written.states.len(), lost.len());
        }
        written.is_compared = lost.is_empty();
        self.write_states(&lost).await?;
        Ok(lost.len())
    }

    async fn audit_metrics(
        &mut self,
        written: &mut Written,
        all: bool,
    ) -> Result<usize, PipelineError> {
        // Rows that were left out may be lost as well: after the failure none is.
        if all && !written.metrics.iter().all(Evaluated::is_whole) {
            self.evaluate_and_write(written).await?;
        }
        let keys = written.metrics_to_audit(all);
        if keys.is_empty() {
            return Ok(0);
        }
        let (tables, windows) = (audit::tables(&keys), audit::windows(&keys));
        let stored = persist!(self, self.sink.metric_versions(&tables, &windows));
        let lost = audit::lost_metrics(&keys, &stored);
        let rows = |of: &[&Evaluated]| of.iter().map(|of| of.rows).sum::<usize>();
        let lost_rows = rows(&lost);
        self.telemetry.audited("metrics", rows(&keys), lost_rows);
        if lost_rows > 0 {
            // All of the flush: memory of the earlier pieces of a long span is gone.
            self.evaluate_and_write(written).await?;
        }
        Ok(lost_rows)
    }

    /// The same without a second attempt.
    async fn write_once(&mut self, batch: Option<&RowBatch>) -> Result<(), SinkError> {
        if let Some(batch) = batch {
            self.sink.write(batch).await?;
            self.wrote(batch);
        }
        Ok(())
    }
}

/// Keys in the table's order: each question of some of them reads its own rows, and not those of all. Each is repeated by
/// itself, and what has come is kept: a busy server that can't answer for all keys in time can for some.
pub(super) fn in_order(mut keys: Vec<(Key, PartitionId)>) -> Vec<(Key, PartitionId)> {
    keys.sort_unstable();
    keys
}
