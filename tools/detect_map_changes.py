"""Find what differs between a map and the world that logged drives saw: reviewable changes, element by element."""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np

from avjepa.cli import progress, run_tool
from avjepa.engine.map_evidence import evidence_of_file
from avjepa.errors import DataError
from avjepa.fleet import LogTask, run_logs
from avjepa.mapping.changes import STATUSES, ChangeReport
from avjepa.mapping.decisions import apply_decisions
from avjepa.mapping.detect import Learned, detect_changes
from avjepa.mapping.drive_paths import drive_paths
from avjepa.mapping.evaluation.frames import predict_drives
from avjepa.mapping.evidence_material import Material
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.mosaic import Mosaic
from avjepa.mapping.outputs.frame_predictions import write_frame_predictions
from avjepa.mapping.outputs.geojson import write_changes_geojson
from avjepa.mapping.outputs.local_json import write_local_json
from avjepa.mapping.outputs.osm import write_osm
from avjepa.mapping.outputs.table import write_csv
from avjepa.mapping.survey import DRIVE_FILE, SURVEY_CODE, read_survey, survey_drive
from avjepa.mapping.vector_map import ElementMap
from avjepa.probes.frozen import code_fingerprint
from avjepa.reports.change_pictures import change_pictures
from avjepa.reports.ground_pictures import pictures_around
from avjepa.reports.recording import Recording, record_drives, viewer_package
from avjepa.reports.recording_mcap import mcap_recording
from avjepa.reports.recording_rerun import rerun_recording
from avjepa.reports.review import write_review
from avjepa.sensors.nuscenes_index import NuScenesIndex, load_index, split_scenes

EXAMPLE = """example:
  python tools/detect_map_changes.py --data data/city --map data/city/maps/prior/minicity-a.json --out work_dirs/changes
  python tools/detect_map_changes.py --data data/nuscenes --map prior.geojson --scenes scene-0916 --out work_dirs/changes
  python tools/detect_map_changes.py --data data/city --map ... --out work_dirs/changes --evidence evidence.pth   # and an encoder
  python tools/detect_map_changes.py --data data/city --map ... --out work_dirs/changes --review decisions.json   # read back

OUT holds review.html (open it: accept, reject, note, export decisions), changes.geojson (WGS84), changes_local.json (metres of the
map), changes.csv, changes.osm (for JOSM), frames.json (TbV's form) and surveys/, one folder a drive, which are kept: a run that was
stopped goes on, and more drives may be added. Drives of other cities than the map's are left out. Confidences are hand-set, unless
a calibrated evidence file weighs them.
"""

log = logging.getLogger("avjepa")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="nuScenes root of the drives")
    parser.add_argument("--version", help="tables' folder (default: the only one)")
    parser.add_argument("--map", type=Path, required=True, metavar="FILE", help="map expansion (.json) or GeoJSON map")
    parser.add_argument("--city", help="whose map it is (default: the city that the file names)")
    parser.add_argument("--scenes", nargs="+", default=[], metavar="NAME", help="drives or splits (default: all)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--engine", choices=("serial", "ray"), default="serial", help="(default: serial)")
    parser.add_argument("--workers", type=int, metavar="N", help="drives at once with Ray (default: 2)")
    parser.add_argument("--review", type=Path, metavar="FILE", help="decisions that the review page exported")
    parser.add_argument("--evidence", type=Path, metavar="FILE", help="learned evidence: tools/train_map_evidence.py")
    parser.add_argument("--rrd", type=Path, metavar="FILE", help="also a recording for the rerun viewer")
    parser.add_argument("--mcap", type=Path, metavar="FILE", help="also a recording for Foxglove")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    for path, package in ((args.rrd, "rerun"), (args.mcap, "mcap")):
        if path is not None:
            viewer_package(package)  # said now, not when all is done
    args.data = args.data.expanduser().resolve()  # workers may have another working directory
    prior, _ = read_map(args.map, None if args.city is None else frame_of_city(args.city))
    index = load_index(args.data, args.version)
    scenes = drives_of(index, prior.frame.name, args.scenes, args.data)
    learned, warnings = (None, ()) if args.evidence is None else learned_of(args, scenes, prior)
    tasks = survey_all(args, index, scenes)
    surveys = [args.out / "surveys" / task.folder for task in tasks]
    drives = list(map(read_survey, surveys))
    left_out = sum(len(drive.left_out) for drive in drives)
    if left_out:
        print(f"{left_out} keyframes and images left out (see {args.out}/surveys/*/{DRIVE_FILE})")
    run_id = run_id_of([args.map] if args.evidence is None else [args.map, args.evidence], tasks)
    report = detect_changes(surveys, prior, args.map.name, index, run_id, datetime.now(timezone.utc), progress, learned)
    report = replace(report, warnings=warnings)
    far = [drive.scene for drive in drives if drive.scene not in report.scenes]
    if far:
        print(f"{len(far)} drives left out: nowhere near the map ({', '.join(far)})")
    if args.review is not None:
        report = apply_decisions(args.review, report)
    write_outputs(args.out, report, index)
    pictures = dict(progress(change_pictures(report, args.data, index, surveys), "pictures", len(report.changes)))
    write_review(args.out / "review.html", report, prior, pictures, {drive.scene: drive.xy_m for drive in drives})
    if args.rrd is not None or args.mcap is not None:
        record(args, report, prior, index, surveys)
    say(args.out, report)


def drives_of(index: NuScenesIndex, city: str, wanted: list[str], root: Path) -> list[str]:
    """Names of the wanted drives in the map's city.

    Raises:
        DataError: none, or one that is named is not in the root; of a split, an extract may hold a part.
    """
    chosen, missing = split_scenes(index, tuple(wanted)) if wanted else (range(len(index.scene_name)), [])
    unknown = [name for name in wanted if name in missing]
    if unknown:
        raise DataError(f"{root}: no scene {', '.join(unknown)}; it holds {', '.join(index.scene_name[:5])}, ...")
    scenes = [str(index.scene_name[number]) for number in chosen if index.scene_city[number] == city]
    if not scenes:
        cities = ", ".join(sorted(set(index.scene_city.tolist())))
        raise DataError(f"{root}: none of the drives is in {city} (they are in {cities}); take the map of their city")
    if len(scenes) < len(chosen):
        print(f"{len(chosen) - len(scenes)} of {len(chosen)} drives left out: they are in other cities than {city}")
    return scenes


def learned_of(args: argparse.Namespace, scenes: list[str], prior: ElementMap) -> tuple[Learned, tuple[str, ...]]:
    """The evidence file, and the drives as its encoder sees them; embeddings are kept in OUT. And what must be known of the file.

    Raises:
        CheckpointError, ConfigError, DataError: as :func:`avjepa.engine.map_evidence.evidence_of_file`.
    """
    evidence, embedded = evidence_of_file(
        args.evidence, args.data, args.version, scenes, args.out / "embeddings", progress
    )
    if evidence.calibration is None:
        print(f"{args.evidence}: not calibrated, so the hand-set log-odds stand; see tools/calibrate_map_evidence.py")
    warnings = evidence.warnings(Material.of(embedded.keys, [prior]), args.evidence.name)
    for line in warnings:
        log.warning("%s", line)
    return Learned(evidence, embedded.frames, len(embedded.dataset)), warnings


def survey_all(args: argparse.Namespace, index: NuScenesIndex, scenes: list[str]) -> list[LogTask]:
    """One survey a drive, in ``surveys/``; those that are done are kept. Returns what was surveyed.

    Raises:
        DataError: not one drive could be surveyed.
    """
    tasks = [LogTask.of(scene, settings_of(index, scene), files_of(args.data, index, scene)) for scene in scenes]
    work = partial(survey_log, args.data, args.version)
    workers = args.workers or (2 if args.engine == "ray" else 1)
    outcomes = run_logs(tasks, work, args.out / "surveys", args.engine, workers, what="surveying drives")
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failed:
        print(f"left out: {outcome.name} ({outcome.error})")
    if len(failed) == len(tasks):
        raise DataError(f"{args.data}: no drive could be surveyed ({failed[0].error})")
    lost = {outcome.name for outcome in failed}
    return [task for task in tasks if task.name not in lost]


def run_id_of(files: list[Path], tasks: list[LogTask]) -> str:
    """Names what a report is made of: the map, learned evidence, and surveys of this code and these files."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    digest.update(repr([(task.name, task.fingerprint) for task in tasks]).encode())
    return digest.hexdigest()[:12]


def survey_log(root: Path, version: str | None, scene: str, folder: Path) -> None:
    """Survey one drive: what a worker of the fleet does."""
    survey_drive(root, load_index(root, version), scene, folder)


def settings_of(index: NuScenesIndex, scene: str) -> tuple[str, ...]:
    """What a survey depends on beside its sensor files: the code, poses and calibrations."""
    keyframes = index.keyframes_of(scene)
    tables = (index.global_T_ego, index.ego_T_lidar, index.pix_T_cam, index.ego_T_cam, index.timestamp_us)
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(table[keyframes]).tobytes() for table in tables))
    return code_fingerprint(SURVEY_CODE), digest.hexdigest()


def files_of(root: Path, index: NuScenesIndex, scene: str) -> list[Path]:
    """Sensor files of a drive's keyframes."""
    keyframes = index.keyframes_of(scene)
    names = [*index.lidar_file[keyframes], *index.camera_file[keyframes].ravel()]
    return [root / str(name) for name in names if name]


def write_outputs(out: Path, report: ChangeReport, index: NuScenesIndex) -> None:
    """All files but the page."""
    write_local_json(out / "changes_local.json", report)
    write_changes_geojson(out / "changes.geojson", report)
    write_csv(out / "changes.csv", report)
    write_osm(out / "changes.osm", report)
    paths = drive_paths(index, report.scenes)
    write_frame_predictions(out / "frames.json", predict_drives(report.changes, paths))


def record(
    args: argparse.Namespace, report: ChangeReport, prior: ElementMap, index: NuScenesIndex, surveys: list[Path]
) -> None:
    """The recordings, every keyframe with the surveyed ground around it."""
    numbers, mosaic = keyframes_in_time(index, report.scenes), Mosaic(surveys)
    frames = ((n, pictures_around(mosaic, index.global_T_ego[n])) for n in progress(numbers, "recording", len(numbers)))
    with ExitStack() as files:
        recordings: list[Recording] = []
        if args.rrd is not None:
            recordings.append(files.enter_context(rerun_recording(args.rrd, report.run_id)))
        if args.mcap is not None:
            recordings.append(files.enter_context(mcap_recording(args.mcap, report)))
        faults = record_drives(recordings, report, prior, args.data, index, frames)
    for path in filter(None, (args.rrd, args.mcap)):
        print(f"{path}: {len(numbers)} keyframes" + (f", {faults} files left out" if faults else ""))


def keyframes_in_time(index: NuScenesIndex, scenes: Sequence[str]) -> list[int]:
    """Numbers of the drives' usable keyframes in the order of time."""
    (numbers,) = np.nonzero(np.isin(index.scene_name[index.scene], scenes) & index.usable())
    return numbers[np.argsort(index.timestamp_us[numbers], kind="stable")].tolist()


def say(out: Path, report: ChangeReport) -> None:
    """The result in a few lines."""
    counts = Counter(change.status for change in report.changes)
    print(f"{out}: {len(report.scenes)} drives; " + ", ".join(f"{counts[status]} {status}" for status in STATUSES))
    for change in report.changes:
        if change.status == "confirmed":
            print(
                f"  {change.confidence:.2f} {change.world_change}: {change.description} ({change.n_traversals} drives)"
            )


if __name__ == "__main__":
    run_tool(main)
