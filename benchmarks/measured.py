"""What was measured, made of `results/*.json`: the short of it in README, every table in benchmarks/README.md.

python -m benchmarks.measured        writes both
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import tables
from benchmarks.in_short import in_short
from benchmarks.measured_cpu import CPU
from benchmarks.measured_finetuning import FINETUNING
from benchmarks.measured_inspection import INSPECTION
from benchmarks.measured_pretraining import PRETRAINING

README = Path(__file__).parent.parent / "README.md"
START, END = "## Measured\n", "## A run folder\n"
TABLES = Path(__file__).parent / "README.md"
CHAPTERS = {"Fine-tuning": FINETUNING, "Pretraining": PRETRAINING, "Inspection": INSPECTION, "Speed on a CPU": CPU}
RULES = """# What was measured

Written by `python -m benchmarks.measured` from `results/*.json`, which hold the command, machine, versions and date of
every row; a test compares the two. Above each table stands the command that measures it again: `-h` says what it needs.

- Both sides of a comparison have the same images, weights and time, each in a process of its own.
- Accuracies are of test images that nothing was trained on or stopped by, with 95 % intervals or the spread over seeds.
  Differences are paired, image by image. Nothing was chosen by test images but VICReg for cloth: on one split, a
  quarter of the images of its four folds.
- Speeds of training steps are medians of rounds in turn; times of whole runs are those of one run each, and sides whose
  rows have other dates were not measured in one run.
"""


def section() -> str:
    """README's text between the headings: what matters most."""
    return "\n" + "\n".join(in_short()) + "\n\n"


def page() -> str:
    """All tables: a chapter for each part of the package."""
    parts = [RULES.rstrip()]
    for heading, made in CHAPTERS.items():
        parts.append(f"## {heading}")
        parts += ["\n".join(make(rows)) for make in made if (rows := tables.rows_of(make.__name__))]
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Write the section and the page."""
    text = README.read_text()
    before, after = text.index(START) + len(START), text.index(END)
    README.write_text(text[:before] + section() + text[after:])
    TABLES.write_text(page())


if __name__ == "__main__":
    main()
