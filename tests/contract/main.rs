//! What each part promises at its seams.

mod source;
