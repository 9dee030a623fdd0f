//! What a run has shown, as text for people.

use std::fmt;

use crate::cost::{Percentiles, ServerCost};
use crate::ledger::Counts;
use crate::report::{IntervalReport, Report, SearchReport, SlowReport, StormReport, WebReport};
use crate::text::{bytes, grouped, time};
use crate::trust::Trust;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { setup, connect, messages, measured, generator, .. } = self;
        writeln!(
            f,
            "{} {}: {} clients of {}, {} talking, {} bytes, {}",
            setup.scenario,
            setup.url,
            grouped(setup.clients as u64),
            setup.dialect,
            grouped(setup.senders as u64),
            setup.size_bytes,
            setup.pace
        )?;
        writeln!(
            f,
            "connect     {} in {:.2} s, {}/s; handshake {}",
            grouped(u64::from(connect.connected)),
            connect.seconds,
            grouped(connect.per_second as u64),
            connect.handshake
        )?;
        if setup.certificates == Some(Trust::Anybody.word()) {
            writeln!(f, "INSECURE    no certificate was checked: the server may have been anybody")?;
        }
        for (reason, clients) in &connect.refused {
            writeln!(f, "REFUSED     {}: {reason}", grouped(*clients))?;
        }
        for (reason, clients) in &self.closes {
            writeln!(f, "THROWN OUT  {}: {reason}", grouped(*clients))?;
        }
        for (reason, times) in &self.errors {
            writeln!(f, "REFUSED     {} times: {reason}", grouped(*times))?;
        }
        if self.gaps > 0 {
            writeln!(f, "GAPS        {} members were told that something does not come", grouped(self.gaps))?;
        }
        if messages.sent > 0 {
            self.fmt_messages(f)?;
        }
        self.fmt_scenario(f)?;
        if self.pings > 0 {
            writeln!(f, "pings       {} answered", grouped(self.pings))?;
        }
        write!(
            f,
            "generator   {:.0} % busy, {:.0} % without a CPU; sent late by p99 {}, max {}; {:.2} s CPU",
            generator.busy * 100.0,
            generator.waited_share * 100.0,
            time(generator.lag.p99_us),
            time(generator.lag.max_us),
            generator.cpu_seconds
        )?;
        match generator.resident_bytes {
            Some(memory) => writeln!(f, ", {}", bytes(memory as f64))?,
            None => writeln!(f)?,
        }
        if let Some(verdict) = generator.verdict {
            writeln!(f, "NOTICE      {verdict}")?;
        }
        if messages.unsent > 0 {
            let unsent = grouped(messages.unsent);
            writeln!(f, "NOTICE      {unsent} messages were due but not sent: the server did not read fast enough")?;
        }
        if let Some(server) = &self.server {
            server.fmt_lines(f, measured.seconds)?;
        }
        for asserted in &self.assertions {
            match &asserted.found {
                None => writeln!(f, "holds       {}", asserted.assertion)?,
                Some(found) => writeln!(f, "FAILS       {}: {found}", asserted.assertion)?,
            }
        }
        f.write_str(if self.ok { "ok\n" } else { "FAILED\n" })
    }
}

impl Report {
    fn fmt_messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { sent, expected, delivered, lost, duplicated, disordered, disagreed, corrupt, foreign, .. } =
            self.messages;
        writeln!(f, "sent        {}, to be delivered {} times", grouped(sent), grouped(expected))?;
        write!(
            f,
            "delivered   {}; lost {}, duplicated {}, disordered {}, corrupt {}, foreign {}",
            grouped(delivered),
            grouped(lost),
            grouped(duplicated),
            grouped(disordered),
            grouped(corrupt),
            grouped(foreign)
        )?;
        match disagreed {
            0 => writeln!(f)?,
            positions => writeln!(f, "; DIFFERENT at {} positions", grouped(positions))?,
        }
        if self.measured.seconds > 0.0 && self.storm.is_none() {
            let rate = grouped(self.measured.delivered_per_second as u64);
            writeln!(f, "rate        {rate} delivered/s over {:.2} s", self.measured.seconds)?;
        }
        if self.latency_each.count > 0 {
            writeln!(f, "latency     to each member  {}", self.latency_each)?;
            writeln!(f, "            to the last one {}", self.latency_last)?;
        }
        Ok(())
    }

    fn fmt_scenario(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(storm) = &self.storm {
            storm.fmt_lines(f)?;
        }
        if let Some(slow) = &self.slow {
            slow.fmt_lines(f)?;
        }
        if let Some(churn) = &self.churn {
            write!(f, "visits      {} connections came and went", grouped(churn.came))?;
            match churn.crowded_out {
                0 => writeln!(f)?,
                some => writeln!(f, "; {} did not, since former ones had not ended", grouped(some))?,
            }
        }
        if let Some(http) = &self.http {
            http.fmt_lines(f)?;
        }
        if self.intervals.len() > 1 {
            writeln!(f, "intervals   sent/s, delivered/s, latency to each member")?;
            for interval in &self.intervals {
                interval.fmt_line(f)?;
            }
        }
        match &self.search {
            Some(search) => search.fmt_lines(f),
            None => Ok(()),
        }
    }
}

impl IntervalReport {
    fn fmt_line(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = self.measured.sent as f64 / self.measured.seconds.max(f64::MIN_POSITIVE);
        write!(
            f,
            "            {:<24} {:>8}  {:>12}  {}",
            self.name,
            grouped(sent.round() as u64),
            grouped(self.measured.delivered_per_second as u64),
            self.latency_each
        )?;
        f.write_str(if self.generator.limited { "  (the generator was the limit)\n" } else { "\n" })
    }
}

impl StormReport {
    fn fmt_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.behind {
            Some(behind) => format!("came back {} entries behind", grouped(u64::from(behind))),
            None => "came for the first time".to_owned(),
        };
        writeln!(
            f,
            "storm       {} {what}, {} have everything; the last one after {:.2} s",
            grouped(self.clients),
            grouped(self.arrived),
            self.last_seconds
        )?;
        writeln!(f, "            each after {}", self.caught_up)?;
        write!(
            f,
            "            {} received until then, {} with what they are told of each other, {} for each",
            bytes(self.bytes as f64),
            bytes(self.bytes_settled as f64),
            bytes(self.bytes_per_client)
        )?;
        match self.cpu_seconds {
            Some(cpu) => writeln!(f, "; {cpu:.2} s CPU of the server"),
            None => writeln!(f),
        }
    }
}

impl SlowReport {
    fn fmt_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "slow        {} read nothing, {} took {}/s; the others' p99 {} → {}: {:.2} ×, {}{}",
            grouped(self.stalled),
            grouped(self.slow - self.stalled),
            bytes(self.bytes_per_second as f64),
            time(self.p99_us_baseline),
            time(self.p99_us),
            self.ratio,
            if self.added_us < 0.0 { "-" } else { "+" },
            time(self.added_us.abs())
        )?;
        if let (Some(before), Some(after)) = (self.resident_bytes_baseline, self.resident_bytes_loaded) {
            writeln!(f, "            the server's memory {} → {}", bytes(before as f64), bytes(after as f64))?;
        }
        writeln!(
            f,
            "            {} deliveries behind, {} thrown out; {} after {:.2} s and {} more",
            grouped(self.missing),
            grouped(self.thrown_out),
            if self.complete { "they have everything, in order" } else { "NOT EVERYTHING has come" },
            self.catch_up_seconds,
            bytes(self.catch_up_bytes as f64)
        )
    }
}

impl WebReport {
    fn fmt_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "http        {} connections, {}: {} answers, {}/s, {}; {}",
            self.connections,
            self.path,
            grouped(self.answered),
            grouped(self.per_second as u64),
            bytes(self.bytes as f64),
            self.latency
        )?;
        for (reason, times) in &self.failed {
            writeln!(f, "FAILED      {} requests: {reason}", grouped(*times))?;
        }
        Ok(())
    }
}

impl SearchReport {
    fn fmt_lines(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.join(", ");
        match self.rate {
            Some(rate) => write!(f, "highest     {} messages/s hold {held}", grouped(rate as u64))?,
            None => write!(f, "highest     no rate holds {held}")?,
        }
        if let (Some(rate), Some(because)) = (self.failed_at, &self.because) {
            write!(f, "; {} do not ({because})", grouped(rate as u64))?;
        }
        writeln!(f)?;
        if self.limited_by_generator {
            writeln!(f, "NOTICE      that is the generator's limit; the server may hold more")?;
        }
        Ok(())
    }
}

impl ServerCost {
    fn fmt_lines(&self, f: &mut fmt::Formatter<'_>, seconds: f64) -> fmt::Result {
        write!(
            f,
            "server      {:.2} s CPU in {seconds:.2} s ({:.0} %; user {:.2} s, system {:.2} s)",
            self.cpu_seconds,
            self.cpu_share * 100.0,
            self.user_seconds,
            self.system_seconds
        )?;
        if self.pids.len() > 1 {
            write!(f, " of {} instances, the busiest {:.0} %", self.pids.len(), self.busiest_share * 100.0)?;
        }
        match self.cpu_us_per_delivered {
            Some(cpu) => writeln!(f, ", {cpu:.3} µs per delivered message")?,
            None => writeln!(f)?,
        }
        writeln!(
            f,
            "            {} voluntary and {} involuntary context switches",
            grouped(self.voluntary_switches),
            grouped(self.involuntary_switches)
        )?;
        let mib =
            |bytes: Option<u64>| bytes.map_or("?".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1_048_576.0));
        write!(
            f,
            "memory      {} MiB at start, {} connected, {} at end",
            mib(self.resident_bytes_at_start),
            mib(self.resident_bytes_connected),
            mib(self.resident_bytes_at_end)
        )?;
        match self.bytes_per_connection {
            Some(bytes) => writeln!(f, "; {bytes:.0} bytes per connection"),
            None => writeln!(f),
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("-");
        }
        let [p50, p90, p99, p999, max] = [self.p50_us, self.p90_us, self.p99_us, self.p999_us, self.max_us].map(time);
        write!(f, "p50 {p50}  p90 {p90}  p99 {p99}  p99.9 {p999}  max {max}")
    }
}
