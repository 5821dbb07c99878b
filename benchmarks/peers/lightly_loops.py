"""Training loops as lightly's examples write them, one step at a time, so that they can be timed in turn with ours.

The parts are lightly's (dataset, transforms, heads, losses, masked ViT), the settings those of its examples: fp32, a
DataLoader that decodes and augments single images, one forward pass per view. Only `workers` is not the examples' 8:
on few cores 0 is usually faster, and a comparison should take the better of the two.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from lightly.data import LightlyDataset
from lightly.loss import DINOLoss, IBOTPatchLoss, KoLeoLoss, NTXentLoss
from lightly.models import utils
from lightly.models.modules import DINOProjectionHead, MaskedVisionTransformerTIMM, SimCLRProjectionHead
from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
from lightly.transforms import DINOTransform, MAETransform, SimCLRTransform
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.utils.data import DataLoader

EPOCHS = 10  # of the examples; only schedules see it
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class PeerLoop:
    """An endless run over the image files of a folder; `step` trains on the next `images_per_step` of them."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        transform: Callable[[Any], list[Tensor]],
        *,
        batch: int,
        files: Path,
        workers: int,
        before_update: Callable[[int], object] = lambda epoch: None,
    ) -> None:
        self._before_update = before_update
        self.model, self.optimizer, self.device = model.train(), optimizer, next(model.parameters()).device
        self.images_per_step = batch
        self.epoch = 0
        dataset = LightlyDataset(str(files), transform=transform)
        self._loader = DataLoader(dataset, batch, shuffle=True, drop_last=True, num_workers=workers)
        self._batches = self._endlessly()

    def step(self) -> float:
        """Load, augment and train on one batch; returns its loss."""
        views = [view.to(self.device) for view in next(self._batches)]
        loss: Tensor = self.model(views, self.epoch)
        torch.autograd.backward(loss)
        self._before_update(self.epoch)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def _endlessly(self) -> Iterator[list[Tensor]]:
        while True:
            for views, _, _ in self._loader:
                yield views
            self.epoch += 1


class SimCLR(nn.Module):
    """Two views, two forward passes, NT-Xent."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = SimCLRProjectionHead(backbone.num_features, backbone.num_features, 128)
        self.criterion = NTXentLoss()

    def forward(self, views: list[Tensor], epoch: int) -> Tensor:
        loss: Tensor = self.criterion(*(self.head(self.backbone(view)) for view in views))
        return loss


class DINO(nn.Module):
    """Two global and six local views, a teacher that follows the student."""

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        width = backbone.num_features
        self.student, self.teacher = backbone, copy.deepcopy(backbone)
        self.student_head = DINOProjectionHead(width, 512, 64, 2048, freeze_last_layer=1)
        self.teacher_head = DINOProjectionHead(width, 512, 64, 2048)
        utils.deactivate_requires_grad(self.teacher)
        utils.deactivate_requires_grad(self.teacher_head)
        self.criterion = DINOLoss(output_dim=2048, warmup_teacher_temp_epochs=5)

    def forward(self, views: list[Tensor], epoch: int) -> Tensor:
        momentum = cosine_schedule(min(epoch, EPOCHS), EPOCHS, 0.996, 1)
        utils.update_momentum(self.student, self.teacher, m=momentum)
        utils.update_momentum(self.student_head, self.teacher_head, m=momentum)
        teacher_out = [self.teacher_head(self.teacher(view)) for view in views[:2]]
        student_out = [self.student_head(self.student(view)) for view in views]
        loss: Tensor = self.criterion(teacher_out, student_out, epoch=epoch)
        return loss


class MAE(nn.Module):
    """Encode a quarter of the patches, decode all, compare the pixels of the hidden ones."""

    def __init__(self, vit: Any, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.patch = vit.patch_embed.patch_size[0]
        self.encoder = MaskedVisionTransformerTIMM(vit)
        self.embed = nn.Linear(vit.embed_dim, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(vit.patch_embed.num_patches, width, depth, heads)
        self.predict = nn.Linear(width, 3 * self.patch**2)

    def forward(self, views: list[Tensor], epoch: int) -> Tensor:
        images = views[0]
        length = (len(images), self.encoder.sequence_length)
        keep, hide = utils.random_token_mask(size=length, mask_ratio=0.75, device=images.device)
        seen = self.embed(self.encoder.encode(images, idx_keep=keep))
        tokens = utils.set_at_index(utils.repeat_token(self.decoder.mask_token, length), keep, seen)
        predictions = self.predict(utils.get_at_index(self.decoder(tokens), hide))
        targets = utils.get_at_index(utils.patchify(images, self.patch), hide - 1)  # the class token is no patch
        return nn.functional.mse_loss(predictions, targets)


class SimMIM(nn.Module):
    """Hide three fifths of the patches behind a token, compare the pixels of these."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.patch = vit.patch_embed.patch_size[0]
        self.encoder = MaskedVisionTransformerTIMM(vit)
        self.predict = nn.Linear(vit.embed_dim, 3 * self.patch**2)

    def forward(self, views: list[Tensor], epoch: int) -> Tensor:
        images = views[0]
        length = (len(images), self.encoder.sequence_length)
        _, hide = utils.random_token_mask(size=length, mask_ratio=0.6, device=images.device)
        predictions = self.predict(utils.get_at_index(self.encoder.encode(images, idx_mask=hide), hide))
        targets = utils.get_at_index(utils.patchify(images, self.patch), hide - 1)
        return nn.functional.l1_loss(predictions, targets)


class DINOv2(nn.Module):
    """DINO on class tokens, iBOT on hidden patches, KoLeo on the student's class tokens."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        width = vit.embed_dim
        self.student = MaskedVisionTransformerTIMM(vit, antialias=False, pos_embed_initialization="skip")
        self.teacher = copy.deepcopy(self.student)
        self.student_heads, self.teacher_heads = (
            nn.ModuleList([DINOProjectionHead(width, 512, 64, 2048) for _ in range(2)]) for _ in range(2)
        )
        utils.deactivate_requires_grad(self.teacher)
        utils.deactivate_requires_grad(self.teacher_heads)
        self.dino, self.ibot, self.koleo = DINOLoss(2048), IBOTPatchLoss(2048), KoLeoLoss()

    def forward(self, views: list[Tensor], epoch: int) -> Tensor:
        momentum = cosine_schedule(min(epoch, EPOCHS), EPOCHS, 0.992, 1)
        utils.update_momentum(self.student, self.teacher, m=momentum)
        utils.update_momentum(self.student_heads, self.teacher_heads, m=momentum)
        large, small = torch.cat(views[:2]), torch.cat(views[2:])
        size = (len(large), *self.student.vit.patch_embed.grid_size)
        hidden = utils.random_block_mask(size=size, min_num_masks_per_block=1, device=large.device)
        mask = nn.functional.pad(hidden.flatten(1), (1, 0))  # the class token is no patch
        with torch.no_grad():
            known = self.teacher.encode(large)
            target = self.teacher_heads[0](known[:, 0]).chunk(2)
            patches = self.teacher_heads[1](known[mask])
        seen, crops = self.student.encode(large, mask=mask), self.student.encode(small)[:, 0]
        told = self.student_heads[0](seen[:, 0]).chunk(2) + self.student_heads[0](crops).chunk(len(views) - 2)
        loss: Tensor = self.dino(target, told, teacher_temp=0.04)
        loss = loss + self.ibot(patches, self.student_heads[1](seen[mask]), mask=hidden, teacher_temp=0.04)
        return loss + 0.1 * torch.stack([self.koleo(token) for token in seen[:, 0].chunk(2)]).sum()


def simclr(model_name: str, size: int, batch: int, files: Path, workers: int = 0) -> PeerLoop:
    """SimCLR on any timm model, SGD at 0.06."""
    model = SimCLR(_backbone(model_name, size)).to(DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.06)
    return PeerLoop(model, optimizer, SimCLRTransform(input_size=size), batch=batch, files=files, workers=workers)


def dino(model_name: str, size: int, batch: int, files: Path, workers: int = 0) -> PeerLoop:
    """DINO on any timm model, Adam at 0.001; local views have half the size, in whole patches of 16."""
    model = DINO(_backbone(model_name, size)).to(DEVICE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
    return PeerLoop(
        model,
        optimizer,
        _multicrop(size),
        batch=batch,
        files=files,
        workers=workers,
        before_update=model.student_head.cancel_last_layer_gradients,
    )


def mae(
    model_name: str,
    size: int,
    batch: int,
    files: Path,
    workers: int = 0,
    *,
    width: int = 192,
    depth: int = 2,
    heads: int = 3,
) -> PeerLoop:
    """MAE on a timm ViT, AdamW at 1.5e-4; the example's decoder (512 x 8) would dwarf a small encoder."""
    model = MAE(timm.create_model(model_name, img_size=size, num_classes=0), width, depth, heads).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-4)
    return PeerLoop(model, optimizer, MAETransform(input_size=size), batch=batch, files=files, workers=workers)


def simmim(model_name: str, size: int, batch: int, files: Path, workers: int = 0) -> PeerLoop:
    """SimMIM on a timm ViT, AdamW at 1.5e-4."""
    model = SimMIM(timm.create_model(model_name, img_size=size, num_classes=0)).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-4)
    return PeerLoop(model, optimizer, MAETransform(input_size=size), batch=batch, files=files, workers=workers)


def dinov2(model_name: str, size: int, batch: int, files: Path, workers: int = 0) -> PeerLoop:
    """DINOv2 on a timm ViT, AdamW at 1e-3."""
    model = DINOv2(_backbone(model_name, size)).to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    return PeerLoop(model, optimizer, _multicrop(size), batch=batch, files=files, workers=workers)


def _multicrop(size: int) -> DINOTransform:
    local = max(16, round(size / 2 / 16) * 16)
    return DINOTransform(global_crop_size=size, local_crop_size=local, n_local_views=6)


def _backbone(name: str, size: int) -> Any:
    several_sizes = {"img_size": size, "dynamic_img_size": True} if name.startswith("vit") else {}
    return timm.create_model(name, num_classes=0, **several_sizes)
