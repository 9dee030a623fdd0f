//! chat-app: a chat server in one binary, one thread and one mio poll loop.

pub mod chat;
pub mod close;
pub mod config;
pub mod journal;
pub mod limits;
pub mod logging;
pub mod metrics;
pub mod reactor;
