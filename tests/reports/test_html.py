import json
from html.parser import HTMLParser
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import torch

from avjepa.cli import run_tool
from avjepa.errors import DataError
from avjepa.reports.html import page
from tests.toy_drive import write_toy_drive
from tools import report
from tools.report import plain_settings, read_probe, read_run

CONFIG = """
lr_mult = dict({'camera.backbone': 1.0})
monitor = dict(dataset=dict(root=ROOT, scenes=('scene-0103', ), context_offsets=(-1, 0), future_offsets=(1, )))
train_data = dict(dataset=dict(scenes=('scene-0061', )))
randomness = dict(seed=7)
train_cfg = dict(max_iters=60)
"""
RESULTS = {
    "last seen": {"iou_known": [0.7], "iou_hidden": [0.3]},
    "raw input, conv head": {"iou_known": [0.8, 0.8, 0.8], "iou_hidden": [0.5, 0.5, 0.5]},
    "random init, conv head": {"iou_known": [0.2, 0.2, 0.2], "iou_hidden": [0.1, 0.1, 0.1]},
    "JEPA, conv head": {"iou_known": [0.6, 0.6, 0.6], "iou_hidden": [0.39, 0.4, 0.41]},
}
VOID = {"meta", "img", "source", "br", "link", "hr", "input"}


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AVJEPA_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("AVJEPA_NUSCENES", raising=False)
        yield


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return write_toy_drive(tmp_path_factory.mktemp("drive"), keyframes=4)


@pytest.fixture
def run_dir(tmp_path):
    """A run of fifty iterations of sixty."""
    folder = tmp_path / "seed0"
    (folder / "20260101_120000").mkdir(parents=True)
    (folder / "pictures").mkdir()
    losses = [{"iteration": i, "loss": 2 / i, "loss_masked": 1 / i, "loss_variance": 0.1} for i in range(1, 51)]
    (folder / "loss_curve.jsonl").write_text("".join(json.dumps(row) + "\n" for row in losses) + '{"iterat')
    monitors = [{"iteration": i, "std": 0.8, "rankme": 9.0, "ratio_occupied": 0.987} for i in (0, 50)]
    (folder / "monitors.jsonl").write_text("".join(json.dumps(row) + "\n" for row in monitors))
    (folder / "tiny.py").write_text(CONFIG.replace("ROOT", "'nowhere'"))
    (folder / "20260101_120000" / "20260101_120000.log").write_text(
        "2026/01/01 12:00:00 - mmengine - INFO - torch 2.9 on CPU, 2 threads; seed 7; writing to x\n"
        "2026/01/01 12:06:00 - mmengine - INFO - Iter(train) [50/60]\n"
    )
    for name in ("iter_000025.png", "iter_000050.png"):
        cv2.imwrite(str(folder / "pictures" / name), np.zeros((8, 8, 3), np.uint8))
    return folder


@pytest.fixture
def probe_dir(tmp_path):
    folder = tmp_path / "probe"
    folder.mkdir()
    record = {
        "command": "python tools/probe.py configs/probes/other.py a.pth",
        "commit": "0123abc",
        "config": CONFIG.replace("monitor", "test_data").replace("ROOT", "'nowhere'"),
        "convention": "by hand",
        "split": {"train_scenes": ["scene-0061"], "test_scenes": ["scene-0103"]},
        "results": RESULTS,
    }
    (folder / "record.json").write_text(json.dumps(record))
    cv2.imwrite(str(folder / "occupancy.png"), np.zeros((8, 8, 3), np.uint8))
    return folder


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


def written(arguments: list) -> Page:
    out = arguments[arguments.index("--out") + 1]
    report.main([str(word) for word in arguments])
    return Page(out.read_text())


def test_a_whole_page(tmp_path, run_dir, probe_dir, drive):
    (run_dir / "stages.json").write_text('{"data": 30, "train": 360.0}')
    made = written([run_dir, "--probe", probe_dir, "--data", drive, "--out", tmp_path / "deep" / "r.html"])
    for words in (
        "tiny.py: seed0",
        "50 of 60",
        "2026/01/01 12:00:00 to 2026/01/01 12:06:00",
        "torch 2.9 on CPU, 2 threads",
        "seed 7",
        "0123abc",
        "0.987",
        "0.400 ± 0.010",
        "gain against random init, loss against raw input",
        "JEPA, conv head; random init 0.100; raw input 0.500",
        "iter_000050.png",
        "train 6.0 min",
        "scene-0103, keyframe",
        "python tools/train.py configs/tiny.py --work-dir",
        "python tools/probe.py configs/probes/other.py",
    ):
        assert words in made.text, words
    assert "missing" not in made.text
    assert made.tags.count("img") == 6 + 1 + 1 + 6 + 1  # cameras, LiDAR, probe, charts, training picture
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r.html"]


def test_nothing_comes_from_outside(tmp_path, run_dir, probe_dir, drive):
    made = written([run_dir, "--probe", probe_dir, "--data", drive, "--out", tmp_path / "r.html"])
    assert made.targets
    assert all(target.startswith("data:image/") for target in made.targets)
    assert not {"script", "link", "iframe", "object", "a", "form"} & set(made.tags)
    text = (tmp_path / "r.html").read_text()
    assert "url(" not in text
    assert "@import" not in text


def test_what_is_not_there_is_said_to_be_missing(tmp_path, run_dir):
    for path in [
        *run_dir.glob("pictures/*"),
        *run_dir.glob("*/*.log"),
        run_dir / "monitors.jsonl",
        run_dir / "tiny.py",
    ]:
        path.unlink()
    made = written([run_dir, "--out", tmp_path / "r.html"])
    for words in (
        "No probe results",
        "No pictures of the data",
        "No monitors.jsonl",
        "No picture in pictures/",
        "No stages.json",
        "No training config",
        "seed not recorded",
        "trained not recorded",
    ):
        assert words in made.text, words
    assert made.tags.count("img") == 3  # the loss, its terms, the regulariser


def test_everything_is_escaped(tmp_path, run_dir, probe_dir):
    evil = "<script>alert(1)</script><img src=http://x onerror=y>\"'"
    record = json.loads((probe_dir / "record.json").read_text())
    record |= {"command": evil, "commit": evil, "convention": evil, "config": evil, "split": {"train_scenes": [evil]}}
    record["results"] = {evil: {evil: [0.5]}, f"JEPA, {evil}": {"iou_hidden": [0.5]}}
    (probe_dir / "record.json").write_text(json.dumps(record))
    (run_dir / "tiny.py").rename(run_dir / "<script>.py")
    (run_dir / "<script>.py").write_text(
        f"randomness = dict(seed={evil!r})\nmonitor = dict(dataset=dict(scenes=({evil!r},)))"
    )
    (run_dir / "stages.json").write_text(json.dumps({evil: 1}))
    (run_dir / "pictures" / "iter_1<script>.png").write_bytes(b'"><script>')
    made = written([run_dir, "--probe", probe_dir, "--out", tmp_path / "r.html"])
    assert "script" not in made.tags
    assert "<script>.py: seed0" in made.text  # as text
    assert made.text.count("<script>alert(1)</script>") >= 8
    assert all(unquote(target).startswith("data:image/") for target in made.targets)


def test_an_absent_camera_and_lidar_are_named(run_dir, drive):
    settings = plain_settings(CONFIG.replace("ROOT", repr(str(drive))))
    frame = report.held_out_frame(settings["monitor"]["dataset"], str(drive))
    bare = type(frame)(
        **{
            **vars(frame),
            "camera_present": torch.tensor([False] + [True] * 5),
            "lidar_present": False,
            "points_ego": torch.zeros(0, 5),
        }
    )
    made = Page(page(read_run(run_dir), None, bare, "", []))
    assert "absent. front left" in made.text
    assert "No LiDAR at this moment" in made.text


def test_a_run_without_curves_yet(run_dir):
    (run_dir / "loss_curve.jsonl").write_text("")
    made = Page(page(read_run(run_dir), None, None, "no reason", []))
    assert "0 of 60" in made.text
    assert "No pictures of the data: no reason" in made.text


def test_configs_are_parsed_and_never_run(tmp_path):
    text = f"a = 1\nb = dict(c=('x', ), d=[1.5, None])\nopen({str(tmp_path / 'trap')!r}, 'w')\ne = print(1)\nf = dict(g=a)\n"
    assert plain_settings(text) == {"a": 1, "b": {"c": ("x",), "d": [1.5, None]}}
    assert not (tmp_path / "trap").exists()
    assert plain_settings("no config <script>") == {}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("record.json", "{"),
        ("record.json", "[]"),
        ("record.json", '{"results": {"columns": ["a"]}}'),
        ("record.json", '{"results": {"row": {"iou": ["x"]}}}'),
    ],
)
def test_damaged_probes(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=name):
        read_probe(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("loss_curve.jsonl", '{"iteration": 1}\nx\n'),
        ("loss_curve.jsonl", '{"loss": 1}\n'),
        ("monitors.jsonl", '{"iteration": 1, "std": "x"}\n'),
        ("stages.json", '{"a": -1}'),
        ("stages.json", "[]"),
    ],
)
def test_damaged_runs(run_dir, name, content):
    (run_dir / name).write_text(content)
    with pytest.raises(DataError, match=name):
        read_run(run_dir)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "error: nowhere: not a run directory"),
        (["RUN", "--probe", "nowhere"], "record.json: cannot be read"),
        (["RUN", "--data", "nowhere"], "error: nowhere: no such folder"),
        (["RUN", "--out", "RUN/tiny.py/r.html"], "cannot be written"),
    ],
)
def test_mistakes_are_one_line(run_dir, capsys, arguments, complaint):
    with pytest.raises(SystemExit) as left:
        run_tool(lambda: report.main([word.replace("RUN", str(run_dir)) for word in arguments]))
    assert left.value.code == 2
    error = capsys.readouterr().err.strip()
    assert complaint in error
    assert len(error.splitlines()) == 1
