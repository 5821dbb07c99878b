"""A student is held to its teacher's features, which are computed once, belong to their image, and cost no network."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from visionft import pretrain
from visionft.backbone import Backbone
from visionft.backbones import load
from visionft.data.prepare import prepare
from visionft.data.views import Views
from visionft.errors import WeightsError
from visionft.features import features
from visionft.log import Console
from visionft.objective import View
from visionft.order import Draw, Order
from visionft.pretraining.distill import Distill
from visionft.pretraining.start import build
from visionft.recipe import Pretrain

SIDE = 32
TRAINED = 160  # what timm says of test_resnet


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A file of weights for test_resnet."""
    torch.manual_seed(5)
    save_file(Backbone("test_resnet").net.state_dict(), tmp_path / "teacher.safetensors")
    return tmp_path / "teacher.safetensors"


def student(weights: Path, **options) -> Distill:
    torch.manual_seed(0)
    return Distill(Backbone("test_vit", size=SIDE), teacher="test_resnet", weights=str(weights), **options)


def standardised(z: Tensor) -> Tensor:
    """With loops over features, in float64."""
    columns = []
    for column in z.double().unbind(1):
        mean = sum(column.tolist()) / len(column)
        spread = math.sqrt(sum((v - mean) ** 2 for v in column.tolist()) / len(column))
        columns.append((column - mean) / (spread + 1e-6))
    return torch.stack(columns, 1)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def batch_of(model: Distill, data: Views, count: int = 5) -> dict[str, Tensor]:
    return data.collate([data[Draw(i)] for i in range(count)])


def test_the_column_is_the_teachers_features_of_whole_images_at_its_own_size_standardised(teacher, pixels, table):
    taught = student(teacher).columns(pixels, table, SIDE)["teacher"]
    z = features(load("test_resnet", str(teacher)), pixels, [r.digest for r in table], size=TRAINED)
    torch.testing.assert_close(taught.double(), standardised(z), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_feature_loss_is_the_mean_squared_error(teacher, pixels, make_data):
    model = student(teacher).eval()
    batch = batch_of(model, make_data(model))
    z = model.head(model.backbone(batch["image"])).double()
    taught = batch["teacher"].double()
    errors = [(float(a) - float(b)) ** 2 for a, b in zip(z.flatten(), taught.flatten(), strict=True)]
    expected = sum(errors) / len(errors)
    assert float(model(batch)["loss"]) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_the_queue_loss_is_the_cross_entropy_of_two_softmaxes(teacher, pixels, table, make_data):
    model = student(teacher, loss="queue", queue=7, temperature=0.2).eval()
    batch = batch_of(model, make_data(model))
    everybody = model.columns(pixels, table, SIDE)["teacher"].double()
    queue = [everybody[round(at * 23 / 6)] for at in range(7)]  # evenly spread over the 24 images
    z = model.head(model.backbone(batch["image"])).double()
    total = entropy = 0.0
    for one, taught in zip(z, batch["teacher"].double(), strict=True):
        said = [math.exp(cosine(one, q) / 0.2) for q in queue]
        meant = [math.exp(cosine(taught, q) / 0.2) for q in queue]
        p = [v / sum(meant) for v in meant]
        total -= sum(a * math.log(b / sum(said)) for a, b in zip(p, said, strict=True))
        entropy -= sum(a * math.log(a) for a in p)
    losses = model(batch)
    assert float(losses["loss"]) == pytest.approx(total / len(z), rel=1e-5)
    assert float(losses["teacher_entropy"]) == pytest.approx(entropy / len(z), rel=1e-4)


@pytest.mark.parametrize("loss", ["feature", "queue"])
@torch.no_grad()
def test_a_student_that_says_what_the_teacher_says_has_the_least_loss(teacher, make_data, loss):
    model = student(teacher, loss=loss, queue=10).eval()
    batch = batch_of(model, make_data(model))
    model.project = lambda features: batch["teacher"]
    losses = model(batch)
    assert float(losses["loss"]) == pytest.approx(float(losses.get("teacher_entropy", 0.0)), abs=1e-5)


@torch.no_grad()
def test_one_answer_for_all_images_costs_at_least_the_teachers_whole_variance(teacher, pixels, make_data):
    """Which is why a fallen rank needs no watching here: a constant c costs the variance and c^2 on top."""
    model = student(teacher).eval()
    batch = batch_of(model, make_data(model), len(pixels))
    varies = float(batch["teacher"].square().mean())  # less than 1 where features are the same for all images
    for c in (0.0, 0.3, -1.0):
        model.project = lambda features, c=c: torch.full_like(batch["teacher"], c)
        assert float(model(batch)["loss"]) == pytest.approx(varies + c * c, rel=1e-3)
    assert 0.5 < varies < 1.001
    assert not Distill.collapses


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_meets_its_own_column_in_any_order_and_process(pixels, workers):
    brightness = torch.tensor([[p.mean(), p.std()] for p in pixels], dtype=torch.float32)
    plain = Views(
        pixels, {"image": View("none")}, {"image": 16}, columns={"known": brightness, "place": torch.arange(24)}
    )
    loader = DataLoader(
        plain, batch_sampler=Order(24, 8, seed=3), num_workers=workers, collate_fn=plain.collate,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    met: list[int] = []
    for batch in itertools.islice(loader, 6):
        assert torch.equal(batch["known"], brightness[batch["place"]])
        for image, place in zip(batch["image"], batch["place"].tolist(), strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), plain[Draw(place)]["image"])
        met += batch["place"].tolist()
    assert met[:24] != sorted(met[:24])
    assert sorted(met[:24]) == sorted(met[24:]) == list(range(24))


class Counted(Backbone):
    """Counts the images that any teacher has looked at."""

    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        Counted.seen += len(images) if not self.training and self.name == "test_resnet" else 0
        return super().forward(images)


def recipe(pixels, teacher: Path, out: Path, **words) -> Pretrain:
    choice = {"name": "distill", "teacher": "test_resnet", "weights": str(teacher), **words.pop("options", {})}
    common = {"size": SIDE, "batch": 8, "steps": 4, "precision": "fp32", "cache": "ram", "weights": "none"}
    return Pretrain(data=pixels, objective=choice, backbone="test_vit", out=str(out), **{**common, **words})


def test_the_teacher_looks_at_each_training_image_once_however_often_a_run_is_built(
    pixels, teacher, tmp_path, monkeypatch
):
    monkeypatch.setattr("visionft.backbones.Backbone", Counted)
    monkeypatch.setattr(Counted, "seen", 0)
    made = recipe(pixels, teacher, tmp_path / "run")
    ready = prepare(made, Console(quiet=True), labelled=False)
    first = build(made, ready)[1]
    assert Counted.seen == len(first) == 22
    again = build(made, ready)[1]
    assert Counted.seen == 22
    assert torch.equal(first.columns["teacher"], again.columns["teacher"])


def test_a_rehearsal_asks_the_teacher_of_a_few_images_and_keeps_nothing(pixels, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr("visionft.backbones.Backbone", Counted)
    monkeypatch.setattr(Counted, "seen", 0)
    monkeypatch.setenv("VISIONFT_CACHE", str(tmp_path / "cache"))
    lines = pretrain(recipe(pixels, teacher, tmp_path / "run"), quiet=True, dry_run=True)
    assert lines[-1] == "nothing was written."
    assert Counted.seen == 16
    assert not [*tmp_path.rglob("cache/features/*")]


def test_the_teacher_is_in_no_checkpoint_and_in_no_memory(pixels, teacher, tmp_path):
    made = recipe(pixels, teacher, tmp_path / "run", options={"loss": "queue"})
    model = build(made, prepare(made, Console(quiet=True), labelled=False))[0]
    assert {name.split(".")[0] for name in model.state_dict()} == {"backbone", "head", "queue"}
    assert [m for m in model.modules() if isinstance(m, Backbone)] == [model.backbone]
    assert not [value for value in vars(model).values() if isinstance(value, torch.nn.Module)]
    assert len(model.queue) == 12  # half of the 24 images


class Interrupted(BaseException):
    """Stands for Ctrl-C or a kill."""


def test_an_interrupted_distillation_ends_with_the_weights_of_one_that_was_not(pixels, teacher, tmp_path):
    words = {"options": {"loss": "queue"}, "eval_every": 2, "save_every": 1}

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 2:
            raise Interrupted

    whole = pretrain(recipe(pixels, teacher, tmp_path / "whole", **words), quiet=True)
    with pytest.raises(Interrupted):
        pretrain(recipe(pixels, teacher, tmp_path / "broken", **words), quiet=True, log=[stop])
    broken = pretrain(recipe(pixels, teacher, tmp_path / "broken", **words), quiet=True)
    ours, theirs = (load_file(run.out / "model.safetensors") for run in (broken, whole))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_start_says_who_teaches_and_whose_licence_that_is(pixels, teacher, tmp_path, capsys):
    pretrain(recipe(pixels, teacher, tmp_path / "run", steps=1))
    said = capsys.readouterr().err
    assert "teacher: test_resnet" in said
    assert str(teacher) in said
    assert "licence" in said


def test_a_finished_run_can_teach(pixels, teacher, tmp_path, table):
    run = pretrain(recipe(pixels, teacher, tmp_path / "run"), quiet=True)
    model = Distill(Backbone("test_resnet", size=SIDE), teacher=str(run.out))
    z = features(run.backbone, pixels, [r.digest for r in table], size=SIDE)
    torch.testing.assert_close(
        model.columns(pixels, table, SIDE)["teacher"].double(), standardised(z), rtol=1e-4, atol=1e-4
    )


def test_a_clip_image_tower_can_teach_from_a_file_of_both_towers(pixels, table, tmp_path):
    """Names as in CLIP's own files: the visual half is found and renamed, the text half left alone."""
    torch.manual_seed(0)
    net = timm.create_model("vit_xsmall_patch16_clip_224", num_classes=0, img_size=SIDE)
    swaps = {
        "patch_embed.proj.": "conv1.", "norm_pre": "ln_pre", "blocks.": "transformer.resblocks.", "norm1": "ln_1",
        "norm2": "ln_2", "attn.qkv.": "attn.in_proj_", "attn.proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }  # fmt: skip
    state = {"text_projection": torch.randn(4, 4), "transformer.resblocks.0.ln_1.weight": torch.randn(4)}
    for name, tensor in net.state_dict().items():
        for ours, theirs in swaps.items():
            name = name.replace(ours, theirs)
        if name.startswith("norm."):
            name = name.replace("norm.", "ln_post.")
        if name == "cls_token":
            name, tensor = "class_embedding", tensor[0, 0]
        if name == "pos_embed":
            name, tensor = "positional_embedding", tensor[0]
        state[f"visual.{name}"] = tensor.clone()
    state["visual.proj"] = torch.randn(net.num_features, 8)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "clip.safetensors")
    model = Distill(
        Backbone("test_vit", size=SIDE),
        teacher="vit_xsmall_patch16_clip_224",
        weights=str(tmp_path / "clip.safetensors"),
        side=SIDE,
    )
    twin = Backbone("vit_xsmall_patch16_clip_224", size=SIDE)
    twin.net.load_state_dict(net.state_dict())
    z = features(twin, pixels, [r.digest for r in table], size=SIDE)
    taught = model.columns(pixels, table, SIDE)["teacher"]
    torch.testing.assert_close(taught.double(), standardised(z), rtol=1e-4, atol=1e-4)


def test_how_large_the_images_are_that_the_teacher_sees_can_be_said(teacher, pixels, table):
    z = features(load("test_resnet", str(teacher)), pixels, [r.digest for r in table], size=48)
    taught = student(teacher, side=48).columns(pixels, table, SIDE)["teacher"]
    torch.testing.assert_close(taught.double(), standardised(z), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"teacher": "test_resnett", "weights": "none"}, "test_resnett"),
        ({"teacher": "resnet50"}, "no weights of resnet50 are on this machine.*objective.weights=FILE"),
        ({"teacher": "resnet50", "weights": "nowhere.pth"}, "objective.weights=nowhere.pth is no file"),
        ({"teacher": "test_vit", "weights": "{teacher}"}, "fits 0% of VisionTransformer"),
    ],
)
def test_a_teacher_that_cannot_be_had_is_named_before_any_training(teacher, options, said):
    options = {key: value.format(teacher=teacher) for key, value in options.items()}
    with pytest.raises(WeightsError, match=f"(?s)teacher of objective distill: .*{said}"):
        Distill(Backbone("test_vit", size=SIDE), **options)


def test_a_teacher_of_other_channels_is_refused_by_name(pixels, teacher, tmp_path):
    run = pretrain(recipe(pixels, teacher, tmp_path / "run", steps=1), quiet=True)
    with pytest.raises(WeightsError, match=r"trained on 3 channels; set channels=3"):
        Distill(Backbone("test_vit", size=SIDE, channels=1), teacher=str(run.out))
