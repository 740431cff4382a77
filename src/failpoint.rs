//! Points at which a test makes the process die, sleep, or break a promise on purpose. Compiled in by the feature
//! `failpoints` only, which this package's own tests turn on: elsewhere every function here is empty.
//!
//! `TIDEGAUGE_FAILPOINTS` names them: `NAME[@N]=ACTION`, with commas between. `N` counts the times that the process
//! comes by, from 1. `kill` and `sleep:MILLISECONDS` act at the N-th time only, `break` from the N-th time on. What was
//! done is told on standard error, so that a test knows that it was.

use crate::engine::event::{Event, Offset, PartitionId, RequestId};
use crate::engine::state::StateRow;

/// Where something can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A flush has frozen the shards and has written nothing yet.
    BeforeInsert,
    /// The whole request of an insert has been handed to the connection, and no answer has been read.
    InsertSent,
    /// State rows are acknowledged, seal marks are not written.
    StatesAcknowledged,
    /// Seal marks are acknowledged, metric rows are not written.
    SealsAcknowledged,
    /// Metric rows are acknowledged, the mark is not written.
    MetricsAcknowledged,
    /// The mark is acknowledged, offsets are not committed.
    MarkAcknowledged,
    /// The commit has been asked for, the workers do not know yet that they are clean.
    Committed,
    /// Rows of alerts are acknowledged, nobody has noted that people are to be told.
    AlertsWritten,
    /// Notifications are noted, none has been sent.
    NotificationsWritten,
    /// The thread that polls Kafka, before a poll, while partitions are read.
    KafkaPoll,
    /// Broken: the mark is written before the rows that it vouches for.
    MarkBeforeRows,
    /// Broken: an insert that failed counts as acknowledged.
    FailedInsertDropped,
    /// Broken: nothing is read back before a mark vouches for it.
    AuditSkipped,
    /// Broken: a duplicate is folded, as if it were another request.
    DuplicateFolded,
    /// Broken: the version of a state row counts the writes of this process, not the records folded in.
    VersionFromCounter,
    /// Request IDs are told apart by 12 bits of their hash only.
    ShortRequestId,
}

#[cfg(feature = "failpoints")]
pub use armed::{event, hit, is_broken, reply, request_id, versions};
#[cfg(not(feature = "failpoints"))]
pub use disarmed::{event, hit, is_broken, reply, request_id, versions};

#[cfg(not(feature = "failpoints"))]
mod disarmed {
    use super::{Event, Offset, PartitionId, Point, RequestId, StateRow};

    /// Comes by a point.
    #[inline]
    pub const fn hit(_: Point) {}

    /// Whether the broken path is to be taken.
    #[inline]
    pub const fn is_broken(_: Point) -> bool {
        false
    }

    /// Waits for an answer, with a point in between.
    #[inline]
    pub fn reply<F: Future>(_: Point, answer: F) -> F {
        answer
    }

    /// The request ID that counts.
    #[inline]
    pub const fn request_id(id: RequestId) -> RequestId {
        id
    }

    /// The versions that are written.
    #[inline]
    pub const fn versions(_: &mut [StateRow]) {}

    /// The event that is folded.
    #[inline]
    pub const fn event(_: PartitionId, _: Offset, event: Event<'_>) -> Event<'_> {
        event
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Mutex, OnceLock, PoisonError};
    use std::time::Duration;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::{Event, Offset, PartitionId, Point, RequestId, StateRow};
    use crate::engine::names::{ModelId, VersionId};
    use crate::engine::state::Version;

    const VARIABLE: &str = "TIDEGAUGE_FAILPOINTS";
    /// Of the hash of a request ID, where it is shortened.
    const SHORT_HASH: u64 = 0xfff;
    /// The connection's own tasks put the last bytes out meanwhile; an answer takes longer, as a rule.
    const SENDING: Duration = Duration::from_millis(1);
    /// More than the records of any window.
    const COUNTED_VERSION: u64 = 1_000_000;

    const NAMES: [(&str, Point); 16] = [
        ("before-insert", Point::BeforeInsert),
        ("insert-sent", Point::InsertSent),
        ("states-acknowledged", Point::StatesAcknowledged),
        ("seals-acknowledged", Point::SealsAcknowledged),
        ("metrics-acknowledged", Point::MetricsAcknowledged),
        ("mark-acknowledged", Point::MarkAcknowledged),
        ("committed", Point::Committed),
        ("alerts-written", Point::AlertsWritten),
        ("notifications-written", Point::NotificationsWritten),
        ("kafka-poll", Point::KafkaPoll),
        ("mark-before-rows", Point::MarkBeforeRows),
        ("failed-insert-dropped", Point::FailedInsertDropped),
        ("audit-skipped", Point::AuditSkipped),
        ("duplicate-folded", Point::DuplicateFolded),
        ("version-from-counter", Point::VersionFromCounter),
        ("short-request-id", Point::ShortRequestId),
    ];

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Action {
        Kill,
        Sleep(Duration),
        Break,
    }

    /// One setting, and how often its point has been passed.
    #[derive(Debug)]
    struct Armed {
        point: Point,
        at: u64,
        action: Action,
        passed: AtomicU64,
    }

    fn parse(text: &str) -> Option<Vec<Armed>> {
        let armed = |setting: &str| {
            let (place, action) = setting.trim().split_once('=')?;
            let (name, at) = place.split_once('@').unwrap_or((place, "1"));
            let action = match action.split_once(':').unwrap_or((action, "")) {
                ("kill", "") => Action::Kill,
                ("break", "") => Action::Break,
                ("sleep", ms) => Action::Sleep(Duration::from_millis(ms.parse().ok()?)),
                _ => return None,
            };
            let point = NAMES.iter().find(|(known, _)| *known == name)?.1;
            let at = at.parse().ok().filter(|&at| at > 0)?;
            Some(Armed { point, at, action, passed: AtomicU64::new(0) })
        };
        text.split(',').filter(|setting| !setting.trim().is_empty()).map(armed).collect()
    }

    #[expect(clippy::disallowed_methods, reason = "a test's switch, no option of the program")]
    fn settings() -> &'static [Armed] {
        static SETTINGS: OnceLock<Vec<Armed>> = OnceLock::new();
        SETTINGS.get_or_init(|| {
            let text = std::env::var(VARIABLE).unwrap_or_default();
            parse(&text).unwrap_or_else(|| {
                eprintln!("{VARIABLE} can't be read: {text}");
                std::process::abort() // a thread that panics could be missed
            })
        })
    }

    /// Comes by a point.
    pub fn hit(point: Point) {
        for armed in settings().iter().filter(|armed| armed.point == point) {
            if armed.passed.fetch_add(1, Ordering::Relaxed) + 1 == armed.at {
                armed.act();
            }
        }
    }

    impl Armed {
        #[expect(clippy::disallowed_methods, reason = "a test asked for it")]
        fn act(&self) {
            match self.action {
                Action::Kill => {
                    eprintln!("failpoint {:?}, time {}: kill", self.point, self.at);
                    let _is_dead = kill(Pid::this(), Signal::SIGKILL);
                    std::thread::sleep(Duration::MAX); // until it reaches this thread too
                }
                Action::Sleep(time) => {
                    eprintln!("failpoint {:?}, time {}: sleep {time:?}", self.point, self.at);
                    std::thread::sleep(time);
                    eprintln!("failpoint {:?}, time {}: awake", self.point, self.at);
                }
                Action::Break => {}
            }
        }
    }

    /// Whether the broken path is to be taken.
    pub fn is_broken(point: Point) -> bool {
        let breaks = |armed: &&Armed| armed.point == point && armed.action == Action::Break;
        settings().iter().find(breaks).is_some_and(|armed| {
            let passed = armed.passed.fetch_add(1, Ordering::Relaxed) + 1;
            if passed == armed.at {
                eprintln!("failpoint {point:?}, time {passed}: broken from now on");
            }
            passed >= armed.at
        })
    }

    /// Waits for an answer; the point is between the last byte sent and the answer read.
    pub async fn reply<F: Future>(point: Point, answer: F) -> F::Output {
        let is_meant = |armed: &Armed| armed.point == point;
        if !settings().iter().any(is_meant) {
            return answer.await;
        }
        let mut answer = std::pin::pin!(answer);
        let early = tokio::time::timeout(SENDING, &mut answer).await;
        hit(point);
        match early {
            Ok(answer) => answer, // it was in the buffer already, unread by whoever asked
            Err(_) => answer.await,
        }
    }

    /// The request ID that counts.
    pub fn request_id(id: RequestId) -> RequestId {
        if !is_broken(Point::ShortRequestId) {
            return id;
        }
        RequestId::of(&(id.low & SHORT_HASH).to_le_bytes())
    }

    /// The versions that are written.
    pub fn versions(rows: &mut [StateRow]) {
        static WRITES: AtomicU64 = AtomicU64::new(COUNTED_VERSION);
        if rows.is_empty() || !is_broken(Point::VersionFromCounter) {
            return;
        }
        let writes = WRITES.fetch_add(1, Ordering::Relaxed);
        for row in rows {
            row.version = Version::of(row.version.generation(), writes, row.version.is_sealed());
        }
    }

    /// The event that is folded: an inference of an identity that was read before becomes one of its own.
    pub fn event(partition: PartitionId, offset: Offset, event: Event<'_>) -> Event<'_> {
        type Identity = (PartitionId, RequestId, ModelId, VersionId);
        static FIRST: Mutex<BTreeMap<Identity, Offset>> = Mutex::new(BTreeMap::new());
        let Event::Inference(mut inference) = event else { return event };
        if !is_broken(Point::DuplicateFolded) {
            return event;
        }
        let identity = (partition, inference.id, inference.model, inference.version);
        let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        if *first.entry(identity).or_insert(offset) != offset {
            inference.id = RequestId::of(&offset.0.to_le_bytes());
        }
        Event::Inference(inference)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn settings_are_read_whole_or_not_at_all() {
            let read = parse("before-insert@3=kill, kafka-poll=sleep:20,short-request-id=break");
            let read = read.unwrap();
            let read: Vec<_> = read.iter().map(|a| (a.point, a.at, a.action)).collect();
            let sleep = Action::Sleep(Duration::from_millis(20));
            assert_eq!(
                read,
                [
                    (Point::BeforeInsert, 3, Action::Kill),
                    (Point::KafkaPoll, 1, sleep),
                    (Point::ShortRequestId, 1, Action::Break),
                ]
            );
            assert!(parse("").unwrap().is_empty());
            for wrong in ["before-insert", "nowhere=kill", "committed@0=kill", "committed=sleep"] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
