"""The fields of a change as every output file names them, and back. Shapes are left to the file."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from shapely.geometry.base import BaseGeometry

from avjepa.mapping.changes import ChangeReport, Evidence, MapChange, Review
from avjepa.mapping.frames import frame_of_contract

FORMAT = "avjepa-map-changes"
VERSION = 2


def change_fields(change: MapChange) -> dict[str, Any]:
    """Everything but shapes, as JSON values; readers ignore ``world_change``, ``map_edit`` and ``hausdorff_m``, which follow."""
    return {
        "change_id": change.change_id,
        "element_id": change.element_id,
        "layer": change.layer,
        "atomic_change": change.atomic_change,
        "world_change": change.world_change,
        "map_edit": change.map_edit,
        "status": change.status,
        "confidence": change.confidence,
        "n_traversals": change.n_traversals,
        "n_frames": change.n_frames,
        "first_seen": utc_text(change.first_seen),
        "last_seen": utc_text(change.last_seen),
        "confirmed_seen": utc_text(change.confirmed_seen),
        "observed_fraction": change.observed_fraction,
        "old_marking": change.old_marking,
        "new_marking": change.new_marking,
        "hausdorff_m": change.hausdorff_m,
        "position_sigma_m": change.position_sigma_m,
        "description": change.description,
        "evidence": [
            {
                "frame": seen.frame,
                "scene": seen.scene,
                "seen": utc_text(seen.seen),
                "camera": seen.camera,
                "distance_m": seen.distance_m,
                "jepa_residual_log_odds": seen.jepa_residual_log_odds,
                "map_belief_log_odds": seen.map_belief_log_odds,
            }
            for seen in change.evidence
        ],
        "review": review_fields(change.review),
    }


def change_of_fields(fields: dict[str, Any], old: BaseGeometry | None, new: BaseGeometry | None) -> MapChange:
    """The inverse of :func:`change_fields`.

    Raises:
        KeyError: a field is missing.
        TypeError, ValueError: a field has a value that it cannot have.
    """
    optional = fields["position_sigma_m"]
    return MapChange(
        change_id=fields["change_id"],
        element_id=fields["element_id"],
        layer=fields["layer"],
        atomic_change=fields["atomic_change"],
        status=fields["status"],
        confidence=float(fields["confidence"]),
        n_traversals=int(fields["n_traversals"]),
        n_frames=int(fields["n_frames"]),
        first_seen=utc_time(fields["first_seen"]),
        last_seen=utc_time(fields["last_seen"]),
        observed_fraction=float(fields["observed_fraction"]),
        old_geometry=old,
        new_geometry=new,
        old_marking=fields["old_marking"],
        new_marking=fields["new_marking"],
        position_sigma_m=None if optional is None else float(optional),
        description=fields["description"],
        evidence=tuple(Evidence(**seen | {"seen": utc_time(seen["seen"])}) for seen in fields["evidence"]),
        review=review_of_fields(fields["review"]),
        confirmed_seen=utc_time(fields["confirmed_seen"]),
    )


def review_fields(review: Review) -> dict[str, Any]:
    """A review as JSON values."""
    return {"decision": review.decision, "note": review.note, "reviewed": utc_text(review.reviewed)}


def review_of_fields(fields: dict[str, Any]) -> Review:
    """The inverse of :func:`review_fields`.

    Raises:
        KeyError, TypeError, ValueError: a field is missing, or has a value that it cannot have.
    """
    if not isinstance(fields["note"], str):
        raise TypeError(f"a note is text, got {fields['note']!r}")
    return Review(fields["decision"], fields["note"], utc_time(fields["reviewed"]))


def report_fields(report: ChangeReport) -> dict[str, Any]:
    """A report without its changes, as JSON values."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "run_id": report.run_id,
        "prior_map": report.prior_map,
        "scenes": list(report.scenes),
        "created": utc_text(report.created),
        "calibrated": report.calibrated,
        "warnings": list(report.warnings),
        "frame": report.frame.contract(),
    }


def report_of_fields(fields: dict[str, Any], changes: list[MapChange]) -> ChangeReport:
    """The inverse of :func:`report_fields`.

    Raises:
        KeyError, TypeError, ValueError: a field is missing, or has a value that it cannot have.
    """
    if (fields["format"], fields["version"]) != (FORMAT, VERSION):
        raise ValueError(f"want {FORMAT} version {VERSION}, got {fields['format']} version {fields['version']}")
    created = utc_time(fields["created"])
    if created is None:
        raise ValueError("a report wants a time")
    frame = frame_of_contract(fields["frame"])
    return ChangeReport(
        *(fields["run_id"], frame, fields["prior_map"], tuple(fields["scenes"]), created, tuple(changes)),
        calibrated=bool(fields.get("calibrated", False)),  # older reports do not say
        warnings=tuple(fields.get("warnings", ())),
    )


def utc_text(time: datetime | None) -> str | None:
    """A time as "2026-11-21T07:19:31.250000Z"; None stays None."""
    return (
        None
        if time is None
        else time.astimezone(timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
    )


def utc_time(text: str | None) -> datetime | None:
    """A time of text; None stays None.

    Raises:
        TypeError, ValueError: no time in UTC.
    """
    if text is None:
        return None
    time = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if time.utcoffset() is None:
        raise ValueError(f"{text}: want a time in UTC")
    return time.astimezone(timezone.utc)
