"""The learning-rate finder on a task: it sweeps what fine-tuning would train, and begins no run."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image

import visionft as vf
from visionft import recipe, verbs
from visionft.cli import main
from visionft.errors import ConfigError
from visionft.journeys import lr_find as module
from visionft.tasks import learn as learning

WORDS = {"backbone": "test_resnet", "weights": "none", "size": 32, "precision": "fp32", "batch": 8, "quiet": True}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Forty pictures that differ by brightness, in class folders."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for at in range(40):
        name = ("dark", "bright")[at % 2]
        (folder / name).mkdir(exist_ok=True)
        pixels = (rng.integers(0, 100, (32, 32, 3)) + 120 * (at % 2)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f"{at}.png")
    return folder


def test_it_draws_and_suggests_and_writes_no_run(labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [f"{key}={value}" for key, value in WORDS.items() if key != "quiet"]
    told = ["lr-find", f"data={labelled}", *words, "tune=full", "sweep=40", "low=1e-5", "high=10", "steps=5", "--quiet"]
    assert main(told) == 0
    said = capsys.readouterr().out
    assert "optim.lr=" in said
    assert [path.name for path in tmp_path.iterdir()] == ["lr-find.png"]
    with Image.open("lr-find.png") as picture:
        assert picture.format == "PNG" and picture.width > 500


def test_it_sweeps_what_fine_tuning_would_train(labelled, tmp_path, monkeypatch):
    """The same images, head and adapter, down to the last bit."""
    seen, fit, sweep = [], learning.fit, module.sweep

    def spied(train):
        def call(model, data, *given, **words):
            seen.append({key: value.clone() for key, value in model.state_dict().items()} | {"n": len(data)})
            return train(model, data, *given, **words)

        return call

    monkeypatch.setattr(learning, "fit", spied(fit))
    monkeypatch.setattr(module, "sweep", spied(sweep))
    words = {**WORDS, "adapter": "lora", "optim.lr": 1e-3, "seed": 3}
    vf.finetune(str(labelled), steps=1, out=str(tmp_path / "run"), **words)
    vf.lr_find(str(labelled), figure=None, sweep=20, **words)
    run, swept = seen
    assert run.keys() == swept.keys() and run.pop("n") == swept.pop("n")
    assert all(value.equal(swept[key]) for key, value in run.items())


def test_every_key_of_finetune_is_one_of_the_finder():
    ours = {field.name for field in dataclasses.fields(verbs.LrFind)}
    assert {field.name for field in dataclasses.fields(recipe.Finetune)} < ours


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"tune": "probe"}, "solved, not trained"),
        ({"tune": "auto"}, "several networks"),
        ({"low": 1e-2, "high": 1e-3}, "high=0.001"),
        ({"figure": "rates.docx"}, "rates.docx"),
        ({"sweep": 5}, "sweep=5"),
    ],
)
def test_what_has_no_rate_to_find_is_refused(labelled, words, why):
    with pytest.raises(ConfigError, match=why):
        vf.lr_find(str(labelled), **{**WORDS, **words})
