"""A server beside the yardstick: rounds, and a table of medians."""

import re
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from . import measures
from .measures import Saturation, in_turn
from .sides import Bench, Server, heading, say


class Comparison:
    """Both sides, and how much time there is."""

    def __init__(self, options):
        self.options = options
        self.bench = Bench(options, {options.name: options.server, "yardstick": options.yardstick})
        self.deadline = time.monotonic() + options.minutes * 60
        self.rows = []
        self.notes = []

    def pairs(self, title, measure, rounds):
        """Measures both sides until there are enough valid rounds; gives those. `measure` gets the names of the sides and
        returns a sample for each."""
        valid = []
        sides = list(self.bench.sides)
        for attempt in range(2 * rounds):
            if len(valid) == rounds:
                break
            if time.monotonic() > self.deadline:
                self.notes.append(f"{title}: the time was over after {len(valid)} of {rounds} rounds.")
                break
            samples = measure(sides if attempt % 2 == 0 else sides[::-1])
            reasons = [f"{name}: {sample.reason()}" for name, sample in samples.items() if sample.reason()]
            shown = ", ".join(f"{name} {samples[name].value:,.4g}" for name in sides if samples[name].value is not None)
            say(f"{title} {attempt + 1}: {shown}" + (f"   left out: {'; '.join(reasons)}" if reasons else ""))
            if reasons:
                self.notes.append(f"{title}: round {attempt + 1} left out ({'; '.join(reasons)}).")
            else:
                valid.append({name: sample.value for name, sample in samples.items()})
        return valid

    def compare(self, title, unit, wanted, measure, rounds=None, style=",.3f"):
        valid = self.pairs(title, measure, rounds or self.options.rounds)
        ours, theirs = self.bench.sides
        if not valid:
            self.rows.append(((ours, theirs), [title, unit, "-", "-", "-", "-", wanted]))
            return
        ratios = sorted(numbers[ours] / numbers[theirs] for numbers in valid if numbers[theirs])
        medians = [format(statistics.median(numbers[name] for numbers in valid), style) for name in (ours, theirs)]
        ratio = f"**{statistics.median(ratios):.3f}**" if ratios else "-"
        spread = f"{ratios[0]:.3f} to {ratios[-1]:.3f}, {len(valid)} rounds" if ratios else f"{len(valid)} rounds"
        self.rows.append(((ours, theirs), [title, unit, *medians, ratio, spread, wanted]))

    # The scenarios.

    def fanout(self, wanted="at most 1.08"):
        self.compare("fanout", "server CPU µs per delivered message", wanted, in_turn(self.bench, measures.fanout))

    def chatter(self):
        measure = in_turn(self.bench, measures.chatter)
        self.compare("chatter", "delivered messages/s", "at least 0.8", measure, style=",.0f")

    def saturation(self, wanted="at least 0.8"):
        measure = Saturation(self.bench, 4000, 2)
        self.compare("saturation", "delivered messages/s with p99 ≤ 50 ms", wanted, measure, style=",.0f")

    def idle(self):
        clients = measures.idle_clients()
        title = "resident bytes per connection" + (f" of {clients:,}" if clients < 15_000 else "")
        rounds = min(3, self.options.rounds)
        self.compare("idle", title, "at most 768 bytes", in_turn(self.bench, measures.idle), rounds, ",.0f")

    def store(self):
        bench = self.bench
        self.bench = Bench(self.options, {"stored": self.options.stored, "in memory": self.options.server})
        try:
            self.fanout("at most 1.05")
            self.saturation("at least 0.9")
            measure = in_turn(self.bench, measures.one_room)
            self.compare("one room", "messages/s of 20,000, all heard", "20,000", measure, style=",.0f")
        finally:
            self.bench = bench

    def syscalls(self):
        for name, side in self.bench.sides.items():
            with Server(*side) as server, tempfile.NamedTemporaryFile(suffix=".strace") as counts:
                strace = subprocess.Popen(
                    ["strace", "-c", "-f", "-o", counts.name, "-p", str(server.process.pid)], stderr=subprocess.PIPE, text=True
                )
                strace.stderr.readline()
                report = self.bench.run(server, "--clients", 1000, "--closed-loop", "--seconds", self.options.seconds)
                strace.send_signal(signal.SIGINT)
                strace.wait(30)
                table = Path(counts.name).read_text()
            delivered = report["messages"]["delivered"]
            calls = {}
            for line in table.splitlines():
                if found := re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line):
                    if found[2] != "total":
                        calls[found[2]] = int(found[1]) / delivered
            shown = ", ".join(f"{call} {share:.3f}" for call, share in sorted(calls.items(), key=lambda x: -x[1]) if share > 0.0005)
            self.notes.append(f"syscalls: {name}, per delivered message of {delivered:,}, handshakes included: {shown}.")

    def is_incomplete(self):
        """Whether a scenario has no numbers."""
        return any("-" in row for _, row in self.rows)

    def table(self):
        lines = heading()
        for sides in dict.fromkeys(sides for sides, _ in self.rows):
            lines += [
                f"| scenario | measure | {sides[0]} | {sides[1]} | ratio | from, to | wanted |",
                "| --- | --- | ---: | ---: | ---: | --- | --- |",
            ]
            lines += ["| " + " | ".join(row) + " |" for row_sides, row in self.rows if row_sides == sides]
            lines.append("")
        return "\n".join(lines + [f"- {note}" for note in self.notes])
