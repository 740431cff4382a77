//! The state machine of one key.

use crate::engine::state::Version;
use crate::engine::time::EventTime;
use crate::engine::window::Window;

use super::rule::{AlertKey, Bound, Judgement, Rule, Seen};

/// Where an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It holds.
    Opened,
    /// It held, and ended.
    Resolved,
    /// It had been announced, and later labels say that it never held; or its rule is gone.
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

/// One alert of one key. Value, interval and count are those of the window that changed the state last.
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
    /// The threshold that was crossed when it opened; a verdict has none.
    pub threshold: Option<f64>,
    /// Records behind the figure.
    pub n: Option<u64>,
}

impl Alert {
    fn opened(seen: &Seen, threshold: Option<f64>) -> Self {
        Self {
            opened: seen.window,
            state: State::Opened,
            resolved: None,
            value: seen.value,
            lower: seen.lower,
            upper: seen.upper,
            threshold,
            n: seen.n,
        }
    }

    fn resolve(&mut self, seen: &Seen) {
        *self = Self {
            opened: self.opened,
            state: State::Resolved,
            resolved: Some(seen.window),
            ..Self::opened(seen, self.threshold)
        };
    }

    /// The same, taken back.
    #[must_use]
    pub fn retracted(&self) -> Self {
        Self { state: State::Retracted, resolved: None, ..self.clone() }
    }

    /// The window that changed the state last.
    pub fn changed(&self) -> Window {
        self.resolved.unwrap_or(self.opened)
    }
}

/// How far the windows of one key have been judged, in time order, and the alerts on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    bound: Option<Bound>,
    breaches: u32,
    clears: u32,
    alerts: Vec<Alert>,
    version: Version,
    first: Option<Window>,
    until: Option<Window>,
    settled: EventTime,
}

impl Machine {
    /// Before the first window. The rule's bound is that of this key.
    pub fn new(rule: &Rule, key: &AlertKey) -> Self {
        Self {
            bound: rule.bound_of(key),
            breaches: 0,
            clears: 0,
            alerts: Vec::new(),
            version: Version(0),
            first: None,
            until: None,
            settled: EventTime(i64::MIN),
        }
    }

    /// Judges the next window.
    pub fn step(&mut self, rule: &Rule, seen: &Seen) {
        let generation = self.version.generation().max(seen.version.generation());
        let parts = [self.version, seen.version, Version(1)];
        self.version = Version::sum(generation, parts);
        self.first = self.first.or(Some(seen.window));
        self.until = Some(seen.window);
        match rule.judge(self.bound, seen) {
            Judgement::Unknown => {}
            Judgement::Between => (self.breaches, self.clears) = (0, 0),
            Judgement::Breach => {
                (self.breaches, self.clears) = (self.breaches.saturating_add(1), 0);
                if self.breaches >= rule.opens_after && !self.is_open() {
                    let threshold = self.bound.and_then(|bound| bound.threshold(seen.value));
                    self.alerts.push(Alert::opened(seen, threshold));
                }
            }
            Judgement::Clear => {
                (self.breaches, self.clears) = (0, self.clears.saturating_add(1));
                let is_enough = self.clears >= rule.clears_after;
                let open = self.alerts.last_mut().filter(|last| last.state == State::Opened);
                if let Some(last) = open.filter(|_| is_enough) {
                    last.resolve(seen);
                }
            }
        }
    }

    /// Judges the windows behind the last one that end by `end` as sealed ones without a row. All say the same: once as
    /// many are judged as can open or end an alert, the rest is counted at once. Behind a wrong time of 1970 there are
    /// millions of them.
    pub fn pass_silence(&mut self, rule: &Rule, end: EventTime) {
        let Some(last) = self.until else { return };
        let size = rule.size.0;
        let windows = end.0.saturating_sub(last.end.0).div_euclid(size);
        let deciding = i64::from(rule.opens_after.max(rule.clears_after));
        let nth = |n: i64| Seen::silent(Window::of(EventTime(last.end.0 + n * size), rule.size));
        for n in 0..windows.min(deciding) {
            self.step(rule, &nth(n));
        }
        let Some(rest) = u64::try_from(windows - deciding).ok().filter(|rest| *rest > 0) else {
            return;
        };
        let newest = nth(windows - 1);
        let run = match rule.judge(self.bound, &newest) {
            Judgement::Breach => Some(&mut self.breaches),
            Judgement::Clear => Some(&mut self.clears),
            Judgement::Between | Judgement::Unknown => None,
        };
        if let Some(run) = run {
            *run = run.saturating_add(u32::try_from(rest).unwrap_or(u32::MAX));
        }
        let parts = [self.version, Version(rest)];
        self.version = Version::sum(self.version.generation(), parts);
        self.until = Some(newest.window);
    }

    /// Whether the newest alert has not been resolved.
    pub fn is_open(&self) -> bool {
        self.alerts.last().is_some_and(|last| last.state == State::Opened)
    }

    /// Alerts in time order: all since the last [`settle`](Self::settle), and before them one that was open then.
    pub fn alerts(&self) -> &[Alert] {
        &self.alerts
    }

    /// The first window judged. What opened before it was found in rows that are gone.
    pub fn first(&self) -> Option<Window> {
        self.first
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
        self.settled = self.until.map_or(self.settled, |last| last.end);
    }

    /// Alerts of windows that end by then are final and forgotten.
    pub fn settled(&self) -> EventTime {
        self.settled
    }
}
