import json
from itertools import pairwise
from pathlib import Path

import pytest

from avjepa.cli import run_tool
from avjepa.engine.config import load_config
from avjepa.engine.probe_study import chosen_heads
from avjepa.errors import UserError
from tools import demo
from tools.detect_map_changes import parse_args as detect_args
from tools.evaluate_map_changes import parse_args as score_args
from tools.probe import parse_args

MAP, BEV = "configs/probes/map_city.py", "configs/probes/bev_occupancy_city.py"


@pytest.fixture
def commands(monkeypatch):
    """Commands that the demo ran, without running them; each writes its product."""
    ran = []

    def run(command: list[str]) -> float:
        ran.append(command)
        named = dict(pairwise(command))
        products = {
            "tools/make_city.py": Path(named.get("--out", "")) / "v1.0-mini",
            "tools/train.py": Path(named.get("--work-dir", "")) / "last.pth",
            "tools/probe.py": Path(named.get("--out", "")) / "record.json",
            "tools/detect_map_changes.py": Path(named.get("--out", "")) / "review.html",
            "tools/evaluate_map_changes.py": Path(named.get("--out", "")) / "evaluation.json",
            "tools/report.py": Path(command[1]) / "report.html",
        }
        products[command[0]].parent.mkdir(parents=True, exist_ok=True)
        products[command[0]].touch()
        return 2.0

    monkeypatch.setattr(demo, "PROBES", {MAP: ("heads.conv.steps=1",), BEV: ()})
    monkeypatch.setattr(demo, "_run", run)
    return ran


def demo_in(folder) -> None:
    demo.main(["--out", str(folder / "out"), "--city", str(folder / "city")])


def test_every_probe_has_its_stage(tmp_path, commands):
    demo_in(tmp_path)
    out, data = tmp_path / "out", ["--data", str(tmp_path / "city")]
    assert commands[2:4] == [
        [
            "tools/probe.py",
            MAP,
            f"{out}/last.pth",
            *data,
            "--out",
            f"{out}/probes/map",
            *demo.OPTIONS,
            "heads.conv.steps=1",
        ],
        ["tools/probe.py", BEV, f"{out}/last.pth", *data, "--out", f"{out}/probes/bev_occupancy", *demo.OPTIONS],
    ]
    stages = json.loads((out / "stages.json").read_text())
    names = ["city", "pretraining", "probe: map", "probe: bev occupancy", "map changes", "report"]
    assert [name for name in stages if name != "venv"] == names
    assert [command[0] for command in commands] == [
        *("tools/make_city.py", "tools/train.py", "tools/probe.py", "tools/probe.py"),
        *("tools/detect_map_changes.py", "tools/evaluate_map_changes.py") * 2,
        "tools/report.py",
    ]


def test_the_prior_map_of_each_town_is_checked_and_scored(tmp_path, commands):
    demo_in(tmp_path)
    city, out = tmp_path / "city", tmp_path / "out" / "map_changes"
    for first, town in ((4, "minicity-a"), (6, "minicity-b")):
        detect, score = (command_line[1:] for command_line in commands[first : first + 2])
        args = detect_args(detect)
        assert (args.map, args.data, args.out) == (city / "maps" / "prior" / f"{town}.json", city, out / town)
        args = score_args(score)
        assert args.reports == [f"{town}={out / town}"]
        assert (args.truth, args.out) == (city / "maps" / "changes" / f"{town}.geojson", out / town)
    seconds = json.loads((tmp_path / "out" / "stages.json").read_text())
    assert seconds["map changes"] == 4 * 2.0  # the fixture's two seconds a command


@pytest.mark.parametrize("config", demo.PROBES)
def test_settings_are_of_the_configs(config):
    """As tools/probe.py reads them; an unknown key or head would be refused."""
    args = parse_args([config, "last.pth", *demo.OPTIONS, *demo.PROBES[config]])
    cfg = load_config(Path(config), args.cfg_options)
    assert list(chosen_heads(cfg, args.heads)) == ["conv"]
    assert args.seeds == 1


def test_again_it_does_what_is_missing_and_the_report(tmp_path, commands):
    demo_in(tmp_path)
    (tmp_path / "out" / "probes" / "map" / "record.json").unlink()
    commands.clear()
    demo_in(tmp_path)
    assert [command[:2] for command in commands] == [
        ["tools/probe.py", MAP],
        ["tools/report.py", str(tmp_path / "out")],
    ]


def test_stopped_pretraining_goes_on(tmp_path, commands):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last.pth").touch()
    demo_in(tmp_path)
    assert commands[1][-1] == "--resume"


def test_a_stage_that_fails_is_not_counted_as_done(tmp_path, commands, monkeypatch, capsys):
    def fail(command):
        raise UserError("no space")

    monkeypatch.setattr(demo, "_run", fail)
    with pytest.raises(SystemExit):
        run_tool(lambda: demo_in(tmp_path))
    assert "no space" in capsys.readouterr().err
    assert not {"city", "report"} & set(demo._read_seconds(tmp_path / "out"))
