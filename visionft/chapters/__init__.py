"""The parts that reports are made of: the answer first, then who is served worse, where it fails, how it was made."""

from .answers import stages
from .data import data
from .finetuning import finetuned, finetuning_report
from .pretraining import pretraining, pretraining_report

__all__ = ["data", "finetuned", "finetuning_report", "pretraining", "pretraining_report", "stages"]
