"""README and the page of tables say what was measured, and nothing else."""

from __future__ import annotations

from benchmarks.measured import END, README, START, TABLES, page, section


def test_the_measured_results_are_those_of_the_files():
    text = README.read_text()
    assert text[text.index(START) + len(START) : text.index(END)] == section()
    assert TABLES.read_text() == page()
