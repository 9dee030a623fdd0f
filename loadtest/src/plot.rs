//! Line plots as SVG, coloured by the style sheet of the page around them.

use std::fmt::Write;

use crate::assertion::Unit;

/// The drawing, in its own units.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 270.0;
/// Room around the area of the lines: for labels.
const LEFT: f64 = 72.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 18.0;
const BOTTOM: f64 = 30.0;
/// So wide is a letter of a label, about.
const LETTER_WIDTH: f64 = 5.8;
/// Labels of marks have no more letters.
const MAX_LABEL: usize = 26;

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What it shows.
    pub name: String,
    /// From left to right; a line is broken where there is nothing.
    pub points: Vec<(f64, Option<f64>)>,
}

/// What lies on the horizontal axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Across {
    /// Seconds since the run began.
    Seconds,
    /// Quantiles below 1, the last of them stretched.
    Quantiles,
}

/// How heights are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From 0.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// A plot with its axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Plot {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub across: Across,
    /// What heights count in.
    pub unit: Unit,
    /// How they are told apart.
    pub scale: Scale,
    /// The lines, the most important first.
    pub lines: Vec<Line>,
    /// Where something began.
    pub marks: Vec<(f64, String)>,
}

impl Plot {
    /// The plot as a figure of a page; nothing if there is nothing to show.
    pub fn figure(&self) -> String {
        if self.lines.iter().all(|line| line.points.iter().filter(|(_, y)| y.is_some()).count() < 2) {
            return String::new();
        }
        let mut out = format!("<figure><figcaption>{}", escape(&self.title));
        for (at, line) in self.lines.iter().enumerate() {
            let _ = write!(out, r#" <span class="key k{at}">{}</span>"#, escape(&line.name));
        }
        out.push_str("</figcaption>\n");
        self.draw(&mut out);
        out.push_str("</figure>\n");
        out
    }

    fn draw(&self, out: &mut String) {
        let frame = Frame::around(self);
        let _ = write!(out, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">"#, escape(&self.title));
        for (value, is_labelled) in frame.heights() {
            let y = frame.y(value);
            let _ = write!(out, r#"<path class="grid" d="M{LEFT} {y:.1}H{:.1}"/>"#, WIDTH - RIGHT);
            if is_labelled {
                let label = escape(&label(self.unit, value));
                let _ = write!(out, r#"<text class="y" x="{:.1}" y="{:.1}">{label}</text>"#, LEFT - 8.0, y + 4.0);
            }
        }
        for (value, label) in frame.steps() {
            let x = frame.x(value);
            let _ = write!(out, r#"<path class="grid" d="M{x:.1} {TOP}V{:.1}"/>"#, HEIGHT - BOTTOM);
            let class = if x + label.len() as f64 * LETTER_WIDTH / 2.0 > WIDTH { "y" } else { "x" };
            let x = if class == "y" { WIDTH - 2.0 } else { x };
            let _ = write!(out, r#"<text class="{class}" x="{x:.1}" y="{:.1}">{label}</text>"#, HEIGHT - BOTTOM + 18.0);
        }
        for (at, (seconds, name)) in self.marks.iter().enumerate() {
            let x = frame.x(*seconds);
            let _ = write!(out, r#"<path class="mark" d="M{x:.1} {TOP}V{:.1}"/>"#, HEIGHT - BOTTOM);
            let name: String = name.chars().take(MAX_LABEL).collect();
            // A phase that is shorter than its name leaves the room to the next one.
            let end = self.marks.get(at + 1).map_or(WIDTH, |(next, _)| frame.x(*next));
            if x + name.chars().count() as f64 * LETTER_WIDTH < end {
                let _ = write!(out, r#"<text class="mark" x="{x:.1}" y="{:.1}">{}</text>"#, TOP - 6.0, escape(&name));
            }
        }
        // The most important line comes last, above the others.
        for (at, line) in self.lines.iter().enumerate().rev() {
            let _ = write!(out, r#"<path class="line l{at}" d="{}"/>"#, frame.path(line));
        }
        out.push_str("</svg>\n");
    }
}

/// Where values lie in the drawing.
struct Frame {
    across: Across,
    scale: Scale,
    unit: Unit,
    left: f64,
    right: f64,
    low: f64,
    high: f64,
}

impl Frame {
    fn around(plot: &Plot) -> Self {
        let points = || plot.lines.iter().flat_map(|line| line.points.iter());
        let (across, scale) = (plot.across, plot.scale);
        let place = |x: f64| if across == Across::Quantiles { stretch(x) } else { x };
        let left = points().map(|(x, _)| place(*x)).fold(f64::INFINITY, f64::min);
        let right = points().map(|(x, _)| place(*x)).fold(f64::NEG_INFINITY, f64::max).max(left + 1e-9);
        let highest = points().filter_map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
        let lowest = points().filter_map(|(_, y)| *y).filter(|y| *y > 0.0).fold(highest, f64::min);
        let (low, high) = match scale {
            Scale::Linear => (0.0, highest * 1.08),
            Scale::Logarithmic => {
                let low = 10_f64.powf(lowest.log10().floor());
                (low, (10_f64.powf(highest.log10().ceil())).max(low * 10.0))
            }
        };
        let left = if across == Across::Seconds { left.min(0.0) } else { left };
        Frame { across, scale, unit: plot.unit, left, right, low, high }
    }

    fn x(&self, value: f64) -> f64 {
        let place = if self.across == Across::Quantiles { stretch(value) } else { value };
        LEFT + (place - self.left) / (self.right - self.left) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn path(&self, line: &Line) -> String {
        let mut path = String::new();
        let mut pen = 'M';
        for (x, y) in &line.points {
            match y {
                Some(y) => {
                    let _ = write!(path, "{pen}{:.1} {:.1}", self.x(*x), self.y(*y));
                    pen = 'L';
                }
                None => pen = 'M',
            }
        }
        path
    }

    /// The heights of grid lines, and which of them have a label.
    fn heights(&self) -> Vec<(f64, bool)> {
        match self.scale {
            Scale::Linear => {
                // Sizes are told in powers of two, so their steps are as well.
                let base = if self.unit == Unit::Bytes { binary_base(self.high) } else { 1.0 };
                let step = round_step(self.high / base, 5.0) * base;
                (0..).map(|n| f64::from(n) * step).take_while(|y| *y <= self.high).map(|y| (y, true)).collect()
            }
            Scale::Logarithmic => {
                let decades = (self.high / self.low).log10().round() as i32;
                let all = (0..=decades).flat_map(|n| [1.0, 2.0, 5.0].map(|m| (m * self.low * 10_f64.powi(n), m)));
                all.filter(|(y, _)| *y <= self.high * 1.001).map(|(y, m)| (y, m == 1.0 || decades <= 2)).collect()
            }
        }
    }

    fn steps(&self) -> Vec<(f64, String)> {
        match self.across {
            Across::Seconds => {
                let step = round_step(self.right - self.left, 8.0);
                let all = (0..).map(|n| f64::from(n) * step).take_while(|x| *x <= self.right);
                all.map(|x| (x, format!("{} s", (x * 1_000.0).round() / 1_000.0))).collect()
            }
            Across::Quantiles => {
                let all = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999].into_iter();
                let shown = all.filter(|q| stretch(*q) <= self.right + 0.01);
                shown.map(|q| (q, format!("p{}", (q * 1e8).round() / 1e6))).collect()
            }
        }
    }
}

/// 0.9, 0.99 and 0.999 lie equally far apart.
fn stretch(quantile: f64) -> f64 {
    -(1.0 - quantile).max(1e-9).log10()
}

fn binary_base(highest: f64) -> f64 {
    1024_f64.powf((highest.max(1.0).log2() / 10.0).floor())
}

/// 1, 2 or 5 times a power of ten, so that there are about `wanted` steps in `range`.
fn round_step(range: f64, wanted: f64) -> f64 {
    let rough = range / wanted;
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power)
}

/// `value` for an axis: short.
fn label(unit: Unit, value: f64) -> String {
    let short = |value: f64| format!("{}", (value * 100.0).round() / 100.0);
    match unit {
        _ if value == 0.0 => "0".to_owned(),
        Unit::Count if value >= 1e6 => format!("{} M", short(value / 1e6)),
        Unit::Count if value >= 1e4 => format!("{} k", short(value / 1e3)),
        Unit::Count => short(value),
        Unit::Microseconds if value >= 1e6 => format!("{} s", short(value / 1e6)),
        Unit::Microseconds if value >= 1e3 => format!("{} ms", short(value / 1e3)),
        Unit::Microseconds => format!("{} µs", short(value)),
        Unit::Bytes if value >= 1024.0 * 1024.0 * 1024.0 => format!("{} GiB", short(value / 1_073_741_824.0)),
        Unit::Bytes if value >= 1024.0 * 1024.0 => format!("{} MiB", short(value / 1_048_576.0)),
        Unit::Bytes => format!("{} KiB", short(value / 1024.0)),
        Unit::Share => format!("{} %", short(value * 100.0)),
    }
}

/// `text` as it may stand in HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(scale: Scale, points: &[(f64, Option<f64>)]) -> Plot {
        let lines = vec![Line { name: "a<b".into(), points: points.to_vec() }];
        let marks = vec![(1.0, "here".to_owned()), (1.1, "crowded".to_owned())];
        Plot { title: "T".into(), across: Across::Seconds, unit: Unit::Count, scale, lines, marks }
    }

    #[test]
    fn lines_break_where_there_is_nothing() {
        let points = [(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(3.0)), (4.0, Some(1.0))];
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let figure = plot(scale, &points).figure();
            let path = figure.split("line l0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
            assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 2), "{figure}");
            assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
            assert!(figure.contains("a&lt;b") && figure.contains(">crowded<") && !figure.contains("here"), "{figure}");
        }
        assert_eq!(plot(Scale::Linear, &points[..1]).figure(), "", "one point is no line");
    }

    #[test]
    fn nothing_but_zeros_is_drawn() {
        for scale in [Scale::Linear, Scale::Logarithmic] {
            let figure = plot(scale, &[(0.0, Some(0.0)), (1.0, Some(0.0))]).figure();
            assert!(!figure.contains("NaN") && !figure.contains("inf"), "{figure}");
        }
    }

    #[test]
    fn steps_are_round() {
        let table = [(10.0, 5.0, 2.0), (9.0, 8.0, 2.0), (0.4, 8.0, 0.05), (1_000_000.0, 5.0, 200_000.0)];
        for (range, wanted, step) in table {
            assert!((round_step(range, wanted) - step).abs() < step * 1e-9, "{range} / {wanted}");
        }
    }

    #[test]
    fn labels_are_short() {
        let table = [
            (Unit::Count, 1_500_000.0, "1.5 M"),
            (Unit::Count, 20_000.0, "20 k"),
            (Unit::Microseconds, 2_500.0, "2.5 ms"),
            (Unit::Bytes, 3_145_728.0, "3 MiB"),
            (Unit::Share, 0.25, "25 %"),
        ];
        for (unit, value, expected) in table {
            assert_eq!(label(unit, value), expected);
        }
    }
}
