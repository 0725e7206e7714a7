"""Known changes to score against, and which of them the drives could see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import shapely

from avjepa.errors import DataError
from avjepa.geometry.map_edit import MapEdit, edit_fields
from avjepa.mapping.drive_paths import DrivePath, seen_region, share_within
from avjepa.mapping.frames import MapFrame, frame_of_contract
from avjepa.mapping.geojson_maps import load_collection

# Layers without paint, kerb or barrier in the world: drives alone show a new one, if they take it.
TRACELESS = ("lane_connector",)
ALONG_SHARE = 0.8  # of a new way, that a drive has to go along it: other ways through the junction share its beginning
BESIDE_M = 0.5  # of a way's area, or half a lane more of its line: cars cut corners
HALF_LANE_M = 1.75
REACH_SHARE = 0.5  # of an edit within 20 m of an ego position: from there on a report is asked for it


def read_edits(path: Path) -> tuple[MapFrame, list[MapEdit]]:
    """Known changes: the mini city's ``maps/changes/<town>.geojson``, or the truth of ``tools/edit_map.py``.

    A file without edits is truth too: of a map that is up to date.

    Raises:
        DataError: missing, or no such file.
    """
    collection = load_collection(path)
    try:
        frame = frame_of_contract(collection["frame"])
        features = [feature for feature in collection["features"] if feature["properties"]["feature"] == "edit"]
        return frame, [MapEdit(*edit_fields(feature)) for feature in features]
    except KeyError as error:
        raise DataError(
            f"{path}: no member {error}; want the changes of a mini city or of tools/edit_map.py"
        ) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: damaged ({error}); make it again") from error


def edited_elements(path: Path) -> dict[str, str]:
    """The elements of the prior that edits of a truth file changed, each with the kind of its edit.

    Raises:
        DataError: as :func:`read_edits`.
    """
    _, edits = read_edits(path)
    features = load_collection(path)["features"]
    names = {one["id"]: one["properties"]["prior_tokens"] for one in features if one["properties"]["feature"] == "edit"}
    return {token: edit.kind for edit in edits for token in names[edit.token]}


@dataclass(frozen=True)
class Reach:
    """Which edits count.

    Attributes:
        edits: all edits of the map.
        in_reach: (edits,) whether at least half of the edit's geometry lies within 20 m of an ego position of any drive.
        drives: (edits,) how many drives have it in reach, each by itself.
        driven: (edits,) whether it is a new way through a junction that a drive took.
    """

    edits: tuple[MapEdit, ...]
    in_reach: tuple[bool, ...]
    drives: tuple[int, ...]
    driven: tuple[bool, ...]

    @property
    def counted(self) -> list[int]:
        """Numbers of the edits in reach."""
        return [number for number, inside in enumerate(self.in_reach) if inside]

    @property
    def traceless(self) -> list[int]:
        """Numbers of the edits in reach that leave no trace, in the world or in the drives. They count as all others do."""
        return [number for number in self.counted if self.edits[number].layer in TRACELESS and not self.driven[number]]

    @property
    def visible(self) -> Reach:
        """The same, as if edits without a trace had been out of reach."""
        hidden = set(self.traceless)
        return replace(self, in_reach=tuple(x and number not in hidden for number, x in enumerate(self.in_reach)))


def reach_of(edits: Sequence[MapEdit], paths: Sequence[DrivePath]) -> Reach:
    """Which edits the drives could see; what they could not see is neither missed nor wrong."""
    whole, each = seen_region(paths), [seen_region([path]) for path in paths]
    drives = [sum(share_within(edit.geometry, region) >= REACH_SHARE for region in each) for edit in edits]
    in_reach = [share_within(edit.geometry, whole) >= REACH_SHARE for edit in edits]
    driven = [any(took_way(edit, path) for path in paths) for edit in edits]
    return Reach(tuple(edits), tuple(in_reach), tuple(drives), tuple(driven))


def took_way(edit: MapEdit, path: DrivePath) -> bool:
    """Whether an edit is a way through a junction that the world has and the prior lacks, and a drive went along most of it."""
    way = edit.world_geometry
    if edit.layer not in TRACELESS or way is None or edit.prior_geometry is not None or not len(path.segments):
        return False
    if way.area > 0:
        # Of a band of length l and width w: area l w, perimeter 2 (l + w).
        half_m = way.length / 2
        length_m = (half_m + np.sqrt(max(half_m**2 - 4 * way.area, 0.0))) / 2
    else:
        length_m = way.length
    inside = way.buffer(BESIDE_M if way.area > 0 else HALF_LANE_M + BESIDE_M)
    return bool(shapely.length(shapely.intersection(path.segments, inside)).sum() >= ALONG_SHARE * length_m)
