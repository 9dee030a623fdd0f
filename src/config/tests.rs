//! The command line and the environment as a whole.

use std::time::Duration;

use super::*;

fn read(line: &str, environment: &[(&str, &str)]) -> Result<Command, UsageError> {
    let variable = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
    Command::read(line.split_whitespace().map(OsString::from), variable)
}

fn config(line: &str, environment: &[(&str, &str)]) -> Config {
    match read(line, environment) {
        Ok(Command::Serve(config)) => *config,
        other => panic!("{line} {environment:?}: {other:?}"),
    }
}

#[test]
fn the_defaults() {
    let defaults = config("", &[]);
    assert_eq!(defaults.limits, Limits::default());
    assert_eq!((defaults.port, defaults.public.clone(), defaults.memory), (8080, None, false));
    assert_eq!(defaults.hosts, ["0.0.0.0", "::"].map(|host| host.parse::<IpAddr>().unwrap()));
    assert!(defaults.hosts_are_default);
    assert_eq!(defaults.log.to_string(), "async_nats=off,lapin=off,info");
    assert!(defaults.allow_origins.is_empty() && defaults.trusted_proxies.is_empty());
    assert_eq!(config("--port 8080 --log info", &[]), defaults, "as the help says");
}

#[test]
fn the_port_from_everywhere() {
    for (line, variable, expected) in [
        ("", "", 8080),
        ("8081", "", 8081),
        ("--port 8082", "", 8082),
        ("--port=8083", "", 8083),
        ("8084 --port 8084", "", 8084),
        ("", "8085", 8085),
        ("8086", "1", 8086),
        ("--port 8087", "1", 8087),
        ("--port=8088", "nonsense", 8088),
        ("-- 8089", "", 8089),
        ("--memory 8090", "", 8090),
        ("", "tcp://10.0.0.1:80", 8080),
    ] {
        assert_eq!(config(line, &[("CHAT_PORT", variable)]).port, expected, "{line:?} {variable:?}");
    }
}

#[test]
fn lists_are_repeated_or_separated_by_commas() {
    let config = config(
        "--host 127.0.0.1 --host=::1,127.0.0.1 --allow-origin http://a --allow-origin http://b,https://c:443",
        &[("CHAT_TRUST_PROXY", "127.0.0.1, 10.0.0.0/8"), ("CHAT_ALLOW_ORIGIN", "*"), ("CHAT_HOST", "::")],
    );
    assert_eq!(config.hosts, ["127.0.0.1", "::1"].map(|host| host.parse::<IpAddr>().unwrap()));
    assert!(!config.hosts_are_default);
    assert_eq!(config.allow_origins, ["http://a", "http://b", "https://c"], "the command line wins");
    assert_eq!(config.trusted_proxies, ["127.0.0.1/32", "10.0.0.0/8"].map(|net| net.parse::<IpNet>().unwrap()));
}

#[test]
fn switches_and_limits_from_the_environment() {
    for (line, value, expected) in
        [("", "1", true), ("", "yes", true), ("", "false", false), ("--memory", "0", true), ("--memory=no", "1", false)]
    {
        assert_eq!(config(line, &[("CHAT_MEMORY", value)]).memory, expected, "{line:?} {value:?}");
    }
    let variables =
        [("CHAT_MAX_MESSAGE", "128KiB"), ("CHAT_PING_INTERVAL", "5s"), ("CHAT_UNKNOWN", "x"), ("CHAT_VERSION", "1")];
    let limits = config("--ping-interval 7s", &variables).limits;
    assert_eq!((limits.max_message_bytes, limits.ping_interval), (128 << 10, Duration::from_secs(7)));
}

#[test]
fn what_is_kept_and_where() {
    for (line, port, expected) in [
        ("", 8080, Some("chat-data/8080.db")),
        ("--port 80 --data /var/lib/chat", 80, Some("/var/lib/chat/80.db")),
        ("--memory", 8080, None),
        ("--port 0", 40_000, None),
        ("--port 0 --data here", 40_000, Some("here/40000.db")),
    ] {
        assert_eq!(config(line, &[]).store(port), expected.map(PathBuf::from), "{line}");
    }
    let both = config("--sync full --keep 90d,10GiB --keep 1000 --keep 30d", &[]);
    assert_eq!(both.sync, SyncMode::Full);
    let Limits { keep_age, keep_entries, keep_bytes, .. } = both.limits;
    let month = Duration::from_secs(30 * 86_400);
    assert_eq!((keep_age, keep_entries, keep_bytes), (Some(month), Some(1000), Some(10 << 30)), "the least wins");
}

#[test]
fn how_the_site_is_served() {
    let served = |variable: &str| {
        let variables = [("CHAT_CACHE_CONTROL", variable), ("CHAT_SPA", "1")];
        let line = ["--header", "A: b, c", "--header=A: d"].map(OsString::from);
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        match Command::read(line, variable) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("{other:?}"),
        }
    };
    let config = served("*.css: no-store\n/a/*: max-age=1, public");
    assert!(config.spa && !config.listing);
    assert_eq!(config.headers.get_all("a").iter().collect::<Vec<_>>(), ["b, c", "d"]);
    let rules: Vec<_> = config.cache_control.iter().map(|(pattern, value)| (pattern.as_str(), value)).collect();
    let value = HeaderValue::from_static;
    assert_eq!(rules, [("*.css", &value("no-store")), ("/a/*", &value("max-age=1, public"))]);
}

#[test]
fn mistakes_are_told_in_one_sentence() {
    let sizes = "expected bytes such as 65536, 64KiB or 8MiB, from 1 to 1024GiB";
    for (line, environment, expected) in [
        ("--port abc", None, "Error parsing option '--port' with value 'abc': expected a port from 0 to 65535"),
        ("--port=65536", None, "Error parsing option '--port' with value '65536': expected a port from 0 to 65535"),
        ("--port", None, "No value provided for option '--port'."),
        ("--port 1 --port 2", None, "Error parsing option '--port' with value '2': duplicate values provided"),
        ("abc", None, "Error parsing positional argument 'port' with value 'abc': expected a port from 0 to 65535"),
        ("8081 --port 8082", None, "The port is given twice, as 8081 and as --port 8082."),
        ("8081 8082", None, "Unrecognized argument: 8082"),
        ("--prot 8081", None, "Unrecognized argument: --prot"),
        ("--max-message 0", None, &format!("Error parsing option '--max-message' with value '0': {sizes}")),
        ("", Some(("CHAT_PORT", "x")), "Error parsing CHAT_PORT with value 'x': expected a port from 0 to 65535"),
        ("", Some(("CHAT_MAX_HEAD", "2X")), &format!("Error parsing CHAT_MAX_HEAD with value '2X': {sizes}")),
        (
            "",
            Some(("CHAT_MEMORY", "maybe")),
            "Error parsing CHAT_MEMORY with value 'maybe': expected 1, true, yes, 0, false or no",
        ),
        (
            "--header Date:now",
            None,
            "Error parsing option '--header' with value 'Date:now': the server says date itself",
        ),
        (
            "--cache-control no-store",
            None,
            "Error parsing option '--cache-control' with value 'no-store': expected a pattern and a value such as \
             \"/assets/*: max-age=3600\" or \"*: no-store\"",
        ),
        ("--memory --data x", None, "--data and --memory contradict each other."),
        ("--reuse-port", None, "--reuse-port needs --data DIR, another folder for each instance, or --memory."),
        ("", Some(("CHAT_SYNC", "always")), "Error parsing CHAT_SYNC with value 'always': expected normal or full"),
        (
            "--outbox-low-water 256KiB",
            None,
            "--outbox-low-water (256KiB) must be less than --outbox-high-water (256KiB).",
        ),
        ("--read-per-connection 2MiB", None, "--read-per-connection (2MiB) must not exceed --read-per-turn (1MiB)."),
        (
            "--file-piece 4095",
            None,
            "Error parsing option '--file-piece' with value '4095': expected bytes such as 65536, 64KiB or 8MiB, \
             from 4096 to 1024GiB",
        ),
        (
            "--max-header-fields 4097",
            None,
            "Error parsing option '--max-header-fields' with value '4097': expected a whole number from 1 to 4096",
        ),
        ("--max-head 1000", None, "--max-target (8KiB) must not exceed --max-head (1000 bytes)."),
        ("--max-message 8MiB", None, "--max-message (8MiB) must not exceed --tail-bytes (4MiB)."),
        ("--tail-bytes 1GiB", None, "--tail-bytes (1GiB) must not exceed --tails-total (64MiB)."),
    ] {
        let result = read(line, environment.as_slice());
        assert_eq!(result.map_err(|err| err.to_string()).unwrap_err(), expected, "{line:?} {environment:?}");
    }
}

#[cfg(unix)]
#[test]
fn arguments_that_are_not_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let bytes = OsString::from_vec(vec![b'-', 0xff]);
    let error = Command::read([bytes], |_| None).unwrap_err();
    assert_eq!(error.to_string(), r#"The argument "-\xFF" is not UTF-8."#);
}

#[test]
fn help_and_version() {
    for line in ["--version", "-V", "--version --port 1"] {
        let Ok(Command::Print(text)) = read(line, &[("CHAT_PORT", "nonsense")]) else { panic!("{line}") };
        assert_eq!(text, "chat-app 0.1.0\n");
    }
    for line in ["--help", "-h", "help", "--port 1 --help"] {
        let Ok(Command::Print(text)) = read(line, &[("CHAT_PORT", "nonsense")]) else { panic!("{line}") };
        assert!(text.starts_with("Usage: chat-app [<port>] [<options>]\n"), "{text}");
    }
}

#[test]
fn the_site() {
    let directory = tempfile::tempdir().unwrap();
    let site = |line: &str| config(line, &[]).site(directory.path());
    assert_eq!(site("").unwrap(), SiteRoot::Embedded, "no public");
    let public = directory.path().join("public");
    fs::create_dir(&public).unwrap();
    assert_eq!(site("").unwrap(), SiteRoot::Embedded, "public without index.html");
    assert_eq!(site(&format!("--public {}", public.display())).unwrap(), SiteRoot::Folder(public.clone()));
    fs::write(public.join("index.html"), "").unwrap();
    assert_eq!(site("").unwrap(), SiteRoot::Folder(public.clone()));
    for missing in [public.join("index.html"), public.join("nowhere")] {
        let error = site(&format!("--public {}", missing.display())).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot serve the folder {}: ", missing.display())));
    }
}
