//! Where a bus is: a URL of a kind that this program was built with, of a form that can work.
//!
//! What is wrong with one is told without the URL, which may have a password.

use std::convert::Infallible;
use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use super::UsageError;

/// A URL as it was given.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct BusUrl(String);

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BusUrl(…)")
    }
}

impl FromStr for BusUrl {
    type Err = Infallible;

    /// Takes anything: whoever reads arguments would repeat what it could not take.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(BusUrl(text.to_owned()))
    }
}

/// What a URL leads to.
#[derive(Debug, Clone, Copy)]
enum Broker {
    Redis,
    /// Redis on this machine, at a path.
    RedisSocket,
    RabbitMq,
    Nats,
}

impl Broker {
    fn of(scheme: &str) -> Option<Self> {
        match scheme {
            "redis" | "rediss" | "valkey" | "valkeys" => Some(Broker::Redis),
            "redis+unix" | "unix" => Some(Broker::RedisSocket),
            "amqp" | "amqps" => Some(Broker::RabbitMq),
            "nats" | "tls" => Some(Broker::Nats),
            _ => None,
        }
    }

    /// The feature with which the program can use it, and whether it has it.
    fn feature(self) -> (&'static str, bool) {
        match self {
            Broker::Redis | Broker::RedisSocket => ("redis", cfg!(feature = "redis")),
            Broker::RabbitMq => ("rabbitmq", cfg!(feature = "rabbitmq")),
            Broker::Nats => ("nats", cfg!(feature = "nats")),
        }
    }

    fn example(self) -> &'static str {
        match self {
            Broker::Redis => "redis://user:password@host:6379/0",
            Broker::RedisSocket => "redis+unix:///run/redis.sock",
            Broker::RabbitMq => "amqp://user:password@host:5672/vhost",
            Broker::Nats => "nats://user:password@host:4222",
        }
    }

    /// What is wrong with the part of a URL behind its scheme.
    fn check(self, rest: Option<&str>) -> Result<(), &'static str> {
        let rest = rest.ok_or("there is no :// behind its scheme")?;
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let path = path.split(['?', '#']).next().unwrap_or_default();
        match self {
            Broker::RedisSocket if !authority.is_empty() || path.len() < 2 => Err("it has no path of a socket"),
            Broker::RedisSocket => Ok(()),
            // Without an authority it is the one on this machine.
            Broker::RabbitMq if authority.is_empty() => Ok(()),
            Broker::RabbitMq => check_authority(authority),
            Broker::Nats => check_authority(authority),
            Broker::Redis => {
                check_authority(authority)?;
                let database = path.trim_matches('/');
                let is_number = database.is_empty() || database.parse::<u32>().is_ok();
                if is_number { Ok(()) } else { Err("its path is not the number of a database") }
            }
        }
    }
}

/// Whether a host, and a port if there is one, stand behind the name and password.
fn check_authority(authority: &str) -> Result<(), &'static str> {
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = match host.strip_prefix('[') {
        Some(address) => {
            let (address, behind) = address.split_once(']').ok_or("the bracket before its address is not closed")?;
            address.parse::<Ipv6Addr>().map_err(|_| "what is in brackets is not an address")?;
            match behind.strip_prefix(':') {
                Some(port) => Some(port),
                None if behind.is_empty() => None,
                None => return Err("something else than a port follows its address"),
            }
        }
        None => {
            let (host, port) = host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port)));
            if host.is_empty() {
                return Err("it has no host");
            }
            if !host.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.')) {
                return Err("its host has a character that no host has");
            }
            port
        }
    };
    match port {
        Some(port) if !port.parse::<u16>().is_ok_and(|port| port > 0) => Err("its port is not one from 1 to 65535"),
        Some(_) | None => Ok(()),
    }
}

impl BusUrl {
    /// The URL, if it can lead to a bus. Whether it does is known when it is tried.
    pub(super) fn checked(self) -> Result<String, UsageError> {
        let (scheme, rest) =
            self.0.split_once(':').map_or((self.0.as_str(), None), |(scheme, rest)| (scheme, rest.strip_prefix("//")));
        let Some(broker) = Broker::of(scheme) else {
            return Err(UsageError("--bus: expected a URL such as redis://127.0.0.1".to_owned()));
        };
        if let (feature, false) = broker.feature() {
            return Err(UsageError(format!("--bus: this chat-app was built without its feature {feature}")));
        }
        let checked = match broker {
            // Several servers of one cluster, each with a scheme or without one.
            Broker::Nats => {
                let others = self.0.split(',').skip(1).map(|server| match server.trim().split_once("://") {
                    Some(("nats" | "tls", rest)) => broker.check(Some(rest)),
                    Some(_) => Err("one of its servers is none of NATS"),
                    None => broker.check(Some(server.trim())),
                });
                let first = rest.and_then(|rest| rest.split(',').next());
                std::iter::once(broker.check(first)).chain(others).collect()
            }
            Broker::Redis | Broker::RedisSocket | Broker::RabbitMq => broker.check(rest),
        };
        match checked {
            Ok(()) => Ok(self.0),
            Err(wrong) => Err(UsageError(format!("--bus: expected a URL such as {}, but {wrong}", broker.example()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> Option<String> {
        let Ok(url) = url.parse::<BusUrl>();
        url.checked().err().map(|error| error.to_string())
    }

    #[test]
    #[cfg(all(feature = "redis", feature = "rabbitmq", feature = "nats"))]
    fn what_can_lead_to_a_bus() {
        for url in [
            "redis://127.0.0.1",
            "redis://host_1.example:6379/",
            "redis://:pass@word@host:1/15",
            "redis://user:p%40ss@[::1]:65535/0?protocol=resp3",
            "rediss://host#insecure",
            "valkey://host",
            "valkeys://[2001:db8::1]",
            "redis+unix:///run/redis.sock?db=1",
            "unix:///run/redis.sock",
            "amqp://",
            "amqp:///vhost",
            "amqps://user:password@host:5671/%2F?heartbeat=10",
            "amqp://[::1]:5672",
            "nats://host",
            "tls://host:4222,tls://user:password@other, third:4223",
        ] {
            assert_eq!(told(url), None, "{url}");
        }
    }

    #[test]
    #[cfg(all(feature = "redis", feature = "rabbitmq", feature = "nats"))]
    fn what_never_can_is_told_in_our_words_and_without_a_password() {
        let redis = "redis://user:password@host:6379/0";
        let (socket, rabbitmq) = ("redis+unix:///run/redis.sock", "amqp://user:password@host:5672/vhost");
        let nats = "nats://user:password@host:4222";
        for (url, example, wrong) in [
            ("redis", redis, "there is no :// behind its scheme"),
            ("redis:", redis, "there is no :// behind its scheme"),
            ("redis:host", redis, "there is no :// behind its scheme"),
            ("redis://", redis, "it has no host"),
            ("rediss:///0", redis, "it has no host"),
            ("valkey://:6379", redis, "it has no host"),
            ("redis://me:secret@", redis, "it has no host"),
            ("redis://me:secret@:6379", redis, "it has no host"),
            ("redis://me:secret@host name", redis, "its host has a character that no host has"),
            ("redis://::1", redis, "it has no host"),
            ("redis://[::1", redis, "the bracket before its address is not closed"),
            ("redis://[host]", redis, "what is in brackets is not an address"),
            ("redis://[::1]6379", redis, "something else than a port follows its address"),
            ("redis://host:", redis, "its port is not one from 1 to 65535"),
            ("redis://host:0", redis, "its port is not one from 1 to 65535"),
            ("redis://host:65536", redis, "its port is not one from 1 to 65535"),
            ("redis://[::1]:x", redis, "its port is not one from 1 to 65535"),
            ("redis://host/x", redis, "its path is not the number of a database"),
            ("redis://host/0/1", redis, "its path is not the number of a database"),
            ("redis://host/-1", redis, "its path is not the number of a database"),
            ("unix:x", socket, "there is no :// behind its scheme"),
            ("unix://", socket, "it has no path of a socket"),
            ("redis+unix:///", socket, "it has no path of a socket"),
            ("redis+unix://run/redis.sock", socket, "it has no path of a socket"),
            ("amqp:host", rabbitmq, "there is no :// behind its scheme"),
            ("amqp://:", rabbitmq, "it has no host"),
            ("amqp://me:secret@/vhost", rabbitmq, "it has no host"),
            ("amqps://host:99999", rabbitmq, "its port is not one from 1 to 65535"),
            ("nats:host", nats, "there is no :// behind its scheme"),
            ("nats://", nats, "it has no host"),
            ("tls://:4222", nats, "it has no host"),
            ("nats://host,", nats, "it has no host"),
            ("nats://host,redis://other", nats, "one of its servers is none of NATS"),
            ("nats://host,nats://me:secret@other:x", nats, "its port is not one from 1 to 65535"),
        ] {
            let expected = format!("--bus: expected a URL such as {example}, but {wrong}");
            assert_eq!(told(url), Some(expected), "{url}");
        }
        for url in ["", "host", "http://me:secret@host", "REDIS://host"] {
            assert_eq!(told(url).unwrap(), "--bus: expected a URL such as redis://127.0.0.1", "{url}");
        }
    }

    #[test]
    #[cfg(not(feature = "redis"))]
    fn what_was_left_out_is_told() {
        assert_eq!(told("redis://host").unwrap(), "--bus: this chat-app was built without its feature redis");
    }
}
