//! The `chat-app` binary.

fn main() {}
