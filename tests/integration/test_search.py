"""A search finds what it should, goes on where it was killed, looks at no test image, and leaves little behind."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

import visionft as vf
from visionft import checkpoint
from visionft.cli import main
from visionft.errors import ConfigError
from visionft.journeys import trial as trial_module
from visionft.journeys.space import Choice, Range, space
from visionft.tasks.parts import Parts

OVER = {"optim.lr": "1e-6..1e-1", "tune": "full|last:1"}
SHARED = {"steps": 6, "patience": 0, "batch": 8, "eval_every": 1, "precision": "fp32", "policy": "none"}


@pytest.fixture(scope="module")
def labelled() -> tuple[list[np.ndarray], list[str]]:
    """Sixty pictures that differ by brightness."""
    rng = np.random.default_rng(0)
    pictures = [(rng.integers(0, 100, (32, 32, 3)) + 120 * (at % 2)).astype(np.uint8) for at in range(60)]
    return pictures, ["dark", "bright"] * 30


def look(labelled, out, **changes):
    words = {"over": OVER, "finetune": SHARED, "trials": 4, "backbone": "test_resnet", "weights": "none", "size": 32}
    return vf.search(labelled, out=str(out), quiet=True, **{**words, **changes})


@pytest.fixture(scope="module")
def found(labelled, tmp_path_factory):
    return look(labelled, tmp_path_factory.mktemp("found") / "search")


def test_the_best_trial_comes_first_and_its_recipe_can_be_run(found, labelled, tmp_path):
    values = [row["value"] for row in found.rows]
    assert len(values) == 4 and values == sorted(values)
    assert found.best.optim.lr == found.rows[0]["keys"]["optim.lr"]
    assert found.best.tune == found.rows[0]["keys"]["tune"]
    assert {row["keys"]["tune"] for row in found.rows} <= {"full", "last:1"}
    assert all(1e-6 <= row["keys"]["optim.lr"] <= 1e-1 for row in found.rows)
    again = vf.finetune(labelled, str(found.out / "best.yaml"), out=str(tmp_path / "run"), quiet=True)
    assert again.fitted.metrics["log_loss"] == pytest.approx(found.rows[0]["value"]), "trials train as fine-tuning does"
    assert f"optim.lr={found.best.optim.lr}" in found.lines()[1]


def test_trials_leave_their_metrics_and_no_weights(found):
    files = [path for path in (found.out / "trials").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"metrics.jsonl", "trial.json"}
    assert (found.out / "report.html").is_file()


def test_the_same_command_does_nothing_again_and_more_trials_go_on(found, labelled, tmp_path, monkeypatch):
    out = shutil.copytree(found.out, tmp_path / "search")
    trained, fit = [], trial_module.fit
    monkeypatch.setattr(trial_module, "fit", lambda *a, **k: (trained.append(1), fit(*a, **k))[1])
    assert look(labelled, out).rows == found.rows
    assert trained == []
    more = look(labelled, out, trials=5)
    assert len(more.rows) == 5 and len(trained) == 1
    with pytest.raises(ConfigError, match=r"another recipe \(finetune\)"):
        look(labelled, out, finetune={**SHARED, "steps": 7})


def test_a_search_that_was_killed_ends_as_one_that_was_not(found, labelled, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    calls, judge = [], trial_module._Judge.__call__

    def dies(self, model):
        calls.append(1)
        if len(calls) == 10:  # in the second trial, six evaluations a trial
            raise Killed
        return judge(self, model)

    with monkeypatch.context() as patch:
        patch.setattr(trial_module._Judge, "__call__", dies)
        with pytest.raises(Killed):
            look(labelled, tmp_path / "search")
    steps = [checkpoint.last_step(folder) for folder in (tmp_path / "search" / "trials").iterdir()]
    assert sorted(steps) == [0, 3], "one is finished and has left no checkpoint, one is in its middle"
    resumed = look(labelled, tmp_path / "search")
    times = ("seconds",)
    assert [{k: v for k, v in row.items() if k not in times} for row in resumed.rows] == [
        {k: v for k, v in row.items() if k not in times} for row in found.rows
    ]
    assert len(calls) == 10


def test_no_trial_looks_at_a_test_image(labelled, tmp_path, monkeypatch):
    def never(self):
        raise AssertionError("test images were looked at")

    monkeypatch.setattr(Parts, "test", property(never))
    assert len(look(labelled, tmp_path / "search", trials=1).rows) == 1


def test_hopeless_trials_are_ended_early(labelled, tmp_path, monkeypatch):
    """From the sixth trial on, one that is worse than the median of the others at the third evaluation."""
    values = iter([*[0.1] * 30, *[9.0] * 6])

    class Given:
        def __init__(self, *_):
            pass

        def __call__(self, model):
            return {"log_loss": next(values)}

    begin = trial_module.begin
    monkeypatch.setattr(trial_module, "begin", lambda *given: begin(*given)._replace(evaluate=Given()))
    found = look(labelled, tmp_path / "search", trials=6, over={"optim.lr": "1e-6..1e-1"})
    assert [row["state"] for row in found.rows] == ["complete"] * 5 + ["pruned"]
    assert len([*values]) == 3, "the third of its six evaluations was the last"


def test_a_rate_that_explodes_is_a_bad_trial_and_no_error(labelled, tmp_path):
    over = {"optim.lr": [1e-3, 1e30]}
    shared = {**SHARED, "optim": {"name": "sgd", "clip": None}}
    found = look(labelled, tmp_path / "search", over=over, finetune=shared, trials=5)
    assert found.best.optim.lr == 1e-3
    assert {row["state"] for row in found.rows} == {"complete", "pruned"}
    assert "Infinity" not in (tmp_path / "search" / "search.json").read_text()  # which is no JSON


def test_refit_tests_the_best_recipe_once(labelled, tmp_path):
    found = look(labelled, tmp_path / "search", trials=1, refit=True)
    assert "accuracy_low" in found.run.metrics["finetuned"]
    assert str(found.run.out) == found.best.out


def test_the_command_line_prints_the_best_recipe_as_a_command(tmp_path, labelled, monkeypatch, capsys):
    import cv2

    for at, (picture, name) in enumerate(zip(*labelled, strict=True)):
        (tmp_path / "data" / name).mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / "data" / name / f"{at}.png"), picture)
    monkeypatch.chdir(tmp_path)
    shared = [f"finetune.{key}={value}" for key, value in SHARED.items()]
    words = ["data=data", "backbone=test_resnet", "weights=none", "size=32", "trials=1", "over.tune=full|last:1"]
    assert main(["search", *words, *shared, "over.optim.lr=1e-4..1e-2", "--quiet"]) == 0
    told = capsys.readouterr().out.splitlines()[1]
    assert told.startswith("visionft finetune steps=6") and "data=data" in told
    assert main([*told.split()[1:], "--quiet"]) == 0


@pytest.mark.parametrize(
    ("over", "why"),
    [
        ({}, "over is empty"),
        ({"optim.lrr": "1e-5..1e-3"}, "did you mean optim.lr"),
        ({"optim.lr": "1e-3..1e-5"}, "no range"),
        ({"optim.lr": "fast"}, "no range"),
        ({"tune": "full|layerwize"}, "layerwize"),
        ({"tune": "full|auto"}, "auto"),
        ({"seed": "1|2"}, "over.seed would compare"),
        ({"test": "0.1..0.5"}, "over.test would compare"),
        ({"batch": "0..8"}, "batch=0"),
    ],
)
def test_what_cannot_be_searched_is_said_before_an_image_is_read(over, why, tmp_path):
    with pytest.raises(ConfigError, match=why):
        vf.search("no_such_folder", over=over, out=str(tmp_path / "search"), quiet=True)
    assert not (tmp_path / "search").exists()


def test_ranges_and_choices_as_they_are_written():
    read = space(
        {"optim": {"lr": "1e-5..1e-3", "weight_decay": "0.01..0.05"}, "batch": "8..64", "tune": "full|norm",
         "patience": [2, 4]}, {},
    )  # fmt: skip
    assert read["optim.lr"] == Range(1e-5, 1e-3, whole=False) and read["optim.lr"].log
    assert not read["optim.weight_decay"].log
    assert read["batch"] == Range(8, 64, whole=True) and not read["batch"].log
    assert read["tune"] == Choice(["full", "norm"])
    assert read["patience"] == Choice([2, 4])


def test_without_optuna_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"visionft\[search\]"):
        vf.search("somewhere", out=str(tmp_path / "search"), quiet=True)


def test_a_trial_that_only_probes_is_a_trial(labelled, tmp_path):
    words = {"over": {"tune": "probe|last:1"}, "trials": 4}
    first = look(labelled, tmp_path / "search", **words)
    assert "probe" in {row["keys"]["tune"] for row in first.rows}
    assert look(labelled, tmp_path / "search", **words).rows == first.rows
