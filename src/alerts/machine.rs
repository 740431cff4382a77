//! The state machine of one key.

use std::sync::Arc;

use crate::engine::state::Version;
use crate::engine::window::Window;

use super::rule::{Judgement, Rule, Seen};

/// What an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlertKey {
    /// The rule's name.
    pub rule: Arc<str>,
    /// The model.
    pub model: Arc<str>,
    /// The model's version.
    pub version: Arc<str>,
    /// `all` or `dimension=value`.
    pub segment: Arc<str>,
    /// The feature, class or threshold, where the table has rows for each; else empty.
    pub feature: Arc<str>,
    /// The name of the windows' length.
    pub grain: Arc<str>,
}

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    Opened,
    /// It held, and ended.
    Resolved,
    /// It had been announced, and later labels say that it never held.
    Retracted,
}

impl State {
    /// As the table has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Resolved => "resolved",
            Self::Retracted => "retracted",
        }
    }

    /// The state of this name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Opened, Self::Resolved, Self::Retracted].into_iter().find(|s| s.name() == name)
    }
}

/// One alert of one key. Value, limits and count are those of the window that changed the state last.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The window that completed the run of breaches.
    pub opened: Window,
    /// Where it stands.
    pub state: State,
    /// The window that completed the run of clear ones.
    pub resolved: Option<Window>,
    /// The figure.
    pub value: Option<f64>,
    /// Lower limit of its interval.
    pub lower: Option<f64>,
    /// Upper limit of its interval.
    pub upper: Option<f64>,
    /// Records behind it.
    pub n: Option<u64>,
}

impl Alert {
    fn at(opened: Window, state: State, seen: &Seen) -> Self {
        Self {
            opened,
            state,
            resolved: (state == State::Resolved).then_some(seen.window),
            value: seen.value,
            lower: seen.lower,
            upper: seen.upper,
            n: seen.n,
        }
    }

    /// The window that changed the state last.
    pub fn changed(&self) -> Window {
        self.resolved.unwrap_or(self.opened)
    }
}

/// How far the windows of one key have been judged, in time order, and the alerts on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    breaches: u32,
    clears: u32,
    alerts: Vec<Alert>,
    version: Version,
    until: Option<Window>,
}

impl Default for Machine {
    fn default() -> Self {
        Self { breaches: 0, clears: 0, alerts: Vec::new(), version: Version(0), until: None }
    }
}

impl Machine {
    /// Judges the next window.
    pub fn step(&mut self, rule: &Rule, seen: &Seen) {
        let generation = self.version.generation().max(seen.version.generation());
        let parts = [self.version, seen.version, Version(1)];
        self.version = Version::sum(generation, parts.into_iter(), false);
        self.until = Some(seen.window);
        match rule.judge(seen) {
            Judgement::Unknown => {}
            Judgement::Between => (self.breaches, self.clears) = (0, 0),
            Judgement::Breach => {
                (self.breaches, self.clears) = (self.breaches.saturating_add(1), 0);
                if self.breaches >= rule.opens_after && !self.is_open() {
                    self.alerts.push(Alert::at(seen.window, State::Opened, seen));
                }
            }
            Judgement::Clear => {
                (self.breaches, self.clears) = (0, self.clears.saturating_add(1));
                let is_enough = self.clears >= rule.clears_after;
                let open = self.alerts.last_mut().filter(|last| last.state == State::Opened);
                if let Some(last) = open.filter(|_| is_enough) {
                    *last = Alert::at(last.opened, State::Resolved, seen);
                }
            }
        }
    }

    /// Whether the newest alert has not been resolved.
    pub fn is_open(&self) -> bool {
        self.alerts.last().is_some_and(|last| last.state == State::Opened)
    }

    /// Alerts in time order: all since the last [`settle`](Self::settle), and before them one that was open then.
    pub fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// The last window judged.
    pub fn until(&self) -> Option<Window> {
        self.until
    }

    /// The version of the key's alert rows: the sum of the versions of all windows judged, plus their number.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Forgets the alerts that nothing can change any more: the windows judged so far are sealed.
    pub fn settle(&mut self) {
        let last = if self.is_open() { self.alerts.pop() } else { None };
        self.alerts = last.into_iter().collect();
    }
}
