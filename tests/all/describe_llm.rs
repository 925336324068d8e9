//! `lafter describe` against a server that misbehaves: nothing is lost, every fault is one line, the key is nowhere.

use std::collections::HashMap;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::llm_stub::run::{KEY, Run, refused, text};
use crate::llm_stub::{Act, Stub};
use lafter::describe::Descriptions;
use lafter::describe::generate::{Endpoint, Generator, Request, Settings};
use serde_json::Value;

#[test]
fn a_whole_run_is_traced_and_a_second_asks_nothing() {
    let stub = Stub::start(|ask| {
        assert_eq!((ask.path.as_str(), ask.authorization.as_deref()), ("/v1/chat/completions", Some(&*format!("Bearer {KEY}"))));
        assert_eq!(ask.body["model"], "stub");
        let seed = ask.body["seed"].as_u64().unwrap();
        match seed % 3 {
            0 => Act::Say(format!("Sure! Here is one: \"{}\" it is. And so on.", ask.query.trim_end_matches(['.', '?', ':']))),
            1 => Act::Say("I\u{2019}m sorry, but I can\u{2019}t help with that.".into()),
            _ => Act::Finish(format!("{} is seen in picture {seed}. It has a m", ask.query.trim_end_matches(['.', '?', ':'])), "length"),
        }
    });
    let run = Run::new(&stub, "owl\nhourglass\n", &["--completions", "3", "--seed", "9"]);
    let stdout = run.good();
    assert!(stdout.contains("30 requests: 0 known, 30 answered, 0 unanswered"), "{stdout}");
    for line in ["answers", "dropped: refusal", "preambles removed"] {
        assert!(stdout.lines().any(|l| l.starts_with(line) && !l.ends_with(" 0")), "{stdout}");
    }
    let descriptions = Descriptions::read(run.path("texts.json")).unwrap();
    let sentences = descriptions.for_classes(&["owl", "hourglass"]).unwrap();
    assert_eq!(sentences.iter().map(Vec::len).collect::<Vec<_>>(), [10, 10]);
    assert!(sentences[1].iter().any(|s| s == "Describe what an hourglass looks like is seen in picture 11."), "{sentences:?}");

    // every sentence leads to its query, model, settings and to the line of the journal it comes from
    let (trace, journal) = (run.lines("texts.trace.jsonl"), run.lines("texts.journal.jsonl"));
    assert_eq!((trace.len(), journal.len()), (20, 30));
    let by_key: HashMap<&str, &Value> = journal.iter().map(|line| (line["key"].as_str().unwrap(), line)).collect();
    for (line, sentence) in trace.iter().zip(sentences.iter().flatten()) {
        assert_eq!(line["sentence"], sentence.as_str());
        let record = by_key[line["key"].as_str().unwrap()];
        for field in ["query", "model", "settings", "completion", "class", "name"] {
            assert_eq!(line[field], record[field]);
        }
        assert_eq!((&line["settings"]["temperature"], &line["model"]), (&0.99.into(), &"stub".into()));
    }
    // another output with the same journal asks nothing
    let (asked, kept) = (stub.requests(), run.path("texts.journal.jsonl"));
    let sharing = Run { dir: tempfile::tempdir().unwrap(), address: run.address.clone(), extra: run.extra.clone() };
    std::fs::write(sharing.path("names.txt"), "hourglass\n").unwrap();
    let output = sharing.command().arg("--journal").arg(&kept).output().unwrap();
    assert!(text(&output.stdout).contains("15 requests: 15 known"), "{}", text(&output.stderr));
    assert!(stub.requests() == asked && !sharing.path("texts.journal.jsonl").exists());
    // a second run asks nothing and writes the same
    let before = run.read("texts.json");
    assert!(run.good().contains("30 requests: 30 known, 0 answered"));
    assert_eq!((stub.requests(), run.read("texts.json")), (asked, before));
    // one more completion asks only for that
    let more = Run { extra: ["--completions", "4", "--seed", "9"].map(String::from).to_vec(), dir: run.dir, address: run.address };
    assert!(more.good().contains("40 requests: 30 known, 10 answered"));
    // other settings are other requests
    let other = Run { extra: ["--completions", "1", "--temperature", "0.5", "--seed", "9", "--json"].map(String::from).to_vec(), ..more };
    let json: Value = serde_json::from_str(&other.good()).unwrap();
    assert_eq!((&json["asked"]["answered"], &json["cleaning"]["answers"]), (&10.into(), &10.into()));
    // the key is in no file
    for entry in std::fs::read_dir(other.dir.path()).unwrap() {
        assert!(!text(&std::fs::read(entry.unwrap().path()).unwrap()).contains(KEY));
    }
}

/// One class alone: it costs no other class its texts, however often it is asked about.
#[test]
fn a_class_of_which_nothing_is_said_stops_no_other() {
    let stub = Stub::start(|ask| match ask.query.contains("owl") {
        true => Act::Say(String::new()),
        false => Act::Say(format!("A sentence about {} in words.", ask.query.trim_end_matches(['.', '?', ':']))),
    });
    let run = Run::new(&stub, "boat\nowl\nhawk\n", &["--completions", "20"]);
    std::fs::write(run.path("q.txt"), "Describe {}.\n").unwrap();
    let run = Run { extra: [run.extra.clone(), vec!["--queries".into(), run.path("q.txt").display().to_string()]].concat(), ..run };
    let output = run.run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("1 classes have no sentence: \"owl\""), "{}", text(&output.stderr));
    assert!(run.read("texts.json").contains("hawk"));
}

#[test]
fn every_fault_is_survived_and_counted() {
    let stub = Stub::start(|ask| {
        let good = format!("A sentence about {} in words.", ask.query.trim_end_matches(['.', '?', ':']));
        if ask.before > 0 && !ask.query.contains("moon") {
            return Act::Say(good);
        }
        match ask.query.split(' ').next_back().unwrap().trim_end_matches('.') {
            "slow" => Act::Slow(Duration::from_secs(4), good), // longer than --timeout
            "busy" => Act::Status(429, "Retry-After: 2", "{\"error\": {\"message\": \"too fast\"}}".into()),
            "fault" => Act::Status(500, "", "<html>".into()),
            "cut" => Act::Cut,
            "invalid" => Act::Raw(b"{\"choices\": [{\"message\"".to_vec()),
            "empty" => Act::Raw(Vec::new()),
            "reset" => Act::Drop,
            "bytes" => Act::Raw(
                b"{\"choices\": [{\"message\": {\"content\": \"A b\xffroken sentence about bytes.\"}, \"finish_reason\": \"stop\"}]}"
                    .to_vec(),
            ),
            "nothing" => Act::Say(String::new()),
            "moon" => Act::Status(503, "", String::new()),
            _ => Act::Say(good),
        }
    });
    let names = "good\nslow\nbusy\nfault\ncut\ninvalid\nempty\nreset\nbytes\nnothing\nmoon\n";
    let run = Run::new(&stub, names, &["--completions", "1", "--timeout", "1.5", "--retries", "2", "--concurrency", "11"]);
    std::fs::write(run.path("q.txt"), "Describe {}.\n").unwrap();
    let run = Run { extra: [run.extra.clone(), vec!["--queries".into(), run.path("q.txt").display().to_string()]].concat(), ..run };
    let output = run.run();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.contains("11 requests: 0 known, 9 answered, 2 unanswered (the answer holds no text"), "{stdout}");
    assert!(stderr.contains("3 classes have no sentence: \"bytes\", \"nothing\", \"moon\""), "{stderr}");
    let asked = stub.asked();
    let of = |name: &str| asked.iter().find(|(key, _)| key.contains(&format!(" {name}.#"))).unwrap().1.0;
    assert_eq!(["good", "bytes", "nothing"].map(of), [1, 1, 1]);
    assert_eq!(["slow", "busy", "fault", "cut", "invalid", "empty", "reset"].map(of), [2; 7]);
    assert_eq!(of("moon"), 3);
    let busy = asked.iter().find(|(key, _)| key.contains(" busy.")).unwrap().1.1;
    assert!(busy >= Duration::from_secs(2), "asked again after {busy:?}, the server wanted 2 s");
    // what failed is asked again by the next run, and nothing else
    stub.behave(|_| Act::Say("The moon is a bright disc.".into()));
    let before = stub.requests();
    assert!(run.good().contains("11 requests: 9 known, 2 answered"));
    assert_eq!(stub.requests(), before + 2);
    stub.behave(|_| Act::Hang);
    let run = Run::new(&stub, "owl\n", &["--completions", "1", "--timeout", "0.5", "--retries", "0"]);
    refused(&run.run(), 1, &["no answer within 0.5 s", "--timeout"]);
}

#[test]
fn fatal_faults_stop_at_once_with_the_remedy() {
    let stub = Stub::default();
    let run = Run::new(&stub, "owl\nboat\n", &["--retries", "3"]);
    let cases: [(u16, &str, &[&str]); 6] = [
        (401, "Incorrect API key provided: KEY", &["401", "OPENAI_API_KEY", "***"]),
        (403, "not yours", &["403", "OPENAI_API_KEY"]),
        (404, "no model stub", &["404", "--endpoint", "--llm", "no model stub"]),
        (402, "no money", &["credit"]),
        (400, "unknown parameter:\nseed", &["400", "unknown parameter: seed", "--omit"]),
        (308, "", &["another address"]),
    ];
    for (status, message, words) in cases {
        let before = stub.requests();
        let body = serde_json::json!({ "error": { "message": message.replace("KEY", KEY) } }).to_string();
        stub.behave(move |_| Act::Status(status, "Location: http://127.0.0.1:9/", body.clone()));
        refused(&run.run(), 1, words);
        assert!(stub.requests() - before <= 8, "status {status} was asked {} times", stub.requests() - before);
    }
    stub.behave(|_| Act::Status(429, "", "{\"error\": {\"message\": \"pay\", \"code\": \"insufficient_quota\"}}".into()));
    refused(&run.run(), 1, &["quota", "credit"]);
    stub.behave(|_| Act::Status(100, "", String::new()));
    let once = Run::new(&stub, "owl\n", &["--retries", "0", "--completions", "1"]);
    let told = refused(&once.run(), 1, &["status 100", "the right server"]);
    assert!(!told.contains("another address"), "{told}");
    stub.behave(|_| Act::Raw(b"{}".to_vec()));
    let told = refused(&once.run(), 1, &["no `choices`", "the right server"]);
    assert!(!told.contains("?:") && !told.contains(".:"), "{told}");
    let to = |address: &str| Run { dir: tempfile::tempdir().unwrap(), address: address.into(), extra: run.extra.clone() };
    let at = |address: &str| {
        let run = to(address);
        std::fs::write(run.path("names.txt"), "owl\n").unwrap();
        run.run()
    };
    refused(&at("http://no-such-host.invalid/v1"), 1, &["no-such-host.invalid", "unknown host"]);
    refused(&at("http://127.0.0.1:1"), 1, &["127.0.0.1:1", "start the server"]);
    refused(&at("localhost:8080"), 2, &["http://"]);
    refused(&at(&format!("http://user:{KEY}@localhost/v1")), 2, &["--key-env"]);
    // no key, and a key that is not there
    stub.behave(|ask| Act::Status(401, "", format!("{:?}", ask.authorization)));
    let output = run.command().env_remove("OPENAI_API_KEY").output().unwrap();
    refused(&output, 1, &["--key-env", "None"]);
    refused(&run.command().args(["--key-env", "NO_SUCH_VARIABLE"]).output().unwrap(), 2, &["NO_SUCH_VARIABLE", "not set"]);
    let output = run.command().args(["--key-env", KEY]).output().unwrap(); // the key itself, by mistake
    refused(&output, 2, &["OPENAI_API_KEY", "name"]);
    refused(&run.command().args(["--key-env", "ODD"]).env("ODD", "two words").output().unwrap(), 2, &["ODD", "no key"]);
    let output = run.command().args(["--key-env", "OTHER"]).env("OTHER", "other-key").output().unwrap();
    assert!(refused(&output, 1, &["OTHER"]).contains("***"));
}

/// Whatever a server does with the key, it stands in no file and in no message.
#[test]
fn a_key_that_a_server_echoes_gets_nowhere() {
    let escaped: String = KEY.chars().map(|c| format!("\\u{:04x}", c as u32)).collect();
    let error = format!("{{\"error\": {{\"message\": \"{} {KEY} is bad\"}}}}", "x".repeat(90));
    let bodies = [
        error.clone(),
        error.replace(KEY, &escaped),
        format!("{{\"error\": {{\"{KEY}\": 1}}}}"),
        format!("{KEY} <html>"),
        format!("{{\"choices\": [{{\"message\": {{\"content\": \"An owl has the key {escaped} in its beak.\"}}}}]}}"),
    ];
    for (i, body) in bodies.into_iter().enumerate() {
        let stub = Stub::start(move |_| Act::Raw(body.clone().into_bytes()));
        let run = Run::new(&stub, "owl\n", &["--completions", "1", "--retries", "0", "--max-tokens", "9"]);
        let output = run.run();
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(!said.contains("must-never-be-seen") && !said.contains("sk-"), "{i}: {said}");
        assert_eq!(output.status.success(), i == 4, "{i}: {said}");
        for entry in std::fs::read_dir(run.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            assert!(!text(&std::fs::read(&path).unwrap()).contains(KEY), "{i}: {}", path.display());
        }
        assert!(i < 4 || run.read("texts.journal.jsonl").contains("An owl has the key *** in its beak."));
    }
}

#[test]
fn a_key_is_shown_nowhere() {
    let stub = Stub::default();
    let Err(error) = Endpoint::new(&stub.address, "m").unwrap().key_from_env("LAFTER_NO_SUCH_KEY") else { panic!() };
    assert!(error.is_usage());
    // PATH is set everywhere; its value stands for a key
    let endpoint = Endpoint::new(&stub.address, "m").unwrap().key_from_env("PATH");
    let (shown, value) = (format!("{:?}", endpoint.unwrap()), std::env::var("PATH").unwrap());
    assert!(shown.contains("key from PATH") && !shown.contains(&value), "{shown}");
}

/// Ten thousand queries, 32 at a time: 16 MB of answers pass between the two measurements, and half of that would be seen.
/// What may grow is the index of the journal, 32 bytes a query.
#[test]
#[cfg(target_os = "linux")]
#[ignore = "takes long: .ci/run runs it"]
fn memory_does_not_grow_with_the_number_of_queries() {
    let (pid, early, late) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (of, first, last) = (pid.clone(), early.clone(), late.clone());
    let stub = Stub::start(move |ask| {
        match ask.number {
            1_000 => first.store(resident(of.load(Ordering::SeqCst)), Ordering::SeqCst),
            4_990 => last.store(resident(of.load(Ordering::SeqCst)), Ordering::SeqCst),
            _ => {}
        }
        // a long answer: five thousand of them are 20 MB
        Act::Say(format!("A sentence about {} {}", ask.query, "And on it goes. ".repeat(250)))
    });
    let names: String = (0..500).map(|i| format!("thing number {i}\n")).collect();
    let run = Run::new(&stub, &names, &["--completions", "2", "--concurrency", "32"]);
    let started = Instant::now();
    let mut child: Child = run.command().stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    pid.store(child.id() as usize, Ordering::SeqCst);
    assert!(child.wait().unwrap().success());
    let (early, late) = (early.load(Ordering::SeqCst), late.load(Ordering::SeqCst));
    let size = std::fs::metadata(run.path("texts.journal.jsonl")).unwrap().len() >> 20;
    println!(
        "5,000 queries in {:.1} s; resident {early} kB after 1,000, {late} kB after 4,990; journal {size} MB",
        started.elapsed().as_secs_f64()
    );
    assert_eq!(run.lines("texts.journal.jsonl").len(), 5_000);
    assert!(early > 0 && late < early + 8_000, "{early} kB after 1,000 queries, {late} kB after 4,990");
}

/// Resident memory of a process, kB.
fn resident(pid: usize) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_model_that_answers_nonsense_or_nothing_loses_nothing() {
    let stub = Stub::start(|ask| if ask.number % 2 == 0 { Act::Say("the the the the the the".into()) } else { Act::Say(" \n".into()) });
    let run = Run::new(&stub, "owl\n", &["--completions", "2"]);
    refused(&run.run(), 1, &["none of 5 answers", "5 nonsense", "journal.jsonl"]);
    assert_eq!(run.lines("texts.journal.jsonl").len(), 5);
    assert!(!run.path("texts.json").exists());
    // a server that fails for good stops the run, with what it has
    let stub =
        Stub::start(|ask| if ask.number < 3 { Act::Say("An owl has large eyes.".into()) } else { Act::Status(500, "", String::new()) });
    let run = Run::new(&stub, &(0..20).map(|i| format!("owl {i}\n")).collect::<String>(), &["--retries", "0", "--concurrency", "1"]);
    refused(&run.run(), 1, &["16 requests in a row", "status 500", "3 of 500 answers"]);
    // one or two more may have been on their way
    assert!((19..=21).contains(&stub.requests()) && run.lines("texts.journal.jsonl").len() == 3, "{} requests", stub.requests());
}

/// What is left to ask may be what the server's rules refuse.
#[test]
fn a_query_that_is_refused_stops_no_run_that_goes_on() {
    for status in [400, 403] {
        let stub = Stub::start(move |ask| match ask.query.contains("bat") {
            true => Act::Status(status, "", serde_json::json!({ "error": { "message": "flagged by moderation" } }).to_string()),
            false => Act::Say(format!("A sentence about {}", ask.query)),
        });
        let run = Run::new(&stub, "owl\nbat\n", &["--completions", "1", "--concurrency", "1"]);
        assert!(run.good().contains("0 known, 5 answered, 5 unanswered"));
        assert!(run.good().contains("5 known, 0 answered, 5 unanswered"));
        assert!(run.path("texts.json").exists());
    }
    // also where all of the first class is refused, and more of it than failures in a row end a run
    let stub = Stub::start(|ask| match ask.query.contains("bat") {
        true => Act::Status(400, "", serde_json::json!({ "error": { "code": "content_filter", "message": "no" } }).to_string()),
        false => Act::Say(format!("A sentence about {}", ask.query)),
    });
    let run = Run::new(&stub, "bat\nowl\n", &["--completions", "8", "--concurrency", "1"]);
    assert!(run.good().contains("0 known, 40 answered, 40 unanswered"));
}

#[test]
fn a_server_that_says_when_to_come_again_is_not_given_up() {
    let stub = Stub::start(|ask| match ask.before < 5 {
        true => Act::Status(429, "Retry-After: 0.05", String::new()),
        false => Act::Say(format!("A sentence about {}", ask.query)),
    });
    let run = Run::new(&stub, "owl\n", &["--completions", "1", "--retries", "1"]);
    assert!(run.good().contains("5 answered, 0 unanswered"));
}

#[test]
fn servers_with_their_own_parameters() {
    let stub = Stub::start(|ask| {
        if ask.body.get("max_tokens").is_some() {
            let text = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.";
            return Act::Status(400, "", serde_json::json!({ "error": { "message": text } }).to_string());
        }
        assert_eq!((&ask.body["max_completion_tokens"], ask.body.get("seed"), ask.body.get("top_p")), (&70.into(), None, None));
        Act::Say(format!("A sentence about {}", ask.query))
    });
    let run = Run::new(&stub, "owl\n", &["--completions", "1", "--max-tokens", "70", "--omit", "seed,top_p", "--concurrency", "1"]);
    assert!(run.good().contains("5 answered"));
    assert_eq!(run.lines("texts.trace.jsonl")[0]["settings"]["omit"], serde_json::json!(["seed", "top_p"]));
    assert_eq!(stub.requests(), 6);
    // requests that are sent side by side all learn of it
    let run = Run::new(&stub, "owl\n", &["--completions", "3", "--max-tokens", "70", "--omit", "seed,top_p", "--concurrency", "8"]);
    assert!(run.good().contains("15 answered"));
    // the completion API, with the published stop
    let stub = Stub::start(|ask| {
        assert_eq!((ask.path.as_str(), &ask.body["stop"][0], &ask.body["max_tokens"]), ("/v1/completions", &".".into(), &50.into()));
        Act::Say(format!(" {} it is", ask.query.trim_end_matches(['.', '?', ':'])))
    });
    let run = Run::new(&stub, "owl\n", &["--completions", "1", "--api", "completion"]);
    run.good();
    assert!(run.read("texts.json").contains("\"Describe what an owl looks like it is.\""));
}

#[test]
fn the_model_writes_the_queries_first() {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = heard.clone();
    let stub = Stub::start(move |ask| {
        log.lock().unwrap().push(ask.query.clone());
        if ask.query.contains("Number of questions: 3") {
            return Act::Say(
                "Sure, here they are:\n1. What does a {} look like in a shed?\n2. Describe the handle of {class}.\n3. No place here.\n"
                    .into(),
            );
        }
        Act::Say(format!("A sentence about {}", ask.query))
    });
    let extra = ["--style", "meta", "--about", "photographs of garden tools", "--meta-queries", "3", "--completions", "2"];
    let run = Run::new(&stub, "axe\nrake\n", &extra);
    assert!(run.good().contains("8 requests: 0 known, 8 answered"));
    let asked = heard.lock().unwrap().clone();
    assert!(asked[0].contains("photographs of garden tools; some of its classes: axe, rake"));
    assert!(
        asked.iter().any(|q| q == "What does an axe look like in a shed?") && asked.iter().any(|q| q == "Describe the handle of rake.")
    );
    // the queries come from the journal, too
    let before = stub.requests();
    assert!(run.good().contains("8 known"));
    assert_eq!(stub.requests(), before);
    stub.behave(|_| Act::Status(500, "", String::new()));
    let failing = Run::new(&stub, "axe\n", &[&extra[..], &["--retries", "0"]].concat());
    refused(&failing.run(), 1, &["no queries", "status 500", "--style lafter"]);
    stub.behave(|_| Act::Say("I cannot.".into()));
    let other = Run::new(&stub, "axe\n", &extra);
    refused(&other.run(), 1, &["no query", "--style lafter"]);
}

#[test]
fn an_endpoint_alone_as_in_a_cell() {
    let stub = Stub::start(|ask| Act::Say(format!("{} Yes.", ask.query)));
    let model = Endpoint::new(&stub.address, "stub").unwrap().timeout(Duration::from_secs(5)).retries(0);
    let answer = model.generate(&Request::new("Is an owl a bird?", &Settings::chat())).unwrap();
    assert_eq!(answer.text, "Is an owl a bird? Yes.");
    stub.behave(|_| Act::Status(500, "", String::new()));
    let error = model.generate(&Request::new("Is it?", &Settings::chat())).unwrap_err();
    assert!(matches!(error, lafter::Error::Unanswered(_)), "{error}");
}

#[test]
fn a_server_that_loads_its_model_is_waited_for() {
    let stub = Stub::start(|ask| match ask.before {
        0 => Act::Status(503, "", r#"{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}"#.into()),
        _ => Act::Say("An owl has large eyes.".into()),
    });
    let run = Run::new(&stub, "owl\n", &["--completions", "1", "--retries", "0"]);
    let output = run.run();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("loads its model (status 503: Loading model): waiting for it, 30 minutes at most"), "{said}");
}

#[test]
fn answers_too_long_or_too_slow_name_the_limit() {
    let stub = Stub::start(|_| Act::Raw(vec![b' '; (8 << 20) + 1]));
    let one = |retries: &str| {
        let run = Run::new(&stub, "owl\n", &["--completions", "1", "--timeout", "20", "--retries", retries, "--concurrency", "1"]);
        std::fs::write(run.path("q.txt"), "Describe {}.\n").unwrap();
        Run { extra: [run.extra.clone(), vec!["--queries".into(), run.path("q.txt").display().to_string()]].concat(), ..run }
    };
    refused(&one("3").run(), 1, &["longer than 8 MiB"]);
    assert_eq!(stub.requests(), 1, "what is too long once will be again");
    stub.behave(|_| Act::Drip);
    let slow = one("0");
    let slow = Run { extra: slow.extra.iter().map(|word| if word == "20" { "0.5".into() } else { word.clone() }).collect(), ..slow };
    refused(&slow.run(), 1, &["no answer within 0.5 s", "--timeout"]);
    stub.behave(|_| Act::Raw(vec![b' '; 100]));
    refused(&one("0").run(), 1, &["answer is empty"]);
}

#[test]
fn a_query_in_the_address_goes_with_every_request() {
    let stub = Stub::start(|ask| {
        assert_eq!(ask.path, "/openai/deployments/d/chat/completions?api-version=2024-02-01");
        assert_eq!(ask.authorization, None, "the key goes in a header of Azure's");
        Act::Say("An owl has large eyes.".into())
    });
    let mut run = Run::new(&stub, "owl\n", &["--completions", "1"]);
    run.address += "/openai/deployments/d/chat/completions?api-version=2024-02-01";
    assert!(run.good().contains("1 descriptions of 1 classes"));
}

#[test]
fn what_models_leave_around_an_answer_goes() {
    let stub = Stub::start(|ask| {
        let good = "An owl has large eyes.";
        Act::Finish(
            match ask.body["seed"].as_u64().unwrap_or(0) % 5 {
                0 => format!("{good}</s>"),
                1 => format!("<thinking>They want one.</thinking>{good}"),
                2 => format!("{{\"descriptions\": [\"{good}\"]}}"),
                3 => "<think>I should".into(),
                _ => String::new(),
            },
            if ask.body["seed"].as_u64().unwrap_or(0) % 5 == 3 { "length" } else { "content_filter" },
        )
    });
    let run = Run::new(&stub, "owl\n", &["--completions", "5", "--json"]);
    let json: Value = serde_json::from_str(&run.good()).unwrap();
    let counts = ["answers", "kept", "unfinished", "refusals", "duplicates"].map(|name| json["cleaning"][name].as_u64().unwrap());
    assert_eq!(counts, [25, 1, 5, 5, 14]);
    // thoughts took all the tokens
    stub.behave(|_| Act::Finish(String::new(), "length"));
    refused(&Run::new(&stub, "owl\n", &["--completions", "1"]).run(), 1, &["limit of 50 tokens", "--max-tokens"]);
}

#[test]
fn json_can_name_paths_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let stub = Stub::start(|_| Act::Say("An owl has large eyes.".into()));
    let run = Run::new(&stub, "owl\n", &["--completions", "1", "--json"]);
    let out = run.dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9.json"));
    let mut command = crate::llm_stub::run::lafter();
    command.arg("describe").arg("--classes").arg(run.path("names.txt")).arg("--out").arg(&out);
    let output = command.args(["--endpoint", &run.address, "--llm", "stub"]).args(&run.extra).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: Value = serde_json::from_str(&text(&output.stdout)).unwrap();
    assert!(json["out"].as_str().unwrap().contains("caf\u{fffd}.json") && out.exists());
}
