//! The figures of a run by name: what assertions, searches and comparisons speak of.

use crate::assertion::{Figure, Unit};
use crate::cost::Percentiles;
use crate::report::{IntervalReport, Report};
use Unit::{Bytes, Count, Microseconds, Share};

/// All figures of `report`.
pub fn of(report: &Report) -> Vec<Figure> {
    let mut figures = Vec::new();
    push_percentiles(&mut figures, "", &report.latency_each);
    push_percentiles(&mut figures, "last.", &report.latency_last);
    push_percentiles(&mut figures, "handshake.", &report.connect.handshake);
    let messages = &report.messages;
    let sum = |table: &std::collections::BTreeMap<String, u64>| table.values().sum::<u64>() as f64;
    let counts = [
        ("sent", messages.sent as f64),
        ("unsent", messages.unsent as f64),
        ("delivered", messages.delivered as f64),
        ("lost", messages.lost as f64),
        ("duplicated", messages.duplicated as f64),
        ("disordered", messages.disordered as f64),
        ("disagreed", messages.disagreed as f64),
        ("corrupt", messages.corrupt as f64),
        ("gaps", report.gaps as f64),
        ("refused", messages.refused as f64),
        ("connected", f64::from(report.connect.connected)),
        ("turned_away", sum(&report.connect.refused)),
        ("thrown_out", sum(&report.closes)),
        ("connects_per_second", report.connect.per_second),
        ("delivered_per_second", report.measured.delivered_per_second),
    ];
    figures.extend(counts.map(|(name, value)| figure(name, value, Count)));
    figures.push(figure("bytes_received", report.bytes_received as f64, Bytes));
    figures.push(figure("generator.busy", report.generator.busy, Share));
    figures.push(figure("generator.cpu", report.generator.cpu_seconds * 1e6, Microseconds));
    let memory = report.generator.resident_bytes;
    figures.extend(memory.map(|bytes| figure("generator.memory", bytes as f64, Bytes)));
    push_percentiles(&mut figures, "generator.lag.", &report.generator.lag);
    push_server(&mut figures, report);
    push_scenario(&mut figures, report);
    figures
}

/// The figures of one interval, under the names they have for a whole run.
pub fn of_interval(interval: &IntervalReport) -> Vec<Figure> {
    let mut figures = Vec::new();
    push_percentiles(&mut figures, "", &interval.latency_each);
    push_percentiles(&mut figures, "last.", &interval.latency_last);
    figures.push(figure("unsent", interval.unsent as f64, Count));
    figures.push(figure("delivered_per_second", interval.measured.delivered_per_second, Count));
    if let Some(server) = &interval.server {
        figures.push(figure("server.cpu_share", server.cpu_share, Share));
    }
    figures
}

fn push_server(figures: &mut Vec<Figure>, report: &Report) {
    let Some(server) = &report.server else { return };
    let options = [
        ("server.cpu_share", Some(server.cpu_share), Share),
        ("server.busiest_share", Some(server.busiest_share), Share),
        ("server.cpu_per_delivered", server.cpu_us_per_delivered, Microseconds),
        ("server.voluntary_switches", Some(server.voluntary_switches as f64), Count),
        ("server.involuntary_switches", Some(server.involuntary_switches as f64), Count),
        ("server.memory", server.resident_bytes_at_end.map(|bytes| bytes as f64), Bytes),
        ("server.memory_connected", server.resident_bytes_connected.map(|bytes| bytes as f64), Bytes),
        ("server.memory_per_connection", server.bytes_per_connection, Bytes),
    ];
    figures.extend(options.into_iter().filter_map(|(name, value, unit)| Some(figure(name, value?, unit))));
}

fn push_scenario(figures: &mut Vec<Figure>, report: &Report) {
    if let Some(storm) = &report.storm {
        push_percentiles(figures, "storm.", &storm.caught_up);
        figures.push(figure("storm.last", storm.last_seconds * 1e6, Microseconds));
        figures.push(figure("storm.arrived", storm.arrived as f64, Count));
        figures.push(figure("storm.bytes", storm.bytes_settled as f64, Bytes));
        figures.push(figure("storm.bytes_per_client", storm.bytes_per_client, Bytes));
        figures.extend(storm.cpu_seconds.map(|cpu| figure("storm.cpu", cpu * 1e6, Microseconds)));
    }
    if let Some(slow) = &report.slow {
        figures.push(figure("slow.baseline_p99", slow.p99_us_baseline, Microseconds));
        figures.push(figure("slow.ratio", slow.ratio, Count));
        figures.push(figure("slow.added", slow.added_us, Microseconds));
        figures.push(figure("slow.catch_up", slow.catch_up_seconds * 1e6, Microseconds));
        figures.push(figure("slow.thrown_out", slow.thrown_out as f64, Count));
        figures.extend(slow.resident_bytes_loaded.map(|bytes| figure("slow.memory", bytes as f64, Bytes)));
    }
    if let Some(churn) = &report.churn {
        figures.push(figure("churn.came", churn.came as f64, Count));
        figures.push(figure("churn.crowded_out", churn.crowded_out as f64, Count));
    }
    if let Some(http) = &report.http {
        push_percentiles(figures, "http.", &http.latency);
        figures.push(figure("http.per_second", http.per_second, Count));
        figures.push(figure("http.failed", http.failed.values().sum::<u64>() as f64, Count));
    }
    if let Some(rate) = report.search.as_ref().and_then(|search| search.rate) {
        figures.push(figure("search.rate", rate, Count));
    }
}

/// Nothing was recorded, nothing is told: a latency of nothing is not 0.
fn push_percentiles(figures: &mut Vec<Figure>, prefix: &str, times: &Percentiles) {
    if times.count > 0 {
        let Percentiles { p50_us, p90_us, p99_us, p999_us, max_us, .. } = *times;
        let named = [("p50", p50_us), ("p90", p90_us), ("p99", p99_us), ("p99.9", p999_us), ("max", max_us)];
        figures.extend(named.map(|(name, value)| figure(&format!("{prefix}{name}"), value, Microseconds)));
    }
}

fn figure(name: &str, value: f64, unit: Unit) -> Figure {
    Figure { name: name.to_owned(), value, unit }
}
