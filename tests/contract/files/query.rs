//! `query` over files: rows of the figures that a naive computation has, in every format.

use super::*;

/// `query TABLE` over the files of [`write`](super::write).
fn query(folder: &Path, table: &str, more: &[&str]) -> (i32, String, String) {
    let fixed = ["query", table, "--inferences", "a.csv", "--labels", "b.csv"];
    run(folder, &[&fixed[..], more].concat())
}

/// The objects of JSON Lines.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Inferences, labelled ones, and those whose decision at 0.5 was right, by what `group` says of the number of one.
fn counted<K: Ord>(group: impl Fn(usize) -> K) -> BTreeMap<K, [u64; 3]> {
    let mut counts = BTreeMap::new();
    for (i, (score, label)) in scored().into_iter().enumerate() {
        let of: &mut [u64; 3] = counts.entry(group(i)).or_default();
        let is_right = label.is_some_and(|label| (score >= 50) == label);
        *of = [of[0] + 1, of[1] + u64::from(label.is_some()), of[2] + u64::from(is_right)];
    }
    counts
}

#[test]
fn rows_of_files_are_those_of_a_naive_computation() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let whole = |table| {
        let (exit, text, error) = query(folder.path(), table, &["--format", "jsonl"]);
        assert_eq!((exit, error.as_str()), (0, ""));
        let found = lines(&text);
        assert_eq!(found.len(), 1, "the whole time by default: {text}");
        found[0].clone()
    };
    let [inferences, labelled, right] = counted(|_| ())[&()];
    let [labels, quality] = ["labels", "quality_binary"].map(whole);
    assert_eq!([&labels["inferences"], &labels["labelled"]], [inferences, labelled]);
    assert_eq!(
        [&quality["grain"], &quality["model"], &quality["segment"]],
        ["all", "fraud", "all"]
    );
    let count = |name: &str| quality[name].as_u64().unwrap();
    assert_eq!((count("n"), count("tp") + count("tn")), (labelled, right));
    let [right, labelled] = [right, labelled].map(|n| f64::from(u32::try_from(n).unwrap()));
    assert_eq!(quality["accuracy"], right / labelled);

    // By hour and by region.
    let hour = |i: usize| {
        let time = FIRST_MS + 86_400_000 - i64::try_from(i).unwrap() * 20_000;
        let start = tidegauge::calendar::instant(time - time.rem_euclid(3_600_000));
        (start, format!("region={}", ["eu", "us"][i % 2]))
    };
    let options = ["--by", "region", "--grain", "1h", "--segment", "region=*", "--limit", "100000"];
    let formatted = |format| {
        let options = [&options[..], &["--format", format]].concat();
        let (exit, text, error) = query(folder.path(), "labels", &options);
        assert_eq!((exit, error.as_str()), (0, ""));
        text
    };
    let found = lines(&formatted("jsonl"));
    let of_row = |row: &Value| {
        let key = ["window_start", "segment"].map(|name| row[name].as_str().unwrap().to_owned());
        (key.into(), ["inferences", "labelled"].map(|name| row[name].as_u64().unwrap()))
    };
    let found: Vec<((String, String), _)> = found.iter().map(of_row).collect();
    let expected: Vec<_> =
        counted(hour).into_iter().map(|(key, [all, labelled, _])| (key, [all, labelled])).collect();
    assert_eq!(found, expected, "oldest first");

    let csv = formatted("csv");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let at = reader.headers().unwrap().iter().position(|name| name == "labelled").unwrap();
    let of_csv: Vec<u64> = reader.records().map(|row| row.unwrap()[at].parse().unwrap()).collect();
    assert_eq!(of_csv, expected.iter().map(|(_, [_, labelled])| *labelled).collect::<Vec<_>>());

    // Of more rows than the limit the newest.
    let (_, text, error) =
        query(folder.path(), "labels", &["--grain", "1h", "--limit", "3", "--format", "jsonl"]);
    let of_hours = counted(|i| hour(i).0);
    let newest: Vec<_> = of_hours.values().rev().take(3).map(|[all, _, _]| *all).collect();
    let found: Vec<_> =
        lines(&text).iter().rev().map(|row| row["inferences"].as_u64().unwrap()).collect();
    assert_eq!(found, newest);
    assert!(error.starts_with("only the newest 3 rows"), "{error}");
}

#[test]
fn what_files_have_no_rows_of_is_told() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let (exit, text, error) = query(folder.path(), "drift", &["--format", "jsonl"]);
    assert_eq!((exit, text.as_str()), (0, ""));
    assert!(error.starts_with("the files have no rows in drift: they have some in "), "{error}");
    assert!(error.contains("labels, quality_binary"), "{error}");
    let (exit, _, error) = query(folder.path(), "serving", &["--grain", "5m"]);
    assert_eq!(exit, 2, "{error}");
    assert!(error.contains("there are no windows of 5m: choose one of all, 1h, 1d, 7d"), "{error}");
    let (exit, _, error) = query(folder.path(), "serving", &["--segment", "region=asia"]);
    assert!(
        exit == 1 && error.contains("look at --model, --version, --segment, --since"),
        "{error}"
    );
    let (exit, _, error) = query(folder.path(), "serving", &["--by", "region,country"]);
    assert_eq!(
        (exit, error.as_str()),
        (0, "no inference has a segment country: name its column `segments.country`\n")
    );
    // Stored rows are of a job, files of none.
    let (exit, _, error) = query(folder.path(), "serving", &["--job", "fraud"]);
    assert!(exit == 2 && error.contains("cannot be used with"), "{error}");
}

#[test]
fn drift_of_files_is_printed() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, by) in [("before.jsonl", 0), ("same.jsonl", 0), ("now.jsonl", 100)] {
        fs::write(at(name), with_features(&["m"], by).0).unwrap();
    }
    let verdicts = |name: &str| {
        let files = ["query", "drift", "--inferences", name, "--reference", "before.jsonl"];
        let (exit, text, error) =
            run(folder.path(), &[&files[..], &["--format", "jsonl"]].concat());
        assert_eq!((exit, error.as_str()), (0, ""));
        let rows = lines(&text);
        assert!(rows.iter().all(|row| row["grain"] == "all"), "{text}");
        let drifted = rows.iter().filter(|row| row["verdict"] == "drift");
        let names = drifted.map(|row| row["feature"].as_str().unwrap().to_owned());
        (rows.len(), names.collect::<std::collections::BTreeSet<_>>())
    };
    let (rows, drifted) = verdicts("now.jsonl");
    assert!(rows > 0 && drifted.iter().map(String::as_str).eq(["x"]), "{drifted:?}");
    assert_eq!(verdicts("same.jsonl"), (rows, [].into()), "what is the same does not drift");
}
