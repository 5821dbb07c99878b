"""What a pretraining run starts from."""

from __future__ import annotations

import dataclasses
import shutil

import cv2
import pytest
import torch

from visionft import norms, tuning
from visionft.data.records import Table
from visionft.data.scan import scan
from visionft.errors import ConfigError, DataError
from visionft.evaluation.worth import Labelled
from visionft.log import Console
from visionft.pretraining.run import pretrain, rehearse
from visionft.pretraining.start import setup
from visionft.pretraining.watch import Watch
from visionft.recipe import Optim, Pretrain

QUIET = Console(quiet=True)


@pytest.fixture
def recipe(pixels, tmp_path):
    """A short run on the small images."""

    def make(**words) -> Pretrain:
        given = {"backbone": "test_resnet", "weights": "none", "size": 32, "batch": 8, "steps": 2, "precision": "fp32"}
        data = {"data": Table.of(pixels), "out": str(tmp_path / "run"), "cache": "off"}
        return Pretrain(**{**data, **given, **words})

    return make


@pytest.mark.parametrize("objective", ["simclr", "dino", "mae"])
@torch.no_grad()
def test_batched_augmentation_trains_on_the_same_pictures(recipe, objective):
    words = {"backbone": "test_vit" if objective == "mae" else "test_resnet", "objective": objective}
    losses = {}
    for batched in ("no", "yes"):
        run = setup(recipe(batched=batched, **words), QUIET)
        device = torch.device("cpu")
        items = [run.training[i] for i in range(8)]
        batch = {key: value.to(device) for key, value in run.training.collate(items).items()}
        losses[batched] = float(run.model.eval()(batch)["loss"])
    assert losses["yes"] == pytest.approx(losses["no"], rel=1e-2)


def test_a_batched_run_trains_and_can_be_rehearsed(recipe):
    assert any("steps: 2" in line for line in rehearse(recipe(batched="yes", objective="dino"), console=QUIET))
    done = pretrain(recipe(batched="yes", objective="dino"), console=QUIET)
    assert (done.out / "run.json").is_file()


def test_policies_that_cannot_be_batched_are_named(recipe):
    views = {"views": {"policy": "medium"}}
    with pytest.raises(ConfigError, match="cannot draw the views views"):
        setup(recipe(batched="yes", views=views), QUIET)
    assert setup(recipe(batched="auto", views=views), QUIET).training.recorders == {}


def test_batch_norms_stay_as_they_are_when_they_come_with_the_weights(recipe, tmp_path):
    first = pretrain(recipe(), console=QUIET)
    assert "batch norms" not in setup(recipe(), QUIET).about
    words = {"backbone": str(first.out), "weights": "auto", "average": False, "out": str(tmp_path / "second")}
    made = dataclasses.replace(recipe(objective="byol"), **words)
    assert "Its batch norms stay as they are." in setup(made, QUIET).about
    second = pretrain(made, console=QUIET)
    before, after = first.backbone.state_dict(), second.backbone.state_dict()
    norms = {n for n, m in first.backbone.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not {name for name in moved if name.rpartition(".")[0] in norms}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_teachers_batch_norms_do_what_the_students_do(recipe, frozen):
    run = setup(recipe(objective="dino", batchnorm="frozen" if frozen else "train"), QUIET)
    tuning.groups(run.model, run.recipe)
    norms.settle(run.model)
    batch = run.training.collate([run.training[i] for i in range(8)])
    run.model(batch)
    pairs = [(m, run.model.teacher.get_submodule(n)) for n, m in run.model.named_modules()
             if isinstance(m, torch.nn.modules.batchnorm._BatchNorm) and n.startswith("backbone.")]  # fmt: skip
    assert pairs
    for student, teacher in pairs:
        assert student.training == teacher.training == (not frozen)
    assert not any(m.training for m in run.model.eval().teacher.like(run.model).modules())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"batch": 8, "accumulate": 8}, "compares the images of a batch, and batch=8 in 8 parts leaves it one"),
        ({"batch": 1, "objective": "vicreg"}, "compares the images of a batch, and batch=1 in 1 part leaves"),
        ({"views": {"views": {"count": 3}}}, "SimCLR does not work on test_resnet at 32 pixels as asked"),
        ({"views": {"views": {"count": 0}}}, "count=0 images makes no sense"),
        (
            {"objective": {"name": "mae", "width": 100, "heads": 3}, "backbone": "test_vit"},
            "mae does not work on test_vit",
        ),
        ({"objective": "classify"}, "classify does not work on test_resnet"),
    ],
)
def test_what_cannot_be_computed_is_refused_before_a_folder_is_begun(recipe, tmp_path, words, said):
    with pytest.raises(ConfigError, match=said):
        pretrain(recipe(**words), console=QUIET)
    assert not (tmp_path / "run").exists()


def test_only_adamw_has_a_rate_of_its_own(recipe):
    with pytest.raises(ConfigError, match=r"optim\.name=lars has no rate that was measured to suit"):
        pretrain(recipe(optim=Optim(name="lars")), console=QUIET)


@pytest.mark.parametrize("size", [20, 36, 60])
def test_convolutions_train_and_are_watched_at_the_size_that_was_asked_for(recipe, size):
    run = setup(recipe(size=size), QUIET)
    for views in (run.training, run.held):
        assert views[0]["views"].shape[1:3] == (size, size)


def test_test_images_of_the_labelled_source_choose_nothing(recipe, pixels, labels, tmp_path, capsys):
    for at, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        file = tmp_path / "labs" / ("test" if at >= 18 else "train") / "abc"[label] / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), image)
    run = setup(recipe(probe=str(tmp_path / "labs")), Console())
    assert "6 test images" in capsys.readouterr().err
    assert run.labelled is not None and run.choosing is not None
    assert len(run.labelled.table) + len(run.choosing.table) == 18


def test_test_images_are_not_pretrained_on(recipe, pixels, labels, tmp_path, capsys):
    for at, (image, label) in enumerate(zip(pixels, labels, strict=True)):
        file = tmp_path / "all" / ("test" if at % 4 == 1 else "train") / "abc"[label] / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), image)
    run = setup(recipe(data=str(tmp_path / "all")), Console())
    assert "6 test images" in capsys.readouterr().err
    assert {int(r.name.rsplit("/", 1)[-1][:-4]) % 4 for r in run.ready.table} == {0, 2, 3}
    assert len(run.ready.pixels) == len(run.ready.table) == 18
    shutil.rmtree(tmp_path / "all" / "train")
    (tmp_path / "photos.csv").write_text(
        "path,split\n" + "\n".join(f"{f},test" for f in tmp_path.glob("all/*/*/*.png"))
    )
    with pytest.raises(DataError, match=r"all images of .* are for testing"):
        setup(recipe(data=str(tmp_path / "photos.csv")), QUIET)


def test_a_folder_that_is_only_called_test_is_one_of_photos(recipe, pixels, tmp_path):
    for at, image in enumerate(pixels):
        file = tmp_path / "all" / ("test" if at % 2 else "monday") / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), image)
    assert len(setup(recipe(data=str(tmp_path / "all")), QUIET).ready.table) == 24


def test_too_few_labels_to_halve_do_both_and_the_verdict_says_so(recipe, pixels, labels):
    few = scan(Table.of(pixels[:8], labels[:8].tolist(), classes=("a", "b", "c"))).table
    done = pretrain(recipe(), console=QUIET, labelled=Labelled(few, pixels[:8]))
    assert "The same labels chose the weights" in (done.out / "report.html").read_text()


def test_one_bad_measurement_or_too_few_images_are_no_fall(recipe):
    run = setup(recipe(), QUIET)
    watch = Watch(run.held, None)
    point, well = ({"effective_rank": rank, "top_share": 0.3, "retrieval": 1.0} for rank in (1.0, 100.0))
    watch.dim = 64
    watch.history = [well, point, point]
    assert watch.fallen == ""  # two images are watched: nothing can be judged by them
    watch.held = range(128)  # type: ignore[assignment]
    assert watch.fallen == "a point"
    watch.history = [well, well, point]
    assert watch.fallen == ""
