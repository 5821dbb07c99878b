"""An adapter as a small folder: what learnt and what moved, in the layout of the peft library where it has the method.

`adapter_model.safetensors` holds the parts, the head and the buffers of the network (batch norms: an adapter without
them answers wrongly after a reload), and in its header what to make of them. With LoRA, `adapter_config.json` tells
peft to put them into `timm.create_model(name, num_classes=K)`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from visionft.atomic import replace, write_text
from visionft.errors import CheckpointError, WeightsError
from visionft.folding import Norm

from .attach import Adapter
from .lora import LoRA

PREFIX = "base_model.model."
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def save(folder: Path, net: Any, adapter: Adapter, head: nn.Linear | None = None) -> None:
    """Write an adapter and the head that goes with it."""
    classifier = net.pretrained_cfg["classifier"]
    state: dict[str, Tensor] = dict(adapter.state_dict())
    state |= {f"{classifier}.{name}": tensor for name, tensor in head.state_dict().items()} if head else {}
    norms = [name for name, module in net.named_modules() if isinstance(module, Norm)]
    moves = {name for name, _ in net.named_buffers()}
    state |= {key: t for key, t in net.state_dict().items() if key in moves or key.rpartition(".")[0] in norms}
    folder.mkdir(parents=True, exist_ok=True)
    if adapter.spec["name"] == "lora":
        facts = _peft(adapter, [*norms, classifier] if head else norms)
        write_text(folder / CONFIG, json.dumps(facts, indent=2))
        state = {_peft_name(name): tensor for name, tensor in state.items()}
    ready = {f"{PREFIX}{name}": tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    about = {"visionft": json.dumps(adapter.spec)}
    replace(folder / WEIGHTS, lambda beside: save_file(ready, beside, about))


def load(folder: Path, net: Any) -> tuple[Adapter, dict[str, Tensor]]:
    """Put a saved adapter to work in a plain network; returns it and the state of its head (empty without one).

    Raises CheckpointError for a damaged folder, WeightsError when the adapter belongs to another network.
    """
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            spec = json.loads(file.metadata()["visionft"])
            state = {name.removeprefix(PREFIX): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise CheckpointError(f"{folder} holds no whole adapter: {error}") from error
    adapter = Adapter(net, spec)
    classifier = net.pretrained_cfg["classifier"]
    wanted = {_peft_name(key) if spec["name"] == "lora" else key: key for key in adapter.state_dict()}
    found = {wanted[key]: tensor for key, tensor in state.items() if key in wanted}
    head = {key.removeprefix(f"{classifier}."): t for key, t in state.items() if key.startswith(f"{classifier}.")}
    rest = {key: t for key, t in state.items() if key not in wanted and not key.startswith(f"{classifier}.")}
    try:
        adapter.load_state_dict(found)
        strange = net.load_state_dict(rest, strict=False).unexpected_keys
    except RuntimeError as error:
        raise WeightsError(f"{folder} is an adapter of another network: {error}") from error
    if strange:
        raise WeightsError(f"{folder} is an adapter of another network: it has {', '.join(strange[:3])}")
    return adapter, head


def _peft(adapter: Adapter, saved: list[str]) -> dict[str, Any]:
    parts = {name: part for name, part in adapter.parts().items() if isinstance(part, LoRA)}
    rank: int = max(part.lora_A.weight.shape[0] for part in parts.values())
    spec = adapter.spec
    narrow = {name: part.lora_A.weight.shape[0] for name, part in parts.items()}
    return {
        "peft_type": "LORA", "r": rank, "lora_alpha": spec["alpha"], "lora_dropout": spec["dropout"],
        "use_rslora": spec["rslora"], "use_dora": spec["dora"], "bias": "none", "fan_in_fan_out": False,
        "target_modules": [*parts], "modules_to_save": saved or None, "inference_mode": True,
        "rank_pattern": {name: r for name, r in narrow.items() if r != rank},
    }  # fmt: skip


def _peft_name(name: str) -> str:
    return name.removesuffix(".weight") if name.endswith("lora_magnitude_vector.weight") else name
