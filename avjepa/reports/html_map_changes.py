"""Map changes that were found and scored, as a part of the page of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import quote

from avjepa.reports.html_parts import in_digits

TITLES = ("", "edits in reach", "found", "false events", "precision", "recall", "false events / km", "to review")


@dataclass(frozen=True)
class MapChangeResult:
    """Confirmed events of one report, scored.

    Attributes:
        name: of its row.
        in_reach, found: known edits that the drives came near, and those of them that were found.
        false: events on unchanged street.
        precision, recall, false_per_km: None where they are not defined.
        review: where the review page is, seen from the page of the run; None where there is none.
    """

    name: str
    in_reach: int
    found: int
    false: int
    precision: float | None
    recall: float | None
    false_per_km: float | None
    review: str | None

    @classmethod
    def of(cls, name: str, record: Mapping[str, Any], review: str | None) -> MapChangeResult:
        """From one entry of ``results[name]`` of tools/evaluate_map_changes.py.

        Raises:
            LookupError, TypeError: it is none.
        """
        score = record["events"]["confirmed"]["kind, pieces"]
        return cls(
            *(name, len(record["edits_in_reach"]), int(score["found"]), int(record["false_events"]["confirmed"])),
            *(score["precision"], score["recall"], record["false_events_per_km"]["confirmed"], review),
        )


def map_change_section(results: Sequence[MapChangeResult]) -> str:
    """A table with links to the review pages; HTML."""
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in _cells(result))}</tr>" for result in results)
    titles = "".join(f"<th>{title}</th>" for title in TITLES)
    return (
        "<p>What differs between a map that is out of date and the world that the drives saw. Paint, kerbs and barriers are "
        "read from cameras and LiDAR; nothing is trained for it. Confirmed events, held against the known edits that the "
        "drives came near.</p>"
        f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _cells(result: MapChangeResult) -> list[str]:
    counts = (result.in_reach, result.found, result.false)
    shares = (result.precision, result.recall, result.false_per_km)
    link = "-" if result.review is None else f'<a href="{escape(quote(result.review))}">review.html</a>'
    return [escape(result.name), *map(str, counts), *map(in_digits, shares), link]
