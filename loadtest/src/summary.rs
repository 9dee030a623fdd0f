//! What a run has shown, as text for people.

use std::fmt;

use crate::report::{Messages, Percentiles, Report, ServerCost};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { setup, connect, messages, measured, generator, .. } = self;
        writeln!(
            f,
            "{}: {} clients, {} talking, {} bytes, {}",
            setup.url,
            grouped(setup.clients as u64),
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
        for (reason, clients) in &connect.refused {
            writeln!(f, "REFUSED     {}: {reason}", grouped(*clients))?;
        }
        for (reason, clients) in &self.closes {
            writeln!(f, "THROWN OUT  {}: {reason}", grouped(*clients))?;
        }
        if messages.sent > 0 {
            self.fmt_messages(f)?;
        }
        if self.pings > 0 {
            writeln!(f, "pings       {} answered", grouped(self.pings))?;
        }
        writeln!(
            f,
            "generator   {:.0} % busy, {:.0} % without a CPU; sent late by p99 {}, max {}",
            generator.busy * 100.0,
            generator.waited_share * 100.0,
            time(generator.lag.p99_us),
            time(generator.lag.max_us)
        )?;
        if generator.limited {
            writeln!(
                f,
                "NOTICE      the generator was the limit here: rates and latencies are its own, not the server's"
            )?;
        }
        if messages.unsent > 0 {
            let unsent = grouped(messages.unsent);
            writeln!(f, "NOTICE      {unsent} messages were due but not sent: the server did not read fast enough")?;
        }
        if let Some(server) = &self.server {
            server.fmt_lines(f, measured.seconds)?;
        }
        f.write_str(if self.ok { "ok\n" } else { "FAILED\n" })
    }
}

impl Report {
    fn fmt_messages(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Messages { sent, expected, delivered, lost, duplicated, disordered, corrupt, foreign, .. } = self.messages;
        writeln!(f, "sent        {}, to be delivered {} times", grouped(sent), grouped(expected))?;
        writeln!(
            f,
            "delivered   {}; lost {}, duplicated {}, disordered {}, corrupt {}, foreign {}",
            grouped(delivered),
            grouped(lost),
            grouped(duplicated),
            grouped(disordered),
            grouped(corrupt),
            grouped(foreign)
        )?;
        writeln!(
            f,
            "rate        {} delivered/s over {:.2} s",
            grouped(self.measured.delivered_per_second as u64),
            self.measured.seconds
        )?;
        writeln!(f, "latency     to each member  {}", self.latency_each)?;
        writeln!(f, "            to the last one {}", self.latency_last)
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
        match self.cpu_us_per_delivered {
            Some(cpu) => writeln!(f, ", {cpu:.3} µs per delivered message")?,
            None => writeln!(f)?,
        }
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

/// A time in microseconds, with the unit that suits it.
fn time(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.2} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        let table = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, expected) in table {
            assert_eq!(grouped(number), expected);
        }
        let table = [(12.3, "12 µs"), (1_234.0, "1.23 ms"), (61_500_000.0, "61.50 s")];
        for (us, expected) in table {
            assert_eq!(time(us), expected);
        }
    }
}
