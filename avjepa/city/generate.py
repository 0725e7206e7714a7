"""A whole city: drives in parallel, then maps, changes and tables, and only then the folder's final name.

Everything is written below ``OUT.partial``. A killed run leaves that folder; the next one with the same settings keeps its
finished drives. ``OUT`` itself appears in one rename, complete.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

import cv2
import numpy as np
from shapely.geometry import Point
from threadpoolctl import threadpool_limits

from avjepa.city.actors import Closure
from avjepa.city.can_bus import write_can_bus
from avjepa.city.change_roads import connector_new
from avjepa.city.changes import ChangePlan, plan_changes, write_geojson
from avjepa.city.drives import CitySettings, DrivePlan, plan_drives
from avjepa.city.fragments import read_fragment, write_fragment
from avjepa.city.layout import plan_town
from avjepa.city.map_files import write_basemap, write_map_expansion, write_map_mask
from avjepa.city.recorder import VERSION, record_drive
from avjepa.city.roads import build_town
from avjepa.city.streets import as_line, shape_streets
from avjepa.city.tables import map_token, write_tables
from avjepa.errors import ConfigError, DataError
from avjepa.files import hold_lock
from avjepa.geometry.map_edit import Place
from avjepa.processes import follow_parent

SETTINGS_FILE, LOCK_FILE = "city.json", ".lock"
FORMAT = 1  # of the generator: another one gives other bytes
PLACE_MARGIN_M = 12.0


def generate_city(out: Path, settings: CitySettings, workers: int, report: Callable[[str, int, int], None]) -> bool:
    """Make a city, or finish one; True if there was anything to do.

    Args:
        out: the data root to be.
        settings: what decides its bytes.
        workers: processes.
        report: called with (stage, done, total).

    Raises:
        DataError: ``out`` holds something else, or a city of other settings.
    """
    wanted = settings_record(settings)
    if out.exists():
        if _settings_in(out) == wanted:
            return False
        raise DataError(f"{out}: holds another city, or something else; remove it, or choose another --out")
    partial = out.with_name(f"{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    lock = _lock(partial)
    if _settings_in(partial) != wanted:
        _empty(partial)
    (partial / SETTINGS_FILE).write_text(json.dumps(wanted, indent=1) + "\n")
    plans = plan_drives(settings)
    changes = {town: change_plan(town, settings, plans) for town in sorted({plan.town for plan in plans})}
    _record_all(partial, settings, plans, changes, workers, report)
    report("tables", 0, 1)
    drives = [read_fragment(_fragment(partial, plan)) for plan in plans]
    for drive in drives:
        write_can_bus(partial, drive)
    write_tables(partial, drives, VERSION)
    shutil.rmtree(_fragment(partial, plans[0]).parent)
    (partial / LOCK_FILE).unlink()
    report("tables", 1, 1)
    os.replace(partial, out)
    lock.close()
    return True


def settings_record(settings: CitySettings) -> dict[str, Any]:
    """What the settings' file of a city holds. Cities that were made before there was ``drive_new_ways`` do not name it."""
    record = json.loads(json.dumps({"format": FORMAT, **dataclasses.asdict(settings)}))
    if not settings.drive_new_ways:
        del record["drive_new_ways"]
    return record


def _lock(partial: Path) -> TextIO:
    """Held while a city is being made; the system frees it when the process ends, however it ends.

    Raises:
        DataError: somebody else holds it.
    """
    lock = hold_lock(partial / LOCK_FILE)
    if lock is None:
        raise DataError(f"{partial}: another process is making this city; wait for it")
    return lock


def _empty(partial: Path) -> None:
    """Remove what a run with other settings left, all but the lock."""
    for path in partial.iterdir():
        if path.name != LOCK_FILE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def change_plan(town: str, settings: CitySettings, plans: tuple[DrivePlan, ...]) -> ChangePlan:
    """The prior map of a town: out of date at a share of the places that are driven.

    Raises:
        ConfigError: so many places cannot be changed.
    """
    rng = np.random.default_rng([settings.seed, 41, len(town), ord(town[-1])])
    try:
        return plan_changes(
            build_town(town, settings.seed), places_of(town, settings, plans), rng, settings.changed_share
        )
    except ValueError as error:
        raise ConfigError(f"the prior map of {town}: {error}; lower --changed-share, or take another --seed") from error


def closures_of(town: str, settings: CitySettings, plan: ChangePlan) -> tuple[Closure, ...]:
    """Where barriers stand in the world, which the prior map knows nothing of."""
    lanes = build_town(town, settings.seed).lanes
    closures = []
    for edit in plan.edits:
        if edit.step == "lane_closed":
            (token,) = edit.world_tokens
            line = as_line(lanes[token].path)
            along = [line.project(Point(xy)) for xy in edit.world_geometry.exterior.coords]
            closures.append(Closure(token, min(along), max(along)))
    return tuple(closures)


def way_of(settings: CitySettings, drive: DrivePlan, plan: ChangePlan) -> str:
    """The way through a junction that a drive is to take: one that the prior lacks in the drive's place; "" for none."""
    edits = [edit for edit in plan.edits if edit.place == drive.place and edit.step == connector_new.__name__]
    if not (settings.drive_new_ways and edits):
        return ""
    _, way = edits[drive.number % len(edits)].world_tokens
    return way


def places_of(town: str, settings: CitySettings, plans: tuple[DrivePlan, ...]) -> list[Place]:
    """The streets of a town that are driven, as discs around their middles."""
    driven = {plan.place for plan in plans if plan.town == town}
    places = []
    for shape in shape_streets(plan_town(town, settings.seed)):
        if shape.street.name in driven:
            middle = shape.path.poses(np.array([shape.path.length_m / 2]))[0]
            radius = shape.path.length_m / 2 + PLACE_MARGIN_M
            places.append(Place(shape.street.name, (float(middle[0]), float(middle[1])), radius))
    return places


def _record_all(partial: Path, settings, plans, changes, workers: int, report) -> None:
    """The maps, and every drive that has no fragment yet."""
    todo = [plan for plan in plans if not _fragment(partial, plan).is_file()]
    jobs = [(_write_maps, partial, settings, plans, changes)]
    for plan in todo:
        change = changes[plan.town]
        closures, way = closures_of(plan.town, settings, change), way_of(settings, plan, change)
        jobs.append((_record, partial, settings, plan, closures, way))
    total = len(plans) + 1
    report("maps and drives", total - len(jobs), total)
    if workers == 1:
        with threadpool_limits(1):
            for done, (function, *args) in enumerate(jobs, total - len(jobs) + 1):
                function(*args)
                report("maps and drives", done, total)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker) as pool:
        futures = [pool.submit(*job) for job in jobs]
        for done, future in enumerate(as_completed(futures), total - len(jobs) + 1):
            future.result()
            report("maps and drives", done, total)


def _start_worker() -> None:
    """No worker outlives a killed parent: it would write into the next run's folder.

    One thread a worker: the matrices are small, and threads of NumPy's BLAS would spin on the cores of other workers.
    """
    threadpool_limits(1)
    cv2.setNumThreads(1)

    follow_parent()


def _record(partial: Path, settings: CitySettings, plan: DrivePlan, closures: tuple[Closure, ...], way: str) -> None:
    write_fragment(_fragment(partial, plan), record_drive(partial, settings, plan, closures, way))


def _fragment(partial: Path, plan: DrivePlan) -> Path:
    return partial / ".drives" / f"{plan.name}.json"


def _write_maps(root: Path, settings: CitySettings, plans, changes: dict[str, ChangePlan]) -> None:
    """Masks, base maps and vector maps of the world; the prior maps and what is wrong with them."""
    for folder in ("maps/expansion", "maps/basemap", "maps/prior", "maps/changes"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for town, plan in changes.items():
        road_map = build_town(town, settings.seed)
        write_map_mask(root / "maps" / f"{map_token(town)}.png", road_map)
        write_basemap(root / "maps" / "basemap" / f"{town}.png", road_map)
        write_map_expansion(root / "maps" / "expansion" / f"{town}.json", road_map)
        write_map_expansion(root / "maps" / "prior" / f"{town}.json", plan.prior)
        write_geojson(root / "maps" / "changes" / f"{town}.geojson", town, plan.edits, places_of(town, settings, plans))


def _settings_in(folder: Path) -> dict | None:
    """The settings of the city in a folder; None if there is no city in it."""
    try:
        return json.loads((folder / SETTINGS_FILE).read_text())
    except (OSError, ValueError):
        return None
