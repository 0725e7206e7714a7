"""From configs to objects. A config names classes, not strings, so building is plain recursion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avjepa.errors import ConfigError


def build(node: Any) -> Any:
    """Build ``dict(type=Class, key=value, ...)`` as ``Class(key=build(value), ...)``, inside out; other values stay.

    Raises:
        ConfigError: the class does not take these arguments.
    """
    if isinstance(node, Mapping):
        built = {key: build(node[key]) for key in node}
        if "type" not in built:
            return built
        cls = built.pop("type")
        if not callable(cls):
            raise ConfigError(f"config: type must be a class, got {cls!r}")
        try:
            return cls(**built)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"config: cannot build {cls.__name__}: {error}") from error
    if isinstance(node, (list, tuple)):
        return tuple(build(value) for value in node)
    return node
