"""An exported file answers as PyTorch does, alone and in batches, without torch; one that does not is not kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

import visionft
from tests.unit.inspection.striped import parts, spoiled
from visionft import backbones
from visionft.cli import main
from visionft.errors import CheckpointError, ConfigError, DataError
from visionft.inspection import export as exporting
from visionft.inspection import parity
from visionft.inspection.doubt import Doubt
from visionft.inspection.eye import Eye
from visionft.inspection.eyes import chosen
from visionft.inspection.frame import Frame
from visionft.inspection.inspector import Inspector
from visionft.inspection.onnx import OnnxInspector, packed, unpacked
from visionft.inspection.panel import Calm, Panel
from visionft.inspection.scorer import Scorer
from visionft.inspection.sight import Sight
from visionft.log import Console
from visionft.precision import exact

for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed, reason='pip install "visionft[export]"')

SIZE, SPOT = (40, 56), (slice(16, 28), slice(24, 40))
IMAGES = {"channels": 3, "white": 65535}
WITHOUT_TORCH = """
import sys
from visionft.inspection.onnx import OnnxInspector
verdict = OnnxInspector(sys.argv[1]).predict(sys.argv[2])
print(verdict, len(verdict.regions), verdict.heat.shape, verdict.mask.sum(), verdict.overlay.shape)
assert not {"torch", "torchvision", "timm", "scipy", "onnx"} & set(sys.modules), "torch was loaded"
"""


class Bright(Scorer):
    """A scorer that somebody else could have written."""

    def begin(self, folds):
        self.held = []

    def take(self, patches, fold):
        self.held.append(patches.mean((0, 1, 2)))

    def settle(self):
        self.mean = torch.stack(self.held).mean(0)

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        return (patches - self.mean).abs().amax(3)

    def state(self):
        return {"mean": self.mean}

    def restore(self, state):
        self.mean = state["mean"]
        return self


class Hesitant(Bright):
    """Looks at values before it decides what to do."""

    def score(self, patches: Tensor, *, without: int | None = None) -> Tensor:
        return super().score(patches) * (2 if float(patches.mean()) > 0.5 else 1)


@pytest.fixture(scope="module", autouse=True)
def in_float32():
    with pytest.MonkeyPatch.context() as patch, exact():
        patch.setattr(parity, "RUNS", 3)
        yield


def fitted(*eyes: Eye, frame: Frame | None = None) -> Inspector:
    torch.manual_seed(0)
    backbone = backbones.load("test_resnet", "none", size=32).eval()
    panel = Panel(backbone, eyes, frame or Frame())
    found = Inspector.learn(panel, parts(20, 0, SIZE), 0.05, IMAGES, Console(quiet=True))
    found.mm_per_pixel = 0.1
    found.doubt = Doubt({"spot": [found.promise.threshold - 1] * 9}, 0.1)
    return found


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    region = np.zeros(SIZE, bool)
    region[4:38, 6:54] = True
    region[4:10, 6:16] = False
    places = {"name": "gaussian", "aligned": True, "cells": 3}
    eyes = chosen([{"name": "patches", "layers": [1], "tile": 32}, {"name": "places", "layers": [1], "scorer": places},
                   "texture"])  # fmt: skip
    return fitted(*eyes, Eye(Sight(layers=(1,)), Bright()), frame=Frame(region=region))


@pytest.fixture(scope="module")
def some() -> list[np.ndarray]:
    return [*parts(3, 1, SIZE), *(spoiled(image, *SPOT) for image in parts(2, 2, SIZE))]


@pytest.fixture(scope="module")
def file(inspector, some, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "part.onnx"
    inspector.export(out, some, batch=3, quiet=True)
    return out


@pytest.fixture(scope="module")
def plain() -> Inspector:
    return fitted(Eye(Sight(layers=(1,), pool=1), Bright()))


def test_it_judges_as_the_inspector_does(inspector, some, file):
    ours, theirs = OnnxInspector(file).predict(some), inspector.predict(some)
    for one, other in zip(ours, theirs, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3) and one.p_value == other.p_value
        assert one.word == other.word and one.each == pytest.approx(other.each, abs=1e-3)
        assert one.size == other.size and one.scale == other.scale and one.mm_per_pixel == 0.1
        assert np.array_equal(one.mask, other.mask) and [r.box for r in one.regions] == [r.box for r in other.regions]
        assert np.abs(one.overlay.astype(int) - other.overlay).max() <= 1
    assert [one.reject for one in ours[3:]] == [True, True]
    between = [inspector.promise.threshold - 0.5]
    assert inspector.unsure(between, [False]).all() and not inspector.unsure(between, [True]).any()


def test_several_photos_at_once_are_judged_as_each_alone(file, some):
    judge = OnnxInspector(file).run
    alone = [np.concatenate(own) for own in zip(*(judge(photo[None]) for photo in some), strict=True)]
    for together, one in zip(judge(np.stack(some)), alone, strict=True):
        assert together.shape == one.shape and together == pytest.approx(one, abs=1e-3)


def test_the_file_says_what_it_is_and_nothing_of_the_machine_that_wrote_it(inspector, file):
    told = OnnxInspector(file).facts
    assert told["promise"] == inspector.promise.words() and told["threshold"] == inspector.promise.threshold
    assert told["size"] == list(SIZE) and told["box"] == [4, 38, 6, 54] and told["good"] == 20
    assert str(Path(visionft.__file__).parent).encode() not in file.read_bytes()
    found = json.loads(file.with_suffix(".json").read_text())
    assert found["parity"]["onnxruntime"]["photos"] == 5 and found["parity"]["onnxruntime"]["apart"] < 1e-3
    assert found["latency"]["onnxruntime"]["p50_ms"] <= found["latency"]["onnxruntime"]["p99_ms"]
    assert sorted(path.name for path in file.parent.iterdir()) == ["part.json", "part.onnx"]


def test_it_runs_without_torch(inspector, some, file, tmp_path):
    photo = tmp_path / "new.png"
    assert cv2.imwrite(str(photo), some[3][..., ::-1])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, str(file), str(photo)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    verdict = inspector.predict(str(photo))
    assert done.stdout.split("\t")[1:3] == str(verdict).split("\t")[1:3]
    assert f"{len(verdict.regions)} (40, 56) {verdict.mask.sum()} (40, 56, 3)" in done.stdout


def test_it_watches_a_line_as_the_inspector_does(inspector, file, some, tmp_path, capsys):
    for at, photo in enumerate(some):
        cv2.imwrite(str(tmp_path / f"{at}.png"), photo[..., ::-1])
    exported, words = OnnxInspector(file), {"stop_after": 5, "alarm": 1e-3, "quiet": True}
    ours, theirs = exported.watch(str(tmp_path), **words), inspector.watch(str(tmp_path), **words)
    assert (ours.parts, ours.rejects, ours.unsure) == (
        theirs.parts,
        theirs.rejects,
        theirs.unsure,
    ) and ours.rejects >= 2
    assert np.array_equal(exported.signs, inspector.signs) and exported.promise.words() == inspector.promise.words()
    assert exported.promise.threshold == inspector.promise.threshold
    assert main(["inspect", "watch", str(file), str(tmp_path), "stop_after=5", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("5 parts")


def test_the_command_line_judges_with_it(inspector, file, some, tmp_path, capsys):
    cv2.imwrite(str(tmp_path / "new.png"), some[4][:, :, ::-1])
    assert main(["inspect", "predict", str(file), str(tmp_path / "new.png"), "--quiet"]) == 0
    name, word, p, score = capsys.readouterr().out.strip().split("\t")[:4]
    verdict = inspector.predict(some[4])
    assert (
        name.endswith("new.png")
        and word == verdict.word == "reject"
        and float(p) == pytest.approx(verdict.p_value, abs=1e-4)
    )
    assert float(score) == pytest.approx(verdict.score, abs=2e-3)


def test_openvino_answers_alike(file, some):
    pytest.importorskip("openvino", reason='pip install "visionft[openvino]"')
    for one, other in zip(*(OnnxInspector(file, engine=name).predict(some) for name in ("onnxruntime", "openvino")),
                          strict=True):  # fmt: skip
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert one.p_value == other.p_value and one.reject == other.reject


def test_what_is_no_such_file_or_no_such_photo_is_refused(file, some, tmp_path):
    with pytest.raises(DataError, match="array 1 is of 56 x 39 pixels, and this inspector judges 56 x 40 pixels"):
        OnnxInspector(file).predict([some[0], some[1][1:]])
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    with pytest.raises(CheckpointError, match=r"onnxruntime cannot read .*broken\.onnx"):
        OnnxInspector(tmp_path / "broken.onnx")
    with pytest.raises(CheckpointError, match="does not exist"):
        OnnxInspector(tmp_path / "none.onnx")
    with pytest.raises(ConfigError, match="no engine 'tensorrt'"):
        OnnxInspector(file, engine="tensorrt")


def test_a_file_that_answers_otherwise_is_not_kept(plain, some, tmp_path, monkeypatch):
    right = exporting.write

    def wrong(inspector, graph, made):
        calm = graph.calm[0]
        graph.calm[0] = Calm(calm.mean + 0.1 * calm.spread, calm.spread)
        right(inspector, graph, made)
        graph.calm[0] = calm

    monkeypatch.setattr(exporting, "write", wrong)
    with pytest.raises(CheckpointError, match=r"array \d, judged alone: .* at most tolerance=0.02 may lie"):
        plain.export(tmp_path / "part.onnx", some, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_scorer_that_is_no_graph_is_named(some, tmp_path):
    hesitant = fitted(Eye(Sight(layers=(1,), pool=1), Hesitant()))
    with pytest.raises(ConfigError, match="its scorers are Hesitant"):
        hesitant.export(tmp_path / "part.onnx", some, quiet=True)
    assert not list(tmp_path.iterdir())


def test_photos_of_two_sizes_cannot_be_judged_by_one_file(plain, some, tmp_path):
    with pytest.raises(DataError, match="array 2 is of 50 x 40 pixels and others of 56 x 40 pixels"):
        plain.export(tmp_path / "part.onnx", [*some[:2], some[2][:, :50], *some[3:]], quiet=True)
    with pytest.raises(DataError, match="one photo is too few"):
        plain.export(tmp_path / "part.onnx", some[:1], quiet=True)
    with pytest.raises(ConfigError, match=r"ends with \.onnx"):
        plain.export(tmp_path / "part.pt", some, quiet=True)


def test_a_mask_survives_as_text():
    mask = np.random.default_rng(0).random((30, 41)) > 0.5
    assert np.array_equal(unpacked(packed(mask)), mask) and unpacked(packed(None)) is None


def test_the_command_line_says_what_is_missing(capsys):
    assert main(["inspect", "export"]) == 2
    assert "say which inspector and which photos" in capsys.readouterr().err
