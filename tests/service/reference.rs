//! From files of a good time to a profile, and from the profile to verdicts in ClickHouse.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::job::{Job, sections};
use crate::support::log::json_payload;
use crate::support::oracle::{Body, Held};
use crate::support::requests;
use crate::support::services::{ClickHouse, Kafka};

const INFERENCES: usize = 12_000;
const DEADLINE: Duration = Duration::from_secs(300);
const METRICS: &str = "[[metrics]]\nname = \"approval_rate\"\n\
                       expression = \"inferences_positive / inferences\"\nunit = \"ratio\"\n\
                       [[metrics]]\nname = \"cost\"\nexpression = \"(20 * fn + fp) / quality_binary.n\"\n";

/// Inferences and labels of a day's requests; `change` sees every inference's features.
fn write_files(
    folder: &Path,
    name: &str,
    seed: u64,
    change: impl Fn(&mut Vec<(String, Held)>),
) -> [PathBuf; 2] {
    let paths = ["inferences", "labels"].map(|of| folder.join(format!("{name}-{of}.jsonl")));
    let mut files = paths.each_ref().map(|path| std::fs::File::create(path).unwrap());
    for mut message in requests::make(seed, INFERENCES, 1, 12) {
        match &mut message.body {
            Body::Inference(said) => change(&mut said.features),
            Body::Label(_) => {}
            Body::Dead => continue,
        }
        let mut line = json_payload(&message.body);
        line.push(b'\n');
        files[message.topic].write_all(&line).unwrap();
    }
    paths
}

struct Measured<'a> {
    clickhouse: &'a ClickHouse,
    job: String,
}

impl Measured<'_> {
    /// Of the whole day of the model that the reference is of, all versions.
    fn ask(&self, select: &str, from: &str, more: &str) -> String {
        self.clickhouse.query(&format!(
            "SELECT {select} FROM tidegauge_bi.{from} WHERE job = '{}' AND model = 'fraud-cards' \
             AND grain = '1d' AND segment = 'all' {more}",
            self.job
        ))
    }
}

impl Measured<'_> {
    /// What the configuration says of its metrics and profiles is stored, each once.
    fn has_its_definitions(&self, id: &str, document: &str) {
        let of = |select: &str| {
            let job = &self.job;
            self.clickhouse
                .query(&format!("{select} WHERE job = '{job}' ORDER BY ALL FORMAT TSVRaw"))
        };
        assert_eq!(
            of("SELECT family, metric, unit, expression FROM tidegauge_bi.metric_catalogue"),
            "custom\tapproval_rate\tratio\tinferences_positive / inferences\n\
             custom\tcost\t1\t(20 * fn + fp) / quality_binary.n\n"
        );
        assert_eq!(
            of(
                "SELECT model, reference_id, name, generation, format FROM tidegauge_bi.reference_profiles"
            ),
            format!("fraud-*\t{id}\tgood\t1\t2\n")
        );
        let stored = of("SELECT document FROM tidegauge.reference_profiles");
        assert_eq!(stored.trim_end(), document.trim_end());
    }

    /// What drift compares is what the other tables of the same windows count.
    fn counts_what_other_tables_count(&self) {
        let compared = |columns: &str, method: &str, kind: &str| {
            let which = format!("AND method = '{method}' AND kind = '{kind}' ORDER BY ALL");
            self.ask(columns, "drift", &which)
        };
        let held = self.ask("version, feature, values", "data_quality", "ORDER BY ALL");
        assert_eq!(compared("version, feature, n", "psi", "feature"), held);
        let held = self.ask("version, inferences", "serving", "ORDER BY ALL");
        assert_eq!(compared("version, n", "missing_rate", "prediction"), held);
        let held = self.ask("version, labelled", "labels", "ORDER BY ALL");
        assert_eq!(compared("version, n", "psi", "label"), held);
    }

    /// Each custom metric is what SQL makes of the same counts, and in the long view.
    fn has_its_metrics(&self) {
        let order = "ORDER BY ALL";
        let rates = self.ask(
            "version, value, n",
            "custom",
            &format!("AND metric = 'approval_rate' {order}"),
        );
        let expected = "version, inferences_positive / inferences, inferences";
        assert_eq!(rates, self.ask(expected, "labels", order));
        assert_eq!(rates.lines().count(), 2, "of two versions");
        let costs = self.ask("version, value", "custom", &format!("AND metric = 'cost' {order}"));
        assert_eq!(costs, self.ask("version, (20 * fn + fp) / n", "quality_binary", order));
        assert_eq!(costs.lines().count(), 2, "of two versions");
        let counted = self.ask("version, inferences, labelled", "labels", order);
        let beside = "DISTINCT version, inferences, labelled";
        assert_eq!(self.ask(beside, "custom", order), counted);
        let long = self.ask(
            "version, metric, value, n",
            "metrics",
            &format!("AND family = 'custom' {order}"),
        );
        assert_eq!(long, self.ask("version, metric, value, n", "custom", order));
    }
}

#[test]
fn windows_like_the_reference_are_ok_and_others_drift() {
    // The job's file names brokers, which files do not need.
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let settings = requests::settings();
    let topics = ["inferences", "labels"];
    let more = sections(topics);
    let mut job = Job::new("fraud", &kafka, &clickhouse, topics, &settings, &more);
    job.run(&["init"], 0, DEADLINE);
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("good.json");
    let good = write_files(folder.path(), "good", 31, |_| ());
    let [inferences, labels] = good.each_ref().map(|path| path.to_str().unwrap());
    let profile = document.to_str().unwrap();
    let said = job.run(
        &[
            "profile",
            "--name",
            "good",
            "--model",
            "fraud-cards",
            "--inferences",
            inferences,
            "--labels",
            labels,
            "--output",
            profile,
        ],
        0,
        DEADLINE,
    );
    assert!(said.contains("calibrator: "), "{said}");
    job.edit(
        "[models.\"fraud-*\"]\n",
        &format!("{METRICS}[models.\"fraud-*\"]\nreference = \"{profile}\"\n"),
    );

    let like = write_files(folder.path(), "like", 32, |_| ());
    let other = write_files(folder.path(), "other", 33, |features| {
        for (name, value) in features {
            match value {
                Held::Number(amount) => *amount = 3.0 * *amount + 5_000.0,
                Held::Text(country) if name == "country" && country == "JP" => {
                    "ZZ".clone_into(country);
                }
                _ => {}
            }
        }
    });
    for (name, files) in [("like", like), ("other", other)] {
        let [inferences, labels] = files.each_ref().map(|path| path.to_str().unwrap());
        job.run(
            &["backfill", "--job", name, "--inferences", inferences, "--labels", labels],
            0,
            DEADLINE,
        );
    }
    let like = Measured { clickhouse: &clickhouse, job: "like".to_owned() };
    let other = Measured { clickhouse: &clickhouse, job: "other".to_owned() };

    // Three features, the score, the prediction and the label, of two versions.
    let verdicts = "groupUniqArray(verdict), count()";
    assert_eq!(like.ask(verdicts, "drift", "AND is_primary"), "['ok']\t12\n");
    let drifting = "feature, groupUniqArray(verdict)";
    let group = "AND is_primary AND kind = 'feature' GROUP BY feature ORDER BY feature";
    assert_eq!(
        other.ask(drifting, "drift", group),
        "amount\t['drift']\ncountry\t['drift']\nnew_device\t['ok']\n"
    );
    let id = like.ask("DISTINCT reference_id", "drift", "");
    let document = std::fs::read_to_string(&document).unwrap();
    assert!(document.contains(id.trim()), "{id}");
    for of in [&like, &other] {
        of.has_its_definitions(id.trim(), &document);
        of.has_its_metrics();
        of.counts_what_other_tables_count();
    }
    let new = "max(new_categories), max(new_category_values) > 0";
    assert_eq!(like.ask(new, "data_quality", "AND feature = 'country'"), "0\t0\n");
    assert_eq!(other.ask(new, "data_quality", "AND feature = 'country'"), "1\t1\n");

    // Scores mean what they meant, so the estimate holds, and what is realised lies within five deviations of it.
    for of in [&like, &other] {
        let held = "min(n) > 1000, max(abs(accuracy_gap_z)) < 5, min(est_auroc) > 0.6, max(abs(auroc_gap)) < 0.05";
        assert_eq!(of.ask(held, "quality_estimated", ""), "1\t1\t1\t1\n");
        let same = "sum(n_labelled)";
        assert_eq!(
            of.ask(same, "quality_estimated", ""),
            of.ask("sum(n_scored)", "quality_binary", "")
        );
    }
}
