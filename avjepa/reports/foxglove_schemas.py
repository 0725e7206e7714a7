"""JSON Schemas of the Foxglove messages that recordings hold, by name.

After Foxglove's public schemas (docs.foxglove.dev/docs/sdk/schemas; github.com/foxglove/foxglove-sdk, schemas/jsonschema), with the
same names, types and required fields, without words and without the fields that are not used here: viewers find a message's kind
by its schema's name, and by ``contentEncoding`` and the titles "time" and "duration" what to decode in it. Foxglove's parser wants
a type of every field, and no ``$ref``.
"""

from __future__ import annotations

from typing import Any

LINE_STRIP, UINT8, FLOAT32, INFO, WARNING = 0, 1, 7, 2, 3

Schema = dict[str, Any]


def _object(title: str, properties: dict[str, Schema]) -> Schema:
    return {"title": title, "type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _one_of(title: str, values: dict[str, int]) -> Schema:
    return {"title": title, "oneOf": [{"title": name, "const": value} for name, value in values.items()]}


NUMBER, INTEGER, BOOLEAN, STRING = ({"type": name} for name in ("number", "integer", "boolean", "string"))
BASE64 = STRING | {"contentEncoding": "base64"}
TIME, DURATION = (_object(title, {"sec": INTEGER, "nsec": INTEGER}) for title in ("time", "duration"))
VECTOR, POINT = (_object(f"foxglove.{name}", dict.fromkeys("xyz", NUMBER)) for name in ("Vector3", "Point3"))
QUATERNION = _object("foxglove.Quaternion", dict.fromkeys("xyzw", NUMBER))
COLOUR = _object("foxglove.Color", dict.fromkeys("rgba", NUMBER))
POSE = _object("foxglove.Pose", {"position": VECTOR, "orientation": QUATERNION})
STAMPED = {"timestamp": TIME, "frame_id": STRING}

TRANSFORM = _object(
    "foxglove.FrameTransform",
    {
        **{"timestamp": TIME, "parent_frame_id": STRING, "child_frame_id": STRING},
        **{"translation": VECTOR, "rotation": QUATERNION},
    },
)
FIELD = _object(
    "foxglove.PackedElementField",
    {
        **{"name": STRING, "offset": INTEGER},
        "type": _one_of("foxglove.NumericType", {"UINT8": UINT8, "FLOAT32": FLOAT32}),
    },
)
SPHERE = _object("foxglove.SpherePrimitive", {"pose": POSE, "size": VECTOR, "color": COLOUR})
LINE = _object(
    "foxglove.LinePrimitive",
    {
        "type": _one_of("foxglove.LineType", {"LINE_STRIP": LINE_STRIP}),
        **{"pose": POSE, "thickness": NUMBER, "scale_invariant": BOOLEAN, "points": _list(POINT)},
        **{"color": COLOUR, "colors": _list(COLOUR), "indices": _list(INTEGER)},
    },
)
TEXT = _object(
    "foxglove.TextPrimitive",
    {
        **{"pose": POSE, "billboard": BOOLEAN, "font_size": NUMBER, "scale_invariant": BOOLEAN},
        **{"color": COLOUR, "text": STRING},
    },
)
UNUSED = {  # required of an entity, and always empty here
    f"{name}s": _list(_object(f"foxglove.{name.capitalize()}Primitive", {}))
    for name in ("arrow", "cube", "cylinder", "model")
} | {"triangles": _list(_object("foxglove.TriangleListPrimitive", {}))}
ENTITY = _object(
    "foxglove.SceneEntity",
    {
        **STAMPED,
        **{"id": STRING, "lifetime": DURATION, "frame_locked": BOOLEAN},
        "metadata": _list(_object("foxglove.KeyValuePair", {"key": STRING, "value": STRING})),
        **UNUSED,
        **{"spheres": _list(SPHERE), "lines": _list(LINE), "texts": _list(TEXT)},
    },
)
DELETION = _object(
    "foxglove.SceneEntityDeletion",
    {"timestamp": TIME, "type": _one_of("foxglove.SceneEntityDeletionType", {"ALL": 1}), "id": STRING},
)
LEVELS = {"INFO": INFO, "WARNING": WARNING}

SCHEMAS = {
    schema["title"]: schema
    for schema in (
        _object("foxglove.FrameTransforms", {"transforms": _list(TRANSFORM)}),
        _object(
            "foxglove.LocationFix",
            {
                **STAMPED,
                **{"latitude": NUMBER, "longitude": NUMBER, "altitude": NUMBER},
                "position_covariance": _list(NUMBER),
                "position_covariance_type": _one_of("foxglove.PositionCovarianceType", {"UNKNOWN": 0}),
            },
        ),
        _object(
            "foxglove.PointCloud",
            {**STAMPED, "pose": POSE, "point_stride": INTEGER, "fields": _list(FIELD), "data": BASE64},
        ),
        _object("foxglove.CompressedImage", {**STAMPED, "data": BASE64, "format": STRING}),
        _object(
            "foxglove.CameraCalibration",
            {
                **STAMPED,
                **{"width": INTEGER, "height": INTEGER, "distortion_model": STRING},
                **dict.fromkeys("DKRP", _list(NUMBER)),
            },
        ),
        _object("foxglove.SceneUpdate", {"deletions": _list(DELETION), "entities": _list(ENTITY)}),
        _object(
            "foxglove.Log",
            {
                **{"timestamp": TIME, "level": _one_of("foxglove.LogLevel", LEVELS), "message": STRING},
                **{"name": STRING, "file": STRING, "line": INTEGER},
            },
        ),
    )
}
