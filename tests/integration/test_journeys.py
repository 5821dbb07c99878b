"""From a folder of unlabeled pictures to a saved classifier that answers, in Python and on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch

import visionft as vf
from visionft import backbones
from visionft.cli import main
from visionft.data.sources import read
from visionft.evaluation.conformal import Conformal
from visionft.evaluation.decision import Decision
from visionft.pretraining.run import Pretrained
from visionft.tasks.measure import Finetuned

COUNT, SIDE = 40, 32
FAST: dict[str, Any] = {"size": SIDE, "batch": 8, "precision": "fp32"}


def picture(kind: int, rng: np.random.Generator, side: int = 40) -> np.ndarray:
    """Horizontal or vertical stripes in noise, H W 3."""
    wave = np.sin(np.arange(side) * rng.uniform(0.7, 0.9) + rng.uniform(0, 6))
    shape = wave[:, None] if kind else wave[None, :]
    return (128 + 70 * shape[..., None] + rng.normal(0, 15, (side, side, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> Path:
    """Two class folders of 20 small PNGs each."""
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    for at in range(COUNT):
        place = folder / ("lying" if at % 2 else "standing")
        place.mkdir(exist_ok=True)
        assert cv2.imwrite(str(place / f"{at}.png"), picture(at % 2, rng))
    return folder


@pytest.fixture(scope="module")
def photos(labelled, tmp_path_factory) -> Path:
    """The same pictures in one folder without labels, and a file that is cut off in the middle."""
    folder = tmp_path_factory.mktemp("photos")
    for file in labelled.rglob("*.png"):
        (folder / file.name).write_bytes(file.read_bytes())
    whole = (folder / "0.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


@pytest.fixture(scope="module")
def pretrained(photos, tmp_path_factory) -> Pretrained:
    out = tmp_path_factory.mktemp("runs") / "pre"
    return vf.pretrain(
        str(photos), backbone="test_resnet", weights="none", objective="simclr", steps=6, **FAST, out=str(out)
    )


@pytest.fixture(scope="module")
def tuned(labelled, pretrained, tmp_path_factory) -> Finetuned:
    out = tmp_path_factory.mktemp("runs") / "tuned"
    return vf.finetune(str(labelled), backbone=str(pretrained.out), steps=30, **FAST, out=str(out))


def info(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def files(*folders: Path) -> dict[str, int]:
    """Every file and folder, and when it was last written."""
    return {str(path): path.stat().st_mtime_ns for folder in folders for path in [folder, *folder.rglob("*")]}


def test_a_corrupt_photo_is_skipped_and_listed(pretrained, photos):
    bad = info(pretrained.out)["data"]["bad"]
    assert list(bad) == [str(photos / "cut.png")]
    assert info(pretrained.out)["data"]["images"] == COUNT


def test_a_corrupt_photo_among_labelled_ones_is_an_error_that_names_it(labelled, photos, tmp_path):
    for file in labelled.rglob("*.png"):
        copy = tmp_path / "data" / file.relative_to(labelled)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    broken = tmp_path / "data" / "lying" / "cut.png"
    broken.write_bytes((photos / "cut.png").read_bytes())
    with pytest.raises(vf.DataError, match=r"1 of 41 images .* bad=skip would leave them out:\n  .*lying/cut\.png"):
        vf.finetune(str(tmp_path / "data"), backbone="test_resnet", weights="none", **FAST, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_fine_tuning_goes_on_from_the_pretrained_weights(tuned, pretrained):
    assert info(tuned.out)["start"].endswith(f"tensors from run {pretrained.out}")
    assert info(tuned.out)["backbone"]["name"] == "test_resnet"


def test_what_was_fine_tuned_tells_lying_from_standing(tuned, labelled):
    measured = vf.evaluate(str(tuned.out), data=str(labelled), quiet=True)
    assert measured["accuracy_low"] <= measured["accuracy"] <= measured["accuracy_high"]
    assert measured["accuracy"] > 0.9
    assert {"recall/lying", "recall/standing", "auroc", "log_loss"} <= measured.keys()


def test_photos_of_one_class_are_enough_to_be_judged_by_but_not_to_learn_from(tuned, labelled, tmp_path):
    shutil.copytree(labelled / "lying", tmp_path / "data" / "lying")
    measured = vf.evaluate(str(tuned.out), data=str(tmp_path / "data"), quiet=True)
    assert measured["accuracy"] == measured["recall/lying"] and "auroc" not in measured
    with pytest.raises(vf.DataError, match="only one class"):
        vf.finetune(str(tmp_path / "data"), backbone="test_resnet", weights="none", **FAST, out=str(tmp_path / "run"))


def test_what_is_evaluated_as_decided_are_the_answers_that_are_given(tuned, labelled):
    model = vf.load(str(tuned.out))
    model.decision = Decision.plain(2)
    middle = 1 - float(np.median([one.probability for one in model.predict(str(labelled))]))
    model.decision = Decision(1.0, (1.0, 1e-9), Conformal(0.1, (middle, middle), (10, 10)))  # half of them are unsure
    said = model.predict(str(labelled))
    right = np.mean([one.label == Path(one.image).parent.name for one in said])
    table = read(str(labelled), labelled=True)
    measured = model.evaluate(table)
    assert measured["decided_accuracy"] == pytest.approx(right)
    assert measured["decided_sure"] == pytest.approx(np.mean([not one.unsure for one in said]))
    assert measured["accuracy"] > 0.9 > measured["decided_accuracy"]
    doubted = next(one for one in said if one.unsure)
    assert doubted.cells()["unsure"] == "1" and "unsure" in str(doubted)


def test_a_saved_run_predicts_bit_for_bit_what_it_predicted_in_memory(tuned, labelled):
    assert vf.load(str(tuned.out)).predict(str(labelled)) == tuned.predictor.predict(str(labelled))


def test_the_saved_backbone_gives_the_same_features_in_plain_timm(pretrained):
    file = str(pretrained.out / "backbone.safetensors")
    net = timm.create_model("test_resnet", num_classes=0, checkpoint_path=file).eval()
    images = torch.randint(0, 256, (4, 3, SIDE, SIDE), dtype=torch.uint8)
    backbone = backbones.load(str(pretrained.out)).eval()
    normalised = (images.float() / 255 - torch.tensor(net.pretrained_cfg["mean"]).view(3, 1, 1)) / torch.tensor(
        net.pretrained_cfg["std"]
    ).view(3, 1, 1)
    with torch.no_grad():
        assert torch.equal(net(normalised), backbone(images))


def test_features_come_with_the_names_of_their_images(pretrained, photos, tmp_path):
    out = tmp_path / "features.npz"
    names, array = vf.embed(str(photos), backbone=str(pretrained.out), size=SIDE, out=str(out), quiet=True)
    assert names == [str(photos / f"{at}.png") for at in range(COUNT)]  # cut.png is left out
    assert array.shape == (COUNT, pretrained.backbone.dim) and np.isfinite(array).all()
    with np.load(out) as saved:
        assert saved["names"].tolist() == names
        assert np.array_equal(saved["features"], array)


def test_one_file_a_list_a_folder_and_arrays_get_the_same_answer(tuned, labelled):
    model = vf.load(tuned.out)
    every = sorted((labelled / "lying").glob("*.png"), key=lambda file: int(file.stem))
    colour = [cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB) for file in every]
    expected = [p.probabilities for p in model.predict([str(file) for file in every])]
    assert [p.probabilities for p in model.predict(labelled / "lying")] == expected
    assert [p.probabilities for p in model.predict(colour)] == expected
    assert [p.image for p in model.predict(every)] == [str(file) for file in every]
    single = [model.predict(one)[0] for one in (str(every[0]), every[0], colour[0])]
    for said in single:  # another batch size may round differently
        assert said.probabilities == pytest.approx(expected[0], abs=1e-5)
        assert said.label == max(said.probabilities, key=said.probabilities.__getitem__)
        assert sum(said.probabilities.values()) == pytest.approx(1, abs=1e-6)


def test_a_gray_array_counts_as_the_three_equal_channels_it_stands_for(tuned):
    gray = picture(0, np.random.default_rng(5), side=70)[..., 0]
    model = vf.load(tuned.out)
    answers = [model.predict(image)[0].probabilities for image in (gray, gray[..., None], np.dstack([gray] * 3))]
    assert answers[0] == answers[1] == answers[2]


def test_with_flips_an_image_and_its_mirror_get_the_same_answer_the_mean_of_theirs(labelled, tuned, tmp_path):
    words = {"backbone": str(tuned.out), "tune": "probe", "flips": True, **FAST, "out": str(tmp_path / "run")}
    run = vf.finetune(str(labelled), **words, quiet=True)
    image = picture(0, np.random.default_rng(5))
    mirrored = [np.ascontiguousarray(image[::y, ::x]) for y in (1, -1) for x in (1, -1)]
    model = vf.load(run.out)
    answers = [p.probability for p in model.predict(mirrored)]
    assert answers == pytest.approx([answers[0]] * 4, abs=1e-6)
    model.images["flips"] = 0
    single = np.mean([list(p.probabilities.values()) for p in model.predict(mirrored)], axis=0)
    assert answers[0] == pytest.approx(single.max(), abs=1e-6)


def test_an_unreadable_image_is_named_when_predicting(tuned, photos):
    with pytest.raises(vf.DataError, match=r"cut\.png"):
        vf.predict(str(tuned.out), images=str(photos))
    with pytest.raises(vf.DataError, match=r"nothing\.png"):
        vf.predict(str(tuned.out), images=[str(photos / "nothing.png")])


def test_a_table_brings_its_own_split_and_groups(labelled, tmp_path):
    rows = ["path,label,group,split"]
    for at in range(COUNT):
        label, group = ("lying" if at % 2 else "standing"), ("old" if at % 4 < 2 else "new")
        split = "test" if at < 12 else "val" if at < 20 else "train"
        rows.append(f"{labelled / label / f'{at}.png'},{label},{group},{split}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(rows))
    words = {"backbone": "test_resnet", "weights": "none", "steps": 4, **FAST, "out": str(tmp_path / "run")}
    run = vf.finetune(str(table), **words, quiet=True)
    sizes = info(run.out)["data"]
    assert (sizes["train"], sizes["val"], sizes["test"]) == (20, 8, 12)
    measured = run.metrics["finetuned"]
    by_group = 0.5 * (measured["accuracy/new"] + measured["accuracy/old"])  # six test images each
    assert by_group == pytest.approx(measured["accuracy"])


def test_images_of_five_channels_go_all_the_way(tmp_path):
    rng = np.random.default_rng(0)
    images = [np.dstack([picture(at % 2, rng), picture(at % 2, rng)[..., :2]]) for at in range(COUNT)]
    data = (images, ["lying" if at % 2 else "standing" for at in range(COUNT)])
    words = {"backbone": "test_resnet", "weights": "none", "steps": 30, **FAST, "out": str(tmp_path / "run")}
    run = vf.finetune(data, channels=5, **words, quiet=True)
    assert run.predictor.model.backbone.net.conv1[0].weight.shape[1] == 5
    assert vf.evaluate(str(run.out), data=data, quiet=True)["accuracy"] > 0.9
    assert vf.load(run.out).predict(images[1])[0].label == "lying"


@pytest.mark.parametrize("verb", ["pretrain", "finetune"])
def test_a_dry_run_says_all_and_writes_nothing(verb, labelled, tmp_path, monkeypatch, capsys):
    cache = tmp_path / "cache"
    monkeypatch.setenv("VISIONFT_CACHE", str(cache))
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path, labelled)
    small = [f"size={SIDE}", "batch=8", "steps=5"]
    words = [f"data={labelled}", "backbone=test_resnet", "weights=none", *small, "optim.lr=0.002"]
    assert main([verb, *words, "--dry-run"]) == 0
    assert files(tmp_path, labelled) == before
    said = capsys.readouterr().out
    for fact in (
        "lr: 0.002",
        "steps: 5",
        "what learns, how fast",
        "memory: about",
        "time: about",
        "nothing was written",
    ):
        assert fact in said


def test_the_command_line_makes_the_whole_journey(labelled, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fast = [f"{key}={value}" for key, value in FAST.items()]
    pre, tuned = ["backbone=test_resnet", "weights=none", "objective=simclr", "steps=4"], ["steps=30"]

    assert main(["pretrain", f"data={photos}", *pre, *fast, "out=pre"]) == 0
    said = capsys.readouterr()
    assert said.out.strip() == "pre"
    assert "cut.png" in said.err and f"{COUNT} usable images" in said.err

    assert main(["finetune", f"data={labelled}", "backbone=pre", *tuned, *fast, "out=tuned", "--quiet"]) == 0
    assert capsys.readouterr().out.strip() == "tuned"

    assert main(["evaluate", "tuned", f"data={labelled}"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.9

    pair = [str(labelled / "lying" / "1.png"), str(labelled / "standing" / "2.png")]
    assert main(["predict", "tuned", *pair, "out=said.csv"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == pair
    assert [line[1] for line in lines] == ["lying", "standing"]
    assert Path("said.csv").read_text().splitlines()[0] == "image,label,probability,unsure,plausible,lying,standing"

    assert main(["embed", f"data={photos}", "backbone=pre", f"size={SIDE}", "out=z.npz", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith(f"{COUNT} images, ")

    assert main(["augment", f"data={photos}", "policy=ssl", "rows=2", "count=3", "out=sheet.png", "--quiet"]) == 0
    assert cv2.imread("sheet.png") is not None

    capsys.readouterr()
    assert main(["pretrain", f"data={photos}", "objektive=simclr"]) == 2
    assert "did you mean objective?" in capsys.readouterr().err
