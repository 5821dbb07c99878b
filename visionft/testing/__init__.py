"""The promises that objectives, adapters and scorers keep; authors of their own call these checks in their tests."""

from .adapters import check_adapter
from .objectives import check_objective, check_parts
from .scorers import check_scorer

__all__ = ["check_adapter", "check_objective", "check_parts", "check_scorer"]
