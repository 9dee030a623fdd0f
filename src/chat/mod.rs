//! The chat itself: what is said where, who hears it, and who has yet to.
//!
//! The hub speaks values only. It has never seen a socket, a file or a clock; what it decides is carried out by a
//! [`Stage`](hub::Stage).

pub mod bucket;
pub mod dialect;
mod elsewhere;
pub mod entry;
pub mod fields;
pub mod hub;
pub mod identity;
pub mod name;
pub mod presence;
mod recalled;
pub mod report;
mod tail;
pub mod v1;
