//! A hint to the processor, behind a safe name.
#![expect(unsafe_code, reason = "the hint takes a pointer")]

/// Asks for the cache line in which a value begins, which is read soon. Waits for nothing, and does nothing on
/// processors other than x86-64.
#[inline]
pub fn prefetch<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: it is a hint that neither reads nor writes, whatever the pointer.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast());
    }
}
