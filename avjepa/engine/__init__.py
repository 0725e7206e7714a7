"""Training with mmengine: the only folder that imports mmengine. Nothing outside imports this folder."""
