"""A row that a probe study kept, for tools that let its head answer other clips than the study's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction

from avjepa.engine.probe_study import build_study
from avjepa.engine.registry import build
from avjepa.errors import CheckpointError, ConfigError
from avjepa.probes.study import Row, Study, read_row
from avjepa.sensors.nuscenes_dataset import NuScenesClips
from avjepa.sensors.repeated_past import with_repeated_past


def row_parser(description: str | None, epilog: str) -> argparse.ArgumentParser:
    """Command line of such a tool: ``config checkpoint row``, ``--out``, and what tools/probe.py was given besides."""
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="probe config of the study")
    parser.add_argument("checkpoint", type=Path, help="checkpoint that the row was made with")
    parser.add_argument("row", type=Path, help="a trained row, in rows/ of the study")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--data", metavar="ROOT", help="data root, as given to tools/probe.py")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="as given to tools/probe.py"
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="embeddings; default: probes/embeddings beside the checkpoint"
    )
    return parser


def study_of_row(cfg: Config, args: argparse.Namespace) -> tuple[Study, Row]:
    """The row that a command line of :func:`row_parser` names, and its study, with ``cfg`` as its config.

    Raises:
        ConfigError: no trained row, or not one of this config, checkpoint, data and code: a row's file is named by all of them.
        CheckpointError: the checkpoint cannot be read or is of another model, or the row's head is missing.
        DataError: as :func:`build_study`.
    """
    row = read_row(args.row)
    if row is None or not row.head_file:
        raise ConfigError(f"{args.row}: not a trained row of tools/probe.py; take one of rows/ in its --out")
    study = build_study(
        cfg,
        [args.checkpoint],
        row.seed + 1,
        folder=args.row.resolve().parents[1],
        features=args.cache or args.checkpoint.parent / "probes" / "embeddings",
        progress=lambda items, what, total: items,
    )
    wanted = study.file_of(row)
    if wanted is None or wanted.name != args.row.name:
        raise ConfigError(
            f"{args.row}: not made by {args.config} with {args.checkpoint}, these --cfg-options, this data and this code; "
            "give what tools/probe.py was given, or run it again"
        )
    if not study.has_weights(row):
        raise CheckpointError(
            f"{study.folder / row.head_file}: the weights of the row are missing; run tools/probe.py again"
        )
    return study, row


def every_keyframe(settings: ConfigDict, scenes: tuple[str, ...]) -> NuScenesClips:
    """One clip for every keyframe of some scenes, without the future that a probe's truth may need.

    Args:
        settings: of the study's clips.
        scenes: names of scenes or splits.
    """
    changed = {"scenes": scenes, "context_offsets": (0,), "future_offsets": (), "clip_stride": 1}
    return with_repeated_past(build({**settings, **changed}), tuple(settings.context_offsets))
