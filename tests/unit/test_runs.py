"""A run folder is begun by a recipe, resumed by the same recipe, and sealed by run.json."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from visionft import checkpoint, config, runs
from visionft.checkpoint import Checkpoint
from visionft.data.records import fingerprint
from visionft.errors import CheckpointError, ConfigError
from visionft.log import read_metrics
from visionft.recipe import Finetune, Optim, Pretrain

RECIPES = [
    Pretrain(data="photos", steps=3),
    Pretrain(data=["a.png", "b.png"], objective={"name": "simclr", "temperature": 0.2}, views={"crops": {"count": 4}}),
    Finetune(data=[np.zeros((3, 3))] * 2, tune={r"backbone\..*": 0.0, r".*": 1.0}, optim=Optim(lr=1e-3, clip=None)),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_recipe_resumes(tmp_path, recipe):
    runs.begin(tmp_path / "run", recipe)
    runs.begin(tmp_path / "run", dataclasses.replace(recipe))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed: 0 there, 1 here"),
        ({"optim": Optim(lr=0.5)}, "optim.lr: null there, 0.5 here"),
        ({"objective": "mae"}, "objective: simclr there, mae here"),
        ({"steps": None, "epochs": 2.0}, "steps: 3 there"),
    ],
)
def test_another_recipe_is_refused_with_what_differs_and_the_way_out(tmp_path, changes, said):
    runs.begin(tmp_path, RECIPES[0])
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ConfigError) as error:
        runs.begin(tmp_path, dataclasses.replace(RECIPES[0], **changes))
    assert said in str(error.value)
    assert "out=" in str(error.value)
    runs.begin(tmp_path, RECIPES[0])  # the refused one has changed nothing


def test_another_verb_is_refused(tmp_path):
    runs.begin(tmp_path, Pretrain(data="photos", out="x"))
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match="unfinished run of another verb"):
        runs.begin(tmp_path, Finetune(data="photos", out="x"))


def test_a_run_that_left_nothing_but_its_recipe_is_in_nobodys_way(tmp_path):
    runs.begin(tmp_path, Pretrain(data="photos", out="x"), "one")
    runs.begin(tmp_path, RECIPES[0], "another")
    assert config.load(Pretrain, tmp_path / "recipe.yaml") == RECIPES[0]


def test_other_options_of_an_objective_are_noticed(tmp_path):
    runs.begin(tmp_path, dataclasses.replace(RECIPES[0], objective={"name": "simclr", "temperature": 0.1}))
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ConfigError, match=r"objective\.temperature: 0\.1 there, 0\.2 here"):
        runs.begin(tmp_path, dataclasses.replace(RECIPES[0], objective={"name": "simclr", "temperature": 0.2}))


def test_a_finished_run_is_not_trained_over(tmp_path):
    runs.begin(tmp_path, RECIPES[0])
    checkpoint.write_text(tmp_path / "run.json", "{}")
    with pytest.raises(ConfigError, match="finished run; set out="):
        runs.begin(tmp_path, RECIPES[0])


@pytest.mark.parametrize("recipe", RECIPES[:2])
def test_the_recipe_in_the_folder_repeats_the_run(tmp_path, recipe):
    runs.begin(tmp_path, recipe)
    assert config.load(Pretrain, tmp_path / "recipe.yaml") == recipe


def test_an_unfinished_run_does_not_go_on_with_other_images(tmp_path):
    runs.begin(tmp_path, RECIPES[0], "one")
    (tmp_path / "metrics.jsonl").touch()
    runs.begin(tmp_path, RECIPES[0], "one")
    with pytest.raises(ConfigError, match="other images"):
        runs.begin(tmp_path, RECIPES[0], "another")


@pytest.mark.parametrize("text", ["", "a: [1", "- 1", "verb: pretrain\n"])
def test_a_damaged_recipe_is_an_error_of_ours_that_names_it(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text(text)
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises((CheckpointError, ConfigError), match=str(tmp_path)):
        runs.begin(tmp_path, RECIPES[0])


def test_metrics_go_on_where_the_checkpoint_stands(tmp_path):
    first = runs.sinks(tmp_path, RECIPES[0])
    for step in (1, 2, 3):
        first(step, {"loss": float(step)})
    checkpoint.save(tmp_path, Checkpoint(2, {}, {}))
    heard = []
    runs.sinks(tmp_path, RECIPES[0], lambda step, metrics: heard.append(step))(3, {"loss": 3.5})
    assert [row["loss"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [1.0, 2.0, 3.5]
    assert heard == [3]


def test_info_of_a_finished_run_and_of_everything_else(tmp_path):
    with pytest.raises(CheckpointError, match="holds no run"):
        runs.info(tmp_path)
    with pytest.raises(CheckpointError, match=r"run0 does not exist; did you mean .*run\?"):
        (tmp_path / "run").mkdir()
        runs.info(tmp_path / "run0")
    (tmp_path / "run").rmdir()
    runs.begin(tmp_path, RECIPES[0])
    with pytest.raises(CheckpointError, match="unfinished run"):
        runs.info(tmp_path)
    (tmp_path / "run.json").write_text('{"verb": "pre')
    with pytest.raises(CheckpointError, match=r"run\.json is damaged"):
        runs.info(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({"verb": "pretrain"}))
    assert runs.info(tmp_path) == {"verb": "pretrain"}


def test_versions_name_what_a_run_was_made_with():
    found = runs.versions()
    assert {"visionft", "python", "torch", "timm", "albumentations", "lightly", "numpy"} <= set(found)
    assert all(found.values())


def test_a_fingerprint_is_of_the_set_of_images():
    assert fingerprint(["a", "b", "c"]) == fingerprint(["c", "a", "b"])
    assert fingerprint(["a", "b"]) != fingerprint(["a", "c"])
    assert fingerprint(["a"]) != fingerprint(["a", "a"])
