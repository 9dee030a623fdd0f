//! The `chat-app` binary: arguments, log, reactor, exit code. Nothing else prints or exits.

use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::{env, process};

use chat_app::config::{Command, Config};
use chat_app::logging;
use chat_app::reactor::{Reactor, StartError};

/// The server could not start or go on.
const FAILED: u8 = 1;
/// The command line or the environment is wrong.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Command::read(env::args_os().skip(1), |name| env::var_os(name)) {
        Ok(Command::Serve(config)) => {
            let log = logging::start(config.log.clone());
            let served = serve(&config);
            // Lines still on their way are written when the guard goes; why it failed stands below them.
            drop(log);
            served.map_or_else(|error| fail(code(&*error), &error), |()| ExitCode::SUCCESS)
        }
        Ok(Command::Print(text)) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => fail(USAGE, &error),
    }
}

fn serve(config: &Config) -> Result<(), Box<dyn Error>> {
    let reactor = Reactor::start(config)?;
    for (place, address) in reactor.addresses().iter().enumerate() {
        let url = url(*address);
        if place == 0 {
            print(&format!("listening on {url}\n"));
        }
        tracing::info!(%address, pid = process::id(), "listening on {url}");
    }
    Ok(reactor.run()?)
}

/// Whether something else should be asked for, or can be had another time.
fn code(error: &(dyn Error + 'static)) -> u8 {
    match error.downcast_ref::<StartError>() {
        Some(error) if error.is_of_usage() => USAGE,
        Some(_) | None => FAILED,
    }
}

/// What a person on this machine would open.
fn url(mut address: SocketAddr) -> String {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

/// Whoever started us may have closed our output; that is no reason not to serve.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn fail(code: u8, error: &dyn Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "chat-app: {error}");
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_can_be_opened() {
        for (address, expected) in [
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:8080", "http://[::1]:8080"),
            ("192.0.2.1:80", "http://192.0.2.1:80"),
            ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ] {
            assert_eq!(url(address.parse().unwrap()), expected);
        }
    }
}
