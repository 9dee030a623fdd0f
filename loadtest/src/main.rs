//! The load harness: `loadtest --help` tells what it does.

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use argh::FromArgs;
use loadtest::assertion::Assertion;
use loadtest::diff;
use loadtest::fleet::Fleet;
use loadtest::monitor::Monitor;
use loadtest::options::{Options, Settings, Wanted, normalise};
use loadtest::page;
use loadtest::plan::Plan;
use loadtest::report::Report;
use loadtest::scenario::Alone;
use loadtest::server::Server;
use loadtest::target::Target;
use loadtest::workers::{self, Worker};

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
    let worker = Worker::of_environment();
    let done = match options.wanted(arguments.first().copied()) {
        Ok(Wanted::Version) => return say(concat!("loadtest ", env!("CARGO_PKG_VERSION"), "\n"), 0),
        Ok(Wanted::Run(settings)) => match worker {
            Some(worker) => return work(*settings, worker),
            None => run(&settings).map(|report| (report.to_string(), report.exit_code())),
        },
        Ok(Wanted::Diff(files)) => {
            diff::compare_files(&files.before, &files.after).map(|text| (text, 0)).map_err(|sentence| (sentence, USAGE))
        }
        Err(sentence) => Err((sentence, USAGE)),
    };
    match done {
        Ok((text, code)) => say(&text, code),
        Err((sentence, code)) => complain(&sentence, code),
    }
}

/// Runs what `settings` ask for. An error is a sentence and an exit code.
fn run(settings: &Settings) -> Result<Report, (String, u8)> {
    let usage = |sentence: String| (sentence, USAGE);
    let failed = |err: io::Error| (format!("the run broke off: {err}"), 1);
    let assertions: Result<Vec<Assertion>, String> =
        settings.assert.iter().map(|text| Assertion::parse(text)).collect();
    let assertions = assertions.map_err(usage)?;
    let mut plan = Plan::new(settings).map_err(usage)?;
    let server = match &settings.spawn {
        None => None,
        Some(command) => {
            let server = Server::start(command).map_err(|sentence| (sentence, 1))?;
            plan.pids = vec![server.pid()];
            plan.targets[0] = plan.targets[0].at_port(server.port());
            Some(server)
        }
    };
    if settings.insecure {
        complain("INSECURE: no certificate is checked, and the server may be anybody (--insecure)", 0);
    }
    let servers = resolve(&plan).map_err(usage)?;
    let run = RandomState::new().hash_one(()) as u32;
    let facts = if plan.part.of > 1 {
        workers::run(&plan, run)
    } else {
        Fleet::new(plan.clone(), servers, run, Monitor::new()).and_then(|fleet| fleet.run(&mut Alone))
    };
    let facts = facts.map_err(failed)?;
    drop(server);
    let report = Report::new(&plan, &facts, &assertions);
    if let Some(path) = &settings.json {
        let json = serde_json::to_string_pretty(&report).map_err(|err| failed(err.into()))?;
        write_file(path, &(json + "\n"))?;
    }
    if let Some(path) = &settings.html {
        write_file(path, &page::render(&report))?;
    }
    Ok(report)
}

/// Does one part of a run that another process has begun.
fn work(mut settings: Settings, mut worker: Worker) -> ExitCode {
    worker.adjust(&mut settings);
    let done = Plan::new(&settings).and_then(|mut plan| {
        plan.part = worker.part();
        let servers = resolve(&plan)?;
        let fleet = Fleet::new(plan, servers, worker.run(), Monitor::silent());
        let facts = fleet.and_then(|fleet| fleet.run(&mut worker));
        facts.and_then(|facts| worker.deliver(&facts)).map_err(|err| err.to_string())
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => complain(&sentence, 1),
    }
}

fn resolve(plan: &Plan) -> Result<Vec<SocketAddr>, String> {
    plan.targets.iter().map(Target::resolve).collect()
}

fn write_file(path: &Path, text: &str) -> Result<(), (String, u8)> {
    let cannot = |err: &dyn Display| (format!("cannot write {}: {err}", path.display()), 1);
    std::fs::write(path, text).map_err(|err| cannot(&err))
}

fn say(text: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stdout(), "{}", text.trim_end());
    ExitCode::from(code)
}

fn complain(sentence: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "loadtest: {sentence}");
    ExitCode::from(code)
}
