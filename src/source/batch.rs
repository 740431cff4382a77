//! Batches of records straight from librdkafka's queues, behind safe types.
//!
//! `rd_kafka_consume_batch_queue` costs 0.29 of what polling message by message does, because it takes the queue's lock
//! once per message but reads no clock and allocates nothing.
#![expect(
    unsafe_code,
    reason = "the client crate has no batches: eight functions of librdkafka, wrapped here"
)]

use std::any::Any;
use std::ffi::{CStr, CString, c_void};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka_sys as sys;

use super::Record;
use crate::engine::event::{Offset, PartitionId, Stream};
use crate::engine::time::RecordTime;

/// Records that one batch holds at most.
pub const BATCH_RECORDS: usize = 1000;

/// Wakes a worker: raised when one of its queues gets its first message, and by the control thread.
#[derive(Debug, Default)]
pub(super) struct Waker {
    raised: Mutex<bool>,
    condition: Condvar,
}

impl Waker {
    /// Ends the present wait, or the next one if nobody waits.
    pub(super) fn raise(&self) {
        *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.condition.notify_one();
    }

    /// Waits until raised, at most so long.
    pub(super) fn wait(&self, at_most: Duration) {
        let raised = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut raised, _) = self
            .condition
            .wait_timeout_while(raised, at_most, |raised| !*raised)
            .unwrap_or_else(PoisonError::into_inner);
        *raised = false;
    }
}

/// A native queue that partitions can be forwarded into. Belongs to one worker.
pub(super) struct Queue {
    handle: NonNull<sys::rd_kafka_queue_t>,
    waker: Arc<Waker>,
    client: Arc<dyn Any + Send + Sync>,
}

// SAFETY: librdkafka's queues may be used from any thread; the handle is owned by this value alone.
unsafe impl Send for Queue {}

impl fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Queue").finish_non_exhaustive()
    }
}

impl Queue {
    /// An empty queue of this client, which raises `waker` whenever it gets its first message.
    pub(super) fn new<C>(consumer: &Arc<BaseConsumer<C>>, waker: &Arc<Waker>) -> Self
    where
        C: ConsumerContext + 'static,
    {
        // SAFETY: the client pointer is valid: `consumer` owns it, and the clone of the Arc in this value keeps the
        // client alive until after `drop` has destroyed the queue.
        let queue = unsafe { sys::rd_kafka_queue_new(consumer.client().native_ptr()) };
        let queue = NonNull::new(queue).expect("librdkafka aborts rather than run out of memory");
        let waker = Arc::clone(waker);
        let opaque: *const Waker = Arc::as_ptr(&waker);
        // SAFETY: the callback only reads a Waker behind `opaque`; `waker` in this value keeps it alive until `drop`
        // has taken the callback away.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(
                queue.as_ptr(),
                Some(raise),
                opaque.cast_mut().cast::<c_void>(),
            );
        }
        let client: Arc<dyn Any + Send + Sync> = Arc::<BaseConsumer<C>>::clone(consumer);
        Self { handle: queue, waker, client }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the handle is valid and nobody else has it. Callbacks run under the queue's lock, which the first
        // call takes, so after it none runs and none will; `waker` and `client` are dropped after this function.
        // Partitions that still forward here hold a count of their own on the queue inside librdkafka.
        unsafe {
            sys::rd_kafka_queue_cb_event_enable(self.handle.as_ptr(), None, ptr::null_mut());
            sys::rd_kafka_queue_destroy(self.handle.as_ptr());
        }
        self.waker.raise();
    }
}

/// Called by librdkafka's threads, with the queue locked: must not call back into it.
unsafe extern "C" fn raise(_client: *mut sys::rd_kafka_t, opaque: *mut c_void) {
    // SAFETY: `opaque` is the Waker given in `Queue::new`, which lives as long as the callback is set.
    let waker = unsafe { &*opaque.cast::<Waker>() };
    waker.raise();
}

/// Forwards a partition's messages into `to`, or nowhere. The partition's handle is asked for anew each time, because
/// one from an earlier assignment may be stale (librdkafka #1792).
pub(super) fn forward<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: PartitionId,
    to: Option<&Queue>,
) -> bool {
    let Ok(topic) = CString::new(topic) else { return false };
    // SAFETY: client and topic are valid for the call; the handle is destroyed below.
    let source = unsafe {
        sys::rd_kafka_queue_get_partition(
            consumer.client().native_ptr(),
            topic.as_ptr(),
            partition.0,
        )
    };
    let Some(source) = NonNull::new(source) else { return false };
    let destination = to.map_or(ptr::null_mut(), |queue| queue.handle.as_ptr());
    // SAFETY: both handles are valid. librdkafka counts the destination for itself, so the forwarding outlives `to`.
    unsafe {
        sys::rd_kafka_queue_forward(source.as_ptr(), destination);
        sys::rd_kafka_queue_destroy(source.as_ptr());
    }
    true
}

/// An error that came in place of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// The partition that it is about.
    pub(super) partition: PartitionId,
    /// librdkafka's code.
    pub(super) code: sys::RDKafkaErrorCode,
    /// What librdkafka says.
    pub(super) reason: String,
}

/// A message that is destroyed when dropped.
struct Message(NonNull<sys::rd_kafka_message_t>);

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the message came from `rd_kafka_consume_batch_queue`, is destroyed only here, and the batch that
        // holds it keeps the client alive.
        unsafe { sys::rd_kafka_message_destroy(self.0.as_ptr()) }
    }
}

/// Up to [`BATCH_RECORDS`] messages, destroyed by the next [`Batch::fill`] and when the batch is dropped.
#[derive(Default)]
pub(super) struct Batch {
    // Borrow from `messages`, not for ever: cleared before them, and lent out with the batch's own lifetime only.
    records: Vec<Record<'static>>,
    failures: Vec<Failure>,
    messages: Vec<Message>,
    pointers: Vec<*mut sys::rd_kafka_message_t>,
    client: Option<Arc<dyn Any + Send + Sync>>,
}

// SAFETY: messages may be read and destroyed on any thread; this value is their only owner.
unsafe impl Send for Batch {}

impl fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Batch")
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// Takes what the queue holds now, without waiting, and keeps the records that `keep` agrees to. Returns how many
    /// messages there were, kept or not. (With a wait librdkafka would wait for a full batch.)
    pub(super) fn fill(
        &mut self,
        queue: &Queue,
        stream: Stream,
        mut keep: impl FnMut(PartitionId, Offset) -> bool,
    ) -> usize {
        self.clear();
        self.client = Some(Arc::clone(&queue.client));
        self.pointers.resize(BATCH_RECORDS, ptr::null_mut());
        // SAFETY: the queue is valid, and the buffer has room for BATCH_RECORDS pointers.
        let count = unsafe {
            sys::rd_kafka_consume_batch_queue(
                queue.handle.as_ptr(),
                0,
                self.pointers.as_mut_ptr(),
                BATCH_RECORDS,
            )
        };
        let count = usize::try_from(count).unwrap_or(0).min(BATCH_RECORDS);
        let taken = self.pointers.iter().take(count).filter_map(|&message| NonNull::new(message));
        self.messages.extend(taken.map(Message));
        for message in &self.messages {
            // SAFETY: librdkafka gave out a valid message, which lives until `message` is dropped.
            let raw = unsafe { message.0.as_ref() };
            if raw.err != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                self.failures.push(failure(raw));
            } else if keep(PartitionId(raw.partition), Offset(raw.offset)) {
                // SAFETY: the record borrows from a message in `messages`. It is removed before the message is
                // destroyed (`clear`, and field order on drop), and lent out no longer than the batch is borrowed.
                self.records.push(unsafe { record(raw, stream) });
            }
        }
        count
    }

    /// The records of the last fill.
    pub(super) fn records(&self) -> &[Record<'_>] {
        &self.records
    }

    /// The errors of the last fill, taken out.
    pub(super) fn take_failures(&mut self) -> Vec<Failure> {
        std::mem::take(&mut self.failures)
    }

    /// Destroys all messages.
    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.failures.clear();
        self.messages.clear();
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.clear(); // before `client`, whatever the order of the fields
    }
}

/// Copies an error message.
fn failure(raw: &sys::rd_kafka_message_t) -> Failure {
    // SAFETY: the message is valid; the text belongs to it or is static, and is copied at once.
    let reason = unsafe {
        let text = sys::rd_kafka_message_errstr(raw);
        if text.is_null() {
            String::new()
        } else {
            CStr::from_ptr(text).to_string_lossy().into_owned()
        }
    };
    Failure { partition: PartitionId(raw.partition), code: raw.err.into(), reason }
}

/// The record in a message.
///
/// # Safety
/// The result must not be used after the message is destroyed.
unsafe fn record(raw: &sys::rd_kafka_message_t, stream: Stream) -> Record<'static> {
    let mut kind = sys::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
    // SAFETY: the message is valid for the call.
    let time = unsafe { sys::rd_kafka_message_timestamp(raw, &raw mut kind) };
    // SAFETY: librdkafka gives pointer and length of one allocation that the message keeps; the caller sees to the rest.
    let (key, payload) = unsafe { (bytes(raw.key, raw.key_len), bytes(raw.payload, raw.len)) };
    Record {
        stream,
        partition: PartitionId(raw.partition),
        offset: Offset(raw.offset),
        time: RecordTime(time),
        key,
        payload,
    }
}

/// The bytes at a pointer; none where it is null.
///
/// # Safety
/// The pointer is null, or `length` bytes at it stay valid while the result is used.
unsafe fn bytes(start: *mut c_void, length: usize) -> Option<&'static [u8]> {
    // SAFETY: promised by the caller.
    NonNull::new(start.cast::<u8>())
        .map(|start| unsafe { std::slice::from_raw_parts(start.as_ptr(), length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_waker_does_not_wait() {
        let waker = Waker::default();
        waker.raise();
        waker.wait(Duration::from_secs(3600));
    }

    #[test]
    fn null_has_no_bytes() {
        // SAFETY: a null pointer is never read.
        assert_eq!(unsafe { bytes(ptr::null_mut(), 5) }, None);
    }
}
