"""Files, words and keywords say the same thing; a wrong key or value is named before any work starts."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaml

from visionft import config
from visionft.config import bind, key, keys, load, named, plain
from visionft.errors import ConfigError
from visionft.objective import OBJECTIVES, find
from visionft.recipe import Finetune, Optim, Pretrain, Recipe
from visionft.verbs import Augment, Embed, Evaluate, Predict, Quickstart

RECIPES = (Recipe, Pretrain, Finetune, Evaluate, Predict, Embed, Augment, Quickstart)


@dataclass(frozen=True, kw_only=True)
class Inner:
    lr: float = key(0.1, "how fast")
    kind: Literal["soft", "hard"] = key("soft", "how firm")


@dataclass(frozen=True, kw_only=True)
class Outer:
    steps: int | None = key(None, "how long")
    name: str = key("x", "how called")
    deep: bool = key(False, "how deep")
    objective: Any = key("simclr", "what for")
    table: dict[str, Any] = key({}, "what else")
    inner: Inner = field(default_factory=lambda: Inner(lr=0.5), metadata={"meaning": "what moves"})


def test_nothing_said_gives_the_defaults():
    assert load(Outer) == Outer()
    assert load(Outer).inner.lr == 0.5


def test_a_file_a_word_and_a_keyword_say_the_same(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("steps: 7\ninner:\n  lr: 0.25\n")
    assert load(Outer, file) == load(Outer, "steps=7", "inner.lr=0.25") == load(Outer, {"steps": 7, "inner.lr": 0.25})
    assert load(Outer, file) == Outer(steps=7, inner=Inner(lr=0.25))


def test_dotted_keys_work_inside_a_file_too(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("inner.lr: 0.25\n")
    assert load(Outer, file).inner == Inner(lr=0.25)


def test_later_sources_win_key_by_key(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text("steps: 7\nname: a\ninner: {lr: 0.25, kind: hard}\n")
    made = load(Outer, file, "name=b", {"inner": {"lr": 0.125}})
    assert made == Outer(steps=7, name="b", inner=Inner(lr=0.125, kind="hard"))


def test_naming_one_nested_key_keeps_the_other_defaults_of_its_owner():
    assert load(Outer, "inner.kind=hard").inner == Inner(lr=0.5, kind="hard")
    assert load(Finetune, "optim.clip=2").optim == dataclasses.replace(Finetune().optim, clip=2.0)


def test_sources_are_not_changed_by_loading():
    words: dict[str, Any] = {"inner": {"lr": 1.0}, "table": {"a": 1}}
    load(Outer, words, "inner.lr=2", "table.b=3")
    assert words == {"inner": {"lr": 1.0}, "table": {"a": 1}}


def test_two_recipes_do_not_share_a_default_table():
    first = load(Outer)
    first.table["a"] = 1
    assert load(Outer).table == {}


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("stepz=3", "stepz; did you mean steps?"),
        ("inner.lrr=3", "inner.lrr; did you mean inner.lr?"),
        ("zzzz=3", "zzzz; it has steps, name, deep, objective, table, inner"),
        ("steps.deeper=3", "steps"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_valid_one(word, hint):
    with pytest.raises(ConfigError) as error:
        load(Outer, word)
    assert hint in str(error.value)


def test_a_typo_in_a_real_recipe_is_named_with_its_path():
    with pytest.raises(ConfigError, match=r"Optim has no key optim\.lrr; did you mean optim\.lr\?"):
        load(Pretrain, "optim.lrr=1")
    with pytest.raises(ConfigError, match=r"did you mean backbone\?"):
        load(Pretrain, {"bakbone": "resnet18"})


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("inner.lr=1e-3", 1e-3),  # YAML alone reads a string
        ("inner.lr=1E-3", 1e-3),
        ("inner.lr=3", 3.0),
    ],
)
def test_a_number_is_a_number_however_it_is_written(word, value):
    lr = load(Outer, word).inner.lr
    assert lr == value
    assert isinstance(lr, float)


def test_whole_floats_are_integers_and_null_is_none():
    assert isinstance(load(Outer, "steps=3.0").steps, int)
    assert load(Outer, {"steps": 5}, "steps=null").steps is None


@pytest.mark.parametrize(
    "word",
    ["steps=many", "steps=1.5", "steps=true", "inner.lr=fast", "inner.lr=true", "inner.lr=null", "deep=3", "name=[1]",
     "table=3", "inner=3"],
)  # fmt: skip
def test_a_wrong_type_is_named_with_its_key_and_its_value(word):
    name, value = word.split("=")
    with pytest.raises(ConfigError) as error:
        load(Outer, word)
    assert name in str(error.value)
    assert str(yaml.safe_load(value)) in str(error.value)


def test_a_choice_is_one_of_its_words():
    assert load(Outer, "inner.kind=hard").inner.kind == "hard"
    with pytest.raises(ConfigError, match=r"inner\.kind should be soft\|hard, not 'harrd'; did you mean hard\?"):
        load(Outer, "inner.kind=harrd")


def test_an_option_may_follow_the_name_that_has_it():
    assert load(Pretrain, "objective=simclr", "objective.temperature=0.2").objective == {
        "name": "simclr",
        "temperature": 0.2,
    }
    assert load(Pretrain, "objective=dino").objective == "dino"


def test_another_name_drops_the_options_of_the_one_before():
    made = load(Pretrain, {"objective": {"name": "simclr", "temperature": 0.2}}, "objective=mae")
    assert made.objective in ("mae", {"name": "mae"})


def test_an_option_without_a_name_belongs_to_the_default():
    """`objective.temperature=0.2` alone: the recipe's own default is simclr."""
    made = load(Pretrain, "objective.temperature=0.2")
    cls, options = find(made.objective)
    assert cls.__name__ == "SimCLR"
    assert options == {"temperature": 0.2}


def test_a_missing_file_and_a_word_without_a_value_say_what_was_expected():
    with pytest.raises(ConfigError, match=r"nowhere\.yaml is neither a recipe file nor a key=value word"):
        load(Outer, "nowhere.yaml")


def test_images_without_their_key_are_told_which_it_is(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.png,cat\n")
    for place in (tmp_path, tmp_path / "labels.csv"):
        with pytest.raises(ConfigError, match=f"; images are named by data={place}$"):
            load(Outer, str(place))


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "just words"])
def test_a_file_that_is_no_table_of_keys_is_named(tmp_path, text):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        load(Outer, file)


def test_an_empty_file_changes_nothing(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing\n")
    assert load(Outer, file) == Outer()


def test_a_word_may_hold_equal_signs_and_paths():
    assert load(Outer, "name=a=b").name == "a=b"
    assert load(Outer, {"name": Path("a") / "b"}).name == str(Path("a") / "b")


class Machine:
    """A constructor whose signature is the schema."""

    def __init__(self, backbone: object, *, mask: float = 0.75, depth: int = 2, kind: Literal["a", "b"] = "a") -> None:
        self.given = (backbone, mask, depth, kind)


def test_options_are_checked_and_converted_by_a_constructors_signature():
    assert bind(Machine, {"mask": "5e-1", "depth": 3.0, "kind": "b"}, "objective") == {
        "mask": 0.5,
        "depth": 3,
        "kind": "b",
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"maks": 0.5}, r"Machine.* has no key objective\.maks; did you mean objective\.mask\?"),
        ({"mask": "most"}, r"objective\.mask should be float, not 'most'"),
        ({"kind": "c"}, r"objective\.kind should be a\|b"),
        ({"backbone": 1}, r"objective\.backbone"),  # positional: the runner's to give, not the recipe's
    ],
)
def test_a_wrong_option_is_named(options, said):
    with pytest.raises(ConfigError, match=said):
        bind(Machine, options, "objective")


def test_a_choice_may_be_a_name_a_table_or_a_class():
    assert named("mae", "objective") == ("mae", {})
    assert named(Machine, "objective") == (Machine, {})
    assert named({"name": "mae", "mask": 0.5}, "objective") == ("mae", {"mask": 0.5})
    with pytest.raises(ConfigError, match=r"objective.*name.*mask"):
        named({"mask": 0.5}, "objective")


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_key_is_listed_once_with_a_meaning(recipe):
    rows = keys(recipe)
    names = [name for name, *_ in rows]
    assert len(set(names)) == len(names)
    assert all(meaning.strip() for *_, meaning in rows), [name for name, *_, meaning in rows if not meaning.strip()]
    top = {name.split(".")[0] for name in names}
    assert top == {f.name for f in dataclasses.fields(recipe)}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_listed_default_can_be_given_back_as_a_word(recipe):
    words = [f"{name}={default}" for name, _, default, _ in keys(recipe)]
    assert load(recipe, *words) == recipe()


def test_nested_defaults_are_those_of_the_owner():
    """What a recipe changes in what it holds, --help must say, not what Optim alone has."""

    @dataclass(frozen=True, kw_only=True)
    class Hasty(Recipe):
        optim: Optim = field(default_factory=lambda: Optim(warmup=0.5), metadata={"meaning": "how weights move"})

    shown = {name: default for name, _, default, _ in keys(Hasty)}
    assert float(shown["optim.warmup"]) == 0.5 != Optim().warmup


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_option_of_an_objective_has_a_line_of_meaning(name):
    cls, _ = find(name)
    lines = dict(line.strip().split(": ", 1) for line in cls.__doc__.splitlines() if ": " in line)
    assert set(config.options(cls)) <= set(lines), set(config.options(cls)) - set(lines)


@pytest.mark.parametrize("recipe", [Pretrain(), Finetune(tune={"a": 0.0, ".*": 1.0}), Pretrain(optim=Optim(lr=1.0))])
def test_a_recipe_survives_yaml(recipe):
    text = yaml.safe_dump(plain(recipe))
    assert load(type(recipe), yaml.safe_load(text)) == recipe


def test_arrays_and_paths_become_words():
    made = plain(Pretrain(data=[np.zeros((2, 2))] * 3, out="a"))
    assert yaml.safe_load(yaml.safe_dump(made)) == made
    assert plain(Pretrain(data=Path("a") / "b"))["data"] == str(Path("a") / "b")


def test_a_class_is_written_as_the_import_path_that_finds_it_again():
    """The recipe in a run folder must be enough to repeat the run."""
    cls, _ = find("mae")
    assert find(plain(Pretrain(objective=cls))["objective"]) == (cls, {})
    assert find(plain(Pretrain(objective={"name": cls, "mask": 0.5}))["objective"]) == (cls, {"mask": 0.5})
