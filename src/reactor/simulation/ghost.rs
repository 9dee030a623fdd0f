//! Connections that their clients have given up, of which the server does not know.

use serde_json::Value;

use super::line::{Heard, Socket, masked};
use super::oracle::{ROOMS, room_name};
use super::scene::Scene;

/// What has become of the network between a client and the connection that it has left behind.
#[derive(Debug)]
enum Network {
    /// It is gone.
    Gone,
    /// It was slow and no more: what was under way arrives, and for a while the client's end does as it did.
    Slow,
}

/// A connection that was left behind.
#[derive(Debug)]
pub(super) struct Ghost {
    socket: Socket,
    network: Network,
}

impl Ghost {
    /// What is left of a connection whose client has gone.
    pub(super) fn gone(socket: Socket) -> Ghost {
        Ghost { socket, network: Network::Gone }
    }

    /// What is left of a connection on which a member was welcome. From others a hello could still come, and take the place
    /// of whoever came back.
    pub(super) fn of_welcome(socket: Socket, scene: &mut Scene) -> Ghost {
        let network = if scene.rng.bool() { Network::Gone } else { Network::Slow };
        Ghost { socket, network }
    }

    pub(super) fn act(&mut self, scene: &mut Scene) {
        match self.network {
            Network::Gone => return,
            Network::Slow if scene.chance(20) => return self.socket.line.cut(scene),
            Network::Slow => {}
        }
        if self.socket.is_upgraded && self.socket.closed_with.is_none() && scene.chance(300) {
            let room = room_name(scene.rng.usize(..ROOMS));
            let request = format!("{{\"type\":\"typing\",\"room\":\"{room}\"}}");
            self.socket.line.send(masked(0x81, request.as_bytes()));
        }
        self.socket.line.exchange(scene);
        while let Some(heard) = self.socket.poll() {
            match heard {
                Heard::Message(_, message) => Self::check(&message),
                Heard::Closed(1000 | 1001 | 1008 | 4000) | Heard::Refused(_) | Heard::Upgraded => {}
                Heard::Closed(other) => panic!("a ghost is closed with {other}"),
            }
        }
        if self.socket.line.is_over() && !self.socket.line.has_ended() {
            self.socket.line.half_close(scene);
        }
    }

    /// It has said hello, and is told so until it ends.
    fn check(message: &[u8]) {
        let message: Value = serde_json::from_slice(message).expect("JSON");
        assert_ne!(message["code"], "bad_order", "{message}");
    }

    pub(super) fn is_closed(&self) -> bool {
        self.socket.line.is_closed()
    }

    pub(super) fn cut(&mut self, scene: &mut Scene) {
        self.socket.line.cut(scene);
    }
}
