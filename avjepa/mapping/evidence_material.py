"""What learned evidence was made of, and whether what it judges was among it: figures on such drives or towns are not held out.

A drive is known by its scene and a digest of its poses. A real town is known by its name. Generated towns share their names from
seed to seed, and a prior is an edited map, so they are known by their elements: by layer and bounds, to 10 cm. Of fourteen
generated towns (seeds 41 and 43 to 48) no two of one name share an element; priors share more than 95 % with their town's true map.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from avjepa.mapping.vector_map import ElementMap, MapElement

SAME_TOWN = 0.1  # share of the smaller map's elements that two maps have in common


@dataclass(frozen=True)
class Material:
    """Drives, and the towns whose maps went with them.

    Attributes:
        drives: keys, see map_evidence.py: drive_key.
        towns: by name the digests of a generated town's elements; none of a real town's.
    """

    drives: tuple[str, ...]
    towns: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, drives: Iterable[str], maps: Iterable[ElementMap]) -> Material:
        """From keys of drives and maps."""
        towns: dict[str, set[str]] = {}
        for one in maps:
            digests = map(_digest, one.elements.values()) if one.frame.fictitious else ()
            towns.setdefault(one.frame.name, set()).update(digests)
        return cls(tuple(drives), {name: tuple(sorted(digests)) for name, digests in towns.items()})

    @classmethod
    def joined(cls, parts: Iterable[Material]) -> Material:
        """Of several, all."""
        parts, towns = list(parts), {}
        for name in dict.fromkeys(name for part in parts for name in part.towns):
            towns[name] = tuple(sorted({digest for part in parts for digest in part.towns.get(name, ())}))
        return cls(tuple(dict.fromkeys(key for part in parts for key in part.drives)), towns)


def overlap_warnings(file: str, made: Sequence[tuple[str, Material | None]], judged: Material) -> tuple[str, ...]:
    """One line for each step that used what is judged now, and one if it is not known what some used.

    Args:
        file: name of the evidence file.
        made: steps in words ("trained"), each with what it used; None where the file does not say.
        judged: drives and towns.
    """
    lines = []
    for step, used in made:
        if used is None:
            continue
        drives = [key.split("/")[0] for key in judged.drives if key in used.drives]
        towns = [name for name in judged.towns if _is_same(name, used, judged)]
        what = [f"{len(drives)} of the drives that it judges ({_some(drives)})"] if drives else []
        what += [f"the town that it judges ({_some(towns)})"] if towns else []
        if what:
            lines.append(f"{file}: was {step} on {' and on '.join(what)}: no held-out result; judge others for one")
    unknown = [step for step, used in made if used is None]
    if unknown:
        lines.append(
            f"{file}: does not say which drives and towns it was {' and '.join(unknown)} on (it is of an older version): "
            "whether what it judges was among them is not known"
        )
    return tuple(lines)


def _is_same(name: str, used: Material, judged: Material) -> bool:
    if name not in used.towns:
        return False
    ours, theirs = set(used.towns[name]), set(judged.towns[name])
    if not ours and not theirs:  # of a real town
        return True
    return len(ours & theirs) > SAME_TOWN * min(len(ours), len(theirs))


def _digest(element: MapElement) -> str:
    bounds_dm = [round(10 * value) for value in element.geometry.bounds]
    return hashlib.sha256(repr((element.layer, bounds_dm)).encode()).hexdigest()[:16]


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], "..."] if len(names) > 3 else names)
