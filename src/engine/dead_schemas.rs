//! Schemas whose records are dead letters because of what the registry said of them, by offsets: a replay decides the
//! same, whatever the registry says by then.

use super::event::SchemaId;

/// Runs that are kept of one topic partition. Of more, those of the smallest ids: a registry counts its ids up, and
/// noise names any number.
pub const MOST_RUNS: usize = 64;

/// Offsets from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    /// The first one.
    pub first: i64,
    /// The last one.
    pub last: i64,
}

impl Offsets {
    fn hold(self, offset: i64) -> bool {
        self.first <= offset && offset <= self.last
    }

    fn and(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }

    fn within(self, from: i64, to: i64) -> Option<Self> {
        let (first, last) = (self.first.max(from), self.last.min(to.saturating_sub(1)));
        (first <= last).then_some(Self { first, last })
    }
}

/// What was decided of a record because of its schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It is dead: there was no such schema, or it could not be used.
    Dead,
    /// Its schema could be used.
    Usable,
    /// Nothing yet, or nobody knows any more: the registry decides.
    Open,
}

/// One run: all records of the schema at these offsets are dead because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    schema: SchemaId,
    offsets: Offsets,
    /// Whether the next such record belongs to it: none of the schema was decoded since.
    is_open: bool,
}

/// What of a run lies between two offsets; without a schema, of those that may be dead too.
#[derive(Debug)]
struct Piece {
    schema: Option<SchemaId>,
    offsets: Offsets,
    is_open: bool,
}

/// What was decided of the schemas of one topic partition, of all records from some offset on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadSchemas {
    runs: Vec<Run>,
    /// Where records of other schemas may be dead too: which ones was not kept.
    others: Option<Offsets>,
}

impl DeadSchemas {
    /// As [`runs`](Self::runs) gave it.
    pub fn restore(runs: impl IntoIterator<Item = (Option<SchemaId>, Offsets)>) -> Self {
        let mut restored = Self::default();
        for (schema, offsets) in runs {
            match schema {
                Some(schema) => restored.add(Run { schema, offsets, is_open: false }),
                None => restored.add_others(offsets),
            }
        }
        restored
    }

    /// Each schema with offsets between which all its records are dead; without a schema those between which others may
    /// be, too.
    pub fn runs(&self) -> impl Iterator<Item = (Option<SchemaId>, Offsets)> {
        let runs = self.runs.iter().map(|run| (Some(run.schema), run.offsets));
        runs.chain(self.others.map(|others| (None, others)))
    }

    /// The record at this offset is dead because of its schema. Offsets ascend.
    pub fn dead(&mut self, schema: SchemaId, offset: i64) {
        let mut runs = self.runs.iter_mut();
        if let Some(run) = runs.find(|run| run.schema == schema && run.is_open) {
            run.offsets.last = offset;
        } else {
            let offsets = Offsets { first: offset, last: offset };
            self.add(Run { schema, offsets, is_open: true });
        }
    }

    /// A record of this schema was decoded: the next one that is dead begins another run.
    #[inline]
    pub fn usable(&mut self, schema: SchemaId) {
        for run in self.runs.iter_mut().filter(|run| run.schema == schema) {
            run.is_open = false;
        }
    }

    /// What was decided of the record at this offset.
    pub fn judge(&self, schema: SchemaId, offset: i64) -> Judged {
        if self.runs.iter().any(|run| run.schema == schema && run.offsets.hold(offset)) {
            Judged::Dead
        } else if self.others.is_some_and(|others| others.hold(offset)) {
            Judged::Open
        } else {
            Judged::Usable
        }
    }

    /// What a replay from `floor` needs of it; the rest is forgotten.
    #[must_use]
    pub fn since(&mut self, floor: i64) -> Self {
        self.runs.retain(|run| run.offsets.last >= floor);
        self.others = self.others.filter(|others| others.last >= floor);
        Self::restore(self.runs())
    }

    /// Whether both say the same of the offsets from `from` on and before `to`. A run of the other's that goes on behind
    /// the last record of its own is the same, as long as its own goes on, too. Of what was not kept nobody knows that; and
    /// a run that begins before `from`, or goes on behind `to`, for one of them only makes this say no.
    pub fn agrees(&self, other: &Self, from: i64, to: i64) -> bool {
        let (own, theirs) = (self.within(from, to), other.within(from, to));
        let is_same = |(own, theirs): (&Piece, &Piece)| {
            let ends = own.offsets.last == theirs.offsets.last
                || own.is_open && own.offsets.last < theirs.offsets.last;
            let begins = own.offsets.first == theirs.offsets.first;
            own.schema.is_some() && own.schema == theirs.schema && begins && ends
        };
        own.len() == theirs.len() && own.iter().zip(&theirs).all(is_same)
    }

    /// What lies between, by schema and offset.
    fn within(&self, from: i64, to: i64) -> Vec<Piece> {
        let runs = self.runs.iter().map(|run| (Some(run.schema), run.offsets, run.is_open));
        let all = runs.chain(self.others.map(|others| (None, others, false)));
        let piece = |(schema, offsets, is_open): (_, Offsets, _)| {
            Some(Piece { schema, offsets: offsets.within(from, to)?, is_open })
        };
        let mut inside: Vec<_> = all.filter_map(piece).collect();
        inside.sort_unstable_by_key(|piece| (piece.schema, piece.offsets.first));
        inside
    }

    fn add(&mut self, run: Run) {
        self.runs.push(run);
        if self.runs.len() <= MOST_RUNS {
            return;
        }
        let greatest = self.runs.iter().enumerate().max_by_key(|(_, run)| run.schema);
        if let Some((at, _)) = greatest {
            let run = self.runs.remove(at);
            self.add_others(run.offsets);
        }
    }

    fn add_others(&mut self, offsets: Offsets) {
        self.others = Some(self.others.map_or(offsets, |others| others.and(offsets)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: SchemaId = SchemaId(7);

    fn offsets(first: i64, last: i64) -> Offsets {
        Offsets { first, last }
    }

    #[test]
    fn a_schema_is_dead_where_it_was_and_nowhere_else() {
        let mut schemas = DeadSchemas::default();
        schemas.dead(NEW, 10);
        schemas.dead(NEW, 14);
        // It was registered, and deleted again.
        schemas.usable(NEW);
        schemas.dead(NEW, 30);
        schemas.usable(SchemaId(8));
        schemas.dead(NEW, 31);
        let runs = [(Some(NEW), offsets(10, 14)), (Some(NEW), offsets(30, 31))];
        assert_eq!(schemas.runs().collect::<Vec<_>>(), runs);
        for (offset, judged) in [
            (9, Judged::Usable),
            (10, Judged::Dead),
            (12, Judged::Dead),
            (14, Judged::Dead),
            (15, Judged::Usable),
            (30, Judged::Dead),
            (32, Judged::Usable),
        ] {
            assert_eq!(schemas.judge(NEW, offset), judged, "{offset}");
            assert_eq!(schemas.judge(SchemaId(8), offset), Judged::Usable, "{offset}");
        }
    }

    #[test]
    fn what_no_replay_meets_any_more_is_forgotten() {
        let mut schemas = DeadSchemas::restore([(None, offsets(0, 12))]);
        schemas.dead(NEW, 10);
        schemas.dead(NEW, 20);
        assert_eq!(schemas.judge(SchemaId(1), 12), Judged::Open);
        let kept = schemas.since(12);
        assert_eq!(kept.runs().count(), 2);
        assert_eq!(schemas.since(20).judge(NEW, 20), Judged::Dead);
        assert_eq!(schemas.judge(SchemaId(1), 12), Judged::Usable);
        // A mark does not say whether a run goes on, and two of one state are equal.
        assert_eq!(schemas.since(20), DeadSchemas::restore([(Some(NEW), offsets(10, 20))]));
        schemas.dead(NEW, 21);
        assert_eq!(schemas.since(21).runs().collect::<Vec<_>>(), [(Some(NEW), offsets(10, 21))]);
        assert_eq!(schemas.since(22), DeadSchemas::default());
    }

    #[test]
    fn of_many_those_of_the_smallest_ids_are_kept_and_the_rest_is_open() {
        let mut schemas = DeadSchemas::default();
        let most = i64::try_from(MOST_RUNS).unwrap();
        // Noise first: ids that no registry has given.
        for offset in 0..most + 6 {
            schemas.dead(SchemaId(u32::MAX - u32::try_from(offset).unwrap()), offset);
        }
        for offset in 100..103 {
            schemas.dead(NEW, offset);
        }
        assert_eq!(schemas.runs().count(), MOST_RUNS + 1);
        assert_eq!(schemas.judge(NEW, 101), Judged::Dead);
        assert_eq!(schemas.judge(SchemaId(u32::MAX), 0), Judged::Open, "it made room");
        assert_eq!(schemas.judge(SchemaId(u32::MAX - 6), 6), Judged::Open, "for this one too");
        assert_eq!(schemas.judge(SchemaId(u32::MAX - 7), 7), Judged::Dead);
        assert_eq!(schemas.judge(SchemaId(1), 3), Judged::Open, "which made room, nobody knows");
        assert_eq!(schemas.judge(SchemaId(1), 50), Judged::Usable);
        assert_eq!(DeadSchemas::restore(schemas.runs()), schemas.since(0));
    }

    #[test]
    fn two_agree_where_both_have_looked() {
        let list = |runs: &[(i64, i64)]| {
            DeadSchemas::restore(
                runs.iter().map(|&(first, last)| (Some(NEW), offsets(first, last))),
            )
        };
        let (own, theirs) = (list(&[(5, 20), (40, 40)]), list(&[(10, 20)]));
        assert!(own.agrees(&theirs, 10, 40));
        assert!(!own.agrees(&theirs, 10, 41), "they have decoded it");
        assert!(!own.agrees(&theirs, 9, 40));
        assert!(own.agrees(&list(&[]), 21, 40) && !own.agrees(&list(&[]), 20, 40));
        let unknown = DeadSchemas::restore([(None, offsets(0, i64::MAX))]);
        assert!(!list(&[]).agrees(&unknown, 0, 1) && list(&[]).agrees(&unknown, 3, 3));
    }

    #[test]
    fn a_run_that_goes_on_behind_what_one_has_read_is_the_same() {
        let mut own = DeadSchemas::default();
        own.dead(SchemaId(9), 12);
        own.dead(NEW, 10);
        own.dead(NEW, 30);
        let run = |schema, last| (Some(schema), offsets(if schema == NEW { 10 } else { 12 }, last));
        let theirs = |last| DeadSchemas::restore([run(NEW, last), run(SchemaId(9), 12)]);
        assert!(own.agrees(&theirs(30), 5, 35) && own.agrees(&theirs(60), 5, 35));
        assert!(!own.agrees(&theirs(29), 5, 35), "they have decoded it");
        own.usable(NEW);
        assert!(!own.agrees(&theirs(60), 5, 35), "it was decoded, and is dead for them");
    }
}
