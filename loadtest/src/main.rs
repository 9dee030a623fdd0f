//! The load harness: `loadtest --help` tells what it does.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::process::ExitCode;

use argh::FromArgs;
use loadtest::generator::Generator;
use loadtest::options::{Options, normalise};
use loadtest::report::Report;

/// The command line asks for what cannot be.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = normalise(std::env::args().skip(1));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let options = match Options::from_args(&["loadtest"], &arguments) {
        Ok(options) => options,
        Err(exit) if exit.status.is_ok() => return say(&exit.output, 0),
        Err(exit) => return complain(exit.output.lines().next().unwrap_or_default(), USAGE),
    };
    if options.version {
        return say(concat!("loadtest ", env!("CARGO_PKG_VERSION"), "\n"), 0);
    }
    match run(&options) {
        Ok(report) => say(&report.to_string(), report.exit_code()),
        Err((sentence, code)) => complain(&sentence, code),
    }
}

/// Runs what `options` ask for. An error is a sentence and an exit code.
fn run(options: &Options) -> Result<Report, (String, u8)> {
    let plan = options.plan().map_err(|sentence| (sentence, USAGE))?;
    let server = plan.target.resolve().map_err(|sentence| (sentence, USAGE))?;
    let failed = |err: io::Error| (format!("the run broke off: {err}"), 1);
    let generator = Generator::new(plan.clone(), RandomState::new().hash_one(()) as u32).map_err(failed)?;
    let facts = generator.run(server, progress).map_err(failed)?;
    let report = Report::new(&plan, &facts);
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report).map_err(|err| failed(err.into()))?;
        std::fs::write(path, json + "\n").map_err(|err| (format!("cannot write {}: {err}", path.display()), 1))?;
    }
    Ok(report)
}

fn progress(phase: &str) {
    // Nobody may be listening any more, which is no reason to stop.
    let _ = writeln!(io::stderr(), "loadtest: {phase}");
}

fn say(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
    ExitCode::from(code)
}

fn complain(sentence: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "loadtest: {sentence}");
    ExitCode::from(code)
}
