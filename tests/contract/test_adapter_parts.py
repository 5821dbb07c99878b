"""Every adapter keeps the promises of `check_adapter`, and `check_adapter` finds out who does not."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
import timm
import torch
from torch import nn

from visionft.adapters.attach import ADAPTERS, Adapter
from visionft.adapters.live import Part
from visionft.adapters.ssf import SSF
from visionft.backbone import Backbone
from visionft.errors import ConfigError
from visionft.testing import check_adapter

BEIT = {"img_size": 32, "embed_dim": 48, "depth": 2, "num_heads": 3}
SWIN = {"img_size": 64, "embed_dim": 24, "depths": (1, 1, 1, 1), "window_size": 2, "num_heads": (1, 2, 3, 4)}
NETS = {
    "test_vit": (32, {"img_size": 32}), "test_resnet": (32, {}), "test_efficientnet": (32, {}),
    "test_convnext": (64, {}), "regnetx_002": (32, {}), "beit_base_patch16_224": (32, BEIT),
    "swinv2_tiny_window8_256": (64, SWIN),
}  # fmt: skip
TOKENS = ("prompts", "prefix")
CHOICES = [
    *(name for name in ADAPTERS if name not in TOKENS),
    {"name": "lora", "last": 0.5},
    {"name": "lora", "dora": True},
    {"name": "lora", "dropout": 0.2},
    {"name": "lora", "layers": ".*", "rslora": False},
    {"name": "lora", "base": "int8"},
    {"name": "ssf", "base": "nf4", "last": 0.3},
]
FEW = ["lora", "ssf", "bottleneck"]
CASES = [
    *((net, choice) for net in ("test_vit", "test_resnet", "test_efficientnet") for choice in CHOICES),
    *((net, choice) for net in [*NETS][3:] for choice in FEW),
    *(("test_vit", {"name": name, "last": last}) for name in TOKENS for last in (1, 0.5)),
]  # fmt: skip


def backbone(name: str) -> Backbone:
    """A small network with norms that have seen something."""
    torch.manual_seed(0)
    size, words = NETS[name]
    made = Backbone("test_resnet", size=size)
    made.net = timm.create_model(name, num_classes=0, **words)
    made.dim = made.net.num_features
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
    return made


@pytest.mark.parametrize(("name", "choice"), CASES, ids=str)
def test_every_adapter_keeps_its_promises(name, choice):
    check_adapter(choice, backbone(name))


def test_the_network_that_is_checked_stays_as_it_was():
    made = backbone("test_resnet")
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    check_adapter("ssf", made)
    assert made.adapter is None and all(torch.equal(t, before[name]) for name, t in made.state_dict().items())


class Loud(SSF):
    """Not the identity at first, and says that it is."""

    def __init__(self, layer):
        super().__init__(layer)
        nn.init.constant_(self.shift, 0.1)


class Deaf(SSF):
    """What it learns has no effect."""

    def forward(self, module, *given, **more):
        return module.own(*given, **more) + 0 * self.scale.sum() + 0 * self.shift.sum()


class Liar(SSF):
    """Says that it merges, with another weight than it computes with."""

    def weight(self, own):
        return own


class Idle(SSF):
    """Has a weight that never learns."""

    def __init__(self, layer):
        super().__init__(layer)
        self.spare = nn.Parameter(torch.ones(1))

    def forward(self, module, *given, **more):
        return super().forward(module, *given, **more) + 0 * self.spare


class Meddler(SSF):
    """Moves a weight of the network when it is asked in train mode."""

    def forward(self, module, *given, **more):
        if torch.is_grad_enabled():
            with torch.no_grad():
                module.own_weight.mul_(1.01)
        return super().forward(module, *given, **more)


class Forgetful(SSF):
    """Knows something that its state does not hold."""

    def __init__(self, layer):
        super().__init__(layer)
        self.seen = 0.0

    def forward(self, module, *given, **more):
        self.seen += float(torch.is_grad_enabled())
        return super().forward(module, *given, **more) * (1 + 1e-3 * self.seen)

    def weight(self, own):
        return super().weight(own) * (1 + 1e-3 * self.seen)

    def bias(self, own):
        return super().bias(own) * (1 + 1e-3 * self.seen)


class Settling(SSF):
    """Rounds what it has learnt whenever it is evaluated."""

    def forward(self, module, *given, **more):
        if not torch.is_grad_enabled():
            with torch.no_grad():
                self.shift.copy_(self.shift.bfloat16())
        return super().forward(module, *given, **more)


class Fickle(SSF):
    """Answers at random."""

    def forward(self, module, *given, **more):
        y = super().forward(module, *given, **more)
        return y if torch.is_grad_enabled() else y * (1 + 1e-6 * torch.randn(()))


class Shared(Part):
    """Copies look at the weights of whom they were copied from."""

    def __init__(self, layer):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(layer.weight.shape[0]))
        self.look = lambda: self.shift

    def bias(self, own):
        return own + self.look()

    def forward(self, module, *given, **more):
        return module.own(*given, **more) + self.look()


class Renamer(SSF):
    """Puts a weight of its own into the network."""

    def __init__(self, layer):
        super().__init__(layer)
        layer.register_parameter("more", nn.Parameter(torch.ones(1)))


def only(part):
    """An adapter with this part in the last layer that mixes channels."""

    def adapter(net):
        name = "blocks.1.mlp.fc1"
        yield name, part(net.get_submodule(name))

    adapter.__module__, adapter.__qualname__ = __name__, part.__name__.lower()
    globals()[part.__name__.lower()] = adapter
    return adapter


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (Loud, "must change nothing"),
        (Deaf, "what the adapter learns changes nothing"),
        (Liar, "merged weights must say the same"),
        (Idle, "must learn: .*spare"),
        (Meddler, "must stay: .*fc1.weight moved"),
        (Forgetful, "to the last bit"),
        (Settling, "evaluations must not change what is learnt"),
        (Fickle, "answers must repeat"),
        (Shared, "a copy must"),
        (Renamer, "names as timm has them"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_check_finds_a_broken_adapter(part, said):
    with pytest.raises(AssertionError, match=said):
        check_adapter(only(part), backbone("test_vit"))


def test_the_check_passes_what_is_whole():
    check_adapter(only(SSF), backbone("test_vit"))


def test_an_adapter_of_ones_own_is_found_by_its_import_path():
    path = f"{__name__}:own"
    check_adapter({"name": path, "last": 0.5}, backbone("test_vit"))
    with pytest.raises(ConfigError, match="cannot be imported"):
        Adapter(backbone("test_vit").net, f"{__name__}:nothing")


def own(net, *, count: int = 2):
    """Shifts behind the MLPs of the first blocks."""
    for at in range(count):
        yield f"blocks.{at}.mlp.fc2", SSF(net.blocks[at].mlp.fc2)


def test_an_adapter_of_an_installed_package_is_found_by_its_name(monkeypatch):
    found = [EntryPoint("shifty", f"{__name__}:own", "visionft.adapters")]
    monkeypatch.setattr("visionft.plugins.entry_points", lambda group: found)
    made = backbone("test_vit")
    assert [*Adapter(made.net, {"name": "shifty", "count": 1}).parts()] == ["blocks.0.mlp.fc2"]
    with pytest.raises(ConfigError, match="did you mean shifty"):
        Adapter(backbone("test_vit").net, "shiftty")
