"""A run that is killed at any moment, and resumed, is the run that was not; one that is interrupted says how to go on.

Every attempt is a forked child that runs the command line and kills itself, or is killed, with signal 9. The moments
are random seconds, and random places among all that a run does to its files: each kind of making, renaming, removing,
emptying and half-writing a file is hit at least once.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections import defaultdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from safetensors import safe_open

from visionft import finetune, pretrain
from visionft.errors import ConfigError

pytestmark = pytest.mark.slow

COMMON = ["size=32", "batch=8", "steps=4", "save_every=1", "eval_every=2", "log_every=1", "precision=fp32", "cache=ram"]
VERBS = {"pretrain": pretrain, "finetune": finetune}
CLOCKS = {"seconds", "seconds_left", "images_per_second"}


class Server:
    """The process whose forks run, and die."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("attempts.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("ready")

    def attempt(self, words: list[str], out: Path, **moment: Any) -> dict[str, float]:
        request = {"words": words, "out": str(out), "log": str(out.with_suffix(".log")), **moment}
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VISIONFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        server = Server()
        yield server
        server.stop()


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """40 small pictures in two folders, so that they can be taken as classes too; one class is brighter."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for at in range(40):
        place = folder / ("dark" if at % 2 else "light")
        place.mkdir(exist_ok=True)
        cv2.imwrite(str(place / f"{at}.png"), rng.integers(0, 200, (24, 24, 3), dtype=np.uint8) + 40 * (at % 2))
    return folder


def words(verb: str, photos: Path) -> list[str]:
    every = [verb, f"data={photos}", "backbone=test_efficientnet", "weights=none", *COMMON]
    if verb == "finetune":
        return [*every, "ema=0.2"]
    small = ["objective.name=dino", "objective.width=16", "objective.prototypes=32", "views.crops.count=2"]
    return [*every, *small, "ema=0.2", "metric=effective_rank", "patience=9"]


@pytest.fixture(scope="module", params=["pretrain", "finetune"])
def unbroken(request, server, photos, tmp_path_factory):
    """A run that nobody interrupted: its words, its folder, its seconds and what it did to its files."""
    out = tmp_path_factory.mktemp(request.param) / "unbroken"
    said = server.attempt(words(request.param, photos), out)
    assert said["status"] == 0, out.with_suffix(".log").read_text()
    deeds = json.loads(out.with_suffix(".json").read_text())
    return words(request.param, photos), out, said["seconds"], deeds


def moments(verb: str, seconds: float, deeds: list[str]) -> list[dict[str, Any]]:
    """A random place of every kind of deed (of a few, the second time round), and four random seconds."""
    draw, kinds = random.Random(0), defaultdict(list)
    for number, deed in enumerate(deeds):
        kinds[deed].append(number)
    places = [{"number": draw.choice(numbers)} for deed, numbers in kinds.items() if not deed.startswith("open")]
    times = [{"seconds": draw.uniform(0.05, 0.9) * seconds} for _ in range(4)]
    return places + times if verb == "pretrain" else draw.sample(places, 4) + times[:2]


def rows(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what only a clock can say."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in CLOCKS} for line in lines]


def facts(run: Path) -> dict[str, Any]:
    """run.json without what only a clock can say."""
    found = json.loads((run / "run.json").read_text())
    found.pop("seconds")
    found.pop("phases", None)
    (found.get("fitted") or {}).pop("seconds", None)
    return found


def files(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*")}


def differences(run: Path, unbroken: Path) -> list[str]:
    """What sets a resumed run apart from the unbroken one, in words; nothing should.

    The last checkpoint goes when the run is sealed: killed between the two, it stays, which is as well.
    """
    found = [f"left over: {name}" for name in files(run) - files(unbroken) if not name.startswith("resume")]
    found += [f"missing: {name}" for name in files(unbroken) - files(run)]
    for name in ("model.safetensors", "backbone.safetensors"):
        with safe_open(run / name, "pt") as ours, safe_open(unbroken / name, "pt") as theirs:
            same = set(ours.keys()) == set(theirs.keys())
            if not same or any(not ours.get_tensor(k).equal(theirs.get_tensor(k)) for k in theirs.keys()):  # noqa: SIM118  (no mapping)
                found.append(f"other weights: {name}")
    if rows(run) != rows(unbroken):
        found.append(f"other metrics: {_first_difference(rows(run), rows(unbroken))}")
    ours, theirs = facts(run), facts(unbroken)
    found += [
        f"other {key} in run.json: {ours[key]!r}, not {theirs[key]!r}" for key in theirs if ours[key] != theirs[key]
    ]
    return found


def _first_difference(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> str:
    at = next(i for i, pair in enumerate(zip_longest(ours, theirs)) if pair[0] != pair[1])
    return f"row {at} is {ours[at : at + 1]}, not {theirs[at : at + 1]}; steps {[row['step'] for row in ours]}"


def test_a_run_killed_at_any_moment_ends_as_the_one_that_was_not(server, unbroken, tmp_path):
    command, whole, seconds, deeds = unbroken
    draw, wrong, killed = random.Random(1), [], 0
    for at, moment in enumerate(moments(command[0], seconds, deeds)):
        out = tmp_path / f"run{at}"
        name = deeds[moment["number"]] if "number" in moment else f"after {moment['seconds']:.2f} s"
        killed += server.attempt(command, out, **moment)["status"] == -signal.SIGKILL
        if at % 3 == 0:  # once more, while it picks up the pieces
            killed += server.attempt(command, out, number=draw.randrange(12))["status"] == -signal.SIGKILL
        if not (out / "run.json").is_file():
            last = server.attempt(command, out)
            log = out.with_suffix(".log").read_text()
            if last["status"] != 0:
                wrong.append(f"killed at {name}: cannot be resumed: {log}")
                continue
        wrong += [f"killed at {name}: {what}" for what in differences(out, whole)]
    assert killed >= (20 if command[0] == "pretrain" else 4)
    assert not wrong, "\n".join(wrong)


def test_the_moments_include_the_middle_of_writing_a_checkpoint(unbroken):
    *_, deeds = unbroken
    assert {
        "halved /resume/.new-N/model.safetensors",
        "halved /resume/.new-N/optimizer.safetensors",
        "os.rename /resume/.new-N",
        "os.rename /resume/.last.N.new",
        "halved /.model.safetensors.N.new",
    } <= set(deeds)


def test_ctrl_c_says_how_to_go_on_and_the_resumed_run_ends_with_the_same_weights(server, unbroken, tmp_path):
    command, whole, _, deeds = unbroken
    middle = [number for number, deed in enumerate(deeds) if deed == "os.rename /resume/.last.N.new"][2]
    out = tmp_path / "run"
    assert server.attempt(command, out, number=middle, signal=int(signal.SIGINT))["status"] == 130
    said = out.with_suffix(".log").read_text()
    # it comes while the checkpoint of step 3 is written, and a step that has begun is finished
    assert "stopped after step 4" in said and "the same command goes on" in said
    assert server.attempt(command, out)["status"] == 0
    assert differences(out, whole) == []


def test_an_unfinished_run_refuses_another_recipe_and_names_the_changed_key(server, unbroken, photos, tmp_path):
    command, _, _, deeds = unbroken
    out = tmp_path / "run"
    server.attempt(command, out, number=deeds.index("os.rename /resume/.last.N.new"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match=r"another recipe \(optim\.lr: null there, 0\.5 here\)"):
        VERBS[command[0]](None, *command[1:], "optim.lr=0.5", f"out={out}")
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_finished_run_is_not_trained_over(unbroken):
    command, whole, *_ = unbroken
    with pytest.raises(ConfigError, match="holds a finished run; set out= to another folder"):
        VERBS[command[0]](None, *command[1:], f"out={whole}")
