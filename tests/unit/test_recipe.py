"""Combinations that no run can have are refused when the recipe is made, with the key's name."""

from __future__ import annotations

import dataclasses

import pytest

from visionft.config import load
from visionft.errors import ConfigError
from visionft.recipe import Finetune, Pretrain, Recipe
from visionft.verbs import Augment, Embed, Evaluate, Predict, Quickstart


@pytest.mark.parametrize("recipe", [Recipe, Pretrain, Finetune, Evaluate, Predict, Embed, Augment, Quickstart])
def test_every_recipe_can_be_made_without_saying_anything_and_not_be_changed(recipe):
    made = recipe()
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.out = "elsewhere"


def test_a_batch_that_cannot_be_dealt_into_equal_parts_is_refused():
    assert load(Recipe, "batch=12", "accumulate=4").batch == 12
    with pytest.raises(ConfigError, match=r"batch=10.*accumulate=4"):
        load(Recipe, "batch=10", "accumulate=4")


@pytest.mark.parametrize(
    "word",
    ["steps=0", "steps=-1", "epochs=0", "minutes=-2", "batch=0", "accumulate=0", "optim.warmup=1.5", "optim.final=-0.1",
     "ema=2", "workers=-1", "log_every=0", "eval_every=-1", "save_every=-1", "patience=-1", "optim.lr=-1", "optim.lr=0",
     "optim.weight_decay=-0.1", "optim.momentum=1.5", "optim.clip=-1", "optim.clip=0", "optim.lr=nan", "seed=-1"],
)  # fmt: skip
def test_a_number_that_makes_no_sense_is_named(word):
    key = word.partition("=")[0]
    with pytest.raises(ConfigError, match=key):
        load(Pretrain, word)


@pytest.mark.parametrize("word", ["size=0", "channels=0", "white=0"])
@pytest.mark.parametrize("recipe", [Pretrain, Embed])
def test_an_image_without_pixels_is_refused(recipe, word):
    with pytest.raises(ConfigError, match=word.partition("=")[0]):
        load(recipe, word)


@pytest.mark.parametrize("words", [["test=1.5"], ["val=-0.1"], ["test=1"], ["test=-0.1"], ["val=0"], ["val=1"]])
def test_a_split_that_leaves_a_part_empty_is_refused(words):
    with pytest.raises(ConfigError, match=words[0].partition("=")[0]):
        load(Finetune, *words)


def test_words_outside_a_choice_are_refused_with_the_choice():
    with pytest.raises(ConfigError, match=r"precision should be auto\|bf16\|fp32, not 'fp16'"):
        load(Recipe, "precision=fp16")
    with pytest.raises(ConfigError, match=r"batchnorm should be auto\|train\|frozen"):
        load(Recipe, "batchnorm=sync")
