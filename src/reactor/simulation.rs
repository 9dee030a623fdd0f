//! The whole server in a seeded simulation: the real reactor and all below it, over sockets, a store and a clock that exist
//! in memory.
//!
//! Or several of them: on a bus that exists in memory as well, with the real journal of the bus over it, of which only the
//! tasks are stood in for (`journal::bus::conductor::stand_in`).
//!
//! What is simulated: clients of every dialect ([`member_v1`] with its [`seat`]s in rooms, [`member_raw`],
//! [`listener`], [`poster`], [`visitor`]), which join, talk, read slowly or not at all, stop in mid-frame,
//! half-close, cut their connections or leave them behind as ghosts, come back, resume, and say again what was not
//! confirmed; a store that fails, cannot be read, is trimmed, and loses what was not synced (`journal::simulated`);
//! servers that are drained, killed, and started again over the same store; time ([`scene`]), in which a server
//! sleeps until an edge, its journal or a deadline wakes it. On a bus, clients go from one instance to another; the
//! broker (`journal::bus::simulated`) is away, cuts sessions with what was being published there in part, now or
//! later, holds back what it brings or answers to one instance, loses whispers, trims its log, loses records of its
//! midst to somebody who deletes them, has holes in its offsets, and comes back as it once was, or empty; each
//! instance keeps all, or nothing, and its store may come back behind what was heard. What is not simulated: the
//! kernel's sockets, files of the site, the threads and the SQL of the real store, the clients of real brokers and
//! the timing of their tasks.
//!
//! What is judged ([`oracle`]): each client's view of a room, entry by entry, against what the journal emitted; that what was
//! heard is stored; that nonces are said once; pages of history; memory at each turn. On a bus, what each instance emits
//! against what the log has had ([`common`]), and in the end that nobody, instance or client, has passed over anything
//! without being told so, wherever they went. At the end of a run all fall quiet: then everybody has heard everything, knows
//! what became of what they said, has the same picture of who is there, at all instances, and these stand at the same
//! place. When they have left, nothing remains.
//!
//! What is known, and let pass: a log that is trimmed up to the place of a store makes a repeat of what was trimmed new to
//! the instance that comes back with it. And all brokers here tell of their restarts, since one that loses something and
//! does not is found out by those alone who knew what it had.
//!
//! A failure prints its seed. `CHAT_SIM_SEED` runs that one, `CHAT_SIM_RUNS` so many from there or from the first,
//! `CHAT_SIM_STEPS` with so many steps each: `CHAT_SIM_SEED=7 cargo nextest run --lib simulation`.

mod common;
mod ghost;
mod line;
mod listener;
mod member_raw;
mod member_v1;
mod oracle;
mod poster;
mod scene;
mod seat;
mod visitor;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(super) use line::{masked, take_frame};
use scene::Tally;
use world::{Under, World};

/// Seeds and steps of the normal test run.
const RUNS: u64 = 30;
const STEPS: u64 = 1_000;

fn run(under: Under, seed: u64, steps: u64) -> Tally {
    let mut world = World::new(under, seed);
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    if seed.is_multiple_of(3) {
        world.drain();
    }
    world.end()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Runs all seeds; if these are the usual ones, they must have seen what `least` counts of each kind.
fn run_all(under: Under, is_lively: impl Fn(&Tally) -> bool) {
    let (seed, runs) = (number("CHAT_SIM_SEED"), number("CHAT_SIM_RUNS"));
    let first = seed.unwrap_or(0);
    let seeds = first..first + runs.unwrap_or(if seed.is_some() { 1 } else { RUNS });
    let steps = number("CHAT_SIM_STEPS").unwrap_or(STEPS);
    let is_usual = seeds.end - seeds.start >= RUNS && steps >= STEPS;
    let mut tally = Tally::default();
    for seed in seeds {
        let ran = catch_unwind(AssertUnwindSafe(|| run(under, seed, steps)));
        let Ok(seen) = ran else {
            panic!(
                "{under:?}: repeat it with CHAT_SIM_SEED={seed} CHAT_SIM_STEPS={steps} cargo nextest run --lib simulation"
            );
        };
        tally.add(&seen);
    }
    assert!(!is_usual || is_lively(&tally), "the simulation is not lively: {tally:?}");
}

#[test]
fn everybody_hears_the_same_over_a_memory_journal() {
    run_all(Under::Memory, |tally| tally.is_lively() && tally.stops > 0);
}

#[test]
fn everybody_hears_the_same_over_a_store_that_fails() {
    run_all(Under::Store, |tally| tally.is_lively() && tally.is_troubled());
}

#[test]
fn everybody_hears_the_same_at_all_instances_on_a_bus() {
    run_all(Under::Bus, |tally| tally.is_lively() && tally.is_clustered());
}

#[test]
fn the_same_seed_is_the_same_run() {
    for (under, seed) in [(Under::Memory, 4), (Under::Store, 4), (Under::Bus, 4), (Under::Bus, 5)] {
        assert_eq!(run(under, seed, 500), run(under, seed, 500), "{under:?}");
    }
}
