"""A run directory and a probe's results made by hand, and a reader of the page that tools/report.py makes of them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

from tools import report

CONFIG = """
lr_mult = dict({'camera.backbone': 1.0})
monitor = dict(dataset=dict(root=ROOT, scenes=('scene-0103', ), context_offsets=(-1, 0), future_offsets=(1, )))
train_data = dict(dataset=dict(scenes=('scene-0061', )))
randomness = dict(seed=7)
train_cfg = dict(max_iters=60)
"""
TEST_CLIPS = "dict(root='nowhere', scenes=('scene-0103', ), context_offsets=(-1, 0), future_offsets=(1, ))"
COLUMNS = {"iou": "IoU", "distance": "CD, m ↓"}
NEAR = {
    "last seen": {"iou": [0.7], "distance": [0.9]},
    "raw input, conv head": {"iou": [0.5, 0.5, 0.5], "distance": [0.3, 0.3, 0.3]},
    "random init, conv head": {"iou": [0.1, 0.1, 0.1], "distance": [0.8, 0.8, 0.8]},
    "JEPA, conv head": {"iou": [0.39, 0.4, 0.41], "distance": [0.4, 0.5, 0.6]},
}
RECORD = {
    "command": "python tools/probe.py configs/probes/other.py a.pth",
    "commit": "0123abc",
    "config": f"test_data = dict(far=dict(scenes=()), near={TEST_CLIPS})",
    "task": "bev_occupancy",
    "columns": COLUMNS,
    "convention": "by hand",
    "split": {"near": {"train_scenes": ["scene-0061"], "test_scenes": ["scene-0103"], "overlap_share_5m": 0.03}},
    "results": {"near": NEAR},
}
VOID = {"meta", "img", "source", "br", "link", "hr", "input"}


def write_run(folder: Path) -> Path:
    """A run of fifty iterations of sixty."""
    (folder / "20260101_120000").mkdir(parents=True)
    (folder / "pictures").mkdir()
    losses = [{"iteration": i, "loss": 2 / i, "loss_masked": 1 / i, "loss_variance": 0.1} for i in range(1, 51)]
    (folder / "loss_curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses) + '{"iterat')
    monitors = [
        {
            "iteration": i,
            "std": 0.8,
            "rankme": 9.0,
            "rankme_moving": float("nan"),
            "ratio_occupied": 0.987,
            "shuffled_motion": 1.234,
            "teacher_cosine": 0.9,
            "spectrum": [0.5, 0.3, 0.2],
            "slowness": [],
            "slowness_min": float("nan"),
        }
        for i in (0, 25, 50)
    ]
    monitors[1]["slowness"] = [0.4, 1.9]
    (folder / "monitors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in monitors))
    command = "python tools/train.py configs/tiny.py --work-dir work_dirs/seed0 --cfg-options randomness.seed=7"
    (folder / "run.json").write_text(json.dumps({"command": command, "commit": "0123abc"}))
    (folder / "tiny.py").write_text(CONFIG.replace("ROOT", "'nowhere'"))
    (folder / "20260101_120000" / "20260101_120000.log").write_text(
        "2026/01/01 12:00:00 - mmengine - INFO - torch 2.9 on CPU, 2 threads; seed 7; writing to x\n"
        "2026/01/01 12:06:00 - mmengine - INFO - Iter(train) [50/60]\n"
    )
    for name in ("iter_000025.png", "iter_000050.png"):
        write_picture(folder / "pictures" / name)
    return folder


def write_probe(folder: Path, **changes) -> Path:
    """One task's results with a picture of every split; ``changes`` are of the record."""
    folder.mkdir(parents=True, exist_ok=True)
    record = {**RECORD, **changes}
    (folder / "record.json").write_text(json.dumps(record))
    for split in record["results"]:
        write_picture(folder / f"{split}.png")
    return folder


def write_picture(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))


def written(arguments: list) -> Page:
    """The page that tools/report.py writes to its --out."""
    out = arguments[arguments.index("--out") + 1]
    report.main([str(word) for word in arguments])
    return Page(out.read_text())


class Page(HTMLParser):
    """Checks that tags nest, and collects text and what the tags point at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.tags, self.targets, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.targets += [value for name, value in attributes if name in ("src", "href", "srcset", "action", "data")]
        assert not any(name.startswith("on") for name, _ in attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)
