"""Features of frozen weights are computed once: they are kept by content, weights and preprocessing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from visionft.backbone import Backbone
from visionft.data.views import Views, batches
from visionft.features import features
from visionft.kernels import fast_kernels
from visionft.objective import View
from visionft.precision import inference

SIZE = 32


class Counted(Backbone):
    """Counts the images it has seen."""

    seen = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return super().forward(images)


def counted(seed: int = 0, **options) -> Counted:
    torch.manual_seed(seed)
    return Counted("test_resnet", **options)


def test_features_are_what_the_backbone_says_of_evaluation_views(pixels, digests):
    backbone = counted()
    z = features(backbone, pixels, digests, size=SIZE, batch=24)
    whole = next(batches(Views(pixels, {"image": View("none")}, {"image": SIZE}), 24))["image"]
    with torch.no_grad(), inference(torch.device("cpu")), fast_kernels() as kernels:
        kernels.fold(backbone.eval())
        expected = backbone(whole).float()
    assert z.dtype == torch.float32
    torch.testing.assert_close(z, expected)


def test_the_second_time_no_image_is_seen(pixels, digests):
    first, second = counted(), counted()
    a = features(first, pixels, digests, size=SIZE)
    b = features(second, pixels, digests, size=SIZE)
    assert (first.seen, second.seen) == (24, 0)
    assert torch.equal(a, b)


def test_a_new_order_or_a_subset_is_already_known(pixels, digests):
    z, backbone = features(counted(), pixels, digests, size=SIZE), counted()
    order = np.random.default_rng(0).permutation(24)[:17]
    again = features(backbone, [pixels[i] for i in order], [digests[i] for i in order], size=SIZE)
    assert backbone.seen == 0
    assert torch.equal(again, z[torch.from_numpy(order)])


def test_ten_more_photos_cost_ten_photos(pixels, digests):
    features(counted(), pixels[:14], digests[:14], size=SIZE)
    backbone = counted()
    z = features(backbone, pixels, digests, size=SIZE)
    assert backbone.seen == 10
    torch.testing.assert_close(z, features(counted(), pixels, digests, size=SIZE, store=False), rtol=1e-2, atol=1e-3)


def test_the_same_content_twice_has_the_same_features(pixels, digests):
    z = features(counted(), [pixels[0], pixels[1], pixels[0]], [digests[0], digests[1], digests[0]], size=SIZE)
    assert torch.equal(z[0], z[2])
    assert not torch.equal(z[0], z[1])


@pytest.mark.parametrize(
    ("changed", "size"),
    [
        (lambda: counted(seed=1), SIZE),
        (lambda: counted(mean=(0.1, 0.2, 0.3)), SIZE),
        (lambda: counted(std=(0.1, 0.2, 0.3)), SIZE),
        (counted, SIZE + 8),
    ],
    ids=["weights", "mean", "std", "size"],
)
def test_whatever_changes_features_changes_the_key(pixels, digests, changed, size):
    z = features(counted(), pixels, digests, size=SIZE)
    other = changed()
    assert not torch.equal(features(other, pixels, digests, size=size), z)
    assert other.seen == 24


def test_one_changed_weight_is_noticed(pixels, digests):
    backbone = counted()
    features(backbone, pixels, digests, size=SIZE)
    with torch.no_grad():
        backbone.net.bn1.running_var[0] *= 1.001
    features(backbone, pixels, digests, size=SIZE)
    assert backbone.seen == 48


def test_nothing_is_kept_when_weights_are_only_passing_by(pixels, digests):
    features(counted(), pixels, digests, size=SIZE, store=False)
    backbone = counted()
    features(backbone, pixels, digests, size=SIZE, store=False)
    assert backbone.seen == 24


def test_two_writers_at_once_lose_nothing(pixels, digests):
    """The second one reads, computes and writes while the first is computing."""
    inner = counted()

    def meanwhile(done: int, total: int) -> None:
        if not inner.seen:
            features(inner, pixels[8:], digests[8:], size=SIZE)

    features(counted(), pixels[:16], digests[:16], size=SIZE, progress=meanwhile)
    assert inner.seen == 16
    backbone = counted()
    features(backbone, pixels, digests, size=SIZE)
    assert backbone.seen == 0


def test_a_file_that_another_process_broke_costs_time_and_not_the_run(pixels, digests, tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONFT_CACHE", str(tmp_path))
    z = features(counted(), pixels, digests, size=SIZE)
    files = list(tmp_path.rglob("*.safetensors"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:-9])
    assert torch.equal(features(counted(), pixels, digests, size=SIZE), z)


def test_measuring_leaves_the_mode_as_it_was(pixels, digests):
    backbone = counted().train()
    statistics = backbone.net.bn1.running_mean.clone()
    features(backbone, pixels, digests, size=SIZE)
    assert backbone.training
    assert torch.equal(backbone.net.bn1.running_mean, statistics)


def test_no_images_have_no_features():
    assert features(counted(), [], [], size=SIZE).shape == (0, counted().dim)


def test_progress_counts_to_the_end(pixels, digests):
    told: list[tuple[int, int]] = []
    features(counted(), pixels, digests, size=SIZE, batch=10, progress=lambda *at: told.append(at))
    assert told == [(10, 24), (20, 24), (24, 24)]
