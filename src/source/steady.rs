//! The Kafka client's timed waits, by a clock that nobody sets.
//!
//! librdkafka waits with C11's `cnd_timedwait` until a wall-clock time. Where the clock is put back by an hour meanwhile,
//! each of its waits lasts an hour longer unless something else ends it: heartbeats stop, questions are not answered,
//! rows stand still. It has no setting for that. So the program brings this function itself: a program's own functions
//! take the place of the C library's. Other systems than Linux with glibc keep the library's.

#![expect(unsafe_code, reason = "a function that C code calls, and the C library's that it calls")]

use std::ffi::{c_int, c_void};

use nix::libc::{self, timespec};

const SECOND_NS: i128 = 1_000_000_000;
/// `thrd_success`, `thrd_error` and `thrd_timedout` of glibc's threads.h.
const SUCCESS: c_int = 0;
const ERROR: c_int = 2;
const TIMED_OUT: c_int = 4;

unsafe extern "C" {
    fn pthread_cond_clockwait(
        condition: *mut c_void,
        mutex: *mut c_void,
        clock: libc::clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// Waits for a condition until a wall-clock time as the clock stands now: what is left until then is waited for, however
/// the clock is set meanwhile.
///
/// # Safety
/// As C11 says: the mutex is locked by this thread, and all three point to what they say.
#[unsafe(no_mangle)]
unsafe extern "C" fn cnd_timedwait(
    condition: *mut c_void,
    mutex: *mut c_void,
    until: *const timespec,
) -> c_int {
    let (Some(now), Some(steady)) = (time(libc::CLOCK_REALTIME), time(libc::CLOCK_MONOTONIC))
    else {
        return ERROR;
    };
    // SAFETY: the caller's pointer to a time.
    let left = nanoseconds(unsafe { &*until }) - now;
    let Some(end) = timespec_of(steady + left.max(0)) else { return ERROR };
    // SAFETY: glibc's `cnd_t` and `mtx_t` are its `pthread_cond_t` and `pthread_mutex_t`, and its own function casts them
    // likewise; any condition may be waited for by any clock.
    match unsafe { pthread_cond_clockwait(condition, mutex, libc::CLOCK_MONOTONIC, &raw const end) }
    {
        0 => SUCCESS,
        libc::ETIMEDOUT => TIMED_OUT,
        _ => ERROR,
    }
}

/// Keeps [`cnd_timedwait`] in the program, although nothing in Rust calls it. To be called before the first client is
/// made.
pub(super) fn keep() {
    let function: unsafe extern "C" fn(*mut c_void, *mut c_void, *const timespec) -> c_int =
        cnd_timedwait;
    std::hint::black_box(function);
}

/// Nanoseconds that a clock shows.
fn time(clock: libc::clockid_t) -> Option<i128> {
    let mut shown = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes into the time that it is given.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut shown) };
    (failed == 0).then(|| nanoseconds(&shown))
}

fn nanoseconds(time: &timespec) -> i128 {
    i128::from(time.tv_sec) * SECOND_NS + i128::from(time.tv_nsec)
}

fn timespec_of(nanoseconds: i128) -> Option<timespec> {
    Some(timespec {
        tv_sec: (nanoseconds / SECOND_NS).try_into().ok()?,
        tv_nsec: (nanoseconds % SECOND_NS).try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits until so many milliseconds from now.
    fn wait(ms: i128) -> (c_int, i128) {
        let mut condition = libc::PTHREAD_COND_INITIALIZER;
        let mut mutex = libc::PTHREAD_MUTEX_INITIALIZER;
        // First, since a thread that is held up in between has less to wait.
        let began = time(libc::CLOCK_MONOTONIC).unwrap();
        let until = timespec_of(time(libc::CLOCK_REALTIME).unwrap() + ms * 1_000_000).unwrap();
        // SAFETY: both are initialized and used by this thread only, which locks the mutex before and unlocks it after.
        let result = unsafe {
            libc::pthread_mutex_lock(&raw mut mutex);
            let (condition, mutex) = (&raw mut condition, &raw mut mutex);
            let result = cnd_timedwait(condition.cast(), mutex.cast(), &raw const until);
            libc::pthread_mutex_unlock(mutex);
            result
        };
        (result, (time(libc::CLOCK_MONOTONIC).unwrap() - began) / 1_000_000)
    }

    #[test]
    fn a_wait_ends_at_its_time_and_not_at_all_late_where_that_has_passed() {
        let (result, lasted) = wait(40);
        assert_eq!(result, TIMED_OUT);
        assert!((39..10_000).contains(&lasted), "{lasted} ms");
        let (result, lasted) = wait(-3_600_000);
        assert_eq!(result, TIMED_OUT);
        assert!(lasted < 10_000, "{lasted} ms");
    }
}
