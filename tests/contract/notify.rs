//! Letters: what a mail server gets to see, and what is said when it does not take one.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::{Value as Json, json};
use tidegauge::alerting::{Letter, Medium, NotTaken, Target, TargetSettings};
use tidegauge::config::{ConfigError, Environment, Settings};

/// One letter as it was sent.
#[derive(Clone, Debug, Default)]
struct Received {
    from: String,
    to: Vec<String>,
    /// With the header, without the point at its end.
    text: String,
}

impl Received {
    /// The value of a header, unfolded.
    fn header(&self, name: &str) -> String {
        let head = self.text.split("\n\n").next().unwrap().replace("\n ", " ");
        let find = |line: &str| line.strip_prefix(&format!("{name}: ")).map(str::to_owned);
        head.lines().find_map(find).unwrap_or_default()
    }
}

/// A mail server of the test's own. It answers letters with one line after the other; the last one stays.
struct Server {
    address: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    fn start(answers: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let received: Arc<Mutex<Vec<Received>>> = Arc::default();
        let (list, answers) = (Arc::clone(&received), answers.to_vec());
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = list.lock().unwrap().len().min(answers.len() - 1);
                talk(&stream, answers[number], &list);
            }
        });
        Self { address, received }
    }

    fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// One dialogue (RFC 5321). A letter is in the list before its sender knows that it was taken.
fn talk(mut stream: &TcpStream, answer: &str, list: &Mutex<Vec<Received>>) -> Option<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).ok();
    say("220 test")?;
    let mut open = Received::default();
    while let Some(line) = lines.next() {
        let path = || line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        match line.split([' ', ':']).next()?.to_ascii_uppercase().as_str() {
            "MAIL" => open.from = path(),
            "RCPT" => open.to.push(path()),
            "DATA" => {
                say("354 go on")?;
                let text: Vec<String> = lines.by_ref().take_while(|line| line != ".").collect();
                open.text = text.join("\n");
                list.lock().unwrap().push(std::mem::take(&mut open));
                say(answer)?;
                continue;
            }
            "QUIT" => {
                say("221 bye");
                break;
            }
            _ => {}
        }
        say("250 ok")?;
    }
    Some(())
}

fn target(server: &Server) -> TargetSettings {
    TargetSettings {
        name: "on-call".to_owned(),
        medium: Medium::Email(Letter {
            from: "Tidegauge <tidegauge@example.org>".to_owned(),
            to: vec!["a@example.org".to_owned(), "B <b@example.org>".to_owned()],
        }),
        url: format!("smtp://{}", server.address),
        secret: None,
        timeout: Duration::from_secs(20),
    }
}

fn change() -> Json {
    json!({
        "idempotency_key": "0a1b-2", "state": "opened", "rule": "precision low", "model": "fraud-cards",
        "metric": "quality_binary.precision", "value": 0.75, "threshold": 0.8, "n": 500,
        "opened_window": {"start": "2026-01-05T00:15:00.000Z"},
    })
}

#[test]
fn a_letter_says_the_change_and_bears_the_same_key_in_every_attempt() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let server = Server::start(&["451 come back later", "250 taken as 17"]);
    let target = Target::new(&target(&server)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let refused = runtime.block_on(target.send(&change())).unwrap_err().to_string();
    assert!(refused.contains("come back later"), "{refused}");
    let taken = runtime.block_on(target.send(&change())).unwrap();
    assert!(taken.starts_with("250") && taken.contains("taken as 17"), "{taken}");

    let letters = server.received();
    assert_eq!(letters.len(), 2);
    for letter in &letters {
        assert_eq!(letter.from, "tidegauge@example.org");
        assert_eq!(letter.to, ["a@example.org", "b@example.org"]);
        assert_eq!(letter.header("Idempotency-Key"), "0a1b-2");
        assert_eq!(letter.header("Message-ID"), "<0a1b-2@tidegauge>");
        assert!(!letter.header("Date").is_empty());
        let subject = letter.header("Subject");
        assert!(subject.starts_with("[opened] precision low: fraud-cards"), "{subject}");
        // Lines may be broken on the way; numbers are not.
        assert!(
            letter.text.contains("0.75") && letter.text.contains("\"threshold\": 0.8"),
            "{letter:?}"
        );
    }
}

/// What blames the letter holds up no other; what blames the target does.
#[test]
fn a_server_that_does_not_want_this_letter_may_take_others() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for (answer, is_of_change) in [
        ("554 looks like spam", true),
        ("552 too large", true),
        ("451 come back later", false),
        ("535 wrong password", false),
        ("503 not now", false),
    ] {
        let target = Target::new(&target(&Server::start(&[answer]))).unwrap();
        let refused = runtime.block_on(target.send(&change())).unwrap_err();
        assert_eq!(matches!(refused, NotTaken::Change(_)), is_of_change, "{answer}");
    }
}

#[test]
fn alerts_test_writes_a_letter_and_says_what_the_server_answers() {
    let folder = tempfile::tempdir().unwrap();
    let test = |server: &Server| {
        let file = folder.path().join("t.toml");
        let text = "[inferences]\ntopic = \"i\"\n[[notify]]\nname = \"on-call\"\ntype = \"email\"\n\
                    url = \"env:SMTP_URL\"\nfrom = \"tidegauge@example.org\"\nto = [\"a@example.org\"]\n";
        fs::write(&file, text).unwrap();
        let mut command = Command::cargo_bin("tidegauge").unwrap();
        command.timeout(Duration::from_secs(60)).args(["alerts", "test", "-c"]).arg(&file);
        let output =
            command.env("SMTP_URL", format!("smtp://{}", server.address)).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let good = Server::start(&["250 thanks"]);
    let (exit, said, error) = test(&good);
    assert_eq!(exit, 0, "{said}{error}");
    assert!(
        said.starts_with("ok") && said.contains("on-call  250") && said.contains("thanks"),
        "{said}"
    );
    assert!(good.received()[0].header("Subject").starts_with("[test]"), "{:?}", good.received());
    let (exit, said, error) = test(&Server::start(&["554 no such luck"]));
    assert_eq!(exit, 1, "{said}{error}");
    assert!(
        said.contains("no such luck") && error.contains("error[notify_failed]"),
        "{said}{error}"
    );
}

#[test]
fn targets_say_what_they_lack_and_show_no_secret() {
    let parse = |more: &str| -> Result<Settings, ConfigError> {
        let text = format!(
            "kafka.properties = {{ \"sasl.password\" = \"s3cret\" }}\n[inferences]\ntopic = \"i\"\n\
             [[notify]]\nname = \"them\"\n{more}\n"
        );
        Settings::parse("t.toml", &text, &Environment::default())
    };
    let mail = "type = \"email\"\nfrom = \"a@b.c\"\nto = [\"d@e.f\"]\n";
    let with_url = |url: &str| format!("{mail}url = \"{url}\"");
    for good in [
        "type = \"kafka\"\ntopic = \"tidegauge.alerts\"".to_owned(),
        with_url("smtps://me:s3cret@mail.example.org"),
        with_url("smtp://me:s3cret@mail.example.org:587?tls=required"),
        with_url("smtp://me:s3cret@127.0.0.1:25"),
        with_url("smtp://mail.example.org"),
    ] {
        let settings = parse(&good).unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"), "{good}");
    }
    for (bad, expected) in [
        ("type = \"kafka\"".to_owned(), "needs a `topic`"),
        ("type = \"kafka\"\ntopic = \"a\"\nurl = \"http://a/\"".to_owned(), "is for webhook"),
        ("url = \"http://a/\"\ntopic = \"a\"".to_owned(), "is for kafka: leave it out"),
        (mail.to_owned(), "needs a `url`"),
        (with_url("http://mail.example.org"), "neither smtp:// nor smtps://"),
        (with_url("smtp://me:s3cret@mail.example.org"), "in clear text"),
        ("type = \"email\"\nurl = \"smtp://a\"\nto = [\"d@e.f\"]".to_owned(), "needs a `from`"),
        ("type = \"email\"\nurl = \"smtp://a\"\nfrom = \"a@b.c\"".to_owned(), "it needs `to`"),
        (format!("{}\nurl = \"smtp://a\"", mail.replace("d@e.f", "nobody")), "is no mail address"),
    ] {
        let error = parse(&bad).expect_err(&bad);
        let message = error.to_string();
        assert!(message.contains("\"them\"") && message.contains(expected), "{message}");
        assert!(!message.contains("s3cret"), "{message}");
    }
}
