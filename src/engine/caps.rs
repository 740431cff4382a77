//! How many names one window of one partition may hold, decided in the offset order of the accepted inferences, which
//! alone bring them. What comes later than the cap goes to `(other)`.

use std::collections::{BTreeMap, BTreeSet};

use super::event::Segment;
use super::names::{ModelId, NameId, Names, OTHER, SegmentId, VersionId};
use super::settings::Caps;

/// The names that a window has let in.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    versions: BTreeMap<NameId, BTreeSet<NameId>>,
    segments: BTreeMap<(NameId, NameId, u16), BTreeSet<NameId>>,
}

impl Admitted {
    /// The model and version under which an inference is counted.
    pub fn model(
        &mut self,
        caps: &Caps,
        model: ModelId,
        version: VersionId,
        names: &mut Names,
    ) -> (ModelId, VersionId) {
        if !self.versions.contains_key(&model.0) && self.versions.len() >= caps.models {
            return (ModelId(names.intern(OTHER)), VersionId(Names::EMPTY));
        }
        let versions = self.versions.entry(model.0).or_default();
        if versions.contains(&version.0) || versions.len() < caps.versions {
            versions.insert(version.0);
            return (model, version);
        }
        (model, VersionId(names.intern(OTHER)))
    }

    /// The segment under which an inference of this (capped) model and version is counted. `dimension` is the
    /// dimension's name.
    pub fn segment(
        &mut self,
        caps: &Caps,
        (model, version): (ModelId, VersionId),
        segment: Segment,
        dimension: &str,
        names: &mut Names,
    ) -> SegmentId {
        let values = self.segments.entry((model.0, version.0, segment.dimension)).or_default();
        if values.contains(&segment.id.0) || values.len() < caps.segments {
            values.insert(segment.id.0);
            return segment.id;
        }
        SegmentId(names.intern(&format!("{dimension}={OTHER}")))
    }
}
