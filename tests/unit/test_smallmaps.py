"""Convolutions of small maps by matrix products are torch's, gradients included, and taken where they are faster."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from visionft import smallmaps
from visionft.convolution import FasterConv, Ways
from visionft.kernels import fast_kernels
from visionft.smallmaps import forward, input_gradient, weight_gradient

ALL = Ways(forward, input_gradient, weight_gradient)
BF16, FP32 = torch.bfloat16, torch.float32


@pytest.fixture
def matrix_units(monkeypatch):
    """Whatever processor runs the tests."""
    monkeypatch.setattr(smallmaps, "amx", lambda: True)


def channels_last(*shape: int, dtype: torch.dtype = FP32) -> Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def chosen(image: tuple[int, ...], weight: tuple[int, ...], stride: int, dtype: torch.dtype) -> tuple[bool, ...]:
    """Which of forward, gradient of the image and of the weight go by products."""
    padding = (weight[2] // 2,) * 2 if weight[2] % 2 else (0, 0)
    found = smallmaps.ways(channels_last(*image), channels_last(*weight), dtype, (stride, stride), padding)
    return found.forward is not None, found.image is not None, found.weight is not None


@settings(max_examples=80, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    last=st.booleans(),
)
@example(kernel=(3, 3), stride=(1, 1), padding=(1, 1), size=(2, 2), last=True)
@example(kernel=(1, 1), stride=(2, 2), padding=(0, 0), size=(5, 4), last=True)  # the stride leaves pixels unseen
@example(kernel=(2, 2), stride=(2, 2), padding=(0, 0), size=(5, 5), last=False)  # as does the end of the map
def test_products_are_the_convolution_and_its_gradients(kernel, stride, padding, size, last):
    assume(all(side + 2 * edge >= one for side, edge, one in zip(size, padding, kernel, strict=True)))
    image = torch.randn(2, 3, *size, dtype=torch.float64)
    weight = torch.randn(4, 3, *kernel, dtype=torch.float64)
    if last:
        image, weight = (each.contiguous(memory_format=torch.channels_last) for each in (image, weight))
    image.requires_grad_()
    weight.requires_grad_()
    output = F.conv2d(image, weight, None, stride, padding)
    grad = torch.randn_like(output)
    output.backward(grad)
    at_hand = (weight.detach(), image.detach(), stride, padding)
    torch.testing.assert_close(forward(image.detach(), weight.detach(), stride, padding), output.detach())
    torch.testing.assert_close(input_gradient(grad, *at_hand), image.grad)
    torch.testing.assert_close(weight_gradient(grad, *at_hand), weight.grad)


@pytest.mark.parametrize("stride", [1, 2])
def test_first_and_second_derivatives_agree_with_finite_differences(stride):
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 2, 3, 4), (2, 2, 3, 3), (2,)]
    inputs = [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]
    geometry = ((stride, stride), (1, 1), 1, ALL)
    assert torch.autograd.gradcheck(lambda *tensors: FasterConv.apply(*tensors, *geometry), inputs)
    assert torch.autograd.gradgradcheck(lambda *tensors: FasterConv.apply(*tensors, *geometry), inputs)


@pytest.mark.usefixtures("matrix_units")
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "bfloat16"])
@pytest.mark.parametrize("stride", [1, 2])
def test_bfloat16_is_as_close_to_the_truth_as_torch(autocast, stride):
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 48, 3, stride, 1).to(BF16).to(memory_format=torch.channels_last)
    images = channels_last(16, 32, 2 * stride, 2 * stride, dtype=BF16)

    def trained(kind: torch.dtype, *, fast: bool, autocast: bool = False) -> list[Tensor]:
        own, given = copy.deepcopy(conv).to(kind), images.to(kind, copy=True).requires_grad_()
        with torch.autocast("cpu", BF16, enabled=autocast):
            if fast:
                with fast_kernels():
                    output = own(given)
                assert "FasterConv" in type(output.grad_fn).__name__
            else:
                output = own(given)
        direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(1))
        output.backward(direction.to(output.dtype))
        return [output, given.grad, own.weight.grad, own.bias.grad]

    truth, kind = trained(torch.float64, fast=False), FP32 if autocast else BF16
    ours, theirs = (trained(kind, fast=fast, autocast=autocast) for fast in (True, False))
    for mine, other, real in zip(ours, theirs, truth, strict=True):
        error, usual = ((each.double() - real).norm() / real.norm() for each in (mine, other))
        assert error < 1.5 * usual < 0.02


@pytest.mark.usefixtures("matrix_units")
def test_a_whole_network_gets_the_gradients_of_torch():
    """At 64 px its last stage has 2 x 2 pixels and more than a million weights a layer."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=3).to(memory_format=torch.channels_last)
    images, found = channels_last(4, 3, 64, 64), []
    for fast in (True, False):
        model.zero_grad()
        with fast_kernels() if fast else torch.enable_grad():
            output = model(images)
            output.square().sum().backward()
        found.append([output.detach(), *(parameter.grad for parameter in model.parameters())])
    for mine, theirs in zip(*found, strict=True):
        assert (mine - theirs).norm() <= 1e-3 * theirs.norm() + 1e-5


@pytest.mark.usefixtures("matrix_units")
def test_the_rule_takes_what_was_measured_to_be_faster():
    everything, nothing, of_weight = (True, True, True), (False, False, False), (False, False, True)
    assert chosen((2, 512, 2, 2), (512, 512, 3, 3), 1, BF16) == everything
    assert chosen((2, 512, 4, 4), (512, 512, 3, 3), 1, BF16) == everything
    assert chosen((2, 128, 2, 2), (128, 128, 3, 3), 1, BF16) == everything
    assert chosen((2, 256, 4, 4), (256, 256, 3, 3), 1, BF16) == of_weight
    assert chosen((2, 256, 8, 8), (256, 256, 3, 3), 1, BF16) == of_weight
    assert chosen((2, 128, 8, 8), (128, 128, 3, 3), 1, BF16) == nothing
    assert chosen((2, 3, 224, 224), (192, 3, 16, 16), 16, BF16) == of_weight
    assert chosen((2, 3, 32, 32), (64, 3, 7, 7), 2, BF16) == nothing
    assert chosen((2, 512, 2, 2), (512, 512, 3, 3), 1, FP32) == everything
    assert chosen((2, 256, 4, 4), (256, 256, 3, 3), 1, FP32) == nothing
    assert chosen((2, 512, 2, 2), (512, 512, 3, 3), 1, torch.float64) == nothing


def test_other_processors_and_layouts_keep_torchs_kernels(monkeypatch):
    image, weight = channels_last(2, 64, 2, 2), channels_last(64, 64, 3, 3)
    monkeypatch.setattr(smallmaps, "amx", lambda: False)
    assert smallmaps.ways(image, weight, BF16, (1, 1), (1, 1)) == Ways()
    monkeypatch.setattr(smallmaps, "amx", lambda: True)
    assert smallmaps.ways(image, weight, BF16, (1, 1), (1, 1)) == ALL
    assert smallmaps.ways(image.contiguous(), weight, BF16, (1, 1), (1, 1)) == Ways()


@pytest.mark.usefixtures("matrix_units")
def test_what_torch_refuses_is_still_refused():
    image, conv = channels_last(1, 8, 2, 2).requires_grad_(), nn.Conv2d(8, 8, 5)
    with fast_kernels(), torch.autocast("cpu", BF16), pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
        conv(image)
