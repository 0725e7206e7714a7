"""What surveys of drives and the detection of map changes cost: time by stage, memory, and the physical floor beside them.

Each survey and each detection runs in a process of its own, as a worker of a fleet does (one thread), since the peak of a process
never falls. The peak is the kernel's high-water mark of resident memory (proc(5), VmHWM), set back when the work begins: it counts
what OpenCV and NumPy allocate, which tracemalloc does not see in full, and leaves out the parent, which ``ru_maxrss`` inherits.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import ParamSpec, TypeVar

import cv2
import numpy as np

from avjepa.cli import progress, run_tool
from avjepa.errors import ConfigError, DataError, UserError
from avjepa.files import replacing, write_json
from avjepa.fleet_engines import attempt
from avjepa.mapping import survey
from avjepa.mapping.detect import detect_changes
from avjepa.mapping.drive_paths import drive_paths
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.tiles import TileSums
from avjepa.processes import follow_parent
from avjepa.reports.record import origin
from avjepa.sensors.nuscenes_index import NuScenesIndex, load_index

EXAMPLE = """example:
  python tools/benchmark_map_changes.py --data data/city --scenes scene-2007 scene-2008 --out work_dirs/map_change_costs
  python tools/benchmark_map_changes.py --data data/nuscenes --scenes scene-0916 --map prior.geojson --repeats 2 4 8

A drive that is surveyed R times over is one survey of R times the keyframes: its memory must not grow. A detection in R surveys of
each drive is one of R traversals. Linux alone says how much memory was used, and what is in the page cache.
"""

# Functions of a survey and the stage they are; what is left is "rest".
STAGES = {
    (survey, "read_returns"): "read LiDAR",
    (survey, "read_cameras"): "read and decode images",
    (survey, "view_ground"): "ground view",
    (survey, "add_view"): "add to tiles",
    (TileSums, "close"): "add to tiles",
}
P, R = ParamSpec("P"), TypeVar("R")


@dataclass
class Cost:
    """What some work cost.

    Attributes:
        keyframes: that were looked at.
        wall_s, cpu_s: of the work; the CPU seconds of all its threads.
        start_mb, peak_mb: resident memory when it began, and at most.
        stages: (wall, CPU) seconds by stage.
        changes: that were found.
    """

    keyframes: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0
    start_mb: float = 0.0
    peak_mb: float = 0.0
    stages: dict[str, tuple[float, float]] = field(default_factory=dict)
    changes: int = 0

    def __add__(self, other: Cost) -> Cost:
        """One after the other, each in its own process."""
        names = [*self.stages, *(name for name in other.stages if name not in self.stages)]
        none = (0.0, 0.0)
        stages = {n: tuple(np.add(self.stages.get(n, none), other.stages.get(n, none)).tolist()) for n in names}
        return Cost(
            *(self.keyframes + other.keyframes, self.wall_s + other.wall_s, self.cpu_s + other.cpu_s),
            *(max(self.start_mb, other.start_mb), max(self.peak_mb, other.peak_mb)),
            *(stages, self.changes + other.changes),
        )


@dataclass(frozen=True)
class Floor:
    """What no survey can be faster than on this machine.

    Attributes:
        files, size_bytes: LiDAR and image files of the keyframes.
        read_s: to read them, after the kernel was asked to drop them from its page cache.
        cached_share: of the files, still in the cache then; None where the file system does not tell.
        again_s: to read them once more, from the cache.
        decode_wall_s, decode_cpu_s: to decode the images at full size, from memory.
    """

    files: int
    size_bytes: int
    read_s: float
    cached_share: float | None
    again_s: float
    decode_wall_s: float
    decode_cpu_s: float


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="nuScenes root of the drives")
    parser.add_argument("--version", metavar="NAME", help="tables' folder (default: the only one)")
    parser.add_argument("--scenes", nargs="+", required=True, metavar="NAME", help="drives or splits of one city")
    parser.add_argument(
        "--map", type=Path, metavar="FILE", help="map to check (default: the prior of a generated city; else none)"
    )
    parser.add_argument(
        "--repeats", type=int, nargs="+", default=[2, 4], metavar="R", help="how often over, beside once (default: 2 4)"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write costs.json and costs.md there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    if min(args.repeats) < 1:
        raise ConfigError(f"--repeats {min(args.repeats)}: want numbers from 1 on")
    all_repeats = sorted({1, *args.repeats})
    index = load_index(args.data, args.version)
    paths = drive_paths(index, args.scenes)
    scenes = [path.scene for path in paths]
    km = sum(path.steps_m.sum() for path in paths) / 1000
    prior = args.map or args.data / "maps" / "prior" / f"{paths[0].city}.json"
    has_prior = args.map is not None or prior.is_file()

    floor = floor_of(args.data, index, scenes)
    surveys: dict[int, Cost] = {}
    detections: dict[int, Cost] = {}
    with tempfile.TemporaryDirectory() as folder:
        for repeats in progress(all_repeats, "measuring", len(all_repeats)):
            folders = [Path(folder) / f"{scene}_{repeats}" for scene in scenes]
            costs = [
                alone(survey_cost, args.data, args.version, scene, repeats, new)
                for scene, new in zip(scenes, folders, strict=True)
            ]
            surveys[repeats] = sum(costs, Cost())
            if has_prior:
                several = [Path(folder) / f"{scene}_1" for scene in scenes] * repeats
                detections[repeats] = alone(detection_cost, args.data, args.version, several, prior, paths[0].city)

    markdown = costs_markdown(surveys, detections, floor, km)
    print(markdown, end="")
    if args.out is not None:
        record = {
            **origin(),
            "task": "map_change_costs",
            "scenes": scenes,
            "km": km,
            "map": prior.name if has_prior else None,
            "convention": __doc__,
            "surveys": {repeats: asdict(cost) for repeats, cost in surveys.items()},
            "detections": {repeats: asdict(cost) for repeats, cost in detections.items()},
            "floor": asdict(floor),
        }
        write_json(args.out / "costs.json", record)
        with replacing(args.out / "costs.md") as temporary:
            temporary.write_text(markdown, encoding="utf-8")
        print(f"\nwritten: {args.out / 'costs.json'} and costs.md beside it")


# ------------------------------------------------------------------------------------------------------- measurements
def alone(work: Callable[P, R], *args: P.args) -> R:
    """The result of work in a new process, which inherits no memory.

    Raises:
        UserError: the work's own, or the process was killed.
    """
    try:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), follow_parent) as pool:
            return pool.submit(work, *args).result()
    except BrokenProcessPool as error:
        raise UserError(f"{work.__name__}: its process was killed, perhaps for memory; take shorter drives") from error


def survey_cost(root: Path, version: str | None, scene: str, repeats: int, folder: Path) -> Cost:
    """One survey of a drive, whose keyframes are looked at ``repeats`` times over, into a new folder."""
    index, cost = load_index(root, version), Cost()

    def work(name: str, new: Path) -> None:
        drive = survey.survey_drive(root, index, name, new, lambda keyframes, _: np.tile(keyframes, repeats))
        cost.keyframes = len(drive.frames)

    with stages_timed() as seconds, measured(cost):
        _as_a_worker(work, scene, folder)
    cost.stages = {stage: tuple(both.tolist()) for stage, both in seconds.items()}
    return cost


def detection_cost(root: Path, version: str | None, folders: Sequence[Path], prior: Path, city: str) -> Cost:
    """One detection in surveys, all of it but pictures and pages."""
    index, cost = load_index(root, version), Cost()
    elements, _ = read_map(prior, frame_of_city(city))
    cost.keyframes = sum(len(survey.read_survey(folder).frames) for folder in folders)

    def work(name: str, _: Path) -> None:
        now = datetime.now(timezone.utc)
        report = detect_changes(folders, elements, prior.name, index, name, now, lambda items, *_: items)
        cost.changes = len(report.changes)

    with measured(cost):
        _as_a_worker(work, "benchmark", folders[0])
    return cost


def _as_a_worker(work: Callable[[str, Path], None], name: str, folder: Path) -> None:
    failure = attempt(work, name, folder)
    if failure is not None:
        raise DataError(failure.error)


@contextmanager
def measured(cost: Cost) -> Iterator[None]:
    """Fill in time and memory of the block.

    Raises:
        ConfigError: this system does not tell of memory.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back, proc(5)
        cost.start_mb = _memory_mb("VmRSS")
    except OSError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; peaks of memory are measured on Linux alone") from error
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    cost.wall_s, cost.cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    cost.peak_mb = _memory_mb("VmHWM")


def _memory_mb(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) * 1024 / 1e6


@contextmanager
def stages_timed() -> Iterator[dict[str, np.ndarray]]:
    """(wall, CPU) seconds of the functions of STAGES, by stage, counted while the block runs."""
    seconds = {stage: np.zeros(2) for stage in STAGES.values()}
    functions = {place: getattr(*place) for place in STAGES}
    for place, stage in STAGES.items():
        setattr(*place, timed(functions[place], seconds[stage]))
    try:
        yield seconds
    finally:
        for place, function in functions.items():
            setattr(*place, function)


def timed(function: Callable[P, R], seconds: np.ndarray) -> Callable[P, R]:
    """The function, whose (wall, CPU) seconds are added to ``seconds``."""

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        before = time.perf_counter(), time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            seconds[:] += time.perf_counter() - before[0], time.process_time() - before[1]

    return run


def floor_of(root: Path, index: NuScenesIndex, scenes: Sequence[str]) -> Floor:
    """Reading the drives' files, and decoding their images, with nothing else done."""
    of_drives = np.isin(index.scene_name[index.scene], scenes)
    names = [*index.lidar_file[of_drives], *index.camera_file[of_drives].ravel()]
    files = [path for path in (root / str(name) for name in names if name) if path.is_file()]
    cached = [_dropped(path) for path in files]
    share = None if None in cached else sum(cached) / max(len(files), 1)
    started = time.perf_counter()
    size_bytes = sum(len(path.read_bytes()) for path in files)
    read_s = time.perf_counter() - started
    started = time.perf_counter()
    for path in files:
        path.read_bytes()
    again_s = time.perf_counter() - started
    seconds = np.zeros(2)
    decode = timed(cv2.imdecode, seconds)
    for path in files:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            decode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return Floor(len(files), size_bytes, read_s, share, again_s, *seconds.tolist())


def _dropped(path: Path) -> bool | None:
    """Ask the kernel to drop a file from its page cache: is it in there still? None where the file system does not tell."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fdatasync(file)  # what is not on the disk yet cannot be dropped
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        return os.preadv(file, [bytearray(1)], 0, os.RWF_NOWAIT) > 0
    except BlockingIOError:
        return False
    except OSError:
        return None
    finally:
        os.close(file)


# ------------------------------------------------------------------------------------------------------------- tables
def costs_markdown(surveys: dict[int, Cost], detections: dict[int, Cost], floor: Floor, km: float) -> str:
    """All tables; ``km`` is the length of the drives, once."""
    parts = [("Surveys: the drives, R times over", cost_table(surveys, km))]
    if detections:
        parts.append(("Detection: R surveys of each drive", cost_table(detections, km)))
    parts.append(("Where the time goes, R = 1", stage_table(surveys[1], detections.get(1))))
    parts.append(("The physical floor, and the survey beside it, R = 1", floor_table(floor, surveys[1])))
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts) + "\n"


def cost_table(costs: dict[int, Cost], km: float) -> str:
    """Time by keyframe and by km of log, and memory."""
    lines = [
        "| R | keyframes | km | wall s / keyframe | CPU s / keyframe | wall s / km | CPU s / km | peak MB | grown by MB |",
        "|" + "---|" * 9,
    ]
    for repeats, cost in costs.items():
        length_km = repeats * km
        by_km = [seconds / length_km if length_km else math.nan for seconds in (cost.wall_s, cost.cpu_s)]
        lines.append(
            f"| {repeats} | {cost.keyframes} | {length_km:.3f} | {cost.wall_s / cost.keyframes:.3f} "
            f"| {cost.cpu_s / cost.keyframes:.3f} | {by_km[0]:.0f} | {by_km[1]:.0f} "
            f"| {cost.peak_mb:.0f} | {cost.peak_mb - cost.start_mb:.0f} |"
        )
    return "\n".join(lines)


def stage_table(cost: Cost, detection: Cost | None) -> str:
    """Seconds of each stage by keyframe, and its share of the CPU time."""
    stages = dict(cost.stages)
    known = np.sum(list(stages.values()), axis=0)
    stages["rest of the survey"] = tuple((np.array([cost.wall_s, cost.cpu_s]) - known).tolist())
    if detection is not None:
        stages["detect"] = (detection.wall_s, detection.cpu_s)
    together = sum(cpu for _, cpu in stages.values())
    lines = ["| | wall s / keyframe | CPU s / keyframe | share of CPU |", "|---|---|---|---|"]
    for name, (wall, cpu) in stages.items():
        lines.append(f"| {name} | {wall / cost.keyframes:.4f} | {cpu / cost.keyframes:.4f} | {cpu / together:.0%} |")
    return "\n".join(lines)


def floor_table(floor: Floor, cost: Cost) -> str:
    """Reading and decoding alone, by keyframe."""
    keyframes = cost.keyframes
    megabytes = floor.size_bytes / 1e6
    state = "not known" if floor.cached_share is None else f"{floor.cached_share:.0%} of the files"
    rows = {
        f"read, dropped from the page cache before (still there: {state})": (floor.read_s, "-", megabytes),
        "read again, from the page cache": (floor.again_s, "-", megabytes),
        "decode the JPEGs, from memory": (floor.decode_wall_s, f"{floor.decode_cpu_s / keyframes:.4f}", None),
        "the survey": (cost.wall_s, f"{cost.cpu_s / keyframes:.4f}", None),
    }
    lines = [
        f"{floor.files} files, {megabytes / keyframes:.2f} MB a keyframe.\n",
        *("| | wall s / keyframe | CPU s / keyframe | MB / s |", "|---|---|---|---|"),
    ]
    for name, (wall_s, cpu, size_mb) in rows.items():
        rate = "-" if size_mb is None else f"{size_mb / wall_s:.0f}"
        lines.append(f"| {name} | {wall_s / keyframes:.4f} | {cpu} | {rate} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_tool(main)
