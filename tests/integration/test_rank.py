"""Ranking backbones: those that see the labels come first, test images are not looked at, what is missing is said."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import visionft as vf
from visionft.cli import main
from visionft.journeys import rank as rank_module


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Forty small pictures that differ by brightness, and ten for testing whose labels are wrong."""
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    rows = ["path,label,split"]
    for at in range(50):
        pixels = rng.integers(0, 128, (32, 32, 3)) + 128 * (at % 2)
        assert cv2.imwrite(str(folder / f"{at}.png"), pixels.astype(np.uint8))
        wrong = at >= 40
        rows.append(f"{at}.png,{'bright' if (at % 2) != wrong else 'dark'},{'test' if wrong else 'train'}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def ranked(labelled):
    names = ["test_resnet@none", "test_vit@none", "resnet18"]
    return vf.rank(str(labelled), backbones=names, size=32, quiet=True)


def test_backbones_are_judged_by_labels_that_are_not_for_testing(ranked):
    assert [row["probe"] for row in ranked.rows] == [1.0, 1.0]
    losses = [row["log-loss"] for row in ranked.rows]
    assert losses == sorted(losses)
    assert all(row["low"] <= row["probe"] <= row["high"] and row["ms/image"] > 0 for row in ranked.rows)
    shifts = {row["backbone"]: row["shift"] for row in ranked.rows}
    assert shifts["test_vit@none"] is None and shifts["test_resnet@none"] > 0
    assert "not proven better" in ranked.words


def test_what_cannot_be_had_is_said_and_does_not_stop_the_others(ranked):
    assert list(ranked.missing) == ["resnet18"]
    assert any(line.startswith("resnet18: ") for line in ranked.lines())


def test_the_command_line_takes_names_with_commas(labelled, capsys):
    assert main(["rank", f"data={labelled}", "backbones=test_resnet@none,test_vit@none", "size=32", "--quiet"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["backbone", "probe"]


def test_nothing_to_rank_is_an_error(labelled, capsys):
    with pytest.raises(vf.WeightsError, match="no_such_net"):
        vf.rank(str(labelled), backbones=["no_such_net"], size=32, quiet=True)
    with pytest.raises(vf.ConfigError, match="backbones is empty"):
        vf.rank(str(labelled), backbones=[], size=32, quiet=True)


@pytest.mark.parametrize("by_group", [False, True])
@pytest.mark.parametrize("seed", [0, 3, 4])
def test_images_that_fine_tuning_will_test_on_are_not_looked_at(labelled, tmp_path, monkeypatch, by_group, seed):
    rows = [f"{labelled.parent}/{at}.png,{('dark', 'bright')[at % 2]},day {at * 7 % 40 // 5}" for at in range(37)]
    table = tmp_path / "table.csv"
    table.write_text("path,label,group\n" + "\n".join(rows))
    words = {"size": 32, "seed": seed, "by_group": by_group, "quiet": True}
    tested = vf.finetune(
        str(table), backbone="test_resnet", weights="none", tune="probe", out=str(tmp_path / "run"), **words
    )
    seen = []
    monkeypatch.setattr(
        rank_module, "_first", lambda some, recipe: seen.append(some.table) or torch.zeros(1, 3, 32, 32)
    )
    vf.rank(str(table), backbones=["test_vit@none"], **words)
    names = {record.name for record in seen[0]}
    assert not names & {record.name for record in tested.test.table}
    assert len(names) == 37 - len(tested.test.table)
    assert not by_group or not set(seen[0].groups) & set(tested.test.table.groups)
