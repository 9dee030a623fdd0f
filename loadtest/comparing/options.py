"""What the values of options may be."""

import math
from argparse import ArgumentTypeError

DIALECTS = ("raw", "v1")


def at_least(least, kind=int):
    """A number from `least` on."""
    return bounded(kind, lambda number: number >= least, f"at least {least}")


def above(bound):
    """A number that need not be whole, above `bound`."""
    return bounded(float, lambda number: number > bound, f"above {bound}")


def bounded(kind, holds, bound):
    wanted = "a whole number" if kind is int else "a number"

    def number(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and holds(value)):
            raise ArgumentTypeError(f"{text!r} is not {wanted} {bound}")
        return value

    return number


def dialects(text):
    """Dialects, with commas between them."""
    names = text.split(",")
    if unknown := [name for name in names if name not in DIALECTS]:
        raise ArgumentTypeError(f"there is no dialect {', '.join(map(repr, unknown))}; there are {', '.join(DIALECTS)}")
    return names
