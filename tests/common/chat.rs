//! A client of chat.v1 that sends JSON and waits for what it is told.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tungstenite::Message;

use super::WsClient;

/// A connected client of chat.v1.
#[derive(Debug)]
pub struct ChatClient {
    socket: WsClient,
}

impl ChatClient {
    /// Connects, and has said nothing yet.
    pub fn connect(address: SocketAddr) -> Self {
        ChatClient::over(WsClient::connect(address, "/", &[("Sec-WebSocket-Protocol", "chat.v1")]))
    }

    /// Takes a WebSocket that was opened with the subprotocol.
    pub fn over(socket: WsClient) -> Self {
        assert_eq!(socket.response().headers()["sec-websocket-protocol"], "chat.v1");
        ChatClient { socket }
    }

    /// Connects and says hello by a name. Gives the welcome, too.
    pub fn hello(address: SocketAddr, name: &str) -> (Self, Value) {
        ChatClient::hello_with(address, &json!({"type": "hello", "name": name}))
    }

    /// Connects and says hello like this. Gives the welcome, too.
    pub fn hello_with(address: SocketAddr, hello: &Value) -> (Self, Value) {
        let mut client = ChatClient::connect(address);
        client.send(hello);
        let welcome = client.next();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        (client, welcome)
    }

    /// Sends a request.
    pub fn send(&mut self, request: &Value) {
        self.socket.send_text(&request.to_string());
    }

    /// Joins a room and gives what the server answers.
    pub fn join(&mut self, room: &str) -> Value {
        self.join_with(&json!({"type": "join", "room": room}))
    }

    /// Joins a room again, after a position of an epoch.
    pub fn resume(&mut self, room: &str, after: u64, epoch: &Value) -> Value {
        self.join_with(&json!({"type": "join", "room": room, "after": after, "epoch": epoch}))
    }

    fn join_with(&mut self, request: &Value) -> Value {
        self.send(request);
        self.expect(|message| message["type"] == "joined" && message["room"] == request["room"])
    }

    /// Says something.
    pub fn say(&mut self, room: &str, text: &str, nonce: &str) {
        self.send(&json!({"type": "say", "room": room, "text": text, "nonce": nonce}));
    }

    /// The next message.
    ///
    /// # Panics
    /// As [`WsClient::next_text`], and when it is not JSON.
    pub fn next(&mut self) -> Value {
        let text = self.socket.next_text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next message that is wanted; those before it are passed over.
    ///
    /// # Panics
    /// As [`next`](Self::next).
    pub fn expect(&mut self, mut is_wanted: impl FnMut(&Value) -> bool) -> Value {
        loop {
            let message = self.next();
            if is_wanted(&message) {
                return message;
            }
        }
    }

    /// The next so many messages of a type.
    pub fn all(&mut self, kind: &str, count: usize) -> Vec<Value> {
        (0..count).map(|_| self.expect(|message| message["type"] == kind)).collect()
    }

    /// The socket below.
    pub fn socket(&mut self) -> &mut WsClient {
        &mut self.socket
    }

    /// Reads on until the server has closed, and gives the code.
    pub fn until_closed(&mut self) -> Option<u16> {
        self.socket.until_closed()
    }

    /// Closes, and gives everything that had not been read.
    pub fn close(mut self) -> Vec<Value> {
        self.socket.send(Message::Close(None));
        let mut unread = Vec::new();
        while let Ok(Some(message)) = self.socket.poll(super::DEADLINE) {
            if let Message::Text(text) = message {
                unread.push(serde_json::from_str(&text).expect("JSON"));
            }
        }
        unread
    }
}
