//! The brokers, as far as chaos needs to know them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::common::{NatsServer, RabbitServer, RedisServer};

/// A broker that keeps what it was given, and can be treated badly.
pub trait Broker {
    /// The scheme of its URL.
    fn scheme(&self) -> &'static str;

    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Kills it (SIGKILL).
    fn kill(&mut self);

    /// Starts it again after that, and waits until it can be used.
    fn start_again(&mut self);

    /// Stops it (SIGSTOP): it does nothing, and its connections stay.
    fn pause(&self);

    /// Lets it go on (SIGCONT).
    fn resume(&self);
}

macro_rules! broker {
    ($server:ty, $scheme:literal) => {
        impl Broker for $server {
            fn scheme(&self) -> &'static str {
                $scheme
            }

            fn address(&self) -> SocketAddr {
                self.address()
            }

            fn kill(&mut self) {
                self.kill();
            }

            fn start_again(&mut self) {
                self.start_again();
            }

            fn pause(&self) {
                self.pause();
            }

            fn resume(&self) {
                self.resume();
            }
        }
    };
}

broker!(RedisServer, "redis");
broker!(RabbitServer, "amqp");
broker!(NatsServer, "nats");

/// Lets Redis write a snapshot of what it has now.
pub fn save(server: &RedisServer) {
    let mut stream = TcpStream::connect(server.address()).expect("it listens");
    stream.write_all(b"SAVE\r\n").expect("it takes a command");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, *b"+OK\r\n");
}
