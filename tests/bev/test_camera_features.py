import logging

import pytest
import torch
from torch import nn
from transformers import ConvNextConfig, ResNetBackbone, ResNetConfig

from avjepa.bev.camera_features import CameraFeatures, FrozenBatchNorm, pretrained_backbone, resnet_backbone


def small_backbone() -> nn.Module:
    return resnet_backbone((1, 1), (8, 16), "basic", 8, ("stage1", "stage2"))


def make(checkpointing: bool = False) -> CameraFeatures:
    torch.manual_seed(0)
    return CameraFeatures(small_backbone(), 16, 8, checkpointing)


def images(frames: int = 2, cameras: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (frames, cameras, 3, 32, 64), generator=generator, dtype=torch.uint8)
    return pictures, torch.ones(frames, cameras, dtype=torch.bool)


def test_shape_and_stride():
    assert make()(*images()).shape == (2, 3, 16, 4, 8)


def test_absent_cameras_are_zero_and_do_not_matter():
    model, (pictures, present) = make(), images()
    full = model(pictures, present)
    present[0, 1] = False
    part = model(pictures, present)
    assert not part[0, 1].any()
    keep = present.clone()
    torch.testing.assert_close(part[keep], full[keep], atol=1e-5, rtol=1e-4)
    pictures[0, 1] = 0
    assert torch.equal(model(pictures, present), part)


def test_features_are_where_the_image_is():
    """A bright patch changes the features around its own place most."""
    model = make()
    pictures = torch.zeros(1, 1, 3, 32, 64, dtype=torch.uint8)
    present = torch.ones(1, 1, dtype=torch.bool)
    dark = model(pictures, present)
    pictures[..., 16:24, 40:48] = 255
    change = (model(pictures, present) - dark).abs().sum(2)[0, 0]
    row, column = divmod(int(change.argmax()), 8)
    assert abs(row - 2) <= 1
    assert abs(column - 5) <= 1


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        model = make(checkpointing).train()
        model(*images()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, atol=1e-3, rtol=1e-3)


def test_no_batch_statistics():
    assert not [m for m in small_backbone().modules() if isinstance(m, nn.BatchNorm2d)]
    model, (pictures, present) = make().train(), images()
    torch.testing.assert_close(model(pictures[:1], present[:1])[0], model(pictures, present)[0], atol=1e-5, rtol=1e-4)


def test_sizes_must_divide():
    with pytest.raises(ValueError, match="30 x 64 px"):
        make()(torch.zeros(1, 1, 3, 30, 64, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.bool))


def test_local_weights_are_loaded_and_batchnorm_stays_frozen(tmp_path):
    torch.manual_seed(1)
    config = ResNetConfig(
        depths=[1, 1], hidden_sizes=[8, 16], layer_type="basic", embedding_size=8, out_features=["stage2"]
    )
    saved = ResNetBackbone(config)
    for module in saved.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    saved.save_pretrained(tmp_path)
    loaded = pretrained_backbone(str(tmp_path), ("stage2",))
    assert isinstance(loaded, FrozenBatchNorm)
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected = saved.eval()(picture).feature_maps[0]
        torch.testing.assert_close(loaded.train()(picture).feature_maps[0], expected)
        loaded.train()(picture)
        torch.testing.assert_close(loaded(picture).feature_maps[0], expected)  # no statistics were updated
    assert CameraFeatures(loaded, 8, 8)(*images()).shape == (2, 3, 8, 4, 8)


def test_folder_without_weights_warns_and_without_config_says_what_to_do(tmp_path, caplog):
    ConvNextConfig(depths=[1, 1], hidden_sizes=[8, 16], num_stages=2).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, "avjepa"):
        backbone = pretrained_backbone(str(tmp_path), ("stage1", "stage2"))
    assert "random weights" in caplog.text
    assert CameraFeatures(backbone, 8, 8)(*images()).shape == (2, 3, 8, 4, 8)
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        pretrained_backbone(str(tmp_path / "nowhere"), ("stage1",))
