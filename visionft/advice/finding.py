"""One thing to know about a user's images: what it is, the numbers that say so, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["act", "know"]  # do something about it; good to know
SHOWN = 3  # names in a sentence


@dataclass(frozen=True)
class Finding:
    """One thing to know about these images."""

    topic: str
    level: Level
    what: str
    evidence: str
    do: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return dict(vars(self))
