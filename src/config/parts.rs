//! The settings of each part, built from the checked ones.
