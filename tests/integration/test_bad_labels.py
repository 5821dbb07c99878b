"""Labels that teach nothing are refused before any training; what is merely doubtful is said and measured."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import visionft as vf
from visionft.errors import CheckpointError, DataError, VisionftError, WeightsError
from visionft.log import Console
from visionft.recipe import Finetune
from visionft.tasks.run import finetune as run

FAST: dict[str, Any] = {
    "backbone": "test_resnet", "weights": "none", "size": 32, "batch": 8, "steps": 4, "precision": "fp32",
}  # fmt: skip


def pictures(folder: Path, counts: dict[str, int]) -> Path:
    """Class folders of noise; each class is a little brighter than the one before."""
    rng = np.random.default_rng(0)
    for kind, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for at in range(count):
            pixels = rng.integers(0, 120, (32, 32, 3)) * rng.uniform(0.7, 1) + 20 * kind
            assert cv2.imwrite(str(folder / name / f"{at}.png"), pixels.astype(np.uint8))
    return folder


def table(file: Path, rows: list[str]) -> Path:
    file.write_text("\n".join(["path,label,split", *rows]))
    return file


def refused(data: Path, out: Path, error: type[VisionftError] = DataError, **words: Any) -> str:
    with pytest.raises(error) as said:
        vf.finetune(str(data), out=str(out), quiet=True, **{**FAST, **words})
    assert not out.exists()
    return str(said.value)


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """A run that knows three classes, and its images."""
    folder = tmp_path_factory.mktemp("three")
    data = pictures(folder / "data", {"a": 12, "b": 12, "c": 12})
    return data, vf.finetune(str(data), out=str(folder / "run"), quiet=True, **FAST).out


def test_one_class_cannot_be_told_apart(tmp_path):
    assert "only one class, 'a'" in refused(pictures(tmp_path / "data", {"a": 12}), tmp_path / "run")


def test_a_class_with_one_image_is_named_with_a_way_out(tmp_path):
    said = refused(pictures(tmp_path / "data", {"a": 12, "b": 1}), tmp_path / "run")
    assert "class 'b' has 1" in said and "leave the class out" in said


def test_a_class_with_fewer_images_than_folds_is_named(tmp_path):
    data = pictures(tmp_path / "data", {"a": 12, "b": 6})
    assert "class 'b' has 3 different images: too few to have some in each of 5 folds" in refused(
        data, tmp_path / "run", folds=5
    )


def test_keys_that_a_probe_has_no_use_for_are_named(three, tmp_path, capsys):
    words = {**FAST, "tune": "probe", "sampler": "balanced", "task": {"name": "classify", "focal": 2.0}}
    vf.finetune(str(three[0]), out=str(tmp_path / "run"), **words)
    assert "a probe is solved, not trained: sampler, task.focal played no part" in capsys.readouterr().err


def test_a_wrong_key_of_the_task_is_named_as_it_was_written(tmp_path):
    with pytest.raises(vf.ConfigError, match=r"no key task\.smoth; did you mean task\.smoothing"):
        vf.finetune(str(tmp_path), task={"name": "classify", "smoth": 0.1})


@pytest.mark.parametrize("blank", ["", "nan", "NaN"])
def test_missing_labels_are_counted_and_their_lines_named(tmp_path, blank):
    data = pictures(tmp_path / "data", {"a": 8, "b": 8})
    rows = [f"{data}/{k}/{at}.png,{blank if (k, at) == ('b', 2) else k}," for k in "ab" for at in range(8)]
    said = refused(table(tmp_path / "labels.csv", rows), tmp_path / "run")
    assert "1 lines have no label" in said and "line 12" in said


def test_sixteen_to_one_is_answered_by_a_threshold_and_it_is_said(tmp_path):
    data = pictures(tmp_path / "data", {"good": 320, "bad": 20})
    heard = io.StringIO()
    done = run(Finetune(data=str(data), out=str(tmp_path / "run"), val=0.4, **FAST), console=Console(heard))
    words = " ".join(done.predictor.decision.words)
    assert "balanced accuracy" in words and words.split(".")[0] in heard.getvalue()
    assert done.decided["balanced_accuracy"] >= done.metrics["finetuned"]["balanced_accuracy"] - 0.02


def test_a_test_image_among_the_training_images_is_named_before_training(tmp_path):
    data = pictures(tmp_path / "data", {"a": 10, "b": 10})
    shutil.copy(data / "a" / "9.png", data / "leak.png")
    rows = [f"{data}/{k}/{at}.png,{k},{'test' if at < 4 else 'train'}" for k in "ab" for at in range(10)]
    heard = io.StringIO()
    source = table(tmp_path / "labels.csv", [*rows, f"{data}/leak.png,a,test"])
    run(Finetune(data=str(source), out=str(tmp_path / "run"), **FAST), console=Console(heard))
    said = next(line for line in heard.getvalue().splitlines() if "more than one of train, val and test" in line)
    assert "leak.png" in said and "too easy" in said


def test_a_class_that_the_run_does_not_know_is_named_when_evaluating(three, tmp_path):
    other = pictures(tmp_path / "data", {"a": 4, "d": 4})
    with pytest.raises(DataError, match="knows a, b, c; the data has d too"):
        vf.evaluate(str(three[1]), data=str(other), quiet=True)


def test_fewer_classes_than_the_run_knows_can_be_evaluated(three, tmp_path):
    found = vf.evaluate(str(three[1]), data=str(pictures(tmp_path / "data", {"a": 6, "c": 6})), quiet=True)
    assert 0 <= found["accuracy"] <= 1 and "recall/c" in found and "recall/b" not in found


@pytest.mark.parametrize("change", [{"task": {"name": "classify", "classes": 5}}, {"backbone": {"name": "test_vit"}}])
def test_weights_that_do_not_fit_what_is_written_of_them_are_refused(three, tmp_path, change):
    copy = tmp_path / "copy"
    shutil.copytree(three[1], copy)
    info = json.loads((copy / "run.json").read_text())
    for key, value in change.items():
        info[key] |= value
    (copy / "run.json").write_text(json.dumps(info))
    with pytest.raises(CheckpointError, match=r"does not fit its run\.json"):
        vf.load(copy)


def test_weights_of_another_architecture_are_refused(three, tmp_path):
    data, out = three
    said = refused(data, tmp_path / "run", WeightsError, backbone="test_vit", weights=str(out / "backbone.safetensors"))
    assert "same architecture" in said
    said = refused(data, tmp_path / "run", WeightsError, backbone="test_vit", weights=str(out))
    assert "holds test_resnet, not test_vit" in said
