//! What clients send through a WebSocket, and a session that hears it.

use std::hint::black_box;

use chat_app::ws::session::Event;
use chat_app::ws::{Session, Workbench};

/// Bytes of the longest message.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// A text of so many bytes as a client sends it.
pub fn masked_text(payload_bytes: usize) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![0x81];
    match payload_bytes {
        0..=125 => frame.push(0x80 | payload_bytes as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((payload_bytes as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend((0..payload_bytes).map(|i| (b'a' + (i % 26) as u8) ^ mask[i % 4]));
    frame
}

/// A session that forgets what it has heard.
pub struct Listener {
    bench: Workbench,
    session: Session,
    events: Vec<Event>,
    output: Vec<u8>,
}

impl Listener {
    /// A session right after the upgrade.
    pub fn new() -> Self {
        Listener {
            bench: Workbench::new(MAX_MESSAGE_BYTES),
            session: Session::new(),
            events: Vec::new(),
            output: Vec::new(),
        }
    }

    /// Hears what one read of a socket gave, and gives how many messages that were.
    pub fn hear(&mut self, read: &[u8]) -> usize {
        self.session.receive(black_box(read), &mut self.bench, &mut self.events, &mut self.output);
        let heard = black_box(&self.events).len();
        self.events.clear();
        heard
    }
}
