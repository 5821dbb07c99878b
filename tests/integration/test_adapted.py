"""Fine-tuning with an adapter: what is saved, with or without the package, says what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import timm
import torch

import visionft as vf
from visionft import backbones
from visionft.adapters import files
from visionft.backbone import Backbone

FAST = {"size": 32, "batch": 8, "precision": "fp32"}
BATCH = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
RATE = {"optim": {"lr": 0.01}}


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Two class folders of ten small PNGs each: dark ones and bright ones."""
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    for at in range(20):
        place = folder / ("bright" if at % 2 else "dark")
        place.mkdir(exist_ok=True)
        pixels = rng.integers(0, 128, (32, 32, 3), dtype=np.uint8) + 128 * (at % 2)
        assert cv2.imwrite(str(place / f"{at}.png"), pixels.astype(np.uint8))
    return folder


@torch.no_grad()
def features(backbone: Backbone) -> torch.Tensor:
    return backbone.eval().to(memory_format=torch.channels_last)(BATCH)


@pytest.fixture(scope="module", params=["lora", "bottleneck"])
def adapted(request, labelled, tmp_path_factory):
    out = tmp_path_factory.mktemp("adapted") / request.param
    words = {"backbone": "test_resnet", "weights": "none", "steps": 12, "patience": 0, **FAST, **RATE}
    return vf.finetune(str(labelled), adapter=request.param, out=str(out), **words)


def test_a_saved_run_predicts_what_it_predicted_in_memory(adapted, labelled):
    assert vf.load(str(adapted.out)).predict(str(labelled)) == adapted.predictor.predict(str(labelled))


def test_a_backbone_is_read_with_what_it_learnt(adapted):
    trained = adapted.predictor.model.backbone
    assert torch.equal(features(backbones.load(str(adapted.out))), features(trained))


def test_a_merged_backbone_is_plain_timm(adapted):
    info = json.loads((adapted.out / "run.json").read_text())
    file = str(adapted.out / "backbone.safetensors")
    net = (
        timm.create_model("test_resnet", num_classes=0, checkpoint_path=file)
        .eval()
        .to(memory_format=torch.channels_last)
    )
    trained = adapted.predictor.model.backbone
    with torch.no_grad():
        same = torch.equal(net(trained.normalise(BATCH)), features(trained))
    assert same == ("adapter" not in info["backbone"])


def test_the_adapter_is_kept_apart_with_its_head(adapted):
    merged = adapted.predictor.model.backbone.adapter is None
    torch.manual_seed(0)
    base = Backbone("test_resnet", size=32)
    if not merged:
        base.net.load_state_dict(adapted.predictor.model.backbone.net.state_dict())
        _, head = files.load(adapted.out / "adapter", base.net)
        assert torch.equal(features(base), features(adapted.predictor.model.backbone))
    else:
        _, head = files.load(adapted.out / "adapter", base.net)
    assert torch.equal(head["weight"], adapted.predictor.model.head.weight)


def test_fine_tuning_goes_on_from_an_adapted_run(adapted, labelled, tmp_path):
    words = {"steps": 2, "patience": 0, **FAST}
    again = vf.finetune(str(labelled), backbone=str(adapted.out), out=str(tmp_path / "again"), **words)
    assert again.metrics["finetuned"]["accuracy"] >= 0.5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"adapter": "lorra"}, "did you mean lora"),
        ({"adapter": {"name": "lora", "rank": -1}}, "at least 1"),
        ({"adapter": "lora", "tune": "probe"}, "nothing that adapter could act on"),
        ({"adapter": "prompts"}, "plain ViT"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(words, said, labelled, tmp_path):
    with pytest.raises(vf.ConfigError, match=said):
        vf.finetune(str(labelled), backbone="test_resnet", weights="none", **FAST, **words, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
