"""README's section of measured results, made of `results/*.json`.

python -m benchmarks.measured        writes it
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
CHAPTERS = {"Fine-tuning": FINETUNING, "Pretraining": PRETRAINING, "Inspection": INSPECTION, "Speed on a CPU": CPU}


def section() -> str:
    """The text between the headings: what matters most, then a chapter of tables for each part of the package."""
    parts = ["\n".join(in_short())]
    for heading, made in CHAPTERS.items():
        parts.append(f"### {heading}")
        parts += ["\n".join(make(rows)) for make in made if (rows := tables.rows_of(make.__name__))]
    return "\n" + "\n\n".join(parts) + "\n\n"


def main() -> None:
    """Put the section into README.md."""
    text = README.read_text()
    before, after = text.index(START) + len(START), text.index(END)
    README.write_text(text[:before] + section() + text[after:])


if __name__ == "__main__":
    main()
