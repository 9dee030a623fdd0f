"""What a record of rounds shows: a page in Markdown."""

import statistics
from dataclasses import dataclass

from .peers import OURS, SCENARIOS, pairs, value

TITLES = {OURS: "chat-app", "yardstick": "yardstick", "node": "Node.js, ws", "bun": "Bun"}

INTRODUCTION = """# Results

chat-app beside other chat servers that take turns on one machine. `loadtest/compare peers` measures this and writes this page.

- **yardstick**: a bare epoll program that unmasks what it reads and gives each turn's batch to every socket with one `send()`;
  the least that a single-threaded server can do. It is no chat server (see [README](README.md#the-yardstick)).
- **Node.js, ws**: the server of the usual tutorial, [ws](peers/node/server.mjs) beside `serve-handler`.
- **Bun**: [Bun's own WebSockets](peers/bun/server.mjs), everybody subscribed to one topic.

![The same as bars, of which each shows a median and its line the range of the rounds](results.svg)

"""

METHOD = """
Each server is pinned to the first core of the machine and the generator to the second. The servers take turns in every round,
each started anew, and in another order each time. Numbers are medians, and ratios are medians of the ratios within a round, with
the least and the greatest. A message has 64 bytes and goes to everybody, its sender included. No server compresses or logs
messages, and Bun's bound beyond which it would drop some is lifted; where a server lost, doubled or disordered any, that is said
above. What is measured begins after {warmup:g} s of the same load, in which compilers at run time can warm up, and takes
{seconds:g} s (thrice that for the last member). A run does not count if others had one of the two cores for more than
{tolerate:.0%} of the time, or, where rates are compared, if the generator was busy all the time and the server was not. Where
both were, a rate is what the two cores can do together. CPU time is that of all threads of a server, and on loopback includes the
receiving half of TCP.

chat-app runs with `--memory` here, since the others keep nothing but what they are sending.{store}
"""


@dataclass
class Row:
    """What one scenario has shown."""

    name: str
    scenario: object
    # By side: the values that count, and what went wrong in the others.
    values: dict
    faults: dict
    # By side: the sorted ratios of the first side to it.
    ratios: dict
    rounds: int
    disturbed: int

    def holds(self):
        """For each ratio that is wanted, whether it is there; nothing without rounds."""
        for side, wanted in self.scenario.wanted.items():
            if ratios := self.ratios.get(side):
                median = statistics.median(ratios)
                yield side, wanted, median <= wanted if self.scenario.better == "less" else median >= wanted


def rows(record):
    """Those of all scenarios that were measured, in their order."""
    found = []
    for name, scenario in SCENARIOS.items():
        rounds = record.get(name, {}).get("rounds")
        if not rounds:
            continue
        sides = [side for side in scenario.sides if any(side in round for round in rounds)]
        values = {side: [v for v in (value(round, side) for round in rounds) if v is not None] for side in sides}
        faults = {side: [round[side]["fault"] for round in rounds if side in round and round[side]["fault"]] for side in sides}
        ratios = {side: sorted(a / b for a, b in pairs(rounds, sides[0], side)) for side in sides[1:]}
        disturbed = sum(any(sample["disturbance"] for sample in round.values()) for round in rounds)
        found.append(Row(name, scenario, values, faults, ratios, len(rounds), disturbed))
    return found


def shown(record):
    """Those in which the servers are beside each other."""
    return [row for row in rows(record) if row.scenario.sides[0] == OURS]


def number(row, side):
    values = row.values.get(side)
    return format(statistics.median(values), row.scenario.style) if values else "none counts" if side in row.faults else ""


def spread(ratios):
    return f"({ratios[0]:.2f} to {ratios[-1]:.2f}, {len(ratios)} round{'s' if len(ratios) > 1 else ''})"


def ratio(ratios):
    return f"**{statistics.median(ratios):.2f}** {spread(ratios)}" if ratios else ""


def wanted(row):
    bound = "at most" if row.scenario.better == "less" else "at least"
    verdicts = {side: holds for side, _, holds in row.holds()}
    marks = {True: " ✓", False: " ✗", None: ""}
    return ", ".join(
        f"{bound} {limit:.2f} × {TITLES[side]}{marks[verdicts.get(side)]}" for side, limit in row.scenario.wanted.items()
    )


def table(found):
    sides = [side for side in TITLES if any(side in row.values for row in found)]
    others = [side for side in sides if side != OURS]
    heads = [*(TITLES[side] for side in sides), *(f"{TITLES[OURS]} / {TITLES[side]}" for side in others), "wanted"]
    lines = [
        "| | " + " | ".join(heads) + " |",
        "| --- |" + " ---: |" * len(sides) + " --- |" * (len(others) + 1),
    ]
    for row in found:
        title = f"{row.scenario.title}: {row.scenario.unit} ({row.scenario.better} is better)"
        cells = [title, *(number(row, side) for side in sides), *(ratio(row.ratios.get(side)) for side in others), wanted(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def notes(found):
    """What was left out, and why."""
    for row in found:
        if row.disturbed:
            yield f"{row.name}: {row.disturbed} of {row.rounds} rounds were disturbed; a side that was does not count there."
        for side, faults in row.faults.items():
            if faults:
                kinds = "; ".join(dict.fromkeys(faults))
                yield f"{row.name}: {TITLES.get(side, side)} failed in {len(faults)} of {row.rounds} rounds ({kinds})."


def provenance(record, found):
    """When, where, of what and how, once for all scenarios that agree."""
    groups = {}
    for row in found:
        setup, date = record[row.name]["setup"], record[row.name]["date"]
        parts = [date, setup["machine"], f"chat-app {setup['commit'] or 'of no commit'}"]
        parts += [f"Node.js {setup['node'].lstrip('v')}, ws {setup['ws']}"] if "node" in setup else []
        parts += [f"Bun {setup['bun']}"] if "bun" in setup else []
        groups.setdefault(", ".join(parts), []).append(row.name)
    for text, names in groups.items():
        yield text + (f" ({', '.join(names)})" if len(groups) > 1 else "")


def store(found):
    row = next((row for row in found if row.name == "store" and row.ratios.get(OURS)), None)
    more = " `loadtest/compare store` tells what its store does to the highest rate."
    if not row:
        return more
    ratios = row.ratios[OURS]
    return f" With its store, the default, the fan-out above costs {statistics.median(ratios):.2f} times as much {spread(ratios)}.{more}"


def summary(record):
    """The table with what belongs to it."""
    found = rows(record)
    parts = [table(shown(record)), *provenance(record, found), "\n".join(f"- {note}" for note in notes(found))]
    return "\n\n".join(part for part in parts if part)


def page(record):
    """All of RESULTS.md."""
    found = rows(record)
    setup = record[found[0].name]["setup"]
    command = f"loadtest/compare peers --rounds {setup['rounds']} --seconds {setup['seconds']:g} --warmup {setup['warmup']:g} --out loadtest"
    build = f"\n\n```sh\ncargo build --release --workspace\n{command}\n```\n"
    return INTRODUCTION + summary(record) + build + METHOD.format(store=store(found), **setup)
