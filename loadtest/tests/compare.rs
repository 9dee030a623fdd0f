//! The script that sets servers side by side: what it makes of rounds, and a round of it with the yardstick alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn script(program: &str, arguments: &[&str]) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(program).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").current_dir(folder).output().unwrap()
}

fn told(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].concat().escape_ascii().to_string().replace("\\n", "\n")
}

#[test]
fn what_is_made_of_rounds() {
    let output = script("python3", &["-m", "unittest", "comparing.tests"]);
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn values_that_mean_nothing_are_refused_before_anything_is_started() {
    for (program, argument, told_of) in [
        ("./cluster", "--sockets=-1", "--sockets: '-1' is not a whole number at least 10"),
        ("./cluster", "--sockets=many", "--sockets: 'many' is not a whole number at least 10"),
        ("./cluster", "--instances=1", "--instances: '1' is not a whole number at least 2"),
        ("./cluster", "--rounds=0", "--rounds: '0' is not a whole number at least 1"),
        ("./cluster", "--processes=-4", "--processes: '-4' is not a whole number at least 1"),
        ("./cluster", "--seconds=-3", "--seconds: '-3' is not a number above 0"),
        ("./cluster", "--dialects=raw,", "--dialects: there is no dialect ''; there are raw, v1"),
        ("./compare", "--rounds=-1", "--rounds: '-1' is not a whole number at least 1"),
        ("./compare", "--seconds=nan", "--seconds: 'nan' is not a number above 0"),
        ("./compare", "--warmup=-1", "--warmup: '-1' is not a number at least 0"),
        ("./compare", "--minutes=inf", "--minutes: 'inf' is not a number at least 0"),
        ("./compare", "--tolerate=-1", "--tolerate: '-1' is not a number at least 0"),
    ] {
        let output = script(program, &["--server=false", argument]);
        assert_eq!(output.status.code(), Some(2), "{argument}: {}", told(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains(told_of), "{argument}: {}", told(&output));
    }
}

#[test]
fn rounds_are_kept_and_become_a_page() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("compare-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let record = folder.join("record.json");
    let yardstick = format!("'{}' --port {{port}}", env!("CARGO_BIN_EXE_yardstick"));
    // Others may have the cores meanwhile, which is no matter here.
    let short = ["peers", "fanout", "--sides=yardstick", "--rounds=1", "--seconds=0.1", "--warmup=0", "--tolerate=1"];
    let programs = ["--yardstick", &yardstick, "--loadtest", env!("CARGO_BIN_EXE_loadtest")];
    let files = ["--record", record.to_str().unwrap(), "--out", folder.to_str().unwrap()];
    let arguments = [&short[..], &programs, &files].concat();
    let output = script("./compare", &arguments);
    assert!(output.status.success(), "{}", told(&output));
    let page = std::fs::read_to_string(folder.join("RESULTS.md")).unwrap();
    assert!(page.contains("| Fan-out: 1,000 clients") && page.contains("results.svg"), "{page}");
    assert!(std::fs::read_to_string(folder.join("results.svg")).unwrap().contains("yardstick"));

    let kept = std::fs::read_to_string(&record).unwrap();
    let output = script("./compare", &arguments);
    assert!(output.status.success(), "{}", told(&output));
    assert_eq!(std::fs::read_to_string(&record).unwrap(), kept, "nothing was missing");
    std::fs::remove_dir_all(&folder).unwrap();
}
