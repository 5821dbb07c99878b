"""The comparison of fine-tuning tools: the same images and time for all, and sums over seeds that are right."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from benchmarks import harness
from benchmarks.measured_finetuning import finetune_peers
from benchmarks.peers import job as jobs
from benchmarks.peers import peft_lora, timm_loop
from benchmarks.peers.job import Job, Order, Pace, paced
from benchmarks.quality.finetune_ours import _table
from benchmarks.quality.finetune_peers import Photos, packed, seconds_for, summaries, unpacked
from visionft.data.records import Record, Table


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Twelve gray squares to learn, six to be tested on, bright or dark, and weights of a tiny network."""
    rows = [["path", "label", "split"]]
    for at in range(18):
        file = tmp_path / f"{at}.png"
        cv2.imwrite(str(file), np.full((40, 48), 220 if at % 2 else 30, np.uint8))
        rows.append([str(file), ("dark", "bright")[at % 2], "train" if at < 12 else "test"])
    with (tmp_path / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", pretrained=False)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    return Job(str(tmp_path / "images.csv"), ["dark", "bright"], "test_efficientnet",
               str(tmp_path / "weights.safetensors"), 32, 9.0, 0, 1, str(tmp_path / "answers.npy"))  # fmt: skip


def order(job: Job, epochs: int = 1) -> Order:
    return Order(job, *job.files("train"), epochs, 0)


class Clock:
    """A trainer on a clock that it moves itself: so many seconds to begin, and for each image of a pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, setup: float, image: dict[int, float], before: int) -> None:
        self.now, self.setup, self.image, self.before = 0.0, setup, image, before
        monkeypatch.setattr(jobs.time, "perf_counter", lambda: self.now)

    def train(self, order: Order) -> Callable[..., Any]:
        self.now += self.setup
        for _ in range(order.epochs + self.before):
            self.now += self.image[order.workers] * len(order.files)
            order.passed()
        return lambda files: np.zeros((len(files), 2), np.float32)


@pytest.mark.parametrize("before", [0, 1])
def test_a_peer_fills_its_time_and_no_epoch_more(job: Job, monkeypatch: pytest.MonkeyPatch, before: int) -> None:
    clock = Clock(monkeypatch, setup=2.0, image={0: 0.1, 2: 0.05}, before=before)
    start = paced(job, clock.train, before)
    began = clock.now
    _, facts = start()
    epoch = 12 * 0.05
    assert facts["workers"] == 2  # the faster
    assert job.seconds <= clock.now - began < job.seconds + epoch
    assert facts["epochs"] == round((clock.now - began - 2.0) / epoch)


def test_a_budget_that_is_over_before_it_begins_still_gives_an_epoch():
    assert Pace(epoch=10.0, setup=100.0).epochs(60.0) == 1
    assert Pace(epoch=10.0, setup=0.0).epochs(60.0) == 6
    assert Pace(epoch=10.0, setup=0.0).epochs(60.0, before=1) == 5
    assert Pace(epoch=10.0, setup=1.0).epochs(60.0) == 6  # the last one runs over


def test_more_labels_get_more_time():
    assert [seconds_for(labels, 60.0) for labels in (200, 201, 500, 1968)] == [60.0, 120.0, 120.0, 240.0]


def test_the_timm_loop_starts_from_the_given_weights_and_learns(job: Job) -> None:
    start, given = timm_loop.network(job).state_dict(), load_file(job.weights)
    assert all(torch.equal(start[name], given[name]) for name in given if not name.startswith("classifier"))
    files, labels = job.files("test")
    told = timm_loop.train(order(job, epochs=60))(files)
    assert np.allclose(told.sum(1), 1, atol=1e-5)
    assert (told.argmax(1) == labels).all()


def test_only_adapters_head_and_norms_learn_with_lora(job: Job) -> None:
    model = peft_lora.adapted(timm_loop.network(job))
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert any("lora_A" in name for name in learning)
    assert any("classifier.modules_to_save" in name for name in learning)
    assert all("lora_" in name or "classifier" in name or ".bn" in name for name in learning)
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    timm_loop.fit(model, order(job), 1e-2)
    assert frozen
    assert all(torch.equal(p, frozen[name]) for name, p in model.named_parameters() if name in frozen)


def test_our_run_is_given_every_label_and_no_test_image(job: Job, tmp_path: Path) -> None:
    with _table(job, tmp_path / "ours.csv").open() as file:
        rows = list(csv.DictReader(file))
    files, labels = job.files("train")
    assert [(row["path"], row["label"]) for row in rows] == [
        (image, job.classes[label]) for image, label in zip(files, labels, strict=True)
    ]


def photos(count: int = 60) -> Photos:
    records = tuple(Record(Path(f"{at}.png"), label=at % 3 // 2, digest=str(at)) for at in range(count))
    return Photos("toy", Table(records, ("a", "b")), tuple(range(count))[12:], tuple(range(count))[:12])


def test_labels_are_drawn_from_the_pool_by_class_and_seed():
    toy = photos()
    drawn = toy.drawn(24, seed=0)
    assert len(drawn) == 24
    assert not {*drawn} & {*toy.test}
    assert sum(toy.table[at].label == 1 for at in drawn) == 8  # a third, as in the pool
    assert drawn == toy.drawn(24, seed=0) != toy.drawn(24, seed=1)
    assert toy.drawn(48, seed=0) == toy.drawn(48, seed=1) == list(toy.pool)


def row(tool: str, seed: int, hits: list[int], **more: Any) -> dict[str, Any]:
    base = {"dataset": "toy", "labels": 200, "threads": 2, "budget": 60.0, "seconds": 50.0 + seed}
    right = {"test_images": len(hits), "right": packed(np.array(hits, bool))}
    return base | {"tool": tool, "seed": seed} | right | more


def test_what_was_told_right_is_kept_to_the_bit():
    hits = np.random.default_rng(0).random(61) < 0.7
    assert np.array_equal(unpacked({"right": packed(hits), "test_images": 61}), hits)


def test_differences_are_taken_seed_by_seed_and_image_by_image():
    hits = (np.random.default_rng(0).random((2, 40)) < 0.7).astype(int)
    worse = hits.copy()
    worse[:, hits[0].argmax()] = 0  # one image, told wrong in both seeds
    rows = [row("ours", seed, hits[seed].tolist()) for seed in (0, 1)]
    rows += [row("timm", seed, worse[seed].tolist()) for seed in (1, 0)]  # in another order
    rows += [row("peft", 1, hits[1].tolist())]
    found = {each["tool"]: each for each in summaries([*rows, {"tool": "timm", "seeds": 9}])}
    assert found["ours"]["accuracy"] == pytest.approx(hits.mean(), abs=1e-4)
    assert found["ours"]["seconds"] == 50.5
    assert "ours_more" not in found["ours"]
    assert found["timm"]["ours_more"] == pytest.approx((hits - worse).mean(), abs=1e-4)
    assert found["timm"]["ours_more_low"] >= 0  # the pairing takes all else out
    assert (found["peft"]["seeds"], found["peft"]["ours_more"]) == (1, 0.0)  # of the seed that both have
    assert found["timm"]["case"] != found["ours"]["case"]


def test_the_table_counts_who_is_ahead_beyond_the_interval():
    sure = {"ours_more": 0.1, "ours_more_low": 0.05, "ours_more_high": 0.15}
    same = {"ours_more": 0.0, "ours_more_low": -0.1, "ours_more_high": 0.1}
    behind = {"ours_more": -0.1, "ours_more_low": -0.15, "ours_more_high": -0.05}
    base = {"dataset": "toy", "seeds": 3, "threads": 2, "seconds": 60.0, "accuracy": 0.8, "ci_low": 0.7, "ci_high": 0.9}
    rows = [
        base | {"labels": 200, "tool": "fastai"} | sure,
        base | {"labels": 200, "tool": "ours"},
        base | {"labels": 200, "tool": "ours, probe"} | sure,  # no peer
        base | {"labels": 500, "tool": "peft"} | same,
        base | {"labels": 500, "tool": "timm"} | behind,
        {"dataset": "toy", "labels": 200, "tool": "fastai", "seed": 0},
    ]
    told = finetune_peers(rows)
    assert "ahead in 1 of 3 comparisons with a peer and behind in 1" in told[0]
    assert sum(line.startswith("| toy") for line in told) == 5
    assert "+0.100 (+0.050 to +0.150)" in "".join(told)


def test_rows_of_an_earlier_run_stay_and_the_same_case_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    harness.write("toy", [{"case": "a", "value": 1}, {"case": "b", "value": 1}], "first", by="case")
    harness.write("toy", [{"case": "b", "value": 2}], "second", by="case")
    assert [(each["case"], each["value"], each["command"]) for each in harness.earlier("toy")] == [
        ("a", 1, "first"), ("b", 2, "second")]  # fmt: skip


def test_rows_of_another_installation_stay_and_say_so_but_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(harness, "RESULTS", tmp_path)
    here = harness.versions()
    harness.write("toy", [{"case": "a", "bound": None}, {"case": "b"}], "first", by="case")
    monkeypatch.setattr(harness, "versions", lambda: {"torch": "another"})
    assert harness.earlier("toy") == []
    harness.write("toy", [{"case": "b"}], "second", by="case")
    assert [row["case"] for row in harness.earlier("toy")] == ["b"]
    rows = json.loads((tmp_path / "toy.json").read_text())["rows"]
    assert [(row["case"], row.get("versions")) for row in rows] == [("a", here), ("b", None)]
    monkeypatch.setattr(harness, "versions", lambda: here)
    assert [(row["case"], row["bound"]) for row in harness.earlier("toy")] == [("a", None)]
