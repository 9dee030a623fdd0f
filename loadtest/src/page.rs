//! The result as a page for a browser: one file that needs nothing else.

use std::fmt::Write;

use crate::assertion::Unit;
use crate::cost::Percentiles;
use crate::monitor::Point;
use crate::plot::{Across, Line, Plot, Scale, escape};
use crate::report::Report;
use crate::text::{bytes, grouped, time};

/// Curves of one plot at most: more cannot be told apart.
const MAX_CURVES: usize = 6;

/// The page of `report`.
pub fn render(report: &Report) -> String {
    let setup = &report.setup;
    let title = escape(&format!("loadtest {}: {} clients", setup.scenario, grouped(setup.clients as u64)));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
         <style>\n{}</style>\n",
        include_str!("page.css")
    );
    push_header(&mut out, report);
    push_tiles(&mut out, report);
    out.push_str("<section class=\"plots\">\n");
    plots(report).iter().for_each(|plot| out.push_str(&plot.figure()));
    out.push_str("</section>\n");
    push_intervals(&mut out, report);
    push_figures(&mut out, report);
    let _ = writeln!(
        out,
        "<footer>loadtest {}. Latency runs from when a message was due. On one machine the kernel charges the receiving \
         half of loopback TCP to the sender.</footer>\n</html>",
        report.version
    );
    out
}

fn push_header(out: &mut String, report: &Report) {
    let setup = &report.setup;
    let (class, verdict) = if report.ok { ("good", "ok") } else { ("bad", "failed") };
    let _ = writeln!(
        out,
        "<header><h1>{} <span class=\"badge {class}\">{verdict}</span></h1>\n<p>{} · {} · {} clients, {} talking · {} bytes · {}</p></header>",
        escape(setup.scenario),
        escape(&setup.url),
        setup.dialect,
        grouped(setup.clients as u64),
        grouped(setup.senders as u64),
        setup.size_bytes,
        escape(&setup.pace)
    );
    let mut notices: Vec<String> = report.generator.verdict.iter().map(|verdict| (*verdict).to_owned()).collect();
    let tables =
        [("turned away", &report.connect.refused), ("thrown out", &report.closes), ("refused", &report.errors)];
    for (what, table) in tables {
        notices.extend(table.iter().map(|(reason, count)| format!("{} {what}: {reason}", grouped(*count))));
    }
    for asserted in &report.assertions {
        let found = asserted.found.as_ref().map_or("holds".to_owned(), |found| format!("fails: {found}"));
        notices.push(format!("{} {found}", asserted.assertion));
    }
    for notice in notices {
        let _ = writeln!(out, "<p class=\"notice\">{}</p>", escape(&notice));
    }
}

fn push_tiles(out: &mut String, report: &Report) {
    let messages = &report.messages;
    let mut tiles: Vec<(String, String)> = Vec::new();
    let mut tile = |value: String, name: &str| tiles.push((value, name.to_owned()));
    if let Some(storm) = &report.storm {
        tile(format!("{:.2} s", storm.last_seconds), "until the last one had everything");
        tile(time(storm.caught_up.p50_us), "until half of them had");
        tile(bytes(storm.bytes_per_client), "received by each");
    }
    if let Some(slow) = &report.slow {
        tile(format!("{:.2} ×", slow.ratio), "the others' p99 with slow readers");
        tile(if slow.complete { "all" } else { "not all" }.to_owned(), "of what slow readers should have heard");
    }
    if let Some(rate) = report.search.as_ref().and_then(|search| search.rate) {
        tile(grouped(rate as u64), "messages/s hold");
    }
    if report.latency_each.count > 0 {
        tile(time(report.latency_each.p50_us), "median to each member");
        tile(time(report.latency_each.p99_us), "p99 to each member");
        tile(time(report.latency_last.p99_us), "p99 to the last member");
        tile(grouped(report.measured.delivered_per_second as u64), "delivered/s");
    }
    if let Some(http) = &report.http {
        tile(grouped(http.per_second as u64), "answers/s of the site");
        tile(time(http.latency.p99_us), "p99 of the site");
    }
    if messages.expected > 0 {
        tile(grouped(messages.lost), "lost");
        let others = messages.duplicated + messages.disordered + messages.disagreed + messages.corrupt;
        tile(grouped(others), "doubled, disordered, changed");
    }
    tile(grouped(u64::from(report.connect.connected)), "connected");
    if let Some(server) = &report.server {
        if let Some(cpu) = server.cpu_us_per_delivered {
            tile(format!("{cpu:.2} µs"), "server CPU per delivered");
        }
        if let Some(memory) = server.resident_bytes_at_end {
            tile(bytes(memory as f64), "server memory at the end");
        }
        if let Some(each) = server.bytes_per_connection {
            tile(bytes(each), "memory per connection");
        }
    }
    out.push_str("<section class=\"tiles\">\n");
    for (value, name) in tiles {
        let _ = writeln!(out, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(&name));
    }
    out.push_str("</section>\n");
}

fn plots(report: &Report) -> Vec<Plot> {
    let curve = |name: String, points: &[(f64, f64)]| Line {
        name,
        points: points.iter().filter(|(q, _)| *q < 1.0).map(|&(q, us)| (q, Some(us))).collect(),
    };
    let mut curves = Vec::new();
    if let [interval] = &report.intervals[..] {
        curves.push(curve("to each member".into(), &interval.curve_each));
        curves.push(curve("to the last one".into(), &interval.curve_last));
    } else {
        let latest = report.intervals.iter().rev().take(MAX_CURVES).rev();
        curves.extend(latest.map(|interval| curve(interval.name.clone(), &interval.curve_each)));
    }
    let over_time = |name: &str, value: &dyn Fn(&Point) -> Option<f64>| Line {
        name: name.to_owned(),
        points: report.points.iter().map(|point| (point.seconds, value(point))).collect(),
    };
    let marks: Vec<(f64, String)> = report.marks.iter().map(|mark| (mark.seconds, mark.name.clone())).collect();
    let plot = |title: &str, unit, scale, lines| Plot {
        title: title.to_owned(),
        across: Across::Seconds,
        unit,
        scale,
        lines,
        marks: marks.clone(),
    };
    vec![
        Plot {
            across: Across::Quantiles,
            marks: Vec::new(),
            ..plot("Latency, by share of deliveries", Unit::Microseconds, Scale::Logarithmic, curves)
        },
        plot(
            "Latency over time",
            Unit::Microseconds,
            Scale::Logarithmic,
            vec![over_time("p50", &|point| point.p50_us), over_time("p99", &|point| point.p99_us)],
        ),
        plot(
            "Deliveries per second",
            Unit::Count,
            Scale::Linear,
            vec![over_time("to all members", &|point| Some(point.delivered_per_second))],
        ),
        plot(
            "Messages per second",
            Unit::Count,
            Scale::Linear,
            vec![over_time("sent", &|point| Some(point.sent_per_second))],
        ),
        plot(
            "Connections",
            Unit::Count,
            Scale::Linear,
            vec![over_time("open", &|point| Some(f64::from(point.connected)))],
        ),
        plot(
            "CPU",
            Unit::Share,
            Scale::Linear,
            vec![
                over_time("server", &|point| point.server_cpu_share),
                over_time("generator", &|point| Some(point.generator_busy)),
            ],
        ),
        plot(
            "Memory of the server",
            Unit::Bytes,
            Scale::Linear,
            vec![over_time("resident", &|point| point.resident_bytes.map(|bytes| bytes as f64))],
        ),
    ]
}

fn push_intervals(out: &mut String, report: &Report) {
    let intervals: Vec<_> = report.intervals.iter().filter(|interval| interval.latency_each.count > 0).collect();
    if intervals.is_empty() {
        return;
    }
    out.push_str(
        "<h2>Latency</h2>\n<div class=\"scroll\"><table><tr><th><th>delivered/s<th>p50<th>p90<th>p99<th>p99.9<th>longest\
         <th>last: p50<th>last: p99<th>server CPU\n",
    );
    for interval in intervals {
        let Percentiles { p50_us, p90_us, p99_us, p999_us, max_us, .. } = interval.latency_each;
        let cpu =
            interval.server.as_ref().map_or("-".to_owned(), |server| format!("{:.0} %", server.cpu_share * 100.0));
        let _ = write!(
            out,
            "<tr><td>{}<td>{}",
            escape(&interval.name),
            grouped(interval.measured.delivered_per_second as u64)
        );
        let last = &interval.latency_last;
        for us in [p50_us, p90_us, p99_us, p999_us, max_us, last.p50_us, last.p99_us] {
            let _ = write!(out, "<td>{}", time(us));
        }
        let _ = writeln!(out, "<td>{cpu}");
    }
    out.push_str("</table></div>\n");
}

fn push_figures(out: &mut String, report: &Report) {
    out.push_str("<h2>All figures</h2>\n<div class=\"figures\">\n");
    for (name, figure) in &report.figures {
        let value = escape(&figure.unit.show(figure.value));
        let _ = writeln!(out, "<div><span>{}</span>{value}</div>", escape(name));
    }
    out.push_str("</div>\n");
}
