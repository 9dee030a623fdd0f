//! `p99<50ms`, `lost==0`: what a figure has to be.
//!
//! A figure is named as in the `figures` of the JSON file. Times are written with `us`, `µs`, `ms` or `s`, sizes with
//! `KiB`, `MiB` or `GiB`, shares with `%`; a number without a unit is in the unit of the figure itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text;

/// What a figure counts in, which tells how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things, or things per second.
    Count,
    /// Microseconds.
    Microseconds,
    /// Bytes.
    Bytes,
    /// Of 1.
    Share,
}

impl Unit {
    /// `value` for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Count if value.fract() == 0.0 && value >= 0.0 => text::grouped(value as u64),
            Unit::Count if value >= 1_000.0 => text::grouped(value.round() as u64),
            Unit::Count => format!("{value:.3}"),
            Unit::Microseconds if value.abs() < 100.0 => format!("{value:.3} µs"),
            Unit::Microseconds => text::time(value),
            Unit::Bytes => text::bytes(value),
            Unit::Share => format!("{:.1} %", value * 100.0),
        }
    }
}

/// One number that a run has given.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// Its value, in its unit.
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Below,
    AtMost,
    Above,
    AtLeast,
    Equal,
    Unequal,
}

/// Two-letter signs first, since the others are their beginnings.
const SIGNS: [(&str, Comparison); 9] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("==", Comparison::Equal),
    ("!=", Comparison::Unequal),
    ("≤", Comparison::AtMost),
    ("≥", Comparison::AtLeast),
    ("<", Comparison::Below),
    (">", Comparison::Above),
    ("=", Comparison::Equal),
];

/// Something that must hold of a figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Assertion {
    text: String,
    name: String,
    comparison: Comparison,
    number: f64,
    unit: Option<Unit>,
}

/// What has become of an assertion.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It holds.
    Holds,
    /// It does not, since the figure is this.
    Fails(f64),
    /// There is no such figure in this run, or it is not in that unit.
    Unknown(String),
}

impl Assertion {
    /// Reads `text`; the error is a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("`{text}` {what}; an assertion looks like p99<50ms or lost==0"));
        let Some(at) = text.find(['<', '>', '=', '!', '≤', '≥']) else {
            return wrong("compares nothing");
        };
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let Some((sign, comparison)) = SIGNS.into_iter().find(|(sign, _)| rest.starts_with(sign)) else {
            return wrong("has no sign of comparison");
        };
        if name.is_empty() {
            return wrong("names no figure");
        }
        let value = rest[sign.len()..].trim();
        let digits = value.find(|c: char| !c.is_ascii_digit() && !"+-._eE".contains(c)).unwrap_or(value.len());
        let Ok(number) = value[..digits].replace('_', "").parse::<f64>() else {
            return wrong("has no number behind the sign");
        };
        let (factor, unit) = match value[digits..].trim() {
            "" => (1.0, None),
            "us" | "µs" => (1.0, Some(Unit::Microseconds)),
            "ms" => (1e3, Some(Unit::Microseconds)),
            "s" => (1e6, Some(Unit::Microseconds)),
            "B" => (1.0, Some(Unit::Bytes)),
            "KiB" => (1024.0, Some(Unit::Bytes)),
            "MiB" => (1024.0 * 1024.0, Some(Unit::Bytes)),
            "GiB" => (1024.0 * 1024.0 * 1024.0, Some(Unit::Bytes)),
            "%" => (0.01, Some(Unit::Share)),
            _ => return wrong("has a unit that is not one of us, ms, s, B, KiB, MiB, GiB, %"),
        };
        Ok(Assertion { text: text.to_owned(), name: name.to_owned(), comparison, number: number * factor, unit })
    }

    /// Whether it is about `figure`.
    pub fn names(&self, figure: &Figure) -> bool {
        figure.name == self.name
    }

    /// Looks at `figures`.
    pub fn check(&self, figures: &[Figure]) -> Outcome {
        let Some(figure) = figures.iter().find(|figure| figure.name == self.name) else {
            let names: Vec<&str> = figures.iter().map(|figure| figure.name.as_str()).collect();
            return Outcome::Unknown(format!("this run has no figure `{}`; there are {}", self.name, names.join(", ")));
        };
        if self.unit.is_some_and(|unit| unit != figure.unit) {
            let unit = figure.unit;
            return Outcome::Unknown(format!("`{}` is not in that unit, but in {unit}", self.name));
        }
        let holds = match self.comparison {
            Comparison::Below => figure.value < self.number,
            Comparison::AtMost => figure.value <= self.number,
            Comparison::Above => figure.value > self.number,
            Comparison::AtLeast => figure.value >= self.number,
            Comparison::Equal => figure.value == self.number,
            Comparison::Unequal => figure.value != self.number,
        };
        if holds { Outcome::Holds } else { Outcome::Fails(figure.value) }
    }
}

impl fmt::Display for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Count => "numbers",
            Unit::Microseconds => "microseconds",
            Unit::Bytes => "bytes",
            Unit::Share => "parts of 1",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> Vec<Figure> {
        let figure = |name: &str, value, unit| Figure { name: name.into(), value, unit };
        vec![
            figure("p99", 1_500.0, Unit::Microseconds),
            figure("lost", 0.0, Unit::Count),
            figure("memory", 3.0 * 1024.0 * 1024.0, Unit::Bytes),
            figure("cpu_share", 0.5, Unit::Share),
        ]
    }

    #[test]
    fn what_holds() {
        let table = [
            ("p99<50ms", Outcome::Holds),
            ("p99 < 1.5ms", Outcome::Fails(1_500.0)),
            ("p99 <= 1.5 ms", Outcome::Holds),
            ("p99≤1500us", Outcome::Holds),
            ("p99<1500", Outcome::Fails(1_500.0)),
            ("p99>=0.001s", Outcome::Holds),
            ("p99≥2s", Outcome::Fails(1_500.0)),
            ("p99>1_499µs", Outcome::Holds),
            ("lost==0", Outcome::Holds),
            ("lost=0", Outcome::Holds),
            ("lost!=0", Outcome::Fails(0.0)),
            ("memory<=3MiB", Outcome::Holds),
            ("memory<3072KiB", Outcome::Fails(3.0 * 1024.0 * 1024.0)),
            ("memory<1GiB", Outcome::Holds),
            ("memory>2e6 B", Outcome::Holds),
            ("cpu_share<51%", Outcome::Holds),
            ("cpu_share<0.5", Outcome::Fails(0.5)),
        ];
        for (text, expected) in table {
            assert_eq!(Assertion::parse(text).unwrap().check(&figures()), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_told() {
        let table = [
            ("nothing<1", "no figure `nothing`; there are p99, lost, memory, cpu_share"),
            ("p99<1KiB", "in microseconds"),
            ("lost<1ms", "in numbers"),
        ];
        for (text, part) in table {
            let outcome = Assertion::parse(text).unwrap().check(&figures());
            assert!(matches!(&outcome, Outcome::Unknown(why) if why.contains(part)), "{text}: {outcome:?}");
        }
    }

    #[test]
    fn what_is_no_assertion() {
        let table = [
            ("", "compares nothing"),
            ("p99", "compares nothing"),
            ("<5ms", "names no figure"),
            ("p99!5", "no sign"),
            ("p99<", "no number"),
            ("p99<fast", "no number"),
            ("p99<5 weeks", "unit"),
            ("p99<<5", "no number"),
        ];
        for (text, part) in table {
            let error = Assertion::parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
