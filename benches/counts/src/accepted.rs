//! The counts that were accepted, and where they were made: a file that is committed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use crate::steps::STEPS;
use crate::surroundings::Surroundings;

/// The file, from the root of the project.
pub(crate) const FILE: &str = "benches/counts/accepted.txt";

const HEAD: &str = "\
# Instructions that each hot step may take, and where they were counted. `cargo counts` compares with these numbers, and
# `cargo counts --accept` writes them.
";

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// Where the counts were made.
    pub(crate) surroundings: Surroundings,
    /// Instructions by the name of the step.
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Accepted {
    /// Reads the file. One that is not there says nothing.
    ///
    /// # Errors
    ///
    /// Which line makes no sense, or why there is none.
    pub(crate) fn read() -> Result<Self, String> {
        match fs::read_to_string(path()) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Accepted::default()),
            Err(error) => Err(format!("{FILE}: {error}")),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// Why it cannot be.
    pub(crate) fn write(&self) -> Result<(), String> {
        fs::write(path(), self.text()).map_err(|error| format!("{FILE}: {error}"))
    }

    /// In what the surroundings of the counts are others than `here`, in sentences.
    pub(crate) fn differing<'a>(&'a self, here: &'a Surroundings) -> impl Iterator<Item = String> + 'a {
        self.surroundings.iter().filter_map(|(name, there)| {
            let here = here.get(name).map_or("unknown", String::as_str);
            (here != there).then(|| format!("The accepted counts were made with {name} {there}; here it is {here}."))
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut accepted = Accepted::default();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (name, value) = line.split_once(" = ").ok_or_else(|| format!("{FILE}: {line:?} has no \" = \""))?;
            if let Ok(count) = value.parse() {
                accepted.counts.insert(name.to_owned(), count);
            } else {
                accepted.surroundings.insert(name.to_owned(), value.to_owned());
            }
        }
        Ok(accepted)
    }

    /// The steps are in the order in which they are counted, so that a difference is easy to read.
    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(text, "{name} = {value}").expect("a string takes all");
        };
        for (name, value) in &self.surroundings {
            line(name, value);
        }
        for step in STEPS {
            if let Some(count) = self.counts.get(step.name) {
                line(step.name, count);
            }
        }
        text
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("accepted.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        let surroundings = [("rustc".to_owned(), "rustc 1.95.0 (59807616e 2026-04-14)".to_owned())];
        let counts = STEPS.iter().map(|step| step.name.to_owned()).zip(1..);
        let accepted = Accepted { surroundings: surroundings.into(), counts: counts.collect() };
        assert_eq!(Accepted::parse(&accepted.text()), Ok(accepted));
        assert!(Accepted::parse("ws: upgrade 17").is_err());
    }

    #[test]
    fn each_step_has_an_accepted_count() {
        let accepted = Accepted::read().expect("a file");
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        assert!(names.iter().all(|name| accepted.counts.contains_key(*name)) && accepted.counts.len() == names.len());
    }

    #[test]
    fn other_surroundings_are_told() {
        let here = |rustc: &str| Surroundings::from([("rustc".to_owned(), rustc.to_owned())]);
        let accepted = Accepted { surroundings: here("rustc 1"), counts: BTreeMap::new() };
        assert_eq!(accepted.differing(&here("rustc 1")).count(), 0);
        let told: Vec<String> = accepted.differing(&here("rustc 2")).collect();
        assert_eq!(told, ["The accepted counts were made with rustc rustc 1; here it is rustc 2."]);
    }
}
