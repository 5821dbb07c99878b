"""From a table with several columns to a network that answers them all, in Python and on the command line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

import visionft as vf
from visionft.cli import main
from visionft.data.sources import read
from visionft.recipe import Finetune
from visionft.tasks.run import finetune

COUNT, SIDE = 96, 32
WORDS: dict[str, Any] = {
    "backbone": "test_resnet", "weights": "none", "size": SIDE, "batch": 16, "precision": "fp32", "val": 0.3,
}  # fmt: skip
REMEDY = {"none": {}, "l2sp": {"weight": 10.0}, "replay": {"every": 4}}
COLUMNS = "scratch,marks,depth_mm,grade,kind"


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> Path:
    """Pictures whose brightness is their depth and grade, with lines (scratch) and blobs; some depths are unknown."""
    folder, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    rows = [["path", "scratch", "marks", "depth_mm", "grade", "kind", "note"]]
    for at in range(COUNT):
        bright, line, blob = rng.uniform(40, 210), at % 2, int(rng.random() < 0.4)
        image = rng.normal(bright, 8, (40, 40, 3))
        image[:: 6 if line else 100] -= 60
        image[10:25, 10:25] += 60 * blob
        assert cv2.imwrite(str(folder / f"{at}.png"), image.clip(0, 255).astype(np.uint8))
        marks = "|".join(name for name, there in (("line", line), ("blob", blob)) if there)
        depth = "" if at % 8 == 3 else f"{bright / 30:.3f}"
        rows.append([f"{at}.png", str(line), marks, depth, str(1 + int(bright // 60)), "ab"[blob], ""])
    rows.append([*rows[1][:1], "", "?", "", "", "", ""])
    with (folder / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "parts.csv"


def info(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


@pytest.fixture(scope="module")
def tuned(parts, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tuned"
    words = {**WORDS, "steps": 12, "eval_every": 4, "out": str(out)}
    return vf.finetune(str(parts), target=COLUMNS, **words, **{"optim.lr": 1e-4}, quiet=True)


def test_every_column_is_learnt_and_stands_beside_its_floor(tuned):
    assert list(tuned.metrics) == ["probe", "finetuned"]
    for found in tuned.metrics.values():
        assert found["depth_mm/r2"] > 0.9 and found["depth_mm/spearman"] > 0.9
        assert found["grade/kappa"] > 0.7 and found["scratch/auroc"] > 0.9
        assert found["depth_mm/r2_low"] <= found["depth_mm/r2"] <= found["depth_mm/r2_high"]
        assert {"log_loss", "kind/accuracy", "marks/line/average_precision", "mean_average_precision"} <= found.keys()
    assert tuned.metrics["finetuned"]["depth_mm/half_width"] > 0


def test_a_row_of_which_nothing_is_known_is_left_out_and_said(parts, tmp_path, capsys):
    run = vf.finetune(str(parts), target=COLUMNS, tune="probe", **WORDS, out=str(tmp_path / "run"))
    said = capsys.readouterr().err
    assert f"1 of {COUNT + 1} images have none of these values and are left out" in said
    assert "depth_mm: a number, " in said and "marks: flags blob, line; an empty cell is none of them" in said
    sizes = info(run.out)["data"]
    assert sizes["train"] + sizes["val"] + sizes["test"] == COUNT


def test_a_saved_run_says_bit_for_bit_what_it_said_in_memory(tuned, parts):
    ours, theirs = vf.load(str(tuned.out)).predict(str(parts)), tuned.predictor.predict(str(parts))
    assert ours == theirs
    first = ours[0]
    assert list(first.values) == sorted(COLUMNS.split(","))
    assert first.values["depth_mm"].low < first["depth_mm"] < first.values["depth_mm"].high
    assert first["scratch"] in (True, False) and first["grade"] in "1234" and set(first["marks"]) <= {"line", "blob"}
    assert sum(first.values["grade"].probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_numbers_are_said_in_the_unit_of_the_column_and_levels_in_its_words(tuned, parts):
    table = read(str(parts), labelled=False)
    said = vf.load(tuned.out).predict(str(parts))
    truth = np.array([float(r.row.cells["depth_mm"] or "nan") for r in table])
    error = np.array([answer["depth_mm"] for answer in said]) - truth
    assert np.nanmean(np.abs(error)) < 0.6  # of 1.3 to 7 mm


def test_what_evaluate_says_of_the_test_images_is_what_the_run_says(tuned, parts, tmp_path):
    names = {Path(record.name).name for record in tuned.dealt.parts.test.table}
    lines = parts.read_text().splitlines()
    kept = [line for line in lines[1:] if line.split(",")[0] in names][: len(names)]
    table = parts.with_name("test.csv")
    table.write_text("\n".join([lines[0], *kept]))
    found = vf.evaluate(str(tuned.out), data=str(table), quiet=True)
    wanted = tuned.metrics["finetuned"]
    assert found.keys() == wanted.keys()
    for name in ("log_loss", "depth_mm/mae", "grade/kappa", "scratch/f1", "marks/mean_average_precision"):
        assert found[name] == pytest.approx(wanted[name], abs=1e-5)
    table.write_text("path,scratch\n0.png,1\n1.png,0\n")
    with pytest.raises(vf.DataError, match="has no column 'depth_mm'"):
        vf.evaluate(str(tuned.out), data=str(table), quiet=True)


def test_the_order_of_the_columns_and_of_the_rows_changes_nothing(parts, tuned, tmp_path):
    words = {**WORDS, "steps": 12, "eval_every": 4, "optim.lr": 1e-4, "out": str(tmp_path / "run")}
    again = vf.finetune(str(parts), target=list(reversed(COLUMNS.split(","))), **words, quiet=True)
    ours, theirs = (load_file(run.out / "model.safetensors") for run in (again, tuned))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert again.metrics == tuned.metrics


def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(parts, tuned, tmp_path):
    out = tmp_path / "run"
    words = {**WORDS, "steps": 12, "eval_every": 4, "save_every": 1, "optim.lr": 1e-4, "out": str(out)}

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 6 and not again:
            raise RuntimeError("pulled the plug")

    words["log_every"] = 1
    again = False
    with pytest.raises(RuntimeError, match="plug"):
        vf.finetune(str(parts), target=COLUMNS, **words, log=[stop], quiet=True)
    assert (out / "resume" / "last").is_file() and not (out / "run.json").is_file()
    text = parts.read_text()
    try:
        parts.write_text(text.replace("0.png,0,", "0.png,1,", 1))
        with pytest.raises(vf.ConfigError, match="on other images"):  # the same pictures, something else known of one
            vf.finetune(str(parts), target=COLUMNS, **words, quiet=True)
    finally:
        parts.write_text(text)
    again = True
    done = vf.finetune(str(parts), target=COLUMNS, **words, quiet=True)
    assert done.fitted.steps == tuned.fitted.steps
    ours, theirs = (load_file(run.out / "model.safetensors") for run in (done, tuned))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_test_images_choose_nothing(parts, tuned, tmp_path):
    """What is known of the test images is turned upside down: weights, cuts and intervals stay."""
    names = {Path(record.name).name for record in tuned.dealt.parts.test.table}
    split = {Path(r.name).name: name for name in ("train", "val", "test")
             for r in getattr(tuned.dealt.parts, name).table}  # fmt: skip
    runs = []
    for turned in (False, True):
        lines = parts.read_text().splitlines()
        rows = [f"{lines[0]},split"]
        for line in lines[1:-1]:
            cells = line.split(",")
            if turned and cells[0] in names:
                cells[1], cells[3] = str(1 - int(cells[1])), "1.234"
            rows.append(",".join([*cells, split[cells[0]]]))
        table = parts.with_name(f"turned-{turned}.csv")
        table.write_text("\n".join(rows))
        words = {**WORDS, "steps": 4, "out": str(tmp_path / str(turned))}
        runs.append(vf.finetune(str(table), target="scratch,depth_mm", **words, quiet=True))
    ours, theirs = (load_file(run.out / "model.safetensors") for run in runs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert info(runs[0].out)["rules"] == info(runs[1].out)["rules"]
    assert runs[0].metrics["finetuned"]["depth_mm/mae"] < runs[1].metrics["finetuned"]["depth_mm/mae"]


def test_another_metric_can_be_watched(parts, tmp_path):
    words = {**WORDS, "steps": 4, "eval_every": 2, "out": str(tmp_path / "run")}
    run = vf.finetune(str(parts), target="depth_mm,grade", metric="grade/kappa", average=True, **words, quiet=True)
    assert "grade/kappa" in run.fitted.metrics
    words["out"] = str(tmp_path / "other")
    with pytest.raises(vf.ConfigError, match="metric=depth_mm/mae is not among"):
        vf.finetune(str(parts), target="depth_mm", metric="depth_mm/mae", **words, quiet=True)


def test_training_that_is_proven_to_have_made_it_worse_does_not_answer(parts, tmp_path, capsys):
    words = {**WORDS, "steps": 4, "optim.lr": 1.0, "out": str(tmp_path / "run")}
    run = vf.finetune(str(parts), target="depth_mm,scratch", **words)
    assert "training made it worse" in capsys.readouterr().err
    assert run.fitted.best_step == 0 and run.metrics["finetuned"]["depth_mm/r2"] > 0.9
    assert "the weights of the start were kept" in (run.out / "report.html").read_text()
    said = vf.load(run.out).numbers(run.dealt.parts.test.pixels)
    assert np.allclose(said, run.said["finetuned"], atol=1e-6)


def test_images_in_memory_with_columns_and_a_backbone_that_goes_on(tuned, tmp_path):
    rng = np.random.default_rng(1)
    bright = rng.uniform(40, 210, 40)
    images = [rng.normal(b, 5, (40, 40, 3)).clip(0, 255).astype(np.uint8) for b in bright]
    words = {"backbone": str(tuned.out), "size": SIDE, "tune": "probe", "out": str(tmp_path / "run")}
    run = vf.finetune((images, {"bright": bright.tolist()}), target="bright", **words, quiet=True)
    probe, said = run.metrics["probe"]["bright/mae"], run.metrics["finetuned"]["bright/mae"]
    assert said == pytest.approx(probe, abs=0.05)  # of 170: the heads are the probe, up to rounding
    assert info(run.out)["start"].endswith(f"from run {tuned.out}")
    assert vf.load(run.out).predict(images[0])[0]["bright"] == pytest.approx(bright[0], abs=25)


def test_an_adapter_learns_beside_a_frozen_network(parts, tmp_path):
    words = {**WORDS, "steps": 3, "adapter": "lora", "optim.lr": 1e-4, "out": str(tmp_path / "run")}
    run = vf.finetune(str(parts), target="scratch,grade", **words, quiet=True)
    assert (run.out / "adapter" / "adapter_model.safetensors").is_file()
    assert vf.load(run.out).predict(str(parts)) == run.predictor.predict(str(parts))


def test_a_refit_of_columns_learns_from_the_validation_images_for_as_many_passes(parts, tmp_path):
    words = {**WORDS, "target": "scratch,grade,depth_mm", "steps": 6, "val": 0.3, "refit": True, "quiet": True}
    run = vf.finetune(str(parts), **{**words, "tune": "full", "out": str(tmp_path / "run")})
    sizes = run.dealt.parts.sizes()
    assert run.fitted.steps == round(6 * (sizes["train"] + sizes["val"]) / sizes["train"]) > 6
    assert not (run.out / "refit" / "resume").exists()
    assert vf.load(run.out).predict(str(parts)) == run.predictor.predict(str(parts))
    worse = vf.finetune(str(parts), **{**words, "optim.lr": 1.0, "out": str(tmp_path / "worse")})
    assert worse.fitted.best_step == 0  # what answers is a probe of all images that may be looked at
    assert np.allclose(worse.said["finetuned"], worse.said["probe"], rtol=0.05, atol=0.05)  # features in bf16


@pytest.mark.parametrize("keep", REMEDY)
def test_columns_say_what_is_forgotten_and_remedies_hold_them_nearer_to_the_start(keep, forgot, parts):
    run, plain = forgot(keep), forgot("none")
    found = info(run.out)["forgetting"]
    assert found["target"] == "minus the loss"
    assert [row["share"] for row in found["sweep"]] == [0, 0.25, 0.5, 0.75, 1]
    loss = -found["sweep"][-1]["target"]
    val = run.dealt.parts.val
    said = elements_of(run, run.predictor.numbers(val.pixels, quick=True), run.dealt.values(val))
    assert loss == pytest.approx(said, rel=1e-6)
    assert "new task (minus the loss, validation)" in (run.out / "report.html").read_text()
    assert load_file(run.out / "model.safetensors").keys() == load_file(plain.out / "model.safetensors").keys()
    drift = info(plain.out)["forgetting"]["saved"]["drift"]
    assert drift > 0
    assert keep == "none" or found["saved"]["drift"] < drift
    assert vf.load(run.out).predict(str(parts)) == run.predictor.predict(str(parts))


def elements_of(run, said, values) -> float:
    """The mean loss of an image by hand: of a flag and of a standardised number, over what is known of it."""
    place = {target.column: at for at, target in enumerate(run.dealt.targets)}
    flag, line = said[:, place["scratch"]], values[:, place["scratch"]]
    entropy = -np.log(np.where(line == 1, flag, 1 - flag))
    depth = run.dealt.targets[place["depth_mm"]]
    far = torch.from_numpy((said - values)[:, place["depth_mm"]] / depth.scale)
    huber = F.smooth_l1_loss(far, torch.zeros_like(far), reduction="none").numpy()
    return float(np.nanmean(np.stack([entropy, huber], 1), axis=1).mean())


@pytest.fixture(scope="module")
def forgot(parts, tmp_path_factory):
    """Runs of two columns that are judged by retained photos, by remedy."""
    folder, rng = tmp_path_factory.mktemp("known"), np.random.default_rng(5)
    for at in range(24):
        cv2.imwrite(str(folder / f"{at}.png"), rng.integers(0, 255, (40, 40, 3), np.uint8))
    made = {}

    def run(keep: str):
        if keep not in made:
            choice = {"l2sp": {"name": "l2sp", "weight": 10.0}, "replay": {"name": "replay", "every": 4}}.get(
                keep, keep
            )
            words = {
                **WORDS,
                "target": "scratch,depth_mm",
                "tune": "full",
                "steps": 8,
                "optim.lr": 3e-3,
                "keep": choice,
            }
            out = tmp_path_factory.mktemp(keep) / "run"
            made[keep] = vf.finetune(str(parts), **words, retained=str(folder), out=str(out), quiet=True)
        return made[keep]

    return run


@pytest.mark.parametrize(
    ("words", "message"),
    [({"tune": "auto"}, "tune=auto is for one label"), ({"folds": 3, "refit": True}, "exclude each other"),
     ({"refit": True, "optim.schedule": "plateau"}, "plateau"), ({"keep": "replay"}, "retained=photos/"),
     ({"keep": "l2sp", "adapter": "lora"}, "leave adapter out"), ({"sampler": "balanced"}, "sampler is for one label"),
     ({"task": "mae"}, "leave task out"),
     ({"task.balance": "weights"}, "no key task.balance"), ({"tune": "probe", "adapter": "lora"}, "adapter"),
     ({"data": None}, "data is missing")],
)  # fmt: skip
def test_what_columns_do_not_go_with_is_refused_before_anything_is_read(words, message, tmp_path):
    with pytest.raises(vf.ConfigError, match=message):
        vf.finetune(**{"data": "nowhere.csv", "target": "depth_mm", "out": str(tmp_path / "run"), **words}, quiet=True)


def test_what_asks_for_one_label_refuses_a_run_of_columns_and_the_other_way_round(tuned, parts, tmp_path):
    with pytest.raises(vf.CheckpointError, match="has learnt columns of a table"):
        vf.Predictor.load(tuned.out)
    with pytest.raises(vf.ConfigError, match="columns"):
        finetune(Finetune(data=str(parts), target="grade", out=str(tmp_path / "run")))


def test_a_missing_column_is_named_before_any_image_is_opened(parts, tmp_path):
    with pytest.raises(vf.DataError, match=r"no column 'depth'; did you mean depth_mm\?"):
        vf.finetune(str(parts), target="depth", **WORDS, out=str(tmp_path / "run"), quiet=True)
    assert not (tmp_path / "run").exists()


def test_without_test_images_everything_else_is_there(parts, tmp_path):
    run = vf.finetune(str(parts), target="depth_mm,grade", tune="probe", test=0, **WORDS, out=str(tmp_path), quiet=True)
    assert run.metrics == {"probe": {}, "finetuned": {}}
    assert vf.load(tmp_path).rules["depth_mm"].half > 0


def test_groups_stay_together(parts, tmp_path):
    lines = parts.read_text().splitlines()
    table = parts.with_name("groups.csv")
    rows = [f"{lines[0]},patient", *(f"{line},p{at // 4}" for at, line in enumerate(lines[1:-1]))]
    table.write_text("\n".join(rows))
    words = {**WORDS, "tune": "probe", "by_group": True, "out": str(tmp_path / "run")}
    run = vf.finetune(str(table), target="depth_mm,scratch", **words, quiet=True)
    sides = [{r.group for r in getattr(run.dealt.parts, name).table} for name in ("train", "val", "test")]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])


def test_the_command_line_makes_the_whole_journey(parts, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fast = [f"{key}={value}" for key, value in WORDS.items()]
    target = ["target=scratch,grade", "target.grade=number"]
    words = ["finetune", f"data={parts}", *target, *fast, "steps=4", "out=run"]
    assert main([*words, "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out and not (tmp_path / "run").exists()
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out.strip() == "run" and "grade: a number, 1 to 4" in said.err
    assert main(["evaluate", "run", f"data={parts}", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["grade/r2"] > 0.5
    pair = [str(parts.with_name("0.png")), str(parts.with_name("1.png"))]
    assert main(["predict", "run", *pair, "out=said.csv"]) == 0
    assert "scratch: " in capsys.readouterr().out
    with Path("said.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == pair
    assert [*rows[0]] == ["image", "grade", "grade/low", "grade/high", "scratch", "scratch/probability"]
    assert float(rows[0]["grade/low"]) < float(rows[0]["grade"]) < float(rows[0]["grade/high"])
    report = Path("run/report.html").read_text()
    assert "Predicted over true grade" in report and "quadratic" not in report and "<h2>scratch</h2>" in report
