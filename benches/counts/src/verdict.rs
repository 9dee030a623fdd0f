//! Whether a count is as it was.

use std::fmt;
use std::path::Path;

use crate::accepted;

/// How much dearer or cheaper a step may be, in per cent, before anything is said. The same program differs by less than
/// one; code that was moved, and so is inlined otherwise, by a few.
const TOLERANCE_PERCENT: u64 = 5;

/// What is said of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It takes as much as was accepted, about.
    Same(u64, u64),
    /// It takes more than was accepted.
    Dearer(u64, u64),
    /// It takes less.
    Cheaper(u64, u64),
    /// Nothing was accepted.
    New(u64),
}

impl Verdict {
    /// Of a count and what was accepted.
    pub(crate) fn of(now: u64, accepted: Option<u64>) -> Verdict {
        let Some(accepted) = accepted else { return Verdict::New(now) };
        if now * 100 > accepted * (100 + TOLERANCE_PERCENT) {
            Verdict::Dearer(now, accepted)
        } else if now * 100 < accepted * (100 - TOLERANCE_PERCENT) {
            Verdict::Cheaper(now, accepted)
        } else {
            Verdict::Same(now, accepted)
        }
    }

    /// Somebody has to do something about it.
    pub(crate) fn fails(self) -> bool {
        matches!(self, Verdict::Dearer(..) | Verdict::New(_))
    }

    /// What somebody has to know who is to do something about it.
    pub(crate) fn note(self, step: &str, file: &Path) -> String {
        let accept = format!("cargo counts --accept '{step}', and commit {}", accepted::FILE);
        match self {
            Verdict::Dearer(now, accepted) => format!(
                "{step}: {} → {} instructions, {} (up to {TOLERANCE_PERCENT} % are tolerated).\n  \
                 Where they are: callgrind_annotate --inclusive=yes {}\n  If it is worth that: {accept} with the reason.",
                grouped(accepted),
                grouped(now),
                change(now, accepted),
                file.display(),
            ),
            Verdict::New(now) => {
                format!("{step}: {} instructions, of which none are accepted: {accept}.", grouped(now))
            }
            Verdict::Same(..) | Verdict::Cheaper(..) => format!("{step} takes no more than it did."),
        }
    }
}

/// The columns of a table: accepted, now, and the change.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Verdict::New(now) => write!(f, "{:>12} {:>12}      new", "", grouped(now)),
            Verdict::Same(now, accepted) | Verdict::Dearer(now, accepted) | Verdict::Cheaper(now, accepted) => {
                write!(f, "{:>12} {:>12} {:>8}", grouped(accepted), grouped(now), change(now, accepted))?;
                match self {
                    Verdict::Dearer(..) => f.write_str(" dearer"),
                    Verdict::Cheaper(..) => f.write_str(" cheaper: accept it, so that it stays so"),
                    Verdict::Same(..) | Verdict::New(_) => Ok(()),
                }
            }
        }
    }
}

fn change(now: u64, accepted: u64) -> String {
    format!("{:+.1} %", (now as f64 / accepted.max(1) as f64 - 1.0) * 100.0)
}

/// A number as people write it.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_may_differ_by_the_tolerance() {
        for (now, accepted, verdict) in [
            (1_000, Some(1_000), Verdict::Same(1_000, 1_000)),
            (1_050, Some(1_000), Verdict::Same(1_050, 1_000)),
            (1_051, Some(1_000), Verdict::Dearer(1_051, 1_000)),
            (950, Some(1_000), Verdict::Same(950, 1_000)),
            (949, Some(1_000), Verdict::Cheaper(949, 1_000)),
            (1, Some(0), Verdict::Dearer(1, 0)),
            (7, None, Verdict::New(7)),
        ] {
            assert_eq!(Verdict::of(now, accepted), verdict);
        }
    }

    #[test]
    fn whoever_has_made_a_step_dearer_is_told_by_how_much_and_what_to_do() {
        let note = Verdict::of(1_234_567, Some(1_000_000)).note("ws: upgrade", Path::new("upgrade.out"));
        for part in [
            "ws: upgrade: 1,000,000 → 1,234,567 instructions, +23.5 % (up to 5 %",
            "callgrind_annotate --inclusive=yes upgrade.out",
            "cargo counts --accept 'ws: upgrade', and commit benches/counts/accepted.txt",
        ] {
            assert!(note.contains(part), "{note}");
        }
        assert_eq!(Verdict::of(999, Some(900)).to_string(), "         900          999  +11.0 % dearer");
    }
}
