//! How old what the rows show is: from the moment in which a record is given to the producer until a query's answer
//! counts it.
//!
//! Records have no number in the rows, so counts stand for them: the n-th record is taken for visible once the rows
//! count n. It is timed from before it is sent until the answer is there, so no lag is too small for its count; but a
//! partition that lags is seen only as far as the total lags.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegauge::traffic::produce::Until;
use tidegauge::traffic::{Shares, Traffic};

use super::measured::process_s;
use super::restart::Running;
use super::sets::{Case, Stage, float};
use super::targets::{FRESHNESS_S, Figure};

/// The program's default.
pub const FLUSH_INTERVAL_S: f64 = 5.0;
/// Between two queries.
const LOOK: Duration = Duration::from_millis(50);
/// When how many records were sent, or shown.
type Counts = Vec<(Instant, u64)>;

/// How inferences and their labels are sent.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Inferences and labels a second.
    pub records_per_s: f64,
    /// How long inferences are sent.
    pub length: Duration,
    /// Within what time labels follow them.
    pub label_delay: Duration,
}

/// Sends records. Gives the 99th percentile of the age of inferences and of labels.
pub fn run(stage: &mut Stage, base: Case, flow: Flow) -> Vec<Figure> {
    let Flow { records_per_s, length, label_delay } = flow;
    let mut case = base;
    let delay_ms = i64::try_from(label_delay.as_millis()).expect("a short time");
    case.shape.label_delay_ms = Some(delay_ms);
    let (topics, sender, encoding) = stage.topics(case, 5);
    let job = stage.new_job(&topics, case);
    let mut running = Running::start(stage, &job);
    running.wait_until("its partitions to be read", || {
        let log = std::fs::read_to_string(stage.path("running.log")).unwrap_or_default();
        log.contains("assigned")
    });
    let settings = case.traffic(1, now_ms(), records_per_s / 2.0, Shares::NONE);
    let end_ms = settings.start_ms + i64::try_from(length.as_millis()).expect("a short time");
    let mut traffic = Traffic::new(settings, encoding);
    let until = Until { time_ms: Some(end_ms), all_labels: true, ..Until::default() };
    let is_sent = AtomicBool::new(false);
    let mut sent: [Counts; 2] = Default::default();
    let before = ["InsertQuery", "InsertedRows"].map(|event| stage.events(event));
    let begun = Instant::now();
    let shown = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut shown: [Counts; 2] = Default::default();
            let mut last = [0; 2];
            let mut since_change = Instant::now();
            // After the last record a few flushes go by before rows that are missing are given up.
            while !is_sent.load(Ordering::Acquire)
                || since_change.elapsed().as_secs_f64() < 3.0 * FLUSH_INTERVAL_S
            {
                let counts = stage.shown(&job.name);
                let now = Instant::now();
                if counts != last {
                    (last, since_change) = (counts, now);
                }
                for (shown, count) in shown.iter_mut().zip(counts) {
                    shown.push((now, count));
                }
                thread::sleep(LOOK);
            }
            shown
        });
        let mut note = |traffic: &Traffic| {
            let counts = [traffic.truth().inference_records(), traffic.truth().label_records()];
            let now = Instant::now();
            for (sent, count) in sent.iter_mut().zip(counts) {
                sent.push((now, count));
            }
        };
        let clock = || now_ms();
        let done = sender.run(&mut traffic, until, Some(&clock), &|| false, &mut note);
        note(&traffic);
        is_sent.store(true, Ordering::Release);
        done.expect("the broker takes all");
        looking.join().expect("the rows are there")
    });
    let wanted = [traffic.truth().inference_records(), traffic.truth().label_records()];
    assert_eq!(stage.shown(&job.name), wanted, "a row is wrong");
    // Later than asked for where the producer can't keep the rate.
    let last_inference = sent[0].iter().find(|(_, count)| *count == wanted[0]);
    let took = last_inference.map_or(0.0, |(at, _)| (*at - begun).as_secs_f64());
    let after = ["InsertQuery", "InsertedRows"].map(|event| stage.events(event));
    println!(
        "{} inserts of {} rows in {:.0} s; {:.1} CPU s",
        after[0] - before[0],
        after[1] - before[1],
        begun.elapsed().as_secs_f64(),
        process_s(running.0.id())
    );
    println!(
        "{} records of {} asked for a second were sent, the last inference after {took:.1} s",
        wanted[0] + wanted[1],
        records_per_s.round()
    );
    let of_each = |(name, (sent, shown)): (&&str, (&Counts, &Counts))| {
        let mut lags = lags(begun, sent, shown);
        let [p50, p99, most] = [0.5, 0.99, 1.0].map(|of| quantile(&mut lags, of));
        println!("freshness/{name}: p50 {p50:.2} s, p99 {p99:.2} s, maximum {most:.2} s");
        let what = format!("freshness of {name} at {records_per_s:.0}/s, p99, s");
        Figure::at_most(FRESHNESS_S, p99, what)
    };
    ["inferences", "labels"].iter().zip(sent.iter().zip(&shown)).map(of_each).collect()
}

/// Seconds until each count was shown, and how many records have this lag. What was sent since the note before counts
/// from then.
fn lags(begun: Instant, sent: &Counts, shown: &Counts) -> Vec<(f64, u64)> {
    let mut lags = Vec::new();
    let (mut at, mut since, mut before) = (0, begun, 0);
    for &(time, count) in sent {
        while shown[at].1 < count {
            at += 1; // the last count shown is that of the last record sent
        }
        let lag = shown[at].0.saturating_duration_since(since).as_secs_f64();
        lags.push((lag, count - before));
        (since, before) = (time, count);
    }
    lags
}

fn quantile(lags: &mut [(f64, u64)], of: f64) -> f64 {
    lags.sort_by(|a, b| a.0.total_cmp(&b.0));
    let all: u64 = lags.iter().map(|(_, count)| count).sum();
    let mut seen = 0;
    for &(lag, count) in &*lags {
        seen += count;
        if float(seen) >= of * float(all) {
            return lag;
        }
    }
    unreachable!("the whole is reached with the last one")
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_millis()).expect("not so late")
}
