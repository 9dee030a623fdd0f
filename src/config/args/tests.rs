//! The table of options, against what it promises.

use super::*;

/// Name and help of every option.
fn options() -> Vec<(&'static str, &'static str)> {
    Args::get_args_info().flags.iter().map(|flag| (flag.long, flag.description)).collect()
}

fn read(line: &[&str]) -> Result<Args, EarlyExit> {
    Args::read(line.iter().map(|&part| part.to_owned()).collect(), |_| None)
}

/// The only thing that no type can check: what the help says is what the program does.
#[test]
fn the_help_tells_the_defaults() {
    for (name, help) in options() {
        if matches!(
            name,
            "--help" | "--version" | "--memory" | "--no-raw" | "--reuse-port" | "--secret-file" | "--spa" | "--listing"
        ) {
            continue;
        }
        let default = help.split_once("(default: ").and_then(|(_, rest)| rest.strip_suffix(')'));
        let default = default.unwrap_or_else(|| panic!("the help of {name} ends with its default: {help}"));
        if matches!(
            name,
            "--host"
                | "--public"
                | "--bus"
                | "--allow-origin"
                | "--trust-proxy"
                | "--max-connections"
                | "--max-open-files"
                | "--cache-control"
                | "--header"
        ) {
            continue;
        }
        let args = read(&[name, default]).unwrap_or_else(|exit| panic!("{}", exit.output));
        assert_eq!(args.limits(&Limits::default()), Limits::default(), "{name} {default}");
    }
}

#[test]
fn every_limit_reaches_its_own_field() {
    let mut seen = Vec::new();
    for (name, _) in options() {
        if matches!(
            name,
            "--port"
                | "--public"
                | "--data"
                | "--memory"
                | "--no-raw"
                | "--reuse-port"
                | "--version"
                | "--secret-file"
                | "--bus"
                | "--bus-prefix"
                | "--spa"
                | "--listing"
        ) {
            continue;
        }
        let Some(args) = ["77", "77ms", "7777", "777777"].iter().find_map(|value| read(&[name, value]).ok()) else {
            continue;
        };
        let limits = args.limits(&Limits::default());
        assert_ne!(limits, Limits::default(), "{name} changes something");
        assert!(!seen.contains(&limits), "{name} changes what another option changes");
        seen.push(limits);
    }
    let fields = format!("{:?}", Limits::default()).matches(": ").count();
    // An age, a number and a size are three fields and one option.
    assert_eq!(seen.len(), fields - 2, "one option for each limit");
}

#[test]
fn values_after_an_equals_sign() {
    for (line, expected) in [
        (&["--port=8081"][..], Ok(&["--port", "8081"][..])),
        (&["--public=a=b"], Ok(&["--public", "a=b"])),
        (&["--public="], Ok(&["--public", ""])),
        (&["--public", "--port=1"], Ok(&["--public", "--port=1"])),
        (&["--memory=yes"], Ok(&["--memory"])),
        (&["--memory=FALSE"], Ok(&[])),
        (&["--memory=2"], Err(())),
        (&["--nonsense=1"], Ok(&["--nonsense=1"])),
        (&["--", "--port=1"], Ok(&["--", "--port=1"])),
        (&["--port"], Ok(&["--port"])),
    ] {
        let flags = Args::get_args_info().flags;
        let line = line.iter().map(|&part| part.to_owned()).collect();
        let result = normalised(line, &flags.iter().collect::<Vec<_>>());
        let parts = result.as_ref().map(|(parts, _)| parts.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(parts.map_err(drop), expected.map(<[_]>::to_vec));
    }
}
