//! chat-app: a chat server in one binary, one thread and one mio poll loop.

pub mod close;
pub mod http;
pub mod limits;
pub mod site;
