"""Depthwise gradients by pieces are torch's gradients, and nothing else about a model changes."""

import copy
import io
import pickle
from contextlib import nullcontext

import pytest
import timm
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from visionft.convolution import FasterConv, Ways
from visionft.depthwise import input_gradient, weight_gradient
from visionft.kernels import fast_kernels

KERNELS = st.sampled_from([3, 5, 7])
geometries = st.tuples(KERNELS, KERNELS, st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 3))


def depthwise(channels: int = 6, kernel: int = 5, stride: int = 2, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=bias)


def gradients(
    conv: nn.Module, images: Tensor, *, fast: bool, autocast: bool = False, pieces: bool = True
) -> list[Tensor]:
    conv = copy.deepcopy(conv)
    images = images.clone(memory_format=torch.preserve_format).requires_grad_()
    with fast_kernels() if fast else nullcontext():
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = conv(images)
        direction = torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        output.backward(direction.to(output.dtype))
    assert not pieces or (type(output.grad_fn).__name__ == "FasterConvBackward") == fast
    return [images.grad, *(parameter.grad for parameter in conv.parameters())]


def error(found: list[Tensor], truth: list[Tensor]) -> float:
    return max(((a.double() - b).norm() / b.norm()).item() for a, b in zip(found, truth, strict=True))


@settings(max_examples=60, deadline=None)
@given(geometry=geometries, channels=st.integers(1, 4), height=st.integers(7, 13), width=st.integers(7, 13))
@example(geometry=(3, 3, 2, 2, 0, 0), channels=2, height=8, width=8)  # no window reaches the last row and column
@example(geometry=(3, 7, 3, 1, 3, 3), channels=1, height=7, width=13)
def test_the_pieces_add_up_to_the_gradient(geometry, channels, height, width):
    *kernel, down, across, top, left = geometry
    images = torch.randn(2, channels, height, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(channels, 1, *kernel, dtype=torch.float64, requires_grad=True)
    output = F.conv2d(images, weight, None, (down, across), (top, left), 1, channels)
    grad = torch.randn_like(output)
    output.backward(grad)
    pieces = (grad, weight.detach(), images.detach(), (down, across), (top, left))
    torch.testing.assert_close(input_gradient(*pieces), images.grad, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(weight_gradient(*pieces), weight.grad, rtol=1e-10, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    kernel=st.sampled_from([5, 7, 9]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 4),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
@example(kernel=5, stride=1, padding=2, height=4, width=4)  # the last stage of an EfficientNet at 128 px
@example(kernel=7, stride=1, padding=3, height=1, width=1)
def test_maps_smaller_than_the_kernel_get_torchs_gradients(kernel, stride, padding, height, width):
    padding = max(padding, (kernel - min(height, width) + 1) // 2)
    conv = nn.Conv2d(2, 2, kernel, stride, padding, groups=2, bias=False).double()
    images = torch.randn(2, 2, height, width, dtype=torch.float64)
    ours, theirs = (gradients(conv, images, fast=fast, pieces=False) for fast in (True, False))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_a_stride_longer_than_the_filter_leaves_the_skipped_pixels_without_gradient():
    images, weight = torch.randn(1, 2, 7, 7), torch.randn(2, 1, 1, 1)
    grad = torch.ones(1, 2, 3, 3)
    found = input_gradient(grad, weight, images, (3, 3), (0, 0))
    assert torch.equal(found[:, :, ::3, ::3], weight.expand(2, 1, 3, 3).transpose(0, 1))
    assert found.count_nonzero() == grad.numel()


@settings(max_examples=30, deadline=None)
@given(kernel=KERNELS, stride=st.integers(1, 2), size=st.integers(5, 12), channels_last=st.booleans())
def test_tensorflow_padding_trains_as_before(kernel, stride, size, channels_last):
    if (kernel, stride) == (3, 1):
        stride = 2  # torch's own gradient is fast for the other
    conv = Conv2dSame(3, 3, kernel, stride, groups=3).double()
    images = torch.randn(2, 3, size, size + 1, dtype=torch.float64)
    images = images.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    for ours, theirs in zip(gradients(conv, images, fast=True), gradients(conv, images, fast=False), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2), (7, 1)])
def test_first_and_second_derivatives_agree_with_finite_differences(kernel, stride):
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 2, 5, 6), (2, 1, kernel, kernel), (2,)]
    inputs = [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]
    geometry = ((stride, stride), (kernel // 2, kernel // 2), 2, Ways(image=input_gradient, weight=weight_gradient))
    assert torch.autograd.gradcheck(lambda *tensors: FasterConv.apply(*tensors, *geometry), inputs)
    assert torch.autograd.gradgradcheck(lambda *tensors: FasterConv.apply(*tensors, *geometry), inputs)


@pytest.mark.parametrize(("channels", "kernel", "stride"), [(16, 3, 2), (32, 5, 1), (32, 5, 2), (16, 7, 1)])
@pytest.mark.parametrize("autocast", [True, False], ids=["autocast", "bfloat16"])
def test_bfloat16_gradients_are_as_close_to_the_truth_as_those_of_torch(channels, kernel, stride, autocast):
    torch.manual_seed(0)
    conv = depthwise(channels, kernel, stride, bias=True).to(torch.bfloat16)
    images = torch.randn(8, channels, 16, 16).bfloat16().contiguous(memory_format=torch.channels_last)
    truth = gradients(conv.double(), images.double(), fast=False)
    dtype = torch.float32 if autocast else torch.bfloat16
    conv, images = conv.to(dtype), images.to(dtype)
    ours = error(gradients(conv, images, fast=True, autocast=autocast), truth)
    theirs = error(gradients(conv, images, fast=False, autocast=autocast), truth)
    assert ours < 2 * theirs < 0.02


@pytest.mark.parametrize("frozen", ["weight", "image"])
def test_what_is_frozen_gets_no_gradient_and_costs_the_other_nothing(frozen):
    conv, images = depthwise().double(), torch.randn(2, 6, 9, 9, dtype=torch.float64)
    image_grad, weight_grad = gradients(conv, images, fast=True)
    conv.weight.requires_grad_(frozen != "weight")
    images.requires_grad_(frozen != "image")
    with fast_kernels():
        output = conv(images)
        output.backward(torch.randn(output.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))
    expected = (image_grad, None) if frozen == "weight" else (None, weight_grad)
    for found, wanted in zip((images.grad, conv.weight.grad), expected, strict=True):
        assert (found is None) if wanted is None else torch.equal(found, wanted)


@pytest.mark.parametrize("autocast", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_bit_identical(autocast, training):
    model, images = timm.create_model("tf_efficientnet_lite0", num_classes=3).train(training), torch.randn(2, 3, 40, 40)
    outputs = []
    for kernels in (fast_kernels(), nullcontext()):
        torch.manual_seed(0)
        with kernels, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs.append(model(images))
    assert torch.equal(*outputs)


def test_a_whole_network_gets_the_gradients_of_torch():
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=3, drop_rate=0).double()
    images = torch.randn(4, 3, 64, 64, dtype=torch.float64)
    found = []
    for kernels in (fast_kernels(), nullcontext()):
        model.zero_grad()
        with kernels:
            model(images).square().sum().backward()
        found.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*found, rtol=1e-7, atol=1e-9 * found[1].abs().max().item())


def test_a_model_can_be_copied_pickled_and_saved_meanwhile():
    model = nn.Sequential(depthwise(), nn.ReLU())
    before = pickle.dumps(model)
    with fast_kernels():
        assert pickle.dumps(model) == before
        assert type(copy.deepcopy(model)[0]) is nn.Conv2d
        torch.save(model.state_dict(), io.BytesIO())


def test_only_depthwise_convolutions_are_concerned():
    others = [nn.Conv2d(4, 4, 5), nn.Conv2d(4, 8, 5, groups=4), nn.Conv2d(4, 4, 5, groups=2)]
    others += [nn.Conv2d(4, 4, 5, dilation=2, groups=4), nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.Conv2d(1, 1, 5)]
    images = [torch.randn(1, other.in_channels, 12, 12, requires_grad=True) for other in others]
    with fast_kernels():
        for other, image in zip(others, images, strict=True):
            assert type(other(image).grad_fn).__name__ == "ConvolutionBackward0"


@pytest.mark.parametrize("kernel", [3, 5])
def test_strided_float32_stays_with_torch_which_is_fast_there(kernel):
    conv = depthwise(kernel=kernel)
    with fast_kernels():
        assert type(conv(torch.randn(1, 6, 8, 8)).grad_fn).__name__ == "ConvolutionBackward0"


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_traced_exported_and_compiled_graphs_hold_torchs_own_convolution():
    conv, images = depthwise(stride=1), torch.randn(1, 6, 8, 8)
    graphs: list[str] = []

    def keep(graph, _):
        graphs.append(graph.code)
        return make_boxed_func(graph.forward)

    with fast_kernels():
        traced = torch.jit.trace(conv, images).graph
        exported = torch.export.export(conv, (images,)).graph_module.code
        torch.compile(conv, backend=aot_autograd(fw_compiler=keep), fullgraph=True)(images).sum().backward()
    assert "aten::_convolution" in str(traced)
    assert "aten.conv2d" in exported
    assert "aten.convolution_backward" in graphs[1]
    assert not any("PythonOp" in graph or "FasterConv" in graph for graph in (str(traced), exported, *graphs))


def test_mixed_dtypes_are_refused_as_before():
    conv = depthwise().bfloat16()
    with fast_kernels(), pytest.raises(RuntimeError, match="BFloat16"):
        conv(torch.randn(1, 6, 8, 8, dtype=torch.float64))


def test_other_devices_keep_their_own_gradients():
    conv = depthwise(stride=1).to("meta")
    with fast_kernels():
        assert type(conv(torch.randn(1, 6, 8, 8, device="meta")).grad_fn).__name__ == "ConvolutionBackward0"


def test_convolutions_called_by_keyword_are_understood():
    conv, images = depthwise(kernel=5).double(), torch.randn(1, 6, 8, 8, dtype=torch.float64)
    with fast_kernels():
        output = F.conv2d(images, conv.weight, stride=2, padding="valid", groups=6)
        assert torch.equal(output, F.conv2d(input=images, weight=conv.weight, stride=[2], padding=(0, 0), groups=6))


def test_a_kernel_wider_than_the_image_is_torchs_own_business():
    """Of a 7x7 kernel over one pixel all but the middle column lies in the padding."""
    conv = nn.Conv2d(8, 8, 7, padding=3, groups=8).double()
    image = torch.randn(2, 8, 1, 1, dtype=torch.float64, requires_grad=True)
    with fast_kernels():
        ours = torch.autograd.grad(conv(image).square().sum(), [image, *conv.parameters()])
    theirs = torch.autograd.grad(conv(image).square().sum(), [image, *conv.parameters()])
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(ours, theirs, strict=True))
