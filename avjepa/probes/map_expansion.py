"""Reads a nuScenes map expansion: its records, and the shapes that their tokens name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from shapely import LineString, Polygon

from avjepa.errors import DataError


class MapExpansion:
    """The tables of one map expansion file.

    Args:
        tables: the file's JSON.

    Raises:
        KeyError: a table is missing, or a record lacks its token.
        TypeError: a table is something else.
    """

    def __init__(self, tables: dict[str, Any]) -> None:
        self._tables = tables
        self._nodes = {node["token"]: node for node in tables["node"]}
        self._polygons = {polygon["token"]: polygon for polygon in tables["polygon"]}
        self._lines = {line["token"]: line for line in tables["line"]}

    @property
    def version(self) -> str:
        """As the file says; files before 1.1 do not say (nuscenes-devkit takes them for 1.0)."""
        return str(self._tables.get("version", "1.0"))

    @property
    def connectivity(self) -> dict[str, dict[str, list[str]]]:
        """Lane or connector -> those that lead into it (``incoming``) and follow it (``outgoing``); empty where there are none."""
        return self._tables.get("connectivity", {})

    @property
    def paths(self) -> dict[str, list[dict[str, Any]]]:
        """Lane or connector -> the Dubins pieces of its centre line; empty where the file has none."""
        return self._tables.get("arcline_path_3", {})

    def records(self, layer: str) -> list[dict[str, Any]]:
        """The records of a layer.

        Raises:
            KeyError: there is no such layer.
        """
        return self._tables[layer]

    def polygon(self, token: str) -> Polygon | None:
        """A polygon with its holes, which may cross itself; None where it has no ring (nuScenes holds such). Metres.

        Raises:
            KeyError: a token names nothing, or a field is missing.
            TypeError, ValueError: a coordinate is no finite number.
        """
        record = self._polygons[token]
        outline = self.points(record["exterior_node_tokens"])
        holes = [self.points(hole["node_tokens"]) for hole in record["holes"]]
        return Polygon(outline, [hole for hole in holes if len(hole) >= 3]) if len(outline) >= 3 else None

    def line(self, token: str) -> LineString | None:
        """A line; None where it has fewer than two nodes. Metres.

        Raises:
            KeyError: a token names nothing, or a field is missing.
            TypeError, ValueError: a coordinate is no finite number.
        """
        points = self.points(self._lines[token]["node_tokens"])
        return LineString(points) if len(points) >= 2 else None

    def line_nodes(self, token: str) -> list[str]:
        """Tokens of the nodes of a line.

        Raises:
            KeyError: there is no such line.
        """
        return self._lines[token]["node_tokens"]

    def points(self, node_tokens: list[str]) -> np.ndarray:
        """(n, 2) of nodes, metres.

        Raises:
            KeyError: there is no such node, or it has no x or y.
            TypeError, ValueError: a coordinate is no finite number.
        """
        nodes = [self._nodes[token] for token in node_tokens]
        xy_m = np.array([(float(node["x"]), float(node["y"])) for node in nodes]).reshape(-1, 2)
        if not np.isfinite(xy_m).all():
            raise ValueError("a coordinate is not finite")
        return xy_m


@contextmanager
def reading_expansion(path: Path) -> Iterator[MapExpansion]:
    """The file's tables; whatever its content breaks inside the block is told as its fault.

    Raises:
        DataError: missing, no JSON, a layer or record is missing, or a coordinate is not finite.
    """
    try:
        yield MapExpansion(json.loads(path.read_text()))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); copy it from the data set again") from error
    except KeyError as error:
        raise DataError(f"{path}: no layer or record {error}; want a map expansion of version 1.3") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: no map expansion of version 1.3 ({error}); copy it again") from error


def polygon_tokens(record: dict[str, Any]) -> list[str]:
    """Polygons of a record: several of a drivable area, one of any other."""
    return record["polygon_tokens"] if "polygon_tokens" in record else [record["polygon_token"]]
