//! The text, read as strictly as Prometheus does.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::histogram::COUNTS;

fn rendered(metrics: &Metrics) -> String {
    let mut out = String::new();
    let store = Store {
        entries: 0,
        file_bytes: 0,
        log_bytes: 0,
        unindexed: 0,
        trimmed: 0,
        batches: Histogram::new(COUNTS),
        commits: Histogram::new(SECONDS),
    };
    let reads = ["feed", "join", "history", "search", "http"].map(|label| (label, 0));
    let waiting_reads = ["feed", "join", "history", "search"].map(|label| (label, 0));
    let resident_bytes = Some(1 << 20);
    let gauges = Gauges { resident_bytes, store: Some(store), reads, waiting_reads, ..Gauges::default() };
    metrics.render(&gauges, &mut out);
    out
}

/// Reads the format strictly: HELP, TYPE, then the samples of one family, nothing between them and nothing twice.
fn parsed(text: &str) -> BTreeMap<&str, f64> {
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let (mut family, mut kind) = ("", "");
    let mut lines = text.strip_suffix('\n').expect("a line feed at the end").split('\n');
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect(line);
            assert!(help.ends_with('.') && !help.contains('\\'), "{line}");
            assert!(families.insert(name), "{name} twice");
            let kind_line = lines.next().unwrap();
            family = name;
            kind = kind_line.strip_prefix(&format!("# TYPE {name} ")).expect(kind_line);
            assert!(name.starts_with("chat_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{kind_line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let suffix = name.strip_prefix(family).expect(line);
        match kind {
            "histogram" => assert!(matches!(suffix, "_bucket" | "_sum" | "_count"), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        if let Some(label) = labels.strip_suffix("\"}") {
            let (label, value) = label.split_once("=\"").expect(line);
            assert!(label.bytes().all(|b| b.is_ascii_lowercase()) && !value.contains(['"', '\\']), "{line}");
        } else {
            assert_eq!(labels, "", "{line}");
        }
        assert!(samples.insert(series, value.parse().expect(line)).is_none(), "{series} twice");
    }
    samples
}

#[test]
fn the_text_is_what_prometheus_reads() {
    assert_eq!(parsed(&rendered(&Metrics::default())).values().sum::<f64>(), 1.0 + f64::from(1 << 20));
}

#[test]
fn every_event_has_its_series() {
    let mut metrics = Metrics { messages_in: 3, messages_out: 7, bytes_read: 11, ..Metrics::default() };
    metrics.opened();
    metrics.opened();
    metrics.opened();
    metrics.upgraded();
    metrics.upgraded();
    metrics.closed(Kind::WebSocket, CloseReason::Stalled);
    metrics.refused(Refusal::Origin);
    metrics.spent(Budget::Entries);
    metrics.responded(StatusCode::NOT_MODIFIED);
    metrics.responded(StatusCode::from_u16(999).unwrap());
    let text = rendered(&metrics);
    let samples = parsed(&text);
    for (series, expected) in [
        ("chat_accepts_total", 3.0),
        ("chat_connections{kind=\"http\"}", 1.0),
        ("chat_connections{kind=\"websocket\"}", 1.0),
        ("chat_closes_total{reason=\"stalled\"}", 1.0),
        ("chat_closes_total{reason=\"draining\"}", 0.0),
        ("chat_refusals_total{cause=\"origin\"}", 1.0),
        ("chat_http_responses_total{class=\"3xx\"}", 1.0),
        ("chat_http_responses_total{class=\"5xx\"}", 0.0),
        ("chat_spent_budgets_total{budget=\"entries\"}", 1.0),
        ("chat_messages_in_total", 3.0),
        ("chat_messages_out_total", 7.0),
        ("chat_read_bytes_total", 11.0),
    ] {
        assert_eq!(samples.get(series), Some(&expected), "{series}");
    }
}

#[test]
fn turns_are_counted_up_to_each_bound() {
    let mut metrics = Metrics::default();
    for micros in [0, 50, 51, 1_000_000, 1_000_001] {
        metrics.turned(Duration::from_micros(micros));
    }
    let text = rendered(&metrics);
    let samples = parsed(&text);
    for (series, expected) in [
        ("bucket{le=\"0.00005\"}", 2.0),
        ("bucket{le=\"0.0001\"}", 3.0),
        ("bucket{le=\"0.5\"}", 3.0),
        ("bucket{le=\"1\"}", 4.0),
        ("bucket{le=\"+Inf\"}", 5.0),
        ("count", 5.0),
    ] {
        assert_eq!(samples[format!("chat_turn_duration_seconds_{series}").as_str()], expected, "{series}");
    }
    assert!((samples["chat_turn_duration_seconds_sum"] - 2.000_102).abs() < 1e-9);
}

#[test]
fn labels_stand_at_their_own_index() {
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, index, "{}", kind.label());
    }
    for (index, budget) in Budget::ALL.into_iter().enumerate() {
        assert_eq!(budget as usize, index, "{}", budget.label());
    }
    for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
        assert_eq!(refusal as usize, index, "{}", refusal.label());
    }
}
