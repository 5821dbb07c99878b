"""Commands are what the command line reads: a shell and the configuration give back the very words."""

from __future__ import annotations

import dataclasses
import shlex
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.advice.cases import PLAIN, with_data, with_measured
from visionft.advice import commands, page
from visionft.advice.facts import Facts, Unlabeled
from visionft.cli import _load
from visionft.commands import COMMANDS


def parsed(line: str) -> Any:
    """What the command line would run."""
    program, verb, *words = shlex.split(line)
    assert program == "visionft"
    return _load(COMMANDS[verb].keys, words)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(
    str.strip
)


@given(name=NAMES)
@settings(deadline=None)
def test_any_folder_name_comes_back_through_shell_and_yaml(name):
    facts = dataclasses.replace(PLAIN, data=dataclasses.replace(PLAIN.data, source=name))
    line = commands.line("finetune", commands.finetuning(facts).words)
    assert parsed(line).data == name
    assert parsed("\n".join(page.command(line)).replace("\\\n", " ")).data == name


@pytest.mark.parametrize(
    "facts",
    [
        PLAIN,
        dataclasses.replace(PLAIN, seed=7, channels=1, weights="none"),
        dataclasses.replace(PLAIN, transformer=True, unlabeled=Unlabeled(source="my photos", images=40_000, looked=9)),
        with_data(by_group=True, bad={"x": "y"}, white=4095, classes={"a": 900, "b": 100}),
        with_measured(images=50),
    ],
)
def test_every_command_loads_and_keeps_what_the_numbers_stand_on(facts: Facts):
    chosen = commands.finetuning(facts).words
    made = {"finetune": [chosen, commands.quick(chosen), commands.after_pretraining(facts, chosen)]}
    made["finetune"] += [climbs] if (climbs := commands.ladder(chosen)) else []
    assert bool(climbs) == (chosen.get("tune") != "probe")
    made |= {"study": [commands.study_words(facts, 3.2)]}
    made |= {"pretrain": [words] if (words := commands.pretrain_words(facts)) else []}
    for verb, several in made.items():
        for words in several:
            recipe = parsed(commands.line(verb, words))
            assert recipe.white == facts.data.white and recipe.channels == facts.channels
            if verb == "pretrain":
                assert recipe.data == "my photos" and recipe.batch < 40_000
                continue
            assert recipe.seed == facts.seed  # the same images stay aside
            assert recipe.bad == ("skip" if facts.data.bad else "error")
            assert verb == "study" or recipe.by_group == facts.data.by_group
    assert len({recipe.out for several in made.values() for recipe in map(_out, several)}) == sum(
        map(len, made.values())
    )


def _out(words: commands.Words) -> Any:
    return parsed(commands.line("finetune", {"out": words["out"]}))


def test_finetuning_after_pretraining_starts_from_that_run():
    facts = dataclasses.replace(PLAIN, unlabeled=Unlabeled(source="p", images=5000, looked=9))
    before, after = commands.pretrain_words(facts), commands.after_pretraining(facts, commands.finetuning(facts).words)
    assert before is not None and after["backbone"] == before["out"] and "weights" not in after
    assert after["size"] == before["size"]


def test_parts_under_a_camera_are_pretrained_by_what_does_not_tell_every_photo_from_every_other():
    assert commands.study_words(PLAIN, 3.0)["objective"] == "simclr"
    gray = with_measured(with_data(gray=1.0), shift=0.9)
    assert commands.policy(gray) == "inspection"
    assert commands.study_words(gray, 3.0)["objective"] == "vicreg"
