//! chat-app: a chat server in one binary, one thread and one mio poll loop.

pub mod chat;
pub mod close;
pub mod journal;
pub mod limits;
