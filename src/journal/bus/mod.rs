//! The journal of many instances: a bus puts in order what all of them say.

mod driver;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "rabbitmq")]
mod rabbitmq;
mod wire;

#[cfg(test)]
#[path = "../../../tests/common/brokers.rs"]
mod brokers;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod local;
#[cfg(all(test, any(feature = "nats", feature = "rabbitmq")))]
mod trials;
