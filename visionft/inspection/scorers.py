"""The table of scorers, and how one becomes words that a file can keep."""

from __future__ import annotations

from typing import Any

from visionft import config, plugins

from .gaussian import Gaussian
from .head import Head
from .neighbours import Neighbours
from .scorer import Scorer
from .statistics import Statistics
from .student import Student
from .surroundings import Surroundings

SCORERS: dict[str, type[Scorer]] = {
    "neighbours": Neighbours, "gaussian": Gaussian, "statistics": Statistics, "student": Student,
    "surroundings": Surroundings,
    "head": Head,  # takes defects, too: see `mixed`
}  # fmt: skip


def make(choice: Any) -> Scorer:
    """A scorer by name, import path `module:Class`, entry point of `visionft.scorers`, or a mapping with options.

    Raises ConfigError for an unknown name or option, with the nearest valid one.
    """
    name, options = config.named(choice, "scorer")
    cls = plugins.resolve(name, SCORERS, "scorer")
    made: Scorer = cls(**config.bind(cls, options, "scorer"))
    return made


def words(scorer: Scorer) -> dict[str, Any]:
    """What `make` makes the same scorer of: a scorer keeps its options under their own names."""
    cls = type(scorer)
    known = {own: name for name, own in SCORERS.items()}
    options = {key: getattr(scorer, key) for key in config.options(cls)}
    return {"name": known.get(cls, f"{cls.__module__}:{cls.__qualname__}"), **options}
