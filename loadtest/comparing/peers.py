"""chat-app beside other servers: who they are, and rounds in which all take turns."""

import datetime
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import measures
from .measures import Sample, Saturation, in_turn
from .sides import RELEASE, ROOT, Bench, Broken, commit, machine, program, say

FOLDER = ROOT / "loadtest" / "peers"
OURS = "chat-app"


@dataclass(frozen=True)
class Scenario:
    """One row of the table."""

    title: str
    unit: str
    # Which way is better, "less" or "more".
    better: str
    # The ratio of the first side to each of these that is wanted: at most, or where more is better, at least.
    wanted: dict
    style: str
    sides: tuple
    measure: object


ALL = (OURS, "yardstick", "node", "bun")
SCENARIOS = {
    "fanout": Scenario(
        "Fan-out: 1,000 clients, one talks in a closed loop", "server CPU per delivered message, µs", "less",
        {"yardstick": 1.08, "bun": 1.0}, ".2f", ALL, measures.fanout,
    ),
    "saturation": Scenario(
        "Saturation: 1,000 clients, 10 talk on schedule", "delivered messages/s with p99 ≤ 50 ms and none lost", "more",
        {"bun": 1.5}, ",.0f", ALL, Saturation,
    ),
    "chatter": Scenario(
        "Chatter: 100 clients, all talk in a closed loop", "delivered messages/s", "more",
        {"bun": 1.2}, ",.0f", ALL, measures.chatter,
    ),
    "idle": Scenario(
        "Idle: 15,000 connections", "resident bytes of each, above the empty server", "less",
        {"bun": 1 / 3}, ",.0f", ALL, measures.idle,
    ),
    "last": Scenario(
        "Last member: 10,000 clients, 10 messages/s", "time until the last one has it, p99, ms", "less",
        {"node": 1.0, "bun": 1.0}, ",.1f", ALL, measures.last,
    ),
    "store": Scenario(
        "Fan-out with the store", "server CPU per delivered message, µs", "less",
        {OURS: 1.05}, ".2f", ("stored", OURS), measures.fanout,
    ),
}  # fmt: skip


def bun():
    """The program that the npm package brings: one for each platform, of which npm installs ours."""
    found = sorted((FOLDER / "bun" / "node_modules" / "@oven").glob("bun-*/bin/bun"))
    if not found:
        raise Broken("npm has installed no bun for this platform")
    return found[0]


def install():
    """Installs what the peers need, as their lock files say, where that is missing."""
    for peer in ("node", "bun"):
        folder = FOLDER / peer
        if (folder / "node_modules").exists():
            continue
        if not shutil.which("npm"):
            raise Broken("the peers need Node.js 20 or newer with npm")
        say(f"{peer}: npm ci")
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def sides(options):
    """What starts each side, of those that `options` wants."""
    production = {"NODE_ENV": "production"}
    commands = {
        OURS: lambda: options.server,
        "stored": lambda: options.stored,
        "yardstick": lambda: options.yardstick,
        "node": lambda: (f"node {shlex.quote(str(FOLDER / 'node' / 'server.mjs'))}", production),
        "bun": lambda: (shlex.join([str(bun()), str(FOLDER / "bun" / "server.mjs")]), production),
    }
    if {"node", "bun"} & set(options.sides):
        install()
    wanted = {*options.sides, *(["stored"] if OURS in options.sides else [])}
    return {name: command() for name, command in commands.items() if name in wanted}


def setup(options):
    """What is compared, and how. `programs` tells builds of ours apart."""
    commands = {"loadtest": options.loadtest, "yardstick": options.yardstick, OURS: options.server, "stored": options.stored}
    commands = [command for name, command in commands.items() if name == "loadtest" or name in sides(options)]
    digest = hashlib.sha256()
    for path in sorted({shlex.split(command)[0] for command in commands}):
        if not Path(path).exists():
            raise Broken(f"there is no {path}; build first: cargo build --release --workspace")
        digest.update(Path(path).read_bytes())
    found = {
        "machine": machine(),
        "commit": commit(),
        "programs": digest.hexdigest()[:16],
        "commands": [command.replace(f"{RELEASE}/", "") for command in commands],
        **{name: getattr(options, name) for name in ("rounds", "seconds", "warmup", "tolerate")},
    }
    if "node" in options.sides:
        package = json.loads((FOLDER / "node" / "node_modules" / "ws" / "package.json").read_text())
        found["node"] = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
        found["ws"] = package["version"]
    if "bun" in options.sides:
        found["bun"] = subprocess.run([bun(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return found


def mixable(setup):
    """What has to be the same for rounds to be one measurement: the same build may have another commit."""
    return {key: value for key, value in setup.items() if key not in ("commit", "rounds")}


class Record:
    """All rounds, in a file that grows with each: what a break leaves is gone on with. Rounds of other builds, versions or
    settings are not mixed with new ones, but thrown away."""

    def __init__(self, path, setup):
        self.path = path
        self.setup = setup
        self.scenarios = json.loads(path.read_text()) if path.exists() else {}

    def rounds(self, scenario):
        """Those to go on with."""
        found = self.scenarios.setdefault(scenario, {"setup": self.setup, "rounds": []})
        if mixable(found["setup"]) != mixable(self.setup):
            say(f"{scenario}: begins anew, since what was recorded is of another build, version or setting")
            found = self.scenarios[scenario] = {"setup": self.setup, "rounds": []}
        return found["rounds"]

    def append(self, scenario, samples):
        found = self.scenarios[scenario]
        found["setup"] = self.setup
        found["date"] = str(datetime.date.today())
        found["rounds"].append({name: asdict(sample) for name, sample in samples.items()})
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".new")
        whole.write_text(json.dumps(self.scenarios, indent=1))
        os.replace(whole, self.path)


def value(round, name):
    """What a side has shown in a round, or None if that does not count."""
    sample = Sample(**round[name]) if name in round else Sample(None)
    return None if sample.reason() else sample.value


def pairs(rounds, one, other):
    """The values of two sides in the rounds in which both count."""
    both = [(value(round, one), value(round, other)) for round in rounds]
    return [(a, b) for a, b in both if a is not None and b]


def is_settled(rounds, first, other, wanted):
    """Whether there are enough pairs, or as many faults, which are a result as well."""
    faults = sum(bool(round[name]["fault"]) for round in rounds for name in (first, other) if name in round)
    return len(pairs(rounds, first, other)) + faults >= wanted


class Rounds:
    """Measures what is still missing of a record."""

    def __init__(self, options):
        self.options = options
        self.bench = Bench(options, sides(options))
        self.record = Record(options.record, setup(options))
        self.deadline = time.monotonic() + options.minutes * 60

    def measure(self, name):
        """Gives whether all rounds of a scenario are there."""
        scenario, rounds = SCENARIOS[name], self.record.rounds(name)
        names = [side for side in scenario.sides if side in self.bench.sides]
        if not names:
            return True
        first, *others = names
        measure = self.of(scenario, rounds, names)
        for _ in range(2 * self.options.rounds):
            if all(is_settled(rounds, first, other, self.options.rounds) for other in others or [first]):
                return True
            if time.monotonic() > self.deadline:
                say(f"{name}: the time is over after {len(rounds)} rounds; the same command goes on")
                return False
            # Everybody comes first, and behind everybody else, equally often.
            turn = len(rounds) % len(names)
            order = names[turn:] + names[:turn]
            samples = measure(order if len(rounds) // len(names) % 2 == 0 else order[::-1])
            self.record.append(name, samples)
            shown = (self.told(scenario, side, samples[side]) for side in names)
            say(f"{name} {len(rounds)}: {', '.join(shown)}")
        say(f"{name}: too many of {len(rounds)} rounds do not count")
        return False

    def of(self, scenario, rounds, names):
        if scenario.measure is not Saturation:
            return in_turn(self.bench, scenario.measure)
        known = {side: [value(round, side) for round in rounds if value(round, side)] for side in names}
        best = {side: values[-1] / Saturation.CLIENTS for side, values in known.items() if values}
        return Saturation(self.bench, 125, 4, best)

    def told(self, scenario, side, sample):
        number = "no number" if sample.value is None else format(sample.value, scenario.style)
        return f"{side} {number}" + (f" (left out: {sample.reason()})" if sample.reason() else "")
