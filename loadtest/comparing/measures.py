"""What is measured: each function does one run of one side, and gives a `Sample`."""

import resource
from dataclasses import dataclass

P99_LIMIT_US = 50_000
BUSY_LIMIT = 0.95
# A search ends when what held and what did not are as close as this.
RESOLUTION = 1.07


@dataclass
class Sample:
    """A number, or why there is none."""

    value: float | None
    # What the server did wrong.
    fault: str | None = None
    # Why it says nothing about the server.
    disturbance: str | None = None

    def reason(self):
        return self.fault or self.disturbance


def fault(report):
    if report["ok"]:
        return None
    kinds = ("refused", "lost", "duplicated", "disordered", "disagreed", "corrupt")
    wrong = {kind: count for kind, count in report["messages"].items() if count and kind in kinds}
    return f"not ok: {wrong | report['closes'] | report['connect']['refused']}"


def generator_limit(report):
    if report["generator"]["busy"] > BUSY_LIMIT and report["server"]["cpu_share"] < BUSY_LIMIT:
        return f"the generator was the limit, the server had {1 - report['server']['cpu_share']:.0%} to spare"
    return None


def talking(bench):
    return "--warmup", bench.options.warmup, "--seconds", bench.options.seconds


def fanout(bench, name):
    """Server CPU in µs per delivered message. That does not depend on how fast the generator is: it only polls without
    sleeping here, so that the server does not pay for waking it."""
    report = bench.fresh(name, "--clients", 1000, "--closed-loop", "--spin", *talking(bench))
    return Sample(report["server"]["cpu_us_per_delivered"], fault(report), bench.disturbance(report))


def chatter(bench, name):
    """Delivered messages per second while all talk."""
    report = bench.fresh(name, "--clients", 100, "--senders", 100, "--closed-loop", *talking(bench))
    return Sample(
        report["measured"]["delivered_per_second"], fault(report), bench.disturbance(report) or generator_limit(report)
    )


def idle_clients():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return 15_000 if most == resource.RLIM_INFINITY else min(15_000, most - 64)


def idle(bench, name):
    """Resident bytes per connection."""
    report = bench.fresh(name, "--clients", idle_clients(), "--idle", "--settle", 1, "--seconds", 1)
    return Sample(report["server"]["bytes_per_connection"], fault(report))


def last(bench, name):
    """Milliseconds until the last of 10,000 has a message, 99th percentile."""
    seconds = 3 * bench.options.seconds
    report = bench.fresh(name, "--clients", 10_000, "--rate", 10, "--warmup", bench.options.warmup, "--seconds", seconds)
    late = report["messages"]["unsent"] and "not all was read in time"
    return Sample(report["latency_last"]["p99_us"] / 1000, fault(report) or late or None, bench.disturbance(report))


def one_room(bench, name):
    """Messages per second of 20,000 into a room of 20."""
    report = bench.fresh(name, "--clients", 20, "--senders", 10, "--rate", 20_000, *talking(bench))
    late = report["messages"]["unsent"] and "not all was read in time"
    return Sample(report["measured"]["sent"] / report["measured"]["seconds"], fault(report) or late or None)


class Saturation:
    """Finds the highest rate that a side holds: all is delivered, p99 within 50 ms. Gives delivered messages per second."""

    CLIENTS = 1000

    def __init__(self, bench, rate, factor, best=None):
        self.bench = bench
        # Where the first search begins, and in which steps.
        self.first = (rate, factor)
        # What each side held the last time.
        self.best = best or {}

    def attempt(self, name, rate):
        """Delivered per second at `rate`, or None if that is too much, and the report."""
        for _ in range(2):
            report = self.bench.fresh(
                name, "--clients", self.CLIENTS, "--senders", 10, "--rate", round(rate), "--drain", 1, *talking(self.bench)
            )
            latency = report["latency_each"]
            holds = latency["count"] > 0 and latency["p99_us"] <= P99_LIMIT_US
            if report["ok"] and holds and not report["messages"]["unsent"]:
                return report["measured"]["delivered_per_second"], report
            # One hiccup of the machine is not the limit of the server: it has to fail twice, unless most was late.
            if latency["p50_us"] > P99_LIMIT_US:
                break
        return None, report

    def search(self, name):
        """Yields after each step of the search, and returns a `Sample`."""
        rate, factor = (self.best[name], 1.25) if name in self.best else self.first
        low = high = None
        for _ in range(16):
            delivered, report = self.attempt(name, rate)
            if delivered:
                low, held = rate, delivered
            else:
                high, failed = rate, report
            if low and high and high / low < RESOLUTION:
                self.best[name] = low
                # If the limit is the generator's, the round says nothing.
                return Sample(held, disturbance=self.bench.disturbance(failed) or generator_limit(failed))
            rate = (low * high) ** 0.5 if low and high else low * factor if low else high / factor
            yield
        if low:
            return Sample(None, disturbance=f"no limit found up to {rate:,.0f} messages/s")
        return Sample(None, fault=fault(failed) or "no rate held")

    def __call__(self, names):
        # The searches take turns step by step, since the limit of a machine may move while one is under way.
        searches, found = {name: self.search(name) for name in names}, {}
        while searches:
            for name, steps in list(searches.items()):
                try:
                    next(steps)
                except StopIteration as end:
                    found[name] = end.value
                    del searches[name]
        return found


def in_turn(bench, measure):
    """One side after the other."""
    return lambda names: {name: measure(bench, name) for name in names}
