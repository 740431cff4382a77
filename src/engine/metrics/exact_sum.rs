//! Sums of finite doubles that do not depend on order and can be taken back exactly.

/// An exact sum.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExactSum;
