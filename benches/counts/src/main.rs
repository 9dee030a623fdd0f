//! How many instructions does each hot step take, and is that more than was accepted?
//!
//! ```text
//! cargo counts             counts all steps and compares them with accepted.txt
//! cargo counts WORD…       only the steps whose names have one of the words
//! cargo counts --accept …  writes what was counted to accepted.txt
//! ```
//!
//! The clock of a busy machine cannot tell five per cent; a count can, because it is nearly the same each time. It says
//! nothing of caches, branches and system calls: for those there are the benches.
//!
//! Each step runs in a process of its own under valgrind's callgrind, which counts only while `take_counted` runs, or a
//! function of the program that is named in `steps`. Valgrind shows every process the same processor, whatever the
//! machine has, but for a few features by which libraries choose their code. So a count depends on the compilers and on
//! the C library as well (`surroundings`); where these are not those of the accepted counts, nothing fails.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is for people and the test command to read")]

mod accepted;
mod callgrind;
#[path = "../../common/mod.rs"]
mod common;
mod steps;
mod surroundings;
mod verdict;

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use accepted::Accepted;
use callgrind::Counted;
use steps::{STEPS, Step};
use verdict::Verdict;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [callgrind::TAKE, name] => {
            callgrind::take_step(steps::named(name).expect("the name of a step"));
            ExitCode::SUCCESS
        }
        [surroundings::TELL_PROCESSOR] => {
            println!("{}", surroundings::processor());
            ExitCode::SUCCESS
        }
        ["--accept", ref words @ ..] => report(accept(words)),
        [option, ..] if option.starts_with('-') => {
            report(Err(format!("{option} is unknown: cargo counts [--accept] [WORD…]")))
        }
        ref words => report(compare(words)),
    }
}

fn report(result: Result<ExitCode, String>) -> ExitCode {
    result.unwrap_or_else(|problem| {
        eprintln!("{problem}");
        ExitCode::FAILURE
    })
}

fn accept(words: &[&str]) -> Result<ExitCode, String> {
    let (steps, here) = (chosen(words)?, surroundings::found()?);
    let before = Accepted::read()?;
    if steps.len() < STEPS.len() && before.differing(&here).next().is_some() {
        return Err("The accepted counts were made elsewhere: accept all of them, not some.".to_owned());
    }
    let counts = count(&steps)?;
    let kept = before.counts.into_iter().filter(|(name, _)| {
        steps::named(name).is_some_and(|step| !steps.iter().any(|counted| counted.name == step.name))
    });
    let counted = steps.iter().zip(counts).map(|(step, counted)| (step.name.to_owned(), counted.instructions));
    Accepted { surroundings: here, counts: kept.chain(counted).collect() }.write()?;
    println!("Accepted: commit {} with the reason.", accepted::FILE);
    Ok(ExitCode::SUCCESS)
}

fn compare(words: &[&str]) -> Result<ExitCode, String> {
    let steps = chosen(words)?;
    let (accepted, here) = (Accepted::read()?, surroundings::found()?);
    let counts = count(&steps)?;
    let mut is_binding = true;
    for difference in accepted.differing(&here) {
        println!("{difference}");
        is_binding = false;
    }
    if !is_binding {
        println!("So the counts are shown, and none of them fails.\n");
    }
    let width = STEPS.iter().map(|step| step.name.len()).max().unwrap_or(0);
    println!("{:width$} {:>12} {:>12} {:>8}", "instructions of", "accepted", "now", "");
    let (mut passed, mut notes) = (0, Vec::new());
    for (step, Counted { instructions, file }) in steps.iter().zip(&counts) {
        let verdict = Verdict::of(*instructions, accepted.counts.get(step.name).copied());
        println!("{:width$} {verdict}", step.name);
        if is_binding && verdict.fails() || verdict == Verdict::New(*instructions) {
            notes.push(verdict.note(step.name, file));
        } else {
            passed += 1;
        }
    }
    for name in accepted.counts.keys().filter(|name| steps::named(name).is_none()) {
        notes.push(format!("{name} is in {} and is no step any more: cargo counts --accept", accepted::FILE));
    }
    println!();
    for note in &notes {
        println!("{note}\n");
    }
    println!("{passed} passed, {} failed", notes.len());
    Ok(if notes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The steps that are meant by the words; all if there are none.
fn chosen(words: &[&str]) -> Result<Vec<&'static Step>, String> {
    // A whole name may be the beginning of another one.
    let means = |word: &str, step: &Step| word == step.name || steps::named(word).is_none() && step.name.contains(word);
    let is_meant = |step: &&Step| words.is_empty() || words.iter().any(|word| means(word, step));
    let steps: Vec<&Step> = STEPS.iter().filter(is_meant).collect();
    if steps.is_empty() { Err(format!("No step has a name with {}.", words.join(" or "))) } else { Ok(steps) }
}

/// Counts the steps, as many at once as there are cores.
fn count(steps: &[&Step]) -> Result<Vec<Counted>, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut counted = Vec::new();
        while let Some((place, step)) = at(steps, next.fetch_add(1, Ordering::Relaxed)) {
            counted.push((place, callgrind::count(step)?));
        }
        Ok::<_, String>(counted)
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let counted = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no step panics here")).collect::<Result<Vec<_>, _>>()
    })?;
    let mut counted: Vec<_> = counted.into_iter().flatten().collect();
    counted.sort_unstable_by_key(|(place, _)| *place);
    Ok(counted.into_iter().map(|(_, counted)| counted).collect())
}

fn at<'a>(steps: &[&'a Step], place: usize) -> Option<(usize, &'a Step)> {
    steps.get(place).map(|step| (place, *step))
}
