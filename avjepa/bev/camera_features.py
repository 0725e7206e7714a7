"""Image features: a Hugging Face backbone and a small neck that brings its stages to one stride. Letters: see conventions.py."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoBackbone, AutoConfig, ResNetConfig

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GROUPS = 8

log = logging.getLogger("avjepa")


class CameraFeatures(nn.Module):
    """Features of all present cameras at one stride.

    Args:
        backbone: a backbone with ``channels`` (one per stage it returns) and ``feature_maps`` in its output, as
            :func:`resnet_backbone` and :func:`pretrained_backbone` build.
        out_channels: channels of the features.
        feature_stride: image pixels per feature pixel.
        checkpointing: recompute the backbone in the backward pass, frame by frame, instead of keeping its activations;
            full-size clips do not fit otherwise.
    """

    def __init__(
        self, backbone: nn.Module, out_channels: int, feature_stride: int, checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.feature_stride = feature_stride
        self.out_channels = out_channels
        self.checkpointing = checkpointing
        self.neck = nn.Sequential(
            nn.Conv2d(sum(backbone.channels), out_channels, 1, bias=False),
            nn.GroupNorm(GROUPS, out_channels),
            nn.GELU(),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
        )
        self.register_buffer("mean", 255 * torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor, camera_present: torch.Tensor) -> torch.Tensor:
        """Features (M, N, C, h, w), zero for absent cameras.

        Args:
            images: (M, N, 3, H, W) uint8 RGB; H and W must be multiples of the stride.
            camera_present: (M, N) bool; absent cameras cost nothing.
        """
        height, width = images.shape[-2:]
        if height % self.feature_stride or width % self.feature_stride:
            raise ValueError(
                f"images of {height} x {width} px do not divide by the feature stride {self.feature_stride}"
            )
        present = images[camera_present]  # (n, 3, H, W)
        parts = present.split(images.shape[1]) if self.checkpointing and torch.is_grad_enabled() else (present,)
        encode = self._encode_checkpointed if len(parts) > 1 else self._encode
        encoded = torch.cat([encode(part) for part in parts])  # (n, C, h, w)
        features = encoded.new_zeros(*images.shape[:2], *encoded.shape[1:])
        features[camera_present] = encoded
        return features

    def _encode(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) uint8 to (n, C, h, w)."""
        size = (images.shape[-2] // self.feature_stride, images.shape[-1] // self.feature_stride)
        stages = self.backbone((images.float() - self.mean) / self.std).feature_maps
        # Bilinear both ways: coarse stages are enlarged, a finer one is averaged down.
        resized = [
            F.interpolate(s, size, mode="bilinear", align_corners=False, antialias=s.shape[-1] > size[1])
            for s in stages
        ]
        return self.neck(torch.cat(resized, 1))

    def _encode_checkpointed(self, images: torch.Tensor) -> torch.Tensor:
        return checkpoint(self._encode, images, use_reentrant=False)


def resnet_backbone(
    depths: tuple[int, ...] = (3, 4, 6, 3),
    hidden_sizes: tuple[int, ...] = (256, 512, 1024, 2048),
    layer_type: str = "bottleneck",
    embedding_size: int = 64,
    out_stages: tuple[str, ...] = ("stage2", "stage3", "stage4"),
) -> nn.Module:
    """A ResNet with random weights and GroupNorm in place of BatchNorm; the default is a ResNet-50.

    GroupNorm, because an EMA of parameters skips BatchNorm's running statistics and teacher and student would disagree.
    """
    config = ResNetConfig(
        depths=list(depths),
        hidden_sizes=list(hidden_sizes),
        layer_type=layer_type,
        embedding_size=embedding_size,
        out_features=list(out_stages),
    )
    backbone = AutoBackbone.from_config(config)
    batchnorm_to_groupnorm(backbone)
    return backbone


def pretrained_backbone(folder: str, out_stages: tuple[str, ...]) -> nn.Module:
    """Any Hugging Face backbone (ResNet, ConvNeXt, Swin, DINOv2, ...) from a local folder; nothing is ever downloaded.

    A folder that holds a ``config.json`` but no weights gives random weights, with a warning. BatchNorm keeps the statistics it
    was trained with and never updates them.

    Raises:
        FileNotFoundError: the folder holds no ``config.json``.
    """
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: no config.json; save a backbone there with model.save_pretrained('{folder}')"
        )
    config = AutoConfig.from_pretrained(folder, out_features=list(out_stages), local_files_only=True)
    backbone = AutoBackbone.from_config(config)
    if any(Path(folder).glob("*.safetensors")):
        return FrozenBatchNorm(type(backbone).from_pretrained(folder, config=config, local_files_only=True))
    log.warning("%s holds no *.safetensors: the image backbone starts from random weights", folder)
    batchnorm_to_groupnorm(backbone)
    return backbone


class FrozenBatchNorm(nn.Module):
    """A backbone whose BatchNorm layers stay in evaluation mode: their statistics are constants, alike in teacher and student."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = backbone.channels

    def forward(self, images: torch.Tensor):
        """Output of the backbone for (n, 3, H, W)."""
        return self.backbone(images)

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Training mode for everything but BatchNorm."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self


def batchnorm_to_groupnorm(module: nn.Module) -> None:
    """Replace every BatchNorm2d below ``module`` by a GroupNorm of the same width, in place."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(GROUPS, child.num_features))
        else:
            batchnorm_to_groupnorm(child)
