//! Command lines, and what they amount to.

use argh::FromArgs;

use super::*;
use crate::options::{Options, Wanted, normalise};

fn plan(line: &str) -> Result<Plan, String> {
    let words = normalise(line.split_whitespace().map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let options = Options::from_args(&["loadtest"], &words).map_err(|exit| exit.output)?;
    match options.wanted(words.first().copied())? {
        Wanted::Run(settings) => Plan::new(&settings),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn paces() {
    let on_schedule = |per_second| Pace::OnSchedule { per_second };
    let closed_loop = |window, until| Pace::ClosedLoop { window, until };
    let table = [
        ("", on_schedule(10.0)),
        ("--rate 0.5", on_schedule(0.5)),
        ("--rate=200", on_schedule(200.0)),
        ("--idle", Pace::Idle),
        ("--closed-loop", closed_loop(1, Until::Last)),
        ("--closed-loop --window=3 --until echo", closed_loop(3, Until::Echo)),
        ("fanout --rate 3", on_schedule(3.0)),
        ("idle", Pace::Idle),
        ("chatter", closed_loop(1, Until::Last)),
        ("chatter --rate 5", on_schedule(5.0)),
        ("slow", on_schedule(200.0)),
    ];
    for (line, expected) in table {
        assert_eq!(plan(line).unwrap().pace, expected, "{line}");
    }
}

#[test]
fn scenarios() {
    let table = [
        ("", Scenario::Steady, Dialect::Raw, 1),
        ("--dialect v1", Scenario::Steady, Dialect::V1, 1),
        ("--steps 1,2.5", Scenario::Steps(vec![1.0, 2.5]), Dialect::Raw, 1),
        ("--hold p99<5ms", Scenario::Search(vec![Assertion::parse("p99<5ms").unwrap()]), Dialect::Raw, 1),
        ("chatter", Scenario::Steady, Dialect::Raw, 100),
        ("storm", Scenario::Storm { behind: 200, join: false }, Dialect::V1, 1),
        ("storm --join --dialect raw", Scenario::Storm { behind: 200, join: true }, Dialect::Raw, 1),
        ("slow", Scenario::Slow { slow: 20, stalled: 10, bytes_per_second: 10_000 }, Dialect::Raw, 10),
        ("churn --stay 2", Scenario::Churn { visits: 100.0, stay: 2 * SECOND }, Dialect::Raw, 1),
        ("cluster --url ws://a --url ws://b", Scenario::Steady, Dialect::V1, 10),
        ("http", Scenario::Http { connections: 10, per_second: None, path: "/".into() }, Dialect::Raw, 1),
    ];
    for (line, scenario, dialect, senders) in table {
        let plan = plan(line).unwrap();
        assert_eq!((plan.scenario, plan.dialect, plan.senders), (scenario, dialect, senders), "{line}");
    }
}

#[test]
fn parts_have_every_client_and_sender_once() {
    let mut plan = plan("--clients 11 --senders 4").unwrap();
    for of in [1, 2, 3, 11] {
        let mut clients = 0;
        let mut senders = 0;
        for index in 0..of {
            plan.part = Part { index, of };
            clients += plan.own_clients();
            let own: Vec<usize> = plan.sender_clients().into_iter().flatten().collect();
            assert!(own.iter().all(|&client| client < plan.own_clients()), "{index} of {of}");
            senders += own.len();
        }
        assert_eq!((clients, senders), (11, 4), "{of}");
    }
}

#[test]
fn what_cannot_be() {
    let table = [
        ("--clients 0", "--clients"),
        ("--clients 1000000000", "limit of open files"),
        ("--senders 0", "--senders"),
        ("--clients 5 --senders 6", "--senders"),
        ("--rate 0", "--rate"),
        ("--rate inf", "--rate"),
        ("--rate 1 --closed-loop", "--rate"),
        ("--idle --rate 1", "--idle"),
        ("--idle --closed-loop", "--idle"),
        ("--window 2", "--window"),
        ("--closed-loop --window 0", "--window"),
        ("--closed-loop --until never", "--until"),
        ("--seconds 0", "--seconds"),
        ("--seconds -1", "--seconds"),
        ("--drain nan", "--drain"),
        ("--size 39", "--size"),
        ("--ramp 0", "--ramp"),
        ("--pid 4294967295", "no process"),
        ("--url http://a", "WebSocket URL"),
        ("--nonsense", "--nonsense"),
        ("--dialect morse", "--dialect"),
        ("--steps 1,x", "--steps"),
        ("--steps 1 --hold p99<1s", "--steps"),
        ("--hold p99", "p99"),
        ("--processes 0", "--processes"),
        ("--processes 2 --closed-loop", "--until echo"),
        ("--processes 2 --steps 1,2", "--processes"),
        ("cluster --url ws://a --url ws://b --processes 2 --hold p99<1s", "--processes"),
        ("--pid 1 --spawn x", "--spawn"),
        ("--insecure", "wss://"),
        ("--ca a.pem", "wss://"),
        ("--url wss://a --ca a.pem --insecure", "--insecure"),
        ("--url wss://a --ca /no/such/file", "/no/such/file"),
        ("--url wss://a --ca Cargo.toml", "none in PEM"),
        ("storm --clients 1", "2 clients"),
        ("storm --join --behind 3", "--behind"),
        ("storm --closed-loop", "--closed-loop"),
        ("slow --clients 10 --slow 10", "--slow"),
        ("slow --slow 5 --stalled 6", "--stalled"),
        ("slow --slow-bytes 0", "--slow-bytes"),
        ("churn --visits 0", "--visits"),
        ("cluster", "several"),
        ("http --path a", "--path"),
        ("--clients 5 fanout", "behind the name"),
    ];
    for (line, word) in table {
        let error = plan(line).map(|_| ()).unwrap_err();
        assert!(error.contains(word), "{line}: {error}");
    }
}

#[test]
fn url_with_an_equals_sign() {
    let table = ["--url=ws://a/?room=b", "--url ws://a/?room=b"];
    for line in table {
        assert_eq!(plan(line).unwrap().targets[0].path, "/?room=b", "{line}");
    }
}
