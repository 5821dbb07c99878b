"""Every recipe in configs/ loads, dry-runs, and says at its top how it is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from visionft.cli import _verb, main
from visionft.commands import COMMANDS

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))

TRAINED = [c for c in CONFIGS if c.parent.name != "inspect"]

every_config = pytest.mark.parametrize("config", CONFIGS, ids=[str(c.relative_to(ROOT / "configs")) for c in CONFIGS])


def command(config: Path) -> list[str]:
    """The words of the command in the head comment."""
    first = config.read_text().splitlines()[0]
    assert first.startswith("# visionft "), "the first line should be `# visionft VERB configs/... data=...`"
    verb, words = _verb(shlex.split(first.removeprefix("# visionft ")))
    return [verb, *words]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Three class folders of 12 small pictures, and a table of them that knows the columns of all recipes."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    rows = ["path,scratch,dent,depth_mm,grade"]
    for at in range(36):
        place = folder / "abc"[at % 3]
        place.mkdir(exist_ok=True)
        assert cv2.imwrite(str(place / f"{at}.png"), rng.integers(0, 256, (48, 48, 3), dtype=np.uint8))
        rows.append(f"{place.name}/{at}.png,{at % 2},{at % 3 // 2},{at / 10},{1 + at % 5}")
    (folder / "parts.csv").write_text("\n".join(rows))
    return folder


def test_there_are_recipes_to_start_from():
    assert {config.parent.name for config in CONFIGS} >= {"pretrain", "finetune"}


@every_config
def test_a_recipe_is_short_and_names_its_command(config):
    assert len(config.read_text().splitlines()) <= 25
    verb, file, *words = command(config)
    assert verb in COMMANDS
    assert (ROOT / file).samefile(config)
    assert any(re.fullmatch(r"data=\S+", word) for word in words) or "data" in yaml.safe_load(config.read_text())


@pytest.mark.parametrize("config", TRAINED, ids=[str(c.relative_to(ROOT / "configs")) for c in TRAINED])
def test_a_recipe_dry_runs_and_writes_nothing(config, labelled, tmp_path, monkeypatch, capsys):
    """On a few small images at 64 pixels, with random weights where the recipe would ask the network for some."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONFT_CACHE", str(tmp_path / "cache"))
    verb, *_ = command(config)
    recipe = yaml.safe_load(config.read_text())
    local = str(recipe.get("weights", "")).startswith("package:")
    weights = [] if local else ["weights=none"]
    data = labelled / "parts.csv" if "target" in recipe else labelled
    words = [str(config), f"data={data}", "size=64", "batch=6", "steps=2", "precision=fp32", *weights]
    assert main([verb, *words, "--dry-run"]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "what learns, how fast" in said and "nothing was written" in said
    assert not [*tmp_path.iterdir()]
    resolved = yaml.safe_load(said.split("\n\n")[0])
    kept = {key: value for key, value in recipe.items() if key not in ("size", "batch", "optim", "epochs", "weights")}
    assert {key: resolved[key] for key in kept} == kept
    optim = {key: float(value) for key, value in recipe.get("optim", {}).items()}
    assert {key: resolved["optim"][key] for key in optim} == optim


@pytest.mark.parametrize("config", sorted((ROOT / "configs/inspect").glob("*.yaml")), ids=lambda config: config.name)
def test_an_inspection_dry_runs_and_writes_nothing(config, labelled, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VISIONFT_CACHE", str(tmp_path / "cache"))
    assert main(["inspect", "fit", str(config), f"data={labelled / 'a'}", "false_reject=0.1", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "to learn, from 12 images" in said and "nothing was written" in said and not [*tmp_path.iterdir()]
