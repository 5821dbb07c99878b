"""Each adapter is the formula of its paper, sits where it should, and its files are read by peft."""

from __future__ import annotations

import copy
import json
import math

import peft
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from visionft.adapters import files, targets
from visionft.adapters.attach import ADAPTERS, Adapter, merged
from visionft.adapters.quantised import BLOCK, decode, encode
from visionft.errors import CheckpointError, ConfigError, WeightsError

NETS = {
    "test_vit": (160, {}),
    "test_efficientnet": (64, {}),
    "test_resnet": (64, {}),
    "test_convnext": (64, {}),
    "regnetx_002": (64, {}),
    "beit_base_patch16_224": (32, {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 3}),
    "swinv2_tiny_window8_256": (
        64,
        {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "window_size": 2, "num_heads": (1, 2, 3, 4)},
    ),
}


def network(name: str, *, blank: bool = False) -> nn.Module:
    """A network in eval mode whose norms have seen something, and whose every weight matters; `blank`: as built."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=0, **NETS[name][1])
    if not blank:
        stir(net, 0.05)
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 2)
    return net.eval()


def stir(module: nn.Module, by: float) -> None:
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn_like(p) * by)


def images(name: str) -> torch.Tensor:
    side = NETS[name][0]
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def answer(net: nn.Module, name: str) -> torch.Tensor:
    return net(images(name))


@pytest.mark.parametrize("choice", ["bottleneck", "prompts", "prefix"])
def test_what_has_no_place_in_plain_weights_says_so(choice):
    net = network("test_vit")
    assert not Adapter(net, choice).merges
    with pytest.raises(ConfigError, match="cannot become weights of a plain net"):
        merged(net)


@pytest.mark.parametrize("rslora", [True, False])
@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(6, 4),
        nn.Conv2d(6, 4, 3, stride=2, padding=1),
        nn.Conv2d(6, 6, 3, groups=6),
        nn.Conv2d(6, 4, 1, groups=2, bias=False),
    ],
    ids=str,
)
def test_lora_is_the_weight_plus_a_product_of_two_thin_ones(layer, rslora):
    x = torch.randn(3, 6) if isinstance(layer, nn.Linear) else torch.randn(3, 6, 8, 8)
    net = nn.Sequential(copy.deepcopy(layer))
    adapter = Adapter(net, {"name": "lora", "rank": 2, "alpha": 3.0, "rslora": rslora, "layers": ".*"})
    stir(adapter, 0.3)
    rank = min(2, layer.weight[0].numel())
    part = adapter.parts()["0"]
    product = part.lora_B.weight.flatten(1) @ part.lora_A.weight.flatten(1)
    scale = 3.0 / (math.sqrt(rank) if rslora else rank)
    wanted = copy.deepcopy(layer)
    wanted.weight.data += scale * product.view_as(layer.weight)
    torch.testing.assert_close(net(x), wanted(x))


def test_dora_gives_each_row_the_learned_length_in_the_changed_direction():
    layer, x = nn.Linear(6, 4), torch.randn(3, 6)
    net = nn.Sequential(copy.deepcopy(layer))
    adapter = Adapter(net, {"name": "lora", "rank": 2, "dora": True, "layers": ".*"})
    stir(adapter, 0.3)
    part = adapter.parts()["0"]
    changed = layer.weight + part.change()
    rows = part.lora_magnitude_vector.weight.flatten() / changed.norm(dim=1)
    torch.testing.assert_close(net(x), F.linear(x, rows[:, None] * changed, layer.bias))


def test_no_gradient_as_large_as_a_weight_is_computed():
    net = network("test_vit")
    Adapter(net, "lora")
    for p in net.parameters():
        p.requires_grad_(False)
    largest = max(p.numel() for p in net.parameters())
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        loss = net(images("test_vit")).square().mean()
    seen = []
    for tensor in saved:
        if tensor.requires_grad and not tensor.is_leaf:
            tensor.register_hook(lambda g: seen.append(g.shape))
    loss.backward()
    assert seen
    weights = {p.shape for p in net.parameters() if p.numel() == largest}
    assert not weights & {torch.Size(s) for s in seen} and not weights & {torch.Size(s[::-1]) for s in seen}


def test_a_prefix_is_seen_by_every_query_before_the_keys_that_are_there():
    net = network("test_vit")
    attention = net.blocks[0].attn
    x = torch.randn(2, 7, net.embed_dim)
    qkv = attention.qkv(x).view(2, 7, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    adapter = Adapter(net, {"name": "prefix", "count": 3})
    stir(adapter, 0.5)
    part = adapter.parts()["blocks.0.attn"]
    query, key, value = qkv
    key, value = (torch.cat([mine.expand(2, -1, -1, -1), theirs], 2) for mine, theirs in
                  ((part.keys, key), (part.values, value)))  # fmt: skip
    scores = (query @ key.mT / math.sqrt(query.shape[-1])).softmax(-1)
    torch.testing.assert_close(attention(x), attention.proj((scores @ value).transpose(1, 2).flatten(2)))


def test_prompts_are_tokens_that_leave_with_their_block():
    net = network("test_vit")
    block = copy.deepcopy(net.blocks[1])
    adapter = Adapter(net, {"name": "prompts", "count": 4})
    x = torch.randn(2, 7, net.embed_dim)
    tokens = adapter.parts()["blocks.1"].tokens
    assert tokens.shape == (4, net.embed_dim)
    torch.testing.assert_close(net.blocks[1](x), block(torch.cat([x, tokens.expand(2, -1, -1)], 1))[:, :7])


@pytest.mark.parametrize(("bits", "cosine", "bytes_a_weight"), [("int8", 0.9999, 1.05), ("nf4", 0.99, 0.57)])
@pytest.mark.parametrize("shape", [(48, 192), (5, 7), (1, 64)], ids=str)
def test_codes_are_small_close_and_made_again_from_what_they_say(bits, cosine, bytes_a_weight, shape):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 0.02
    codes, scales = encode(weight, bits)
    decoded = decode(codes, scales, weight.shape, bits)
    again, same = encode(decoded, bits)
    assert torch.equal(again, codes)
    torch.testing.assert_close(same, scales, rtol=1e-6, atol=0)
    assert F.cosine_similarity(decoded.flatten(), weight.flatten(), dim=0) > cosine
    if weight.numel() % BLOCK == 0 and weight.shape[1] > BLOCK:
        held = codes.numel() * codes.element_size() + scales.numel() * scales.element_size()
        assert held / weight.numel() < bytes_a_weight
    assert torch.equal(decode(*encode(torch.zeros(shape), bits), torch.Size(shape), bits), torch.zeros(shape))


@pytest.mark.parametrize("bits", ["int8", "nf4"])
def test_a_coded_base_learns_and_is_made_again_from_its_plain_names(bits):
    net = network("test_vit")
    adapter = Adapter(net, {"name": "lora", "base": bits})
    net.requires_grad_(False)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2)
    target = torch.randn(2, net.num_features, generator=torch.Generator().manual_seed(2))
    losses = []
    for _ in range(12):
        loss = F.mse_loss(net(images("test_vit")), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    fresh = network("test_vit")
    twin = Adapter(fresh, {"name": "lora", "base": bits})
    fresh.load_state_dict(net.state_dict())
    twin.load_state_dict(adapter.state_dict())
    assert torch.equal(answer(fresh, "test_vit"), answer(net, "test_vit"))


def test_the_gradient_through_codes_is_that_of_the_decoded_weight():
    net = nn.Sequential(nn.Linear(64, 8))
    Adapter(net, {"name": "lora", "base": "int8", "layers": ".*"})
    x = torch.randn(3, 64, requires_grad=True)
    net(x).square().sum().backward()
    y = F.linear(x.detach(), net[0].own_weight, net[0].own_bias)
    torch.testing.assert_close(x.grad, 2 * y @ net[0].own_weight)


@pytest.mark.parametrize(
    ("name", "choice", "said"),
    [
        ("test_vit", "lorra", "did you mean lora"),
        ("test_vit", {"name": "lora", "rang": 4}, "adapter.rank"),
        ("test_vit", {"name": "lora", "rank": 0}, "adapter.rank=0"),
        ("test_vit", {"name": "lora", "base": "int4"}, "int8 and nf4"),
        ("test_vit", {"name": "lora", "last": 0}, "adapter.last=0"),
        ("test_vit", {"name": "lora", "last": "half"}, "adapter.last=half"),
        ("test_vit", {"name": "lora", "last": 1.5}, "above 0 and at most 1"),
        ("test_vit", {"name": "lora", "layers": "nothing"}, "no layer matches"),
        ("test_resnet", "prompts", "plain ViT"),
        ("test_convnext", "prefix", "plain ViT"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_words(name, choice, said):
    with pytest.raises(ConfigError, match=said):
        Adapter(network(name), choice)


@pytest.mark.parametrize(
    ("share", "blocks"), [(1, range(12)), (0.5, range(6, 12)), (1 / 3, range(8, 12)), (0.01, range(11, 12))]
)
@pytest.mark.parametrize("name", ["lora", "prompts", "prefix", "bottleneck"])
def test_the_last_share_of_a_vit_are_its_last_blocks(name, share, blocks):
    net = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, embed_dim=12, num_heads=3)
    parts = Adapter(net, {"name": name, "last": share}).parts()
    assert {int(place.split(".")[1]) for place in parts} == {*blocks}


@pytest.mark.parametrize("choice", ["lora", "ssf", "bottleneck", {"name": "lora", "base": "int8"}], ids=str)
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "regnetx_002"])
def test_the_last_share_lies_behind_all_that_is_left_plain_in_a_convolutional_net(name, choice):
    words = choice if isinstance(choice, dict) else {"name": choice}
    depth = targets.depths(network(name))
    every = {place: depth[place] for place in Adapter(network(name), {**words, "last": 1}).parts()}
    late = Adapter(network(name), {**words, "last": 0.5}).parts().keys()
    early = every.keys() - late
    assert late < every.keys() and max(every[place] for place in early) < min(every[place] for place in late)
    assert len({every[place] for place in late}) == round(0.5 * len({*every.values()}))


def test_below_the_first_adapted_block_no_graph_is_made():
    net = network("test_vit")
    Adapter(net, {"name": "lora", "last": 0.5})
    net.requires_grad_(False)
    records = {}
    for i, block in enumerate(net.blocks):
        block.register_forward_hook(lambda m, x, y, i=i: records.__setitem__(i, y.requires_grad))
    net(images("test_vit"))
    half = len(net.blocks) // 2
    assert records == {i: i >= half for i in range(len(net.blocks))}


def test_an_adapter_is_put_in_once():
    net = network("test_vit")
    Adapter(net, "lora")
    with pytest.raises(ConfigError, match="merge it first"):
        Adapter(net, "ssf")


def test_a_file_for_another_network_or_no_file_is_refused(tmp_path):
    net = network("test_resnet")
    files.save(tmp_path / "a", net, Adapter(net, "lora"))
    with pytest.raises(WeightsError, match="another network"):
        files.load(tmp_path / "a", network("test_efficientnet"))
    with pytest.raises(CheckpointError, match="no whole adapter"):
        files.load(tmp_path / "b", network("test_resnet"))


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_resnet"])
@pytest.mark.parametrize("dora", [False, True])
def test_peft_reads_the_files_and_says_the_same(tmp_path, name, dora):
    net = network(name)
    head = nn.Linear(net.num_features, 5)
    adapter = Adapter(net, {"name": "lora", "dora": dora, "alpha": 4.0})
    stir(adapter, 0.05)
    files.save(tmp_path, net, adapter, head)
    whole = timm.create_model(name, num_classes=5, **NETS[name][1])
    whole.load_state_dict(network(name).state_dict(), strict=False)
    read = peft.PeftModel.from_pretrained(whole, str(tmp_path)).eval()
    torch.testing.assert_close(answer(read, name), head(answer(net, name)), rtol=1e-4, atol=1e-4)


def test_every_adapter_says_what_its_options_mean():
    for name, make in ADAPTERS.items():
        for option in [*make.__kwdefaults__]:
            assert f"{option}: " in make.__doc__, (name, option)


def test_the_config_names_what_learns(tmp_path):
    net = network("test_vit")
    files.save(tmp_path, net, Adapter(net, {"name": "lora", "rank": 4}))
    facts = json.loads((tmp_path / files.CONFIG).read_text())
    assert facts["r"] == 4 and facts["peft_type"] == "LORA"
    assert "blocks.0.attn.qkv" in facts["target_modules"]


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet", "test_convnext"])
def test_a_base_in_codes_leaves_stem_and_grouped_convolutions_as_they_are(name):
    net = network(name)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    Adapter(net, {"name": "ssf", "base": "nf4"})
    rounded = {k.removesuffix(".weight") for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    layers = {n: m for n, m in network(name).named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    stem = next(n for n, m in layers.items() if isinstance(m, nn.Conv2d))
    assert rounded == {n for n, m in layers.items() if n != stem and getattr(m, "groups", 1) == 1}
