"""Write one self-contained HTML page of a training run: pictures, curves, probe results, and what to type next."""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import re
import shlex
from pathlib import Path
from typing import Any

from avjepa.cli import run_tool
from avjepa.errors import ConfigError, DataError
from avjepa.reports.html import Probe, Run, page, setting
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import Frame

EXAMPLE = """example:
  python tools/report.py work_dirs/bev_jepa_nuscenes_tiny
  python tools/report.py work_dirs/seed0 --probe work_dirs/probe --data /data/nuscenes --out report.html
"""
PICTURE_SIZE_PX = (270, 480)
PROBE_FOLDERS = ("probe_occupancy", "probe")  # where tools/probe.py and make demo write
PROBE_CONFIG = "configs/probes/occupancy.py"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="work dir of tools/train.py")
    folders = " or ".join(PROBE_FOLDERS)
    parser.add_argument(
        "--probe", type=Path, metavar="DIR", help=f"output of tools/probe.py; default: {folders} in RUN_DIR"
    )
    parser.add_argument("--data", metavar="ROOT", help="data to show; default: the run's, else $AVJEPA_NUSCENES")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in RUN_DIR")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    run = read_run(args.run)
    folders = [args.probe] if args.probe else [args.run / name for name in PROBE_FOLDERS]
    found = [folder for folder in folders if args.probe or (folder / "record.json").is_file()]
    probe = read_probe(found[0]) if found else None

    shown = shown_dataset(run, probe)
    roots = [args.data] if args.data else [shown.get("root"), os.environ.get("AVJEPA_NUSCENES")]
    root = next((root for root in roots if root and (args.data or Path(root).is_dir())), None)
    frame, why_no_frame = None, "the data set is not here; name it by --data"
    if root:
        try:
            frame = held_out_frame(shown, root)
        except DataError as error:
            if args.data:
                raise
            why_no_frame = str(error)
    out = args.out or args.run / "report.html"
    write_text(out, page(run, probe, frame, why_no_frame, next_commands(run, probe, root)))
    print(f"written: {out} ({out.stat().st_size / 1e6:.1f} MB)")


def read_run(folder: Path) -> Run:
    """Read a run directory.

    Raises:
        DataError: it is none, or a file in it is damaged.
    """
    if not (folder / "loss_curve.jsonl").is_file():
        raise DataError(f"{folder}: not a run directory (no loss_curve.jsonl); give the work dir of tools/train.py")
    configs = sorted(folder.glob("*.py"), key=lambda path: path.stat().st_mtime)
    text = configs[-1].read_text(errors="replace") if configs else ""
    logs = [path.read_text(errors="replace") for path in sorted(folder.glob("*/*.log"))]
    times = re.findall(r"^(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ", "\n".join(logs), re.MULTILINE)
    machine = re.search(r"INFO - (torch .+?); seed", logs[-1]) if logs else None
    stages = folder / "stages.json"
    origin = _read_json(folder / "run.json") if (folder / "run.json").is_file() else {}
    pictures = sorted((folder / "pictures").glob("iter_*.png"))
    return Run(
        folder=folder,
        config_name=configs[-1].name if configs else None,
        config_text=text,
        settings=plain_settings(text),
        losses=_read_rows(folder / "loss_curve.jsonl"),
        monitors=_read_rows(folder / "monitors.jsonl") if (folder / "monitors.jsonl").is_file() else [],
        picture=pictures[-1] if pictures else None,
        stages=_read_stages(stages) if stages.is_file() else None,
        command=origin.get("command"),
        commit=origin.get("commit"),
        start=min(times, default=None),
        end=max(times, default=None),
        machine=machine and machine[1],
    )


def read_probe(folder: Path) -> Probe:
    """Read what tools/probe.py wrote.

    Raises:
        DataError: there is no record, or it is damaged.
    """
    record = _read_json(folder / "record.json")
    results = record.get("results") if isinstance(record, dict) else None
    if not isinstance(results, dict) or not all(map(_is_row, results.values())):
        raise DataError(f"{folder / 'record.json'}: not a record of tools/probe.py; run the probe again")
    picture = folder / "occupancy.png"
    return Probe(record, picture if picture.is_file() else None)


def plain_settings(text: str) -> dict[str, Any]:
    """Top-level names of a config whose values are plain (numbers, strings, tuples, ``dict(...)``), without running it."""

    def value_of(node: ast.expr) -> Any:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
            return {keyword.arg: value_of(keyword.value) for keyword in node.keywords}
        return ast.literal_eval(node)

    settings = {}
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                settings[node.targets[0].id] = value_of(node.value)
            except (ValueError, TypeError):
                continue
    return settings


def shown_dataset(run: Run, probe: Probe | None) -> dict[str, Any]:
    """Config of the held-out data set: the probe's test clips, so that its picture shows the same moment, else the monitor's."""
    tested = setting(plain_settings(str(probe.record.get("config"))), "test_data.dataset") if probe else None
    return tested or setting(run.settings, "monitor.dataset") or {}


def held_out_frame(dataset: dict[str, Any], root: str) -> Frame:
    """The present keyframe of the first clip.

    Raises:
        DataError: the config names no scenes, or they cannot be read.
    """
    names = ("scenes", "context_offsets", "future_offsets")
    if not all(isinstance(dataset.get(name), tuple | list) for name in names):
        raise DataError("the run's config does not say which scenes are held out")
    scenes, context, future = (tuple(dataset[name]) for name in names)
    try:
        return NuScenesClips(root, scenes, context, future, PICTURE_SIZE_PX, max_bad_share=1.0)[0].now
    except (TypeError, ValueError) as error:
        raise DataError(f"the held-out data set in the run's config is damaged ({error})") from error


def next_commands(run: Run, probe: Probe | None, root: str | None) -> list[str]:
    """What to type next, ready to paste."""
    last, config = shlex.quote(str(run.folder / "last.pth")), f"configs/{run.config_name}"
    data = f" --data {shlex.quote(str(root))}" if root else ""
    commands = []
    if len(run.losses) < (run.planned or 0):
        folder = shlex.quote(str(run.folder))
        commands += [
            "# go on training",
            f"python tools/train.py {shlex.quote(config)} --work-dir {folder}{data} --resume",
        ]
    words = str(probe.record.get("command", "")).split() if probe else []
    probe_config = next((word for word in words if word.endswith(".py") and "config" in word), None)
    probe_config = probe_config or run.settings.get("probe_config") or PROBE_CONFIG
    out = shlex.quote(str(run.folder / PROBE_FOLDERS[0]))
    return [
        *commands,
        "# what the frozen encoder knows, beside its baselines",
        f"python tools/probe.py {shlex.quote(probe_config)} {last}{data} --out {out}",
        "# does the LiDAR lie on the pictures?",
        f"python tools/check_calibration.py{data}",
        "# all curves, while it trains",
        f"tensorboard --logdir {shlex.quote(str(run.folder))}",
    ]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from error


def _read_stages(path: Path) -> dict[str, float]:
    stages = _read_json(path)
    if not isinstance(stages, dict) or not all(map(_is_duration, stages.values())):
        raise DataError(f'{path}: want {{"stage": seconds}}')
    return stages


def _read_rows(path: Path) -> list[dict]:
    """Rows of a JSON-lines file; a last line that is still being written is left out."""
    lines = path.read_text(errors="replace").split("\n")
    try:
        rows = [json.loads(line) for line in lines[:-1]]
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error})") from error
    if not all(isinstance(row, dict) and "iteration" in row and all(map(_is_number, row.values())) for row in rows):
        raise DataError(f"{path}: want an iteration and numbers in every line")
    return rows


def _is_row(row: Any) -> bool:
    """A row of a probe's results: numbers over seeds by metric."""
    return isinstance(row, dict) and all(isinstance(v, list) and all(map(_is_number, v)) for v in row.values())


def _is_duration(value: Any) -> bool:
    return _is_number(value) and 0 <= value < math.inf


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def write_text(path: Path, text: str) -> None:
    """Write a file by way of a temporary one.

    Raises:
        ConfigError: it cannot be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another --out") from error


if __name__ == "__main__":
    run_tool(main)
