"""The whole way in one go: a generated mini city, pretraining, four probes, what is wrong with its prior maps, an HTML report."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from avjepa.city.drives import town_names
from avjepa.cli import run_tool
from avjepa.errors import UserError

EXAMPLE = """example:
  python tools/demo.py                       # what `make demo` runs: 10 to 15 minutes on 2 cores, nothing to download
  python tools/demo.py --out work_dirs/demo  # again: goes on where it stopped, keeps what is done
"""
CONFIG = "configs/bev_jepa_city.py"
# One stage a probe: options of tools/probe.py, and settings of its config. A short form, to stay below 15 minutes: one seed, one
# head of few steps, fewer clips, and no rows that take minutes of their own (RayIoU, methods that clean whole drives).
OPTIONS = ("--seeds", "1", "--heads", "conv", "--cfg-options")
EVERY_SECOND = ("train_data.dataset.clip_stride=2", "test_data.near.clip_stride=2", "test_data.far.clip_stride=2")
PROBES = {
    "configs/probes/occupancy_city.py": ("probe.with_rays=False", "heads.conv.steps=60", *EVERY_SECOND),
    "configs/probes/forecasting_city.py": (
        *("probe.ray_step=16", "heads.conv.steps=30"),
        *("train_data.dataset.clip_stride=6", "test_data.near.clip_stride=8", "test_data.far.clip_stride=8"),
    ),
    "configs/probes/map_city.py": ("heads.conv.steps=100", *EVERY_SECOND),
    "configs/probes/dynamic_city.py": (
        *("probe.whole_drive_rows=False", "heads.conv.steps=60"),
        *("train_data.dataset.clip_stride=3", "test_data.near.clip_stride=6", "test_data.far.clip_stride=6"),
    ),
}
STAGES = "stages.json"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/demo"), help="results (default: work_dirs/demo)")
    parser.add_argument("--city", type=Path, default=Path("data/city"), help="data root (default: data/city)")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    installed = Path(sys.prefix) / ".core-installed"  # written by the Makefile
    if installed.is_file() and "venv" not in _read_seconds(args.out):
        _keep_seconds(args.out, "venv", float(installed.read_text()))
    report = args.out / "report.html"
    stages = stages_of(args.out, args.city, report)
    for number, (name, (commands, product)) in enumerate(stages.items(), 1):
        seconds = _read_seconds(args.out)
        if name in seconds and product.exists() and name != "report":
            print(
                f"== {number}/{len(stages)} {name}: {product} is there ({seconds[name]:.0f} s the first time)",
                flush=True,
            )
            continue
        stage_s = 0.0
        for command in commands:
            print(f"== {number}/{len(stages)} {name}: python {' '.join(command)}", flush=True)
            stage_s += _run(command)
        _keep_seconds(args.out, name, stage_s)
    total = sum(_read_seconds(args.out).values())
    print(
        f"\nDone in {total:.0f} s. Open {report}\nNext: python tools/train.py configs/bev_jepa_nuscenes.py --data NUSCENES_ROOT"
    )


def stages_of(out: Path, city: Path, report: Path) -> dict[str, tuple[list[list[str]], Path]]:
    """By name, in order: the commands of each stage, and what is there when it is done."""
    checkpoint, data = out / "last.pth", ["--data", str(city)]
    resume = ["--resume"] if checkpoint.is_file() else []
    stages = {
        "city": ([["tools/make_city.py", "--out", str(city)]], city),
        "pretraining": ([["tools/train.py", CONFIG, *data, "--work-dir", str(out), *resume]], checkpoint),
    }
    for config, settings in PROBES.items():
        task = Path(config).stem.removesuffix("_city")
        folder = out / "probes" / task
        command = ["tools/probe.py", config, str(checkpoint), *data, "--out", str(folder), *OPTIONS, *settings]
        stages[f"probe: {task.replace('_', ' ')}"] = ([command], folder / "record.json")
    stages["map changes"] = map_changes_stage(out / "map_changes", city)
    stages["report"] = ([["tools/report.py", str(out), *data]], report)
    return stages


def map_changes_stage(out: Path, city: Path) -> tuple[list[list[str]], Path]:
    """Commands that check the prior map of each town and score what they find, and what the last one writes."""
    commands, data = [], ["--data", str(city)]
    for town in town_names("AB"):  # as tools/make_city.py makes them
        prior, truth = city / "maps" / "prior" / f"{town}.json", city / "maps" / "changes" / f"{town}.geojson"
        folder = out / town
        commands += [
            ["tools/detect_map_changes.py", *data, "--map", str(prior), "--out", str(folder)],
            ["tools/evaluate_map_changes.py", f"{town}={folder}", *data, "--truth", str(truth), "--out", str(folder)],
        ]
    return commands, folder / "evaluation.json"


def _run(command: list[str]) -> float:
    """Seconds that a tool took.

    Raises:
        UserError: it failed; it has said why.
        KeyboardInterrupt: it was interrupted.
    """
    started = time.monotonic()
    code = subprocess.run([sys.executable, *command], check=False).returncode
    if code == 130:
        raise KeyboardInterrupt
    if code:
        raise UserError(
            f"{command[0]} ended with status {code}; mend what it says, then run this again: it goes on there"
        )
    return time.monotonic() - started


def _read_seconds(out: Path) -> dict[str, float]:
    """Seconds of the finished stages; the report shows them."""
    path = out / STAGES
    return json.loads(path.read_text()) if path.is_file() else {}


def _keep_seconds(out: Path, stage: str, seconds: float) -> None:
    temporary = out / f".{STAGES}"
    temporary.write_text(json.dumps({**_read_seconds(out), stage: round(seconds, 1)}, indent=1) + "\n")
    temporary.replace(out / STAGES)


if __name__ == "__main__":
    run_tool(main)
