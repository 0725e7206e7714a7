"""``changes.osm``: a report as an OSM XML overlay for JOSM, with Lanelet2's tags.

Lines are ways; areas are multipolygon relations of ways, as Lanelet2 writes its areas: the relation says what the area is, its ways
what its border is. Every object has a negative id (OSM's sign of something new) and the file forbids uploading. Both sides of a
change are drawn; ``avjepa:side`` tells them apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import shapely
from shapely.geometry import LineString, Point, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.geometry.polygon import orient

from avjepa.errors import DataError
from avjepa.files import replacing
from avjepa.mapping.changes import ChangeReport, MapChange

DECIMALS = 9
LONGEST_VALUE = 255  # of a tag, in OSM
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
LINE_TAGS = {
    "road_divider": {"type": "line_thin"},
    "lane_divider": {"type": "line_thin"},
    "road_edge": {"type": "road_border"},
    "stop_line": {"type": "stop_line"},
    "traffic_light": {"type": "traffic_light"},
}
AREA_SUBTYPES = {
    **dict.fromkeys(("drivable_area", "road_segment", "road_block", "lane", "lane_connector"), "road"),
    **{"ped_crossing": "crosswalk", "walkway": "walkway", "stop_line": "stop_line", "carpark_area": "parking"},
}
BORDER_TYPES = {
    "drivable_area": "road_border",
    "ped_crossing": "pedestrian_marking",
}  # of areas; else there is nothing to see
PAINT_TAGS = {"subtype": ("dashed", "solid"), "color": ("white", "yellow")}


@dataclass(frozen=True)
class OverlayShape:
    """One change's shape of an overlay, read back: its tags, and points, lines or polygons in degrees (longitude, latitude)."""

    tags: Mapping[str, str]
    shape: BaseGeometry


def write_osm(path: Path, report: ChangeReport) -> None:
    """Write the overlay."""
    writer = _Writer()
    for change in report.changes:
        for side, shape in (("old", change.old_geometry), ("new", change.new_geometry)):
            if shape is not None:
                tags, border_tags = _tags(change, side), _border_tags(change, side)
                for part in shapely.get_parts(report.frame.shape_to_wgs84(shape)):
                    writer.add(part, tags, border_tags)
    tree = ElementTree.ElementTree(writer.root())
    ElementTree.indent(tree)
    with replacing(path) as temporary:
        tree.write(temporary, encoding="utf-8", xml_declaration=True)


def read_osm(path: Path) -> list[OverlayShape]:
    """Read the shapes of changes of an overlay, in the order of the file.

    Raises:
        DataError: missing, no XML, or a reference to nothing.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
        nodes = {
            node.attrib["id"]: (float(node.attrib["lon"]), float(node.attrib["lat"])) for node in root.iter("node")
        }
        ways = {way.attrib["id"]: [nodes[ref.attrib["ref"]] for ref in way.iter("nd")] for way in root.iter("way")}
        shapes = [(node, Point(nodes[node.attrib["id"]])) for node in root.iter("node")]
        shapes += [(way, LineString(ways[way.attrib["id"]])) for way in root.iter("way")]
        shapes += [(area, _area(area, ways)) for area in root.iter("relation")]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); name an overlay") from error
    except (ElementTree.ParseError, KeyError, ValueError, IndexError, shapely.errors.ShapelyError) as error:
        raise DataError(f"{path}: not an overlay of map changes ({error}); write it again") from error
    tagged = [({tag.attrib["k"]: tag.attrib["v"] for tag in item.iter("tag")}, shape) for item, shape in shapes]
    return [OverlayShape(tags, shape) for tags, shape in tagged if "avjepa:change_id" in tags]  # no borders of areas


def _area(relation: ElementTree.Element, ways: Mapping[str, list]) -> Polygon:
    rings = {role: [] for role in ("outer", "inner")}
    for member in relation.iter("member"):
        rings[member.attrib["role"]].append(ways[member.attrib["ref"]])
    return Polygon(rings["outer"][0], rings["inner"])


def _tags(change: MapChange, side: str) -> dict[str, str]:
    if _is_area(change, side):
        # A crosswalk stays one, however it is painted; the way of its border says how.
        subtype = AREA_SUBTYPES.get(change.layer, change.layer)
        tags = {"type": "multipolygon", "area": "yes"} | _paint_tags(change, side) | {"subtype": subtype}
    else:
        tags = LINE_TAGS.get(change.layer, {"type": "virtual"}) | _paint_tags(change, side)
    tags |= {
        "avjepa:change_id": change.change_id,
        "avjepa:side": side,
        "avjepa:layer": change.layer,
        "avjepa:atomic_change": change.atomic_change,
        "avjepa:world_change": change.world_change,
        "avjepa:map_edit": change.map_edit,
        "avjepa:status": change.status,
        "avjepa:confidence": f"{change.confidence:.3f}",
        "avjepa:review": change.review.decision,
        "avjepa:element_id": change.element_id or "",
        "avjepa:marking": change.old_marking if side == "old" else change.new_marking,
        "description": change.description,
        "note": change.review.note,
    }
    return {name: clean[:LONGEST_VALUE] for name, value in tags.items() if (clean := NOT_IN_XML.sub("", value))}


def _border_tags(change: MapChange, side: str) -> dict[str, str]:
    """Of the ways around an area; none of a line."""
    if not _is_area(change, side):
        return {}
    return {"type": BORDER_TYPES.get(change.layer, "virtual")} | _paint_tags(change, side)


def _is_area(change: MapChange, side: str) -> bool:
    shape = change.old_geometry if side == "old" else change.new_geometry
    return shape.geom_type.endswith("Polygon")


def _paint_tags(change: MapChange, side: str) -> dict[str, str]:
    marking = (change.old_marking if side == "old" else change.new_marking).split()
    return {name: value for name, values in PAINT_TAGS.items() for value in values if value in marking}


@dataclass
class _Writer:
    """Objects of a file, each with the next negative id; nodes come before ways and ways before relations, as JOSM writes them."""

    nodes: list[ElementTree.Element] = field(default_factory=list)
    ways: list[ElementTree.Element] = field(default_factory=list)
    relations: list[ElementTree.Element] = field(default_factory=list)

    def add(self, shape: BaseGeometry, tags: Mapping[str, str], border_tags: Mapping[str, str]) -> None:
        """Add a point, a line or a polygon in degrees; the rings of a polygon are ways with tags of their own."""
        if isinstance(shape, Polygon):
            shape = orient(shape)
            members = [("outer", self._way(shape.exterior, border_tags))]
            members += [("inner", self._way(hole, border_tags)) for hole in shape.interiors]
            relation = self._new("relation", self.relations)
            for role, way in members:
                ElementTree.SubElement(relation, "member", type="way", ref=way, role=role)
            _tag(relation, tags)
        elif isinstance(shape, Point):
            _tag(self._node(shape.x, shape.y), tags)
        else:
            self._way(shape, tags)

    def root(self) -> ElementTree.Element:
        """The document."""
        root = ElementTree.Element("osm", version="0.6", generator="avjepa", upload="never")
        root.extend([*self.nodes, *self.ways, *self.relations])
        return root

    def _way(self, line: BaseGeometry, tags: Mapping[str, str]) -> str:
        points = shapely.get_coordinates(line)
        closed = line.is_closed and len(points) > 2
        refs = [self._node(*point).attrib["id"] for point in (points[:-1] if closed else points)]
        way = self._new("way", self.ways)
        for ref in refs + refs[:1] * closed:
            ElementTree.SubElement(way, "nd", ref=ref)
        _tag(way, tags)
        return way.attrib["id"]

    def _node(self, longitude_deg: float, latitude_deg: float) -> ElementTree.Element:
        node = self._new("node", self.nodes)
        node.set("lat", f"{latitude_deg:.{DECIMALS}f}")
        node.set("lon", f"{longitude_deg:.{DECIMALS}f}")
        return node

    def _new(self, name: str, among: list[ElementTree.Element]) -> ElementTree.Element:
        number = -1 - len(self.nodes) - len(self.ways) - len(self.relations)
        among.append(ElementTree.Element(name, id=str(number), visible="true", action="modify"))
        return among[-1]


def _tag(element: ElementTree.Element, tags: Mapping[str, str]) -> None:
    for name, value in tags.items():
        ElementTree.SubElement(element, "tag", k=name, v=value)
