//! What a run has found, before it is summed up. It can be written down, so that several processes are one run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ledger::{Completion, Counts};
use crate::monitor::{Mark, Point};
use crate::process::Usage;
use crate::report::{SearchReport, WebReport};
use crate::times::Times;

/// The state of both sides at one end of an interval. Times are nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sample {
    /// When it was taken.
    pub at: u64,
    /// Messages sent until then.
    pub sent: u64,
    /// Deliveries until then.
    pub delivered: u64,
    /// Bytes that the members have received until then.
    pub bytes_received: u64,
    /// CPU time of the generator's thread.
    pub thread_cpu: u64,
    /// How much of it was polling in vain.
    pub spun: u64,
    /// How long it was ready to run, but another process had its CPU.
    pub waited: u64,
    /// What each instance of the server has used.
    pub servers: Vec<Usage>,
}

impl Sample {
    /// CPU time that the generator has worked since `earlier`.
    pub fn worked_since(&self, earlier: &Sample) -> u64 {
        (self.thread_cpu - earlier.thread_cpu).saturating_sub(self.spun - earlier.spun)
    }

    /// CPU time of all instances of the server since `earlier`.
    pub fn cpu_of_servers_since(&self, earlier: &Sample) -> u64 {
        self.servers.iter().zip(&earlier.servers).map(|(now, then)| now.since(*then).total).sum()
    }
}

/// What was found in one interval of talking.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Interval {
    /// What it was for.
    pub name: String,
    /// Messages per second, if on schedule.
    pub rate: Option<f64>,
    /// Its beginning.
    pub from: Sample,
    /// Its end.
    pub to: Sample,
    /// Messages that were due but not sent.
    pub unsent: u64,
    /// How late messages were sent.
    pub lag: Times,
    /// Latency to each member.
    pub to_each: Times,
    /// Latency to the last member.
    pub to_last: Times,
    /// When messages were complete here, if others elsewhere hear them too.
    pub completions: Vec<Completion>,
    /// CPU time of the generator, of all its processes, less what they have polled in vain.
    pub worked: u64,
    /// The server's resident bytes at its end.
    pub resident: Option<u64>,
}

/// What the scenario `storm` has found. Times are nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StormFacts {
    /// Clients that came at once.
    pub clients: u64,
    /// Messages that each had missed; nothing if nobody was there before.
    pub behind: Option<u32>,
    /// Clients that have everything.
    pub arrived: u64,
    /// When each had.
    pub times: Times,
    /// When the last one had.
    pub last: u64,
    /// Bytes that all received until then.
    pub bytes: u64,
    /// Bytes that all received with what they are told of each other afterwards.
    pub bytes_settled: u64,
    /// CPU time of the server with that.
    pub cpu_settled: Option<u64>,
}

/// What the scenario `slow` has found. Times are nanoseconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SlowFacts {
    /// Members that read slowly or not at all.
    pub slow: u64,
    /// How many of them read nothing.
    pub stalled: u64,
    /// What the others take per second.
    pub bytes_per_second: u64,
    /// Deliveries they had not had when the load ended.
    pub missing: u64,
    /// How many had been thrown out by then.
    pub thrown_out: u64,
    /// How long they read on until they had everything, or nothing came any more.
    pub catch_up_time: u64,
    /// Bytes they received meanwhile.
    pub catch_up_bytes: u64,
    /// Whether they have everything.
    pub is_complete: bool,
    /// Resident bytes of the server while all read.
    pub resident_baseline: Option<u64>,
    /// And at the end of the interval in which some did not.
    pub resident_loaded: Option<u64>,
}

/// What the scenario `churn` has found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChurnFacts {
    /// Connections that came and went.
    pub came: u64,
    /// Connections for which there was no place left, since former ones had not ended.
    pub crowded_out: u64,
}

/// What the generator has found, before it is summed up.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Facts {
    /// Nanoseconds from the first connection to the last handshake.
    pub connect_time: u64,
    /// Clients that took part when the talking began.
    pub connected: u32,
    /// Deliveries and faults.
    pub counts: Counts,
    /// Duration of handshakes, from the first packet.
    pub handshake_times: Times,
    /// Clients that did not get in, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Clients that were thrown out, by reason.
    pub closes: BTreeMap<String, u64>,
    /// What the server has refused to do, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Members that were told of a gap.
    pub gaps: u64,
    /// Pings that were answered.
    pub pings: u64,
    /// Bytes that the members have received.
    pub bytes_received: u64,
    /// The server's resident bytes before the first connection.
    pub resident_at_start: Option<u64>,
    /// And with all of them.
    pub resident_connected: Option<u64>,
    /// And when the talking was over.
    pub resident_at_end: Option<u64>,
    /// The generator's resident bytes with all clients, of all its processes.
    pub resident_of_generator: Option<u64>,
    /// All intervals in which they talked.
    pub intervals: Vec<Interval>,
    /// Which of them the run is about, if not the last.
    pub principal: Option<usize>,
    /// Of `storm`.
    pub storm: Option<StormFacts>,
    /// Of `slow`.
    pub slow: Option<SlowFacts>,
    /// Of `churn`.
    pub churn: Option<ChurnFacts>,
    /// Of `http`.
    pub web: Option<WebReport>,
    /// Of a search.
    pub search: Option<SearchReport>,
    /// The run over time.
    pub points: Vec<Point>,
    /// What began when.
    pub marks: Vec<Mark>,
}
