"""An inspector as tensor operations says what the inspector says, whatever its eyes and its frame are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unit.inspection.striped import parts, spoiled
from visionft import backbones
from visionft.inspection.eye import Eye
from visionft.inspection.eyes import chosen
from visionft.inspection.frame import Frame
from visionft.inspection.graph import Graph
from visionft.inspection.head import Head
from visionft.inspection.inspector import Inspector
from visionft.inspection.intake import Scaled
from visionft.inspection.looking import feed
from visionft.inspection.panel import Calm, Panel
from visionft.inspection.promise import Promise
from visionft.inspection.sight import Sight
from visionft.inspection.where import Scale
from visionft.log import Console
from visionft.precision import exact

SIZE = (49, 66)
IMAGES = {"channels": 3, "white": 65535}
REGION = np.zeros(SIZE, bool)
REGION[5:45, 9:60] = True
REGION[5:12, 9:20] = False
FRAMES = {"whole": Frame(), "border": Frame.of([1, 2, 3, 4]), "region": Frame(region=REGION)}
EYES = {
    "patches": [{"name": "patches", "layers": [1, 2]}],
    "places": [{"name": "places", "layers": [1, 2], "scorer": {"name": "gaussian", "aligned": True, "cells": 5}}],
    "whole": [{"name": "whole", "layers": [1, 2]}],
    "texture": [{"name": "texture"}],
    "foretold": [{"name": "student", "layers": [1, 2]}, {"name": "surroundings", "layers": [1, 2], "tile": 32}],
    "larger": [{"name": "patches", "layers": [1, 2], "scale": 1.5, "top": 20}],
    "smaller": [{"name": "whole", "layers": [1, 2], "scale": 0.7}],
    "banks": [{"name": "patches", "layers": [1, 2], "tile": 24}],
    "tiles": [{"name": "places", "layers": [1, 2], "tile": 24}, {"name": "texture", "scale": 2, "tile": 40}],
    "all": [{"name": "patches", "layers": [1, 2], "tile": 32}, {"name": "patches", "layers": [2]}, "whole", "texture"],
}


@pytest.fixture(autouse=True)
def in_float32():
    with exact():
        yield


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return backbones.load("test_resnet", "none", size=32).eval()


def agree(inspector: Inspector) -> None:
    some = [*parts(3, 1, SIZE), spoiled(parts(1, 2, SIZE)[0])]
    verdicts = inspector.judge(some, list("abcd"))
    with torch.no_grad():
        said = Graph(inspector, SIZE).eval()(torch.from_numpy(np.stack(some)))
    score, p_value, reject, each, heat = (output.numpy() for output in said)
    assert score == pytest.approx([verdict.score for verdict in verdicts], abs=0.02)
    assert p_value == pytest.approx([verdict.p_value for verdict in verdicts])
    assert reject.tolist() == [verdict.reject for verdict in verdicts]
    assert each == pytest.approx(np.array([verdict.each for verdict in verdicts]), abs=0.02)
    places = np.stack([verdict.places for verdict in verdicts])
    warm = places > 0  # the logarithm of the smallest distances is that of rounding
    assert heat.shape == places.shape and heat[warm] == pytest.approx(places[warm], abs=0.1)


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("eyes", EYES)
def test_the_graph_says_what_the_inspector_says(backbone, eyes, frame):
    panel = Panel(backbone, chosen(EYES[eyes]), FRAMES[frame])
    agree(Inspector.learn(panel, parts(20, 0, SIZE), 0.3, IMAGES, Console(quiet=True)))


def test_a_transformer_looks_at_photos_that_its_patches_do_not_fill_and_is_a_graph_too():
    torch.manual_seed(0)
    vit = backbones.load("test_vit", "none").eval()
    panel = Panel(vit, chosen([{"name": "patches", "layers": [-1]}, {"name": "places", "layers": [-2], "tile": 40}]))
    found = Inspector.learn(panel, parts(20, 0, SIZE), 0.3, IMAGES, Console(quiet=True))
    agree(found)
    assert found.judge(parts(1, 1, SIZE), ["a"])[0].places.shape == (4, 5)  # 49 x 66 pixels in patches of 16


def test_a_head_is_a_graph_too(backbone):
    eye = Eye(Sight(layers=(1, 2), pool=1), Head())
    eye.scorers.begin(5)
    feed([eye], backbone, parts(20, 0, SIZE))
    feed([eye], backbone, [spoiled(image) for image in parts(10, 3, SIZE)], bad=True)
    eye.scorers.settle()
    panel = Panel(backbone, [eye], calm=[Calm(0.0, 1.0)], weights=[1.0])
    agree(Inspector(panel, Promise.of(np.linspace(-5, 5, 20), 0.1), Scale(0.0, 1.0), IMAGES))


@pytest.mark.parametrize("scale", [0.3, 0.5, 0.7, 1, 1.5, 2, 3])
def test_images_are_scaled_as_opencv_scales_them(scale):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    own = Scaled(Sight(scale=scale), SIZE)(torch.from_numpy(image)[None])[0].numpy().astype(int)
    apart = np.abs(own - Sight(scale=scale).scaled(image))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.1  # other builds of OpenCV may round its weights
    even = image[:48]
    halved = Scaled(Sight(scale=0.5), (48, 66))(torch.from_numpy(even)[None])[0].numpy()
    assert np.array_equal(halved, Sight(scale=0.5).scaled(even))
