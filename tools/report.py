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
from avjepa.files import replacing
from avjepa.reports.html import Run, page, setting
from avjepa.reports.html_map_changes import MapChangeResult
from avjepa.reports.html_probes import ProbeResult, place_of_task
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.sample import Frame

EXAMPLE = """example:
  python tools/report.py work_dirs/bev_jepa_nuscenes_tiny
  python tools/report.py work_dirs/seed0 --probes work_dirs/study/probes --data /data/nuscenes --out report.html
"""
PICTURE_SIZE_PX = (270, 480)
PROBE_CONFIG = "configs/probes/bev_occupancy.py"


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN_DIR", help="work dir of tools/train.py")
    parser.add_argument(
        "--probes",
        type=Path,
        metavar="DIR",
        help="holds the output of tools/probe.py, a folder a task; default: RUN_DIR/probes",
    )
    parser.add_argument("--data", metavar="ROOT", help="data to show; default: the run's, else $AVJEPA_NUSCENES")
    parser.add_argument("--out", type=Path, metavar="FILE", help="default: report.html in RUN_DIR")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    run = read_run(args.run)
    probes = read_probes(args.probes or args.run / "probes")
    if args.probes and not probes:
        raise DataError(f"{args.probes}: no TASK/record.json there; give the folder that holds the tasks' folders")

    shown = shown_dataset(run, probes)
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
    map_changes = read_map_changes(args.run / "map_changes", out.parent)
    write_text(out, page(run, probes, frame, why_no_frame, next_commands(run, probes, root), map_changes))
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
    if not isinstance(origin, dict):
        raise DataError(f"{folder / 'run.json'}: want what tools/train.py writes; remove it")
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


def read_probes(folder: Path) -> list[ProbeResult]:
    """Read what tools/probe.py wrote, a folder a task, in the order to show.

    Raises:
        DataError: a record is damaged.
    """
    probes = [read_probe(path) for path in sorted(folder.glob("*/record.json"))]
    return sorted(probes, key=lambda probe: place_of_task(probe.task))


def read_probe(path: Path) -> ProbeResult:
    """Read one task's record; its pictures lie beside it.

    Raises:
        DataError: it is damaged, or another tool's.
    """
    record = _read_json(path)
    if not _is_probe_record(record):
        raise DataError(f"{path}: not a record of this tools/probe.py; run the probe again, or remove the file")
    return ProbeResult(
        task=record["task"],
        columns=record["columns"],
        tables=record["results"],
        splits=record["split"],
        convention=record["convention"],
        record=record,
        pictures={picture.stem: picture for picture in path.parent.glob("*.png") if picture.is_file()},
    )


def read_map_changes(folder: Path, page_folder: Path) -> list[MapChangeResult]:
    """Read what tools/evaluate_map_changes.py wrote, a folder a map; links are seen from the page's folder.

    Raises:
        DataError: a record is damaged.
    """
    found = []
    for path in sorted(folder.glob("*/evaluation.json")):
        results, review = _read_json(path), path.parent / "review.html"
        link = os.path.relpath(review, page_folder) if review.is_file() else None
        try:
            found += [
                MapChangeResult.of(name, one, link) for name, seeds in results["results"].items() for one in seeds
            ]
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: not a record of tools/evaluate_map_changes.py; remove the file") from error
    return found


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


def shown_dataset(run: Run, probes: list[ProbeResult]) -> dict[str, Any]:
    """Config of the held-out data set: that of the first probe picture, so that both show the same moment, else the monitor's."""
    tested = None
    if probes:
        first_split = next(iter(probes[0].tables))
        tested = setting(plain_settings(str(probes[0].record.get("config"))), f"test_data.{first_split}")
    return tested if isinstance(tested, dict) else setting(run.settings, "monitor.dataset") or {}


def held_out_frame(dataset: dict[str, Any], root: str) -> Frame:
    """The present keyframe of the middle clip, as in the probes' pictures.

    Raises:
        DataError: the config names no scenes, or they cannot be read.
    """
    names = ("scenes", "context_offsets", "future_offsets")
    if not all(isinstance(dataset.get(name), tuple | list) for name in names):
        raise DataError("the run's config does not say which scenes are held out")
    scenes, context, future = (tuple(dataset[name]) for name in names)
    try:
        clips = NuScenesClips(root, scenes, context, future, PICTURE_SIZE_PX, max_bad_share=1.0)
        return clips[len(clips) // 2].now
    except (TypeError, ValueError) as error:
        raise DataError(f"the held-out data set in the run's config is damaged ({error})") from error


def next_commands(run: Run, probes: list[ProbeResult], root: str | None) -> list[str]:
    """What to type next, ready to paste."""
    last = shlex.quote(str(run.folder / "last.pth"))
    data = f" --data {shlex.quote(str(root))}" if root else ""
    commands = []
    if len(run.losses) < (run.planned or 0):
        commands += ["# go on training", resumed(run, data)]
    configs = [_config_in(str(probe.record.get("command", ""))) for probe in probes]
    configs = list(dict.fromkeys(filter(None, configs))) or [run.settings.get("probe_config", PROBE_CONFIG)]
    return [
        *commands,
        "# what the frozen encoder knows, beside its baselines",
        *(
            f"python tools/probe.py {shlex.quote(str(probe_config))} {last}{data}"
            for probe_config in configs
            if probe_config
        ),
        "# does the LiDAR lie on the pictures?",
        f"python tools/check_calibration.py{data}",
        "# all curves, while it trains",
        f"tensorboard --logdir {shlex.quote(str(run.folder))}",
    ]


def resumed(run: Run, data: str) -> str:
    """The run's own command, made to go on; where it is not known, one for a config of that name."""
    if run.command and "tools/train.py" in run.command:
        return run.command if "--resume" in run.command.split() else f"{run.command} --resume"
    config, folder = shlex.quote(f"configs/{run.config_name}"), shlex.quote(str(run.folder))
    return f"python tools/train.py {config} --work-dir {folder}{data} --resume"


def _config_in(command: str) -> str | None:
    """The probe config that a command names."""
    return next((word for word in command.split() if word.endswith(".py") and "config" in word), None)


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
    if not all(
        isinstance(row, dict) and _is_number(row.get("iteration")) and all(map(_is_measured, row.values()))
        for row in rows
    ):
        raise DataError(f"{path}: want an iteration and numbers, or lists of them, in every line")
    return rows


def _is_probe_record(record: Any) -> bool:
    """Text, titles and numbers are where the page looks for them."""
    if not isinstance(record, dict):
        return False
    columns, results, split = (record.get(name) for name in ("columns", "results", "split"))
    return (
        all(isinstance(record.get(name), str) for name in ("task", "convention"))
        and _is_full_dict(columns)
        and all(isinstance(title, str) for title in columns.values())
        and _is_full_dict(results)
        and all(_is_full_dict(table) and all(map(_is_row, table.values())) for table in results.values())
        and isinstance(split, dict)
        and all(map(_is_split, split.values()))
    )


def _is_row(row: Any) -> bool:
    """A row of a probe's table: numbers over seeds by metric."""
    return isinstance(row, dict) and all(isinstance(v, list) and all(map(_is_number, v)) for v in row.values())


def _is_split(split: Any) -> bool:
    """Names of scenes, and the overlap share, where there are any."""
    if not isinstance(split, dict) or not _is_number(split.get("overlap_share_5m", 0)):
        return False
    names = [split.get(f"{kind}_scenes", []) for kind in ("train", "test")]
    return all(isinstance(scenes, list) and all(isinstance(name, str) for name in scenes) for scenes in names)


def _is_full_dict(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0


def _is_duration(value: Any) -> bool:
    return _is_number(value) and 0 <= value < math.inf


def _is_measured(value: Any) -> bool:
    """A number, or a spectrum."""
    return all(map(_is_number, value)) if isinstance(value, list) else _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def write_text(path: Path, text: str) -> None:
    """Write a file.

    Raises:
        ConfigError: it cannot be written there.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror}); give another --out") from error


if __name__ == "__main__":
    run_tool(main)
