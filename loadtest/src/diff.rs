//! Two runs side by side: the figures of their JSON files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::report::FigureReport;

/// Changes below this share of the former value are not told apart from chance.
const NOTABLE: f64 = 0.05;

/// What of a JSON file is compared.
#[derive(Debug, Deserialize)]
struct Run {
    ok: bool,
    setup: BTreeMap<String, serde_json::Value>,
    figures: BTreeMap<String, FigureReport>,
}

/// A table of the figures in `before` and `after`; the error is a sentence.
pub fn compare_files(before: &Path, after: &Path) -> Result<String, String> {
    Ok(compare(&read(before)?, &read(after)?))
}

fn read(path: &Path) -> Result<Run, String> {
    let text = fs::read_to_string(path).map_err(|err| format!("cannot read {}: {err}", path.display()))?;
    serde_json::from_str(&text).map_err(|err| format!("{} is no result of loadtest: {err}", path.display()))
}

fn compare(before: &Run, after: &Run) -> String {
    let mut out = String::new();
    for (name, former) in &before.setup {
        let later = after.setup.get(name).unwrap_or(&serde_json::Value::Null);
        // Ports of servers that were started for the run differ always, and mean nothing.
        if former != later && name != "url" {
            // Writing into a string does not fail.
            let _ = writeln!(out, "NOTICE  the runs differ in {name}: {former} and {later}");
        }
    }
    let _ = writeln!(out, "{:<30} {:>16} {:>16} {:>9}", "", "before", "after", "change");
    let names: BTreeSet<&String> = before.figures.keys().chain(after.figures.keys()).collect();
    for name in names {
        let show = |run: &Run| run.figures.get(name).map_or("-".to_owned(), |figure| figure.unit.show(figure.value));
        let change = match (before.figures.get(name), after.figures.get(name)) {
            (Some(former), Some(later)) => change(former.value, later.value),
            _ => String::new(),
        };
        let _ =
            writeln!(out, "{}", format!("{name:<30} {:>16} {:>16} {change:>9}", show(before), show(after)).trim_end());
    }
    let ok = |run: &Run| if run.ok { "ok" } else { "FAILED" };
    let _ = writeln!(out, "{:<30} {:>16} {:>16}", "result", ok(before), ok(after));
    out
}

/// The change in percent, marked if it is worth a look.
fn change(before: f64, after: f64) -> String {
    if before == after {
        return "=".to_owned();
    }
    if before == 0.0 {
        return "new *".to_owned();
    }
    let change = (after - before) / before.abs();
    let mark = if change.abs() >= NOTABLE { " *" } else { "" };
    format!("{:+.1} %{mark}", change * 100.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(figures: &serde_json::Value, clients: u64) -> Run {
        let run =
            json!({"ok": true, "setup": {"clients": clients, "url": format!("ws://a:{clients}")}, "figures": figures});
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn every_figure_of_both() {
        let before =
            run(&json!({"p99": {"value": 1000.0, "unit": "microseconds"}, "lost": {"value": 0, "unit": "count"}}), 5);
        let after =
            run(&json!({"p99": {"value": 1200.0, "unit": "microseconds"}, "memory": {"value": 7, "unit": "bytes"}}), 6);
        let text = compare(&before, &after);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            words,
            [
                vec!["NOTICE", "the", "runs", "differ", "in", "clients:", "5", "and", "6"],
                vec!["before", "after", "change"],
                vec!["lost", "0", "-"],
                vec!["memory", "-", "7", "bytes"],
                vec!["p99", "1.00", "ms", "1.20", "ms", "+20.0", "%", "*"],
                vec!["result", "ok", "ok"],
            ]
        );
    }

    #[test]
    fn changes() {
        let table = [
            (1.0, 1.0, "="),
            (0.0, 3.0, "new *"),
            (100.0, 101.0, "+1.0 %"),
            (100.0, 50.0, "-50.0 % *"),
            (-4.0, -2.0, "+50.0 % *"),
        ];
        for (before, after, expected) in table {
            assert_eq!(change(before, after), expected, "{before} {after}");
        }
    }
}
