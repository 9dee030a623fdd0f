//! The command line of the real binary: what it prints, where, and with which exit code it ends.

mod common;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use common::{Process, Server, command, run, wait_for};

/// Runs a line as a shell would, variables first; gives exit code, standard output and standard error.
fn seen(line: &str) -> (Option<i32>, String, String) {
    let (variables, arguments): (Vec<_>, Vec<_>) = line.split_whitespace().partition(|word| word.starts_with("CHAT_"));
    let variables: Vec<_> = variables.iter().filter_map(|word| word.split_once('=')).collect();
    let output = run(&arguments, &variables);
    let text = |bytes| String::from_utf8(bytes).expect("output that is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn wrong_usage_is_told_in_one_sentence_with_exit_code_2() {
    let sizes = "expected bytes such as 65536, 64KiB or 8MiB, from 1 to 1024GiB";
    let spans = "expected a duration such as 500ms, 30s or 2m, from 1ms to 8760h";
    for (line, sentence) in [
        ("--port abc", "Error parsing option '--port' with value 'abc': expected a port from 0 to 65535"),
        ("--port=99999", "Error parsing option '--port' with value '99999': expected a port from 0 to 65535"),
        ("abc", "Error parsing positional argument 'port' with value 'abc': expected a port from 0 to 65535"),
        ("CHAT_PORT=abc", "Error parsing CHAT_PORT with value 'abc': expected a port from 0 to 65535"),
        ("1 --port 2", "The port is given twice, as 1 and as --port 2."),
        ("--port", "No value provided for option '--port'."),
        ("--nonsense", "Unrecognized argument: --nonsense"),
        ("--nonsense=1", "Unrecognized argument: --nonsense=1"),
        ("--max-message=64KB", &format!("Error parsing option '--max-message' with value '64KB': {sizes}")),
        ("CHAT_MAX_MESSAGE=0", &format!("Error parsing CHAT_MAX_MESSAGE with value '0': {sizes}")),
        ("--ping-interval 0s", &format!("Error parsing option '--ping-interval' with value '0s': {spans}")),
        ("CHAT_PING_INTERVAL=5", &format!("Error parsing CHAT_PING_INTERVAL with value '5': {spans}")),
        ("--outbox-low-water 1MiB", "--outbox-low-water (1MiB) must be less than --outbox-high-water (256KiB)."),
    ] {
        assert_eq!(seen(line), (Some(2), String::new(), format!("chat-app: {sentence}\n")), "{line}");
    }
}

#[test]
fn what_cannot_be_done_is_told_in_one_sentence_with_exit_code_1() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (line, name) in [
        (format!("--host 127.0.0.1 --port {port}"), port.as_str()),
        (format!("CHAT_PORT={port} --host 127.0.0.1"), port.as_str()),
        (format!("CHAT_PORT={port}"), port.as_str()),
        ("--host 192.0.2.1 --port 0".to_owned(), "192.0.2.1"),
        ("--port 0 --public /nowhere/at/all".to_owned(), "/nowhere/at/all"),
        ("--port 0 --public Cargo.toml".to_owned(), "Cargo.toml"),
    ] {
        let (code, stdout, stderr) = seen(&format!("CHAT_LOG=off {line}"));
        assert_eq!((code, stdout.as_str()), (Some(1), ""), "{line}: {stderr}");
        let sentence = stderr.strip_prefix("chat-app: ").unwrap_or_else(|| panic!("{line}: {stderr}"));
        assert!(sentence.contains(name) && sentence.ends_with('\n'), "{line}: {stderr}");
        assert_eq!(sentence.lines().count(), 1, "{line}: {stderr}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for argument in ["--version", "-V"] {
        let expected = (Some(0), "chat-app 0.1.0\n".to_owned(), String::new());
        assert_eq!(seen(&format!("CHAT_PORT=abc {argument}")), expected, "{argument}");
    }
    for argument in ["--help", "-h", "help"] {
        let (code, stdout, stderr) = seen(&format!("CHAT_PORT=abc {argument}"));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{argument}");
        assert!(stdout.starts_with("Usage: chat-app ") && stdout.contains("--max-message"), "{stdout}");
    }
}

#[test]
fn the_first_line_names_the_port_that_was_found() {
    for arguments in [&["--port", "0"][..], &["--port=0"], &["0"], &["--", "0"], &[]] {
        let server = Server::start(arguments);
        assert_ne!(server.address().port(), 0, "{arguments:?}");
        assert_eq!(server.first_line(), format!("listening on http://127.0.0.1:{}", server.address().port()));
    }
}

#[test]
fn the_first_line_can_be_opened_wherever_it_listens() {
    for hosts in ["0.0.0.0", "127.0.0.1,127.0.0.2", ""] {
        // An empty variable counts as none, so the last one listens on the default addresses.
        let server = Server::start_with(&[], |command| _ = command.env("CHAT_HOST", hosts));
        assert!(server.address().ip() == Ipv4Addr::LOCALHOST, "{hosts:?}: {}", server.first_line());
        assert!(TcpStream::connect(server.address()).is_ok(), "{hosts:?}");
    }
}

#[test]
fn the_command_line_wins_over_the_environment() {
    let unwanted = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = unwanted.local_addr().unwrap().port().to_string();
    for arguments in [&["--port", "0"][..], &["0"]] {
        let server = Server::start_with(arguments, |command| _ = command.env("CHAT_PORT", &port));
        assert_ne!(server.address().port().to_string(), port, "{arguments:?}");
    }
}

#[test]
fn a_closed_standard_output_is_no_reason_not_to_serve() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut server = Process::spawn(command(&["--host", "127.0.0.1", "0"], &[]).stdout(writer));
    let log = server.gather_log();
    let address = wait_for("the log says where the server listens", || {
        let log = log.lock().unwrap();
        let (_, rest) = log.split_once("listening on http://")?;
        rest.split_once('\n')?.0.split_whitespace().next()?.parse::<SocketAddr>().ok()
    });
    TcpStream::connect(address).unwrap();
}

#[test]
fn the_readme_lists_the_options_as_they_are() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("there is a README");
    let help = String::from_utf8(run(&["--help"], &[]).stdout).expect("the help is text");
    assert!(
        readme.contains(help.trim_end()),
        "put the output of --help between the options marks of README.md:\n{help}"
    );
}
