//! The journal of many instances: a bus puts in order what all of them say.

mod driver;
mod wire;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod local;
