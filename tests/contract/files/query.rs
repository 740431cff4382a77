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
        exit == 1
            && error.contains("what --model, --version, --segment, --since and --until choose"),
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

#[test]
fn an_output_never_takes_the_place_of_what_is_read() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let labels = fs::read_to_string(folder.path().join("b.csv")).unwrap();
    let as_json = fs::read_to_string(folder.path().join("a.jsonl")).unwrap();
    fs::write(folder.path().join("a.json"), &as_json).unwrap();
    let (exit, _, error) = query(folder.path(), "labels", &["-o", "./b.csv"]);
    assert!(exit == 2 && error.contains("would take the place of b.csv"), "{error}");
    let (exit, _, error) =
        run(folder.path(), &["report", "--inferences", "*.json", "-o", "a.json"]);
    assert!(exit == 2 && error.contains("would take the place of a.json"), "{error}");
    let is = |name: &str, text: &str| fs::read_to_string(folder.path().join(name)).unwrap() == text;
    assert!(is("b.csv", &labels) && is("a.json", &as_json), "both are as they were");
    let (exit, _, error) = query(folder.path(), "labels", &["-o", "rows.csv"]);
    assert_eq!((exit, error.as_str()), (0, ""));
}

/// Of 40 records, with what stands behind the time.
fn odd(folder: &Path, [inferences, labels]: [(&str, &dyn Fn(u32) -> String); 2]) -> String {
    for (name, (columns, cells)) in [("i.csv", inferences), ("l.csv", labels)] {
        let rows = (0..40).map(|i| format!("{i},m,2026-11-01T10:00:00Z,{}\n", cells(i)));
        let text = format!("request_id,model,timestamp,{columns}\n") + &rows.collect::<String>();
        fs::write(folder.join(name), text).unwrap();
    }
    let files = ["query", "labels", "--inferences", "i.csv", "--labels", "l.csv"];
    let (exit, _, error) = run(folder, &files);
    assert_eq!(exit, 0, "{error}");
    error
}

#[test]
fn what_is_counted_otherwise_than_it_seems_is_told() {
    let folder = TempDir::new().unwrap();
    let of = |inferences, labels| odd(folder.path(), [inferences, labels]);
    let label = |i: u32| (i / 3 % 2).to_string();
    let score = |i: u32| format!("0.{}", i % 9 + 1);
    assert_eq!(of(("score", &score), ("label", &label)), "");
    let close = |i: u32| format!("{}e-9", i + 1);
    let error = of(("score", &close), ("label", &label));
    assert!(error.starts_with("40 of 40 scores lie within a millionth of 0 or 1"), "{error}");
    let weighted = |i: u32| format!("{},{}", i / 3 % 2, i % 3 + 1);
    let error = of(("score", &score), ("label,weight", &weighted));
    assert!(error.starts_with("labels have weights, which count for nothing"), "{error}");
    // Grades, one of which is no number.
    let grade =
        |i: u32| if i.is_multiple_of(4) { "3a".to_owned() } else { (i % 3 + 1).to_string() };
    let error = of(("prediction", &grade), ("label", &grade));
    let said = "Labels of m are of several kinds, and each kind has figures of its own: 30 are numbers, 10 are classes.";
    assert!(error.starts_with(said) && error.contains("task = \"multiclass\""), "{error}");
}

#[test]
fn weights_that_are_smaller_than_their_steps_are_told() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let config = "[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n[windows]\nlabel_wait = \"60d\"\n\
                  [models.\"*\"]\nweights = \"use\"\n";
    fs::write(folder.path().join("c.toml"), config).unwrap();
    let labels = fs::read_to_string(folder.path().join("b.csv")).unwrap();
    for (weight, is_told) in [("0.5", false), ("0.0005", true)] {
        let mut lines = labels.lines();
        let header = format!("{},weight", lines.next().unwrap());
        let weighted = lines.map(|line| format!("{line},{weight}"));
        let weighted = std::iter::once(header).chain(weighted).collect::<Vec<_>>().join("\n");
        fs::write(folder.path().join("b.csv"), weighted).unwrap();
        let (exit, _, error) = query(folder.path(), "quality_binary", &["-c", "c.toml"]);
        assert_eq!(exit, 0, "{error}");
        assert_eq!(
            error.contains("Labels of fraud weigh less than a thousandth"),
            is_told,
            "{error}"
        );
    }
}
