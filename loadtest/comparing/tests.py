"""What is made of rounds, tried with invented ones."""

import tempfile
import unittest
import xml.etree.ElementTree
from dataclasses import asdict
from pathlib import Path

from . import plot, results
from .measures import Sample, Saturation
from .peers import ALL, OURS, SCENARIOS, Record, is_settled, pairs

SETUP = {
    "machine": "a machine", "commit": "abc1234", "programs": "0", "commands": [], "rounds": 2, "seconds": 1.5, "warmup": 1.0,
    "tolerate": 0.05, "node": "v20.1.0", "ws": "8.0.0", "bun": "1.0.0",
}  # fmt: skip


def round_of(**values):
    """A round in which each side has shown a number, or a `Sample`."""
    samples = {name: value if isinstance(value, Sample) else Sample(value) for name, value in values.items()}
    return {name: asdict(sample) for name, sample in samples.items()}


class Rounds(unittest.TestCase):
    def test_only_what_counts_on_both_sides_is_a_pair(self):
        lost, disturbed = Sample(3.0, fault="lost"), Sample(3.0, disturbance="others had the core")
        table = [
            ("both", [round_of(a=2.0, b=4.0)], [(2.0, 4.0)], True),
            ("a side is missing", [round_of(a=2.0)], [], False),
            ("disturbed", [round_of(a=disturbed, b=4.0)], [], False),
            ("a fault is a result", [round_of(a=2.0, b=lost)], [], True),
            ("nothing to divide by", [round_of(a=2.0, b=0.0)], [], False),
        ]
        for name, rounds, expected, settled in table:
            with self.subTest(name):
                self.assertEqual(pairs(rounds, "a", "b"), expected)
                self.assertEqual(is_settled(rounds, "a", "b", 1), settled)

    def test_a_record_goes_on_unless_it_is_of_something_else(self):
        table = [("the same", {}, 1), ("another commit", {"commit": "def"}, 1), ("more rounds", {"rounds": 9}, 1),
                 ("another build", {"programs": "1"}, 0), ("another Bun", {"bun": "2"}, 0), ("longer", {"seconds": 3}, 0)]  # fmt: skip
        for name, change, kept in table:
            with self.subTest(name), tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "new" / "record.json"
                record = Record(path, SETUP)
                self.assertEqual(record.rounds("fanout"), [])
                record.append("fanout", {OURS: Sample(1.0)})
                self.assertEqual(len(Record(path, SETUP | change).rounds("fanout")), kept)


class Pages(unittest.TestCase):
    def record(self):
        rounds = {name: [round_of(**{side: 2.0 if side == scenario.sides[0] else 3.0 for side in scenario.sides})] * 2
                  for name, scenario in SCENARIOS.items()}  # fmt: skip
        rounds["fanout"] = rounds["fanout"] + [round_of(**{OURS: 2.0, "bun": Sample(1.0, fault="not ok: <lost>")})]
        return {name: {"setup": SETUP, "date": "2020-02-02", "rounds": found} for name, found in rounds.items()}

    def test_a_page_has_every_number_and_every_fault(self):
        page = results.page(self.record())
        row = next(line for line in page.splitlines() if line.startswith("| Fan-out"))
        self.assertIn("| 2.00 | 3.00 | 3.00 | 3.00 | **0.67** (0.67 to 0.67, 2 rounds)", row)
        self.assertIn("at most 1.08 × yardstick ✓, at most 1.00 × Bun ✓", row)
        # More would be better there.
        self.assertIn("at least 1.50 × Bun ✗", page)
        for text in ("Bun failed in 1 of 3 rounds (not ok: <lost>)", "costs 0.67 times as much", "chat-app abc1234", "Node.js 20.1.0, ws 8.0.0, Bun 1.0.0"):
            self.assertIn(text, page)
        self.assertEqual(page.count("2020-02-02"), 1, "what all scenarios share is said once")

    def test_a_drawing_is_well_formed_and_has_every_bar(self):
        record = self.record()
        record["last"]["rounds"] = [round_of(**{side: Sample(None, fault="no rate held") for side in ALL})]
        drawing = xml.etree.ElementTree.fromstring(plot.bars(results.shown(record)))
        bars = [bar for bar in drawing.iter("{http://www.w3.org/2000/svg}rect")]
        self.assertEqual(len(bars), 4 * len(ALL))
        self.assertTrue(all(float(bar.get("x")) + float(bar.get("width")) < plot.WIDTH for bar in bars))


class Search(unittest.TestCase):
    def test_it_ends_near_the_limit(self):
        class Bench:
            """A server that holds so many messages per second."""

            options = type("Options", (), {"warmup": 0, "seconds": 1})
            runs = 0

            def fresh(self, name, *arguments):
                self.runs += 1
                rate = arguments[arguments.index("--rate") + 1]
                late = 1e3 if rate <= LIMITS[name] else 1e6
                latency = {"count": 1, "p50_us": late / 10, "p99_us": late}
                measured = {"delivered_per_second": 1000 * rate}
                generator, server = {"busy": 0.5, "waited_share": 0}, {"cpu_share": 1}
                return {"ok": True, "latency_each": latency, "messages": {"unsent": 0}, "measured": measured,
                        "generator": generator, "server": server}  # fmt: skip

            def disturbance(self, _):
                return None

        LIMITS = {"slow": 90, "fast": 70_000}
        bench = Bench()
        saturation = Saturation(bench, 125, 4)
        for most in (40, 24):
            bench.runs = 0
            for name, sample in saturation(list(LIMITS)).items():
                self.assertLessEqual(sample.value, 1000 * LIMITS[name])
                self.assertGreater(sample.value, 1000 * LIMITS[name] / 1.08)
            self.assertLess(bench.runs, most)


if __name__ == "__main__":
    unittest.main()
