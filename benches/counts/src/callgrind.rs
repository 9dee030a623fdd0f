//! One step, counted: a process that takes it, and valgrind around that.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::steps::{Part, Step};

/// The argument of the process that takes a step.
pub(crate) const TAKE: &str = "--take";

/// What a step took.
pub(crate) struct Counted {
    /// Instructions, each time.
    pub(crate) instructions: u64,
    /// Where callgrind says in which functions they were.
    pub(crate) file: PathBuf,
}

/// Counts a step in another process.
///
/// # Errors
///
/// Why that could not be, in a sentence.
pub(crate) fn count(step: &Step) -> Result<Counted, String> {
    let file = folder()?.join(format!("{}.out", file_name(step.name)));
    // Nobody shall read the counts of another time.
    let _ = fs::remove_file(&file);
    let counted = match step.part {
        Part::Whole => "take_counted",
        Part::Function(function) => function,
    };
    let mut valgrind = valgrind("callgrind")?;
    valgrind.arg(format!("--callgrind-out-file={}", file.display())).arg("--zero-before=*take_counted");
    // With and without the hash that the compiler adds.
    for end in ["", "::h????????????????"] {
        valgrind.arg(format!("--toggle-collect=*::{counted}{end}"));
    }
    run(valgrind, &[TAKE, step.name]).map_err(|problem| format!("{}: {problem}", step.name))?;
    let output = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let total = total(&output).ok_or_else(|| format!("{} has no total", file.display()))?;
    if total == 0 {
        return Err(format!("{}: nothing was counted. Is there still a function {counted}, never inlined?", step.name));
    }
    Ok(Counted { instructions: total / u64::from(step.times), file })
}

/// What the process does that is counted.
pub(crate) fn take_step(step: &Step) {
    let mut it = (step.prepare)();
    for _ in 0..step.warm_up {
        it();
    }
    take_counted(&mut *it, step.times);
}

/// What is counted, by its name.
#[inline(never)]
fn take_counted(it: &mut dyn FnMut(), times: u32) {
    for _ in 0..black_box(times) {
        it();
    }
}

/// Valgrind with one of its tools. The environment is empty, so that the C library and SQLite get no advice by it.
///
/// # Errors
///
/// When there is nowhere to write.
pub(crate) fn valgrind(tool: &str) -> Result<Command, String> {
    let mut command = Command::new("valgrind");
    command.arg("--quiet").arg(format!("--tool={tool}")).env_clear().env("TMPDIR", folder()?).stdin(Stdio::null());
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    Ok(command)
}

/// Runs this program under valgrind, and gives what it printed.
///
/// # Errors
///
/// Why it did not run, or what it complained of.
pub(crate) fn run(mut valgrind: Command, arguments: &[&str]) -> Result<String, String> {
    let this = std::env::current_exe().map_err(|error| format!("this program is not found: {error}"))?;
    let output =
        valgrind.arg(this).args(arguments).output().map_err(|error| format!("valgrind cannot run: {error}"))?;
    if !output.status.success() {
        return Err(format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where the counts are, beside this program.
fn folder() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = this.parent().unwrap_or(Path::new(".")).join("callgrind");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}

fn file_name(step: &str) -> String {
    step.split(|character: char| !character.is_alphanumeric())
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// The sum in a file of callgrind.
fn total(output: &str) -> Option<u64> {
    output.lines().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_a_file_of_callgrind() {
        assert_eq!(total("events: Ir\nsummary: 12\n\nfn=(1)\n0 12\n\ntotals: 12\n"), Some(12));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn a_file_is_named_after_its_step() {
        assert_eq!(file_name("fanout: chat.v1, 1 message"), "fanout-chat-v1-1-message");
    }
}
