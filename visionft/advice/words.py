"""Numbers as a reader without statistics reads them: counts, percentages with their range, points, minutes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from .facts import Interval


def counted(count: int, what: str) -> str:
    """`1 file`, `12 files`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(items: Sequence[str], most: int) -> str:
    """The first `most` of them and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{', '.join(items[:most])}{more}"


def short(name: str) -> str:
    """A file with the folder that it lies in: enough to find it by."""
    return "/".join(Path(name).parts[-2:])


def percent(value: Interval) -> str:
    """`83.5 % (81.9 to 85.1)`."""
    mean, low, high = (100 * v for v in value)
    return f"{mean:.1f} % ({low:.1f} to {high:.1f})"


def points(value: Interval) -> str:
    """`+1.2 points (+0.3 to +2.1)`, and that it proves nothing where it holds zero."""
    mean, low, high = (100 * v for v in value)
    proof = "" if low > 0 or high < 0 else ", so nothing is proven"
    return f"{mean:+.1f} points ({low:+.1f} to {high:+.1f}{proof})"


def milliseconds(value: float) -> str:
    """Two digits."""
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def minutes(seconds: float) -> str:
    """A rough time: what is estimated has no seconds."""
    if seconds < 90:
        return "a minute" if seconds > 30 else "half a minute"
    whole = seconds / 60
    return f"{math.ceil(whole)} minutes" if whole < 90 else f"{whole / 60:.1f} hours"
