"""LoRA of HF's peft on a timm network, trained by the loop of `timm_loop`.

As peft's example for timm models: rank 8 on the convolutions that a pattern names, the head learns whole; and as its
page on troubles says of networks with batch norms, those learn whole, too. Depthwise convolutions take no LoRA there.
"""

from __future__ import annotations

import re
from typing import Any

from peft import LoraConfig, get_peft_model
from timm.utils import random_seed

from .job import Answer, Job, Order, Start, paced, versions
from .timm_loop import fit, network

LR = 1e-3
RANK = 8
CONVOLUTIONS = r".*conv_(pw|pwl|head)"
NORMS = re.compile(r".*bn\d")


def ready(job: Job) -> Start:
    """Make the loop ready."""
    start = paced(job, train)

    def noted() -> tuple[Answer, dict[str, Any]]:
        answer, facts = start()
        return answer, facts | {"installed": versions("torch", "timm", "peft")}

    return noted


def train(order: Order) -> Answer:
    """Train adapters, head and norms."""
    random_seed(order.job.seed)
    return fit(adapted(network(order.job)), order, LR)


def adapted(model: Any) -> Any:
    """The network with what learns beside it; it keeps what timm asks of a model."""
    norms = [name for name, _ in model.named_modules() if NORMS.fullmatch(name)]
    config = LoraConfig(
        r=RANK, lora_alpha=2 * RANK, target_modules=CONVOLUTIONS, modules_to_save=["classifier", *norms]
    )
    made = get_peft_model(model, config)
    made.pretrained_cfg = model.pretrained_cfg
    return made
