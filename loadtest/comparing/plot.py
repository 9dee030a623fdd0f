"""Bars as SVG, readable on light and dark ground."""

import statistics
from html import escape

from .results import TITLES

WIDTH = 760
# Room for names, and for numbers behind the longest bar.
LEFT, RIGHT = 108, 96
BAR, GAP, HEAD, FOOT = 16, 6, 46, 18

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f; }
.title { font-weight: 600; }
.soft { fill: #57606a; }
.name { text-anchor: end; }
.ours { fill: #1f6feb; }
.other { fill: #8c959f; }
.least { fill: #c4cbd2; }
.range { stroke: #24292f; fill: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .soft { fill: #9198a1; }
  .ours { fill: #4493f8; }
  .other { fill: #6e7681; }
  .least { fill: #484f58; }
  .range { stroke: #e6edf3; }
}
"""

CLASSES = {"chat-app": "ours", "yardstick": "least"}


def panel(row, top):
    """The bars of one scenario; gives them and where they end."""
    out = [
        f'<text class="title" x="0" y="{top + 16}">{escape(row.scenario.title)}</text>',
        f'<text class="soft" x="0" y="{top + 34}">{escape(row.scenario.unit)} ({row.scenario.better} is better)</text>',
    ]
    greatest = max((max(values) for values in row.values.values() if values), default=1) or 1
    scale = (WIDTH - LEFT - RIGHT) / greatest
    y = top + HEAD
    for side, values in row.values.items():
        middle = y + BAR / 2
        out.append(f'<text class="name" x="{LEFT - 8}" y="{middle + 4.5}">{escape(TITLES[side])}</text>')
        if values:
            median = statistics.median(values)
            low, high = (LEFT + max(0, bound) * scale for bound in (min(values), max(values)))
            width = max(1, median * scale)
            out.append(f'<rect class="{CLASSES.get(side, "other")}" x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>')
            out.append(f'<path class="range" d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"/>')
            out.append(f'<text x="{max(LEFT + width, high) + 8:.1f}" y="{middle + 4.5}">{format(median, row.scenario.style)}</text>')
        else:
            out.append(f'<text class="soft" x="{LEFT}" y="{middle + 4.5}">no round counts</text>')
        y += BAR + GAP
    return out, y + FOOT


def bars(rows):
    """The drawing of all rows."""
    body, y = [], 0
    for row in rows:
        more, y = panel(row, y)
        body += more
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 0 {WIDTH + 8} {y}" role="img" aria-label="chat-app beside other servers">'
    return "\n".join([head, f"<style>{STYLE}</style>", *body, "</svg>\n"])
