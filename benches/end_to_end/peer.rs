//! The program as one of several that do the same job, for a harness that gives the topics and takes the rows back.

use std::fs;
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::json;
use tidegauge::source::settings::client_config;

use super::measured;
use super::support::services::ClickHouse;

const ANSWER: Duration = Duration::from_secs(60);

/// `[brokers, inference topic, label topic, topic of the rows, inferences, labels]`: JSON of the shape that the program
/// reads without a setting. Ends with one line of figures; the CPU of ClickHouse, which is a server of this run's own,
/// stands apart.
pub fn run(args: &[String]) -> serde_json::Value {
    let [brokers, inferences, labels, out, _, _] = args else { panic!("six arguments") };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clickhouse = ClickHouse::start();
    let file = folder.path().join("tidegauge.toml");
    let job = format!("peer-{}", std::process::id());
    let configuration = format!(
        "job = \"{job}\"\n[kafka]\nbrokers = \"{brokers}\"\n\
         [inferences]\ntopic = \"{inferences}\"\n[labels]\ntopic = \"{labels}\"\n\
         [clickhouse]\nurl = \"{}\"\n[dead_letters]\ntopic = \"{out}\"\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[models.\"*\"]\ntask = \"binary\"\n",
        clickhouse.url(),
    );
    fs::write(&file, configuration).expect("the folder is ours");
    let program = |arguments: &[&str]| {
        let mut command = measured::program();
        command.args(arguments).arg("-c").arg(&file);
        measured::run(&mut command, &folder.path().join("log"))
    };
    program(&["init"]);
    let before = measured::process_s(clickhouse.pid());
    let run = program(&["run", "--until-end"]);
    let clickhouse_cpu_s = measured::process_s(clickhouse.pid()) - before;
    send(brokers, out, &rows(&clickhouse, &job));
    json!({
        "work_s": run.wall_s,
        "cpu_s": run.cpu_s,
        "rss_mb": run.peak_mib,
        "clickhouse_cpu_s": clickhouse_cpu_s,
    })
}

/// One JSON object for each model, version and window.
fn rows(clickhouse: &ClickHouse, job: &str) -> String {
    let table = |name: &str| {
        format!(
            "(SELECT * FROM tidegauge.{name} FINAL WHERE job = '{job}' AND segment = 'all' AND grain = '5m') AS {name}"
        )
    };
    let [serving, labels, quality] = ["serving", "labels", "quality_binary"].map(table);
    clickhouse.query(&format!(
        "SELECT model, version, toUnixTimestamp64Milli(window_start) AS window_start, serving.inferences AS inferences, \
         labelled, tp, fp, tn, fn, latency_sum_ms AS latency_sum, brier * n_scored AS brier_sum \
         FROM {serving} JOIN {labels} USING (model, version, window_start) \
         LEFT JOIN {quality} USING (model, version, window_start) \
         FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0"
    ))
}

fn send(brokers: &str, topic: &str, rows: &str) {
    let producer: BaseProducer =
        client_config(brokers, &[]).create().expect("the settings are right");
    for row in rows.lines() {
        let record = BaseRecord::<[u8], str>::to(topic).payload(row);
        producer.send(record).map_err(|(error, _)| error).expect("a few hundred rows");
    }
    producer.flush(ANSWER).expect("the broker answers");
}
