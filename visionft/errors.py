"""What can go wrong at a border: each message says what, where, and what would work."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path


class VisionftError(ValueError):
    """The root of every error this package raises on purpose."""


class ConfigError(VisionftError):
    """The recipe cannot be run as written."""


class DataError(VisionftError):
    """A file, table or folder of data cannot be used."""


class CheckpointError(VisionftError):
    """A run folder or checkpoint is missing, incomplete or belongs to another run."""


class WeightsError(VisionftError):
    """Pretrained weights are missing or do not fit the model."""


class DivergedError(VisionftError, FloatingPointError):
    """A loss or gradient is no longer finite."""


def nearest(path: Path) -> str:
    """'; did you mean X?' for a path that is not there, or which part of it is missing where."""
    existing = next(parent for parent in [*path.parents, Path()] if parent.is_dir())
    missing = path.relative_to(existing).parts[0] if path.is_relative_to(existing) else path.name
    close = get_close_matches(missing, [entry.name for entry in existing.iterdir()], n=1)
    return f"; did you mean {existing / close[0]}?" if close else f"; {existing} has no {missing}"


def first_line(error: BaseException) -> str:
    """What another library's error says, in one line; its type when it says nothing."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
