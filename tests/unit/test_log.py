"""What a run says: a line with the time left, rows that survive a kill, and whoever else listens."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from visionft.log import Console, clock, console_sink, fan, file_sink, read_metrics, tensorboard_sink


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (3599.7, "1 h 00 min"),
     (3720, "1 h 02 min")],
)  # fmt: skip
def test_a_duration_reads_like_one(seconds, said):
    assert clock(seconds) == said


def test_rows_come_back_as_they_were_told(tmp_path):
    file = tmp_path / "new" / "metrics.jsonl"
    sink = file_sink(file, 0)
    sink(1, {"loss": 0.1 + 0.2, "lr": 1e-7})
    sink(2, {"loss": float("inf")})
    assert read_metrics(file) == [{"step": 1, "loss": 0.1 + 0.2, "lr": 1e-7}, {"step": 2, "loss": float("inf")}]


def test_there_are_no_rows_where_there_is_no_file(tmp_path):
    assert read_metrics(tmp_path / "metrics.jsonl") == []


def test_rows_after_the_checkpoint_are_told_again_and_not_twice(tmp_path):
    file = tmp_path / "metrics.jsonl"
    first = file_sink(file, 0)
    for step in range(1, 8):
        first(step, {"loss": float(step)})
    second = file_sink(file, 5)
    second(6, {"loss": 6.5})
    assert [(row["step"], row["loss"]) for row in read_metrics(file)] == [
        (1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0), (6, 6.5)
    ]  # fmt: skip


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_line_cut_off_by_a_kill_is_not_a_row(tmp_path, cut):
    file = tmp_path / "metrics.jsonl"
    sink = file_sink(file, 0)
    sink(1, {"loss": 1.0})
    whole = file.read_bytes()
    sink(2, {"loss": 2.0})
    file.write_bytes(file.read_bytes()[:-cut])
    rows = read_metrics(file)
    assert rows[0] == {"step": 1, "loss": 1.0}
    assert rows[1:] in ([], [{"step": 2, "loss": 2.0}])
    file_sink(file, 1)(2, {"loss": 2.5})
    assert file.read_bytes().startswith(whole)
    assert read_metrics(file) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.5}]


def test_a_kill_while_the_file_is_shortened_loses_no_row(tmp_path, monkeypatch):
    """Everything in a run folder is written beside its place and renamed."""
    file = tmp_path / "metrics.jsonl"
    sink = file_sink(file, 0)
    for step in range(1, 8):
        sink(step, {"loss": float(step)})
    write = Path.write_text

    def half(self: Path, text: str, **options: str) -> None:
        write(self, text[: len(text) // 2], **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        file_sink(file, 5)
    assert [row["step"] for row in read_metrics(file)][:5] == [1, 2, 3, 4, 5]


def test_every_listener_hears_the_same_in_order():
    heard: list[tuple] = []
    fan(lambda step, m: heard.append(("a", step, m)), lambda step, m: heard.append(("b", step, m)))(3, {"loss": 1.0})
    assert heard == [("a", 3, {"loss": 1.0}), ("b", 3, {"loss": 1.0})]


def test_tensorboard_hears_scalars(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    sink = tensorboard_sink(tmp_path / "board")
    sink(3, {"loss": 0.5})
    sink(4, {"loss": 0.25})
    found = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [(3, 0.5), (4, 0.25)]


PACE = {"loss": 0.5, "images_per_second": 81.7, "seconds_left": 200.0, "progress": 0.25, "seconds": 66.0, "lr": 1e-3}


def test_training_is_a_bar_with_the_time_left_and_an_evaluation_a_line():
    stream = Terminal()
    sink = console_sink(Console(stream), "pretraining")
    sink(20, PACE)
    sink(20, {"accuracy": 0.9, "recall/mono": 0.7})
    said = stream.getvalue()
    assert "25%" in said
    assert "loss 0.500" in said
    assert "82 img/s" in said
    assert "3 min 20 s left" in said
    line = said.splitlines()[-1]
    assert "step 20: accuracy 0.9" in line
    assert "mono" not in line


def test_a_file_is_not_flooded_with_bars():
    stream = io.StringIO()
    console = Console(stream)
    for at in range(50):
        console.bar(at / 100, "working")
    assert len(stream.getvalue().splitlines()) <= 1
    assert "\r" not in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    console.bar(1.0, "done")
    assert "100%" in stream.getvalue().splitlines()[-1]


def test_a_line_does_not_overwrite_an_open_bar():
    stream = Terminal()
    console = Console(stream)
    console.bar(0.5, "half")
    console.say("a line")
    assert stream.getvalue().endswith("\na line\n")


def test_a_quiet_console_says_nothing():
    stream = Terminal()
    console = Console(stream, quiet=True)
    console.say("a line")
    console.bar(0.5, "half")
    console.progress("scanning")(1, 2)
    console_sink(console, "x")(1, PACE)
    assert stream.getvalue() == ""


def test_what_takes_less_than_a_second_needs_no_bar(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("visionft.log.time.monotonic", lambda: now[0])
    stream = Terminal()
    report = Console(stream).progress("decoding")
    now[0] = 0.5
    report(5, 10)
    assert stream.getvalue() == ""
    now[0] = 5.0
    report(6, 10)
    assert "decoding 6/10" in stream.getvalue()
    assert "3 s left" in stream.getvalue()


def test_metrics_are_one_json_object_a_line(tmp_path):
    sink = file_sink(tmp_path / "m.jsonl", 0)
    sink(1, {"loss": 1.0})
    sink(1, {"accuracy": 0.5})
    lines = (tmp_path / "m.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 1, "loss": 1.0}, {"step": 1, "accuracy": 0.5}]
