"""A column becomes what it holds, every cell is read or named, and unknown is not the same as no."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from visionft.config import load
from visionft.data import asked
from visionft.data.records import Row, Table
from visionft.data.sources import read
from visionft.data.strata import stratified
from visionft.data.targets import Classes, Flags, Levels, Number, encode, of
from visionft.errors import ConfigError, DataError
from visionft.recipe import Finetune


def table(**columns: list[str]) -> Table:
    """A table in memory: its line numbers are those that a file of the same rows would have."""
    count = len(next(iter(columns.values())))
    from dataclasses import replace

    blank = Table.of([f"{at}.png" for at in range(count)], source="parts.csv")
    rows = [Row(at + 2, {name: column[at] for name, column in columns.items()}) for at in range(count)]
    return replace(blank, records=tuple(replace(r, row=row) for r, row in zip(blank, rows, strict=True)))


def infer(kind="auto", **column: list[str]):
    (name,) = column
    return asked.infer(table(**column), {name: kind})[0]


def values(target, cells: list[str]) -> np.ndarray:
    return encode([target], table(**{target.column: cells}))


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["0", "1", "1", ""], Flags("x", names=("x",))),
        (["True", "False", "True", "False"], Flags("x", names=("x",))),
        (["dent|scratch", "", "scratch", "dent"], Flags("x", names=("dent", "scratch"), listed=True)),
        (["0.1", "7.3", "2", ""], Number("x")),
        (["1e3", "-2", "+4", ".5"], Number("x")),
        ([str(n) for n in range(40)], Number("x")),
        (["5", "1", "3.0", "3"], Levels("x", names=("1", "3", "5"))),
        (["10", "9", "2", "1"], Levels("x", names=("1", "2", "9", "10"))),
        (["red", "blue", "red", "10"], Classes("x", names=("10", "blue", "red"))),
    ],
)
def test_what_a_column_holds_is_told_from_its_cells(cells, wanted):
    assert infer(x=cells) == wanted


def test_what_it_should_count_as_can_be_said():
    grades = ["3", "1", "2", "3"]
    assert infer("classes", x=grades) == Classes("x", names=("1", "2", "3"))
    assert infer("number", x=grades) == Number("x")
    assert infer("flags", x=["dent", "", "scratch", "dent"]).listed
    assert infer(["low", "mid", "high"], x=["mid", "low", "high", "low"]) == Levels("x", names=("low", "mid", "high"))


def test_cells_become_numbers_and_gaps_become_nan():
    assert values(Flags("x", names=("a", "b"), listed=True), ["b", "", "?", "a|b"]).tolist()[:2] == [[0, 1], [0, 0]]
    assert np.isnan(values(Flags("x", names=("a", "b"), listed=True), ["?"])).all()
    assert values(Flags("x", names=("x",)), ["yes", "0", "1.0"])[:, 0].tolist() == [1, 0, 1]
    assert values(Levels("x", names=("1", "2", "10")), ["10", "2.0"])[:, 0].tolist() == [2, 1]
    for target in (Flags("x", names=("x",)), Number("x"), Levels("x", names=("1", "2")), Classes("x", names=("a",))):
        assert math.isnan(values(target, [""])[0, 0])


@pytest.mark.parametrize("cell", ["n/a", "nan", "NaN", "inf", "-Infinity", "1_000", "0x10", "1e999", "3,5"])
def test_what_is_no_finite_number_is_named_with_file_line_and_column(cell):
    cells = ["1.5", "2.5", cell, "4.5", "", cell]
    for target in (lambda: infer(depth=cells), lambda: infer("number", depth=cells)):
        with pytest.raises(DataError) as caught:
            target()
        for word in ("parts.csv", "column depth", "2 values", "line 4, 7", cell):
            assert word in str(caught.value)
    if cell == "3,5":
        with pytest.raises(DataError, match=r"write 3\.5"):
            infer("number", depth=cells)


def test_a_name_that_is_not_among_the_known_ones_is_refused_where_it_stands():
    for target in (Classes("x", names=("a", "b")), Flags("x", names=("a", "b"), listed=True)):
        with pytest.raises(DataError, match=r"line 3.*'c' is not among a, b"):
            values(target, ["a", "c"])
    with pytest.raises(DataError, match="neither 1 nor 0"):
        values(Flags("x", names=("x",)), ["1", "2"])


def test_a_column_that_is_not_there_names_the_nearest():
    with pytest.raises(DataError, match=r"no column 'depht_mm'; did you mean depth_mm\?"):
        asked.infer(table(depth_mm=["1", "2"], grade=["1", "2"]), {"depht_mm": "auto"})
    with pytest.raises(DataError, match="columns are those of a CSV"):
        asked.infer(Table.of(["a.png"], source="photos"), {"depth": "auto"})


@pytest.mark.parametrize("cells", [["1", "1", "1"], ["a", "a", ""], ["", "", ""], ["2.5", "2.5", "2.50"]])
def test_a_column_that_says_the_same_of_every_image_is_refused(cells):
    with pytest.raises(DataError, match=r"column x (says the same of every image|is empty)"):
        infer(x=cells)


def test_columns_can_be_named_in_several_ways_in_any_order():
    wanted = {"a": "number", "b": "auto"}
    assert asked.columns({"a": "number", "b": "auto"}) == wanted
    for words in (["target=b,a", "target.a=number"], ["target=[a, b]", "target.a=number"]):
        assert asked.columns(load(Finetune, *words).target) == wanted
    assert list(asked.columns(["b", "a"])) == ["a", "b"]
    assert asked.columns("depth") == {"depth": "auto"}


@pytest.mark.parametrize(
    ("target", "word"),
    [("a,a", "twice"), ({"name": "a", "b": "number"}, r"target\.b is not among"),
     ({"a": "nmber"}, "did you mean number"), (3, "names no columns"),
     ([], "names no columns"), ("a,,b", "names no columns")],
)  # fmt: skip
def test_a_target_that_makes_no_sense_is_refused(target, word):
    with pytest.raises(ConfigError, match=word):
        asked.columns(target)


def test_what_was_found_is_said_in_words():
    t = table(depth=["0.1", "7.3", ""], dent=["1", "0", "0"], grade=["2", "1", "3"], found=["a|b", "", "?"])
    said = [
        asked.words(target, t) for target in asked.infer(t, dict.fromkeys(("depth", "dent", "grade", "found"), "auto"))
    ]
    assert said[0] == "depth: a number, 0.1 to 7.3; 1 of 3 unknown"
    assert said[1] == "dent: a flag, 1 of 3 set"
    assert said[2].startswith("grade: levels, 1 < 2 < 3")
    assert said[3] == "found: flags a, b; an empty cell is none of them, ? is unknown; 1 of 3 unknown"


def test_a_number_knows_mean_and_deviation_of_the_training_images_alone():
    target = Number("x").learnt_from(np.array([[1.0], [np.nan], [3.0], [5.0]]))
    assert (target.mean, target.scale, target.known) == (3.0, pytest.approx(math.sqrt(8 / 3)), 0.75)
    with pytest.raises(DataError, match="no two different numbers"):
        Number("x").learnt_from(np.array([[1.0], [1.0]]))


@pytest.mark.parametrize(
    "target",
    [Classes("x", 0.5, ("a", "b")), Flags("x", names=("a",), listed=True), Number("x", 1.0, 2.0, 3.0),
     Levels("x", names=("1", "2"))],
)  # fmt: skip
def test_what_is_written_is_what_is_read(target):
    assert of(json.loads(json.dumps(target.facts()))) == target


def test_images_in_memory_have_columns_too():
    images = [np.full((4, 4, 3), at, np.uint8) for at in range(3)]
    found = read((images, {"depth": [1.5, None, float("nan")], "marks": [["a"], [], None]}), labelled=False)
    assert [r.row.cells["depth"] for r in found] == ["1.5", "", ""]
    assert [r.row.cells["marks"] for r in found] == ["a", "", "?"]
    with pytest.raises(DataError, match="3 images but 2 values of depth"):
        read((images, {"depth": [1, 2]}), labelled=False)
    with pytest.raises(DataError, match="target=NAME"):
        read((images, {"depth": [1, 2, 3]}), labelled=True)


def strata(**columns: list[str]) -> list[int]:
    t = table(**columns)
    targets = asked.infer(t, dict.fromkeys(sorted(columns), "auto"))
    return stratified(t, targets, encode(targets, t)).labels.tolist()


def test_strata_are_classes_else_the_rarest_flag_else_levels_else_fifths():
    kinds = ["a", "b"] * 5
    assert strata(kind=kinds, depth=[f"{at}.5" for at in range(10)]) == [0, 1] * 5
    marks = ["x|y"] * 3 + ["x"] * 4 + [""] * 3
    assert strata(marks=marks) == [2] * 3 + [1] * 4 + [0] * 3
    assert strata(x=["1"] * 7 + ["0"] * 3, y=["1"] * 3 + ["0"] * 7) == [2] * 3 + [1] * 4 + [0] * 3
    depth = [f"{at}.5" for at in range(25)]
    assert strata(depth=depth) == [at // 5 for at in range(25)]


def test_a_stratum_of_too_few_images_joins_the_commonest():
    assert strata(kind=["a"] * 5 + ["b"] * 4 + ["c"] * 2) == [0] * 5 + [1] * 4 + [0] * 2
