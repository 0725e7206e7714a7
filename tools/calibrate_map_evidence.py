"""Fit how learned and hand-made evidence of map changes are weighed on priors whose errors are known, or measure it on others."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avjepa.cli import progress, run_tool
from avjepa.engine.map_evidence import evidence_of_file
from avjepa.errors import ConfigError, DataError
from avjepa.files import write_json
from avjepa.mapping.detect import find_candidates, look, near_the_map
from avjepa.mapping.evaluation.evidence import (
    EVIDENCE,
    PLACED,
    auroc_of,
    fit_calibration,
    is_right,
    judged_elements,
    reliability,
)
from avjepa.mapping.evaluation.truth import edited_elements, read_edits
from avjepa.mapping.evidence_material import Material
from avjepa.mapping.frames import frame_of_city
from avjepa.mapping.map_evidence import Calibration, load_map_evidence, save_map_evidence
from avjepa.mapping.map_readers import read_map
from avjepa.mapping.survey import DRIVE_FILE, read_survey
from avjepa.mapping.weighing import Weighed, calibrated, gone_candidates, weigh
from avjepa.sensors.nuscenes_index import load_index

EXAMPLE = """example:
  python tools/calibrate_map_evidence.py evidence.pth --data data/city7 --fit \\
      --case data/city7/maps/prior/minicity-a.json data/city7/maps/changes/minicity-a.geojson work_dirs/changes7
  python tools/calibrate_map_evidence.py evidence.pth --data data/city8 --case ...   # measured on another town

A case is a prior, its truth, and the folder of tools/detect_map_changes.py whose surveys are read. Several make one sample.
"""


log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class Case:
    """One prior, judged with one file, before calibration.

    Attributes:
        weighed: candidates, and elements of which hand-made rules say nothing.
        right: (weighed,).
        gone: for every element, that it is gone, by the encoder alone.
        edited: changed elements, with the kind of their edit.
        material: the drives that were judged, and their town.
    """

    weighed: list[Weighed]
    right: list[bool]
    gone: list[Weighed]
    edited: dict[str, str]
    material: Material


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="evidence files, judged one after another")
    parser.add_argument("--data", type=Path, required=True, metavar="ROOT", help="nuScenes root of the drives")
    parser.add_argument("--version", metavar="NAME", help="tables' folder (default: the only one)")
    parser.add_argument(
        "--case", nargs=3, type=Path, action="append", required=True, metavar=("MAP", "TRUTH", "DIR"), help="see below"
    )
    parser.add_argument("--fit", action="store_true", help="fit the calibration, and write it into the files")
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="embeddings (default: embeddings beside the first FILE)"
    )
    parser.add_argument("--out", type=Path, metavar="JSON", help="write every figure and judged element there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    cases: list[list[Case]] = [[] for _ in args.files]
    for case in args.case:
        for of_file, judged in zip(cases, judge_case(args, *case), strict=True):
            of_file.append(judged)
    records = {}
    for path, of_file in zip(args.files, cases, strict=True):
        material = Material.joined(case.material for case in of_file)
        if args.fit:
            words = f"{args.data.name}: " + ", ".join(str(case[0].name) for case in args.case)
            fit(path, of_file, words, material)
        evidence = load_map_evidence(path)
        # A fit is measured on what it was fitted on, and is meant to be.
        warnings = (replace(evidence, calibration=None) if args.fit else evidence).warnings(material, path.name)
        for line in warnings:
            log.warning("%s", line)
        records[str(path)] = {"warnings": warnings, **record_of(of_file, evidence.calibration)}
        print(f"\n{path}")
        say(records[str(path)])
    if args.out is not None:
        write_json(args.out, records)


def judge_case(args: argparse.Namespace, map_path: Path, truth_path: Path, folder: Path) -> Iterator[Case]:
    """One prior, judged with every file.

    Raises:
        DataError: the folder holds no survey, or truth and map are of two cities.
    """
    surveys = sorted(path.parent for path in (folder / "surveys").glob(f"*/{DRIVE_FILE}"))
    if not surveys:
        raise DataError(f"{folder}: holds no surveys; make them with tools/detect_map_changes.py --out {folder}")
    drives = [read_survey(survey) for survey in surveys]
    prior, _ = read_map(map_path, frame_of_city(drives[0].city))
    frame, edits = read_edits(truth_path)
    if frame != prior.frame:
        raise DataError(f"{truth_path}: known changes of {frame.name}, but the map is of {prior.frame.name}")
    surveys, drives = near_the_map(surveys, prior)
    mosaic, near = look(surveys, drives, load_index(args.data, args.version), prior)
    candidates = [one for one in find_candidates(mosaic, drives, prior, near, progress) if not one.degraded]
    told = {one.element_id for one in candidates}
    also = gone_candidates(element for element in near if element.token in told)  # beside what rules say of them
    edited = edited_elements(truth_path)
    scenes = [drive.scene for drive in drives]
    cache = args.cache or args.files[0].parent / "embeddings"
    for path in args.files:
        evidence, embedded = evidence_of_file(path, args.data, args.version, scenes, cache, progress)
        bare = replace(evidence, calibration=None)
        frames = progress(embedded.frames(), "asking the encoder", len(embedded.dataset))
        answers = weigh([*candidates, *also], near, bare, prior, frames)
        weighed = answers[: len(candidates)] + answers[len(candidates) + len(also) :]
        gone = answers[len(candidates) :]
        right = [is_right(one, edits, edited) for one in weighed]
        yield Case(weighed, right, gone, edited, Material.of(embedded.keys, [prior]))


def fit(path: Path, cases: Sequence[Case], fitted_on: str, material: Material) -> None:
    """Fit the calibration of a file on all cases, and write it.

    Raises:
        ConfigError: nothing to tell apart.
    """
    weighed = [one for case in cases for one in case.weighed]
    right = [answer for case in cases for answer in case.right]
    if all(right) or not any(right):
        raise ConfigError(f"{path}: all {len(right)} candidates are alike, right or wrong: add cases to fit on")
    calibration = Calibration(fit_calibration(weighed, right), fitted_on, len(right), material)
    save_map_evidence(path, replace(load_map_evidence(path), calibration=calibration))


def record_of(cases: Sequence[Case], calibration: Calibration | None) -> dict[str, Any]:
    """Every figure, and what it was made of."""
    elements, rows = [], []
    for case in cases:
        weighed = case.weighed if calibration is None else [calibrated(one, calibration) for one in case.weighed]
        elements += judged_elements(weighed, case.gone, case.edited)
        rows += [row_of(one, right) for one, right in zip(weighed, case.right, strict=True)]
    layers = {"all": elements} | {
        layer: [one for one in elements if one.layer == layer] for layer in dict.fromkeys(one.layer for one in elements)
    }
    told = [row for row in rows if row["hand"] is not None]
    of = {"hand-set, candidates": reliability([row["hand"] for row in told], [row["right"] for row in told])}
    if calibration is not None:  # else rules alone decide, and they are silent of elements without a candidate
        for name, its in (("candidates", told), ("and elements without one", rows)):
            of[f"all evidence, {name}"] = reliability([row["log_odds"] for row in its], [row["right"] for row in its])
    return {
        "fitted_on": calibration and calibration.fitted_on,
        "auroc": {
            layer: {
                "changed": sum(one.edit in PLACED for one in its),
                "unchanged": sum(not one.edit for one in its),
                **{name: number(auroc_of(its, name)) for name in EVIDENCE},
            }
            for layer, its in layers.items()
        },
        "calibration": {
            name: {"ece": number(found.ece), "brier": number(found.brier), "count": found.count}
            for name, found in of.items()
        },
        "elements": [asdict(one) | {"combined": number(one.combined)} for one in elements],
        "candidates": rows,
    }


def row_of(one: Weighed, right: bool) -> dict[str, Any]:
    """A candidate as JSON values."""
    odds, candidate = one.odds, one.candidate
    return {
        **{"element": candidate.element_id, "layer": candidate.layer, "kind": candidate.kind, "hand": one.hand},
        **{"residual": odds.residual, "belief": odds.belief, "drives": odds.drives},
        **{"log_odds": number(candidate.log_odds), "right": right},
    }


def number(value: float) -> float | None:
    """A JSON value; None of what is not finite."""
    return value if np.isfinite(value) else None


def say(record: dict[str, Any]) -> None:
    """The tables."""
    print(
        f"AUROC, changed against unchanged elements      changed unchanged {' '.join(f'{name:>9}' for name in EVIDENCE)}"
    )
    for layer, row in record["auroc"].items():
        values = " ".join("        -" if row[name] is None else f"{row[name]:9.2f}" for name in EVIDENCE)
        print(f"  {layer:44} {row['changed']:7d} {row['unchanged']:9d} {values}")
    print("confidence                                          ECE     Brier     count")
    for name, row in record["calibration"].items():
        figures = ("        -" if row[key] is None else f"{row[key]:9.3f}" for key in ("ece", "brier"))
        print(f"  {name:44} {' '.join(figures)} {row['count']:9d}")


if __name__ == "__main__":
    run_tool(main)
