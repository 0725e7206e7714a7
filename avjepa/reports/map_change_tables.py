"""How good reports of map changes are, as Markdown tables: rows are methods or numbers of drives, reports of one row are seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from avjepa.mapping.evaluation.calibration import calibration_of
from avjepa.mapping.evaluation.evaluate import BELIEFS, ChangeEvaluation
from avjepa.reports.tables import markdown_table

Evaluations = Mapping[str, Sequence[ChangeEvaluation]]

EVENTS = {
    **{"edits": "edits in reach", "events": "events", "precision": "P", "recall": "R", "f1": "F1"},
    **{"traceless": "no trace", "f1_visible": "F1 without those"},
    **{"f1_centroid": "F1, centroid", "f1_element": "F1, layer too", "found": "R, any kind", "false": "false / km ↓"},
}
FRAMES = {
    **{"frames": "frames", "m_acc": "mAcc", "match": "match right", "mismatch": "mismatch right"},
    **{"ap_mismatch": "AP, mismatch", "ap_match": "AP, match (TbV's)", "unanswered": "unanswered"},
}
RELIABILITY = {"count": "events", "ece": "ECE ↓", "brier": "Brier ↓"}
DETECTION = {"timed": "found and timed", "driven_m": "m driven ↓", "in_sight_m": "m in sight ↓"}


def map_change_markdown(rows: Evaluations) -> str:
    """All tables."""
    parts = [
        ("Events", events_table(rows)),
        ("Edits", reach_table(rows)),
        ("Frames, TbV's rule", frames_table(rows)),
        ("Until it is confirmed", detection_table(rows)),
        ("Confidence", calibration_table(rows)),
        ("Reliability, all seeds together", reliability_table(rows)),
        *((f"Edits found of those in reach, by {by}", recall_table(rows, by)) for by in ("kind", "layer", "drives")),
    ]
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts) + "\n"


def events_table(rows: Evaluations) -> str:
    """Precision, recall, F1 and false events; each row confirmed alone, and with candidates."""
    table = {
        f"{name}, {belief}": _columns([_event_figures(one, belief) for one in seeds])
        for name, seeds in rows.items()
        for belief in BELIEFS
    }
    return markdown_table(table, EVENTS, digits=2)


def reach_table(rows: Evaluations) -> str:
    """How many edits the drives could see, and the kinds of those that they could not."""
    lines = ["| | in reach | out of reach | unchanged km |", "|---|---|---|---|"]
    for name, seeds in rows.items():
        for one in {one.scenes: one for one in seeds}.values():
            beyond = ", ".join(f"{count} {kind}" for kind, count in one.out_of_reach.items()) or "none"
            drives = f"{len(one.scenes)} drive{'s' if len(one.scenes) > 1 else ''}"
            lines.append(f"| {name} ({drives}) | {len(one.reach.counted)} | {beyond} | {one.unchanged_km:.3f} |")
    return "\n".join(lines)


def frames_table(rows: Evaluations) -> str:
    """Accuracies and average precision."""
    return markdown_table(
        {name: _columns([_frame_figures(one) for one in seeds]) for name, seeds in rows.items()}, FRAMES, digits=3
    )


def detection_table(rows: Evaluations) -> str:
    """Metres from first sight to confirmation."""
    figures = {
        name: [
            {"timed": len(one.detected)} | {part: one.mean_detection(part) for part in ("driven_m", "in_sight_m")}
            for one in seeds
        ]
        for name, seeds in rows.items()
    }
    return markdown_table({name: _columns(seeds) for name, seeds in figures.items()}, DETECTION, digits=1)


def calibration_table(rows: Evaluations) -> str:
    """Expected calibration error and Brier score of all events, candidates among them."""
    figures = {
        name: [{part: getattr(one.calibration, part) for part in RELIABILITY} for one in seeds]
        for name, seeds in rows.items()
    }
    return markdown_table({name: _columns(seeds) for name, seeds in figures.items()}, RELIABILITY, digits=3)


def reliability_table(rows: Evaluations) -> str:
    """For every bin of confidence: events, their mean confidence, the share of them that is right."""
    if not any(one.judged for seeds in rows.values() for one in seeds):
        return "No event."
    lines = ["| | confidence | events | mean confidence | right |", "|---|---|---|---|---|"]
    for name, seeds in rows.items():
        judged = [pair for one in seeds for pair in one.judged]
        pooled = calibration_of([said for said, _ in judged], [right for _, right in judged])
        for part in filter(lambda part: part.count, pooled.bins):
            figures = f"{part.count} | {part.confidence:.2f} | {part.share_right:.2f}"
            lines.append(f"| {name} | {part.lower:.1f} - {part.upper:.1f} | {figures} |")
    return "\n".join(lines)


def recall_table(rows: Evaluations, by: str) -> str:
    """Confirmed edits of those in reach, counts over all seeds, by kind, layer or number of drives."""
    names = sorted({key for seeds in rows.values() for one in seeds for key in one.recall_by[by]})
    if not names:
        return "No edit is in reach."
    lines = ["| | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for name, seeds in rows.items():
        counts = [[one.recall_by[by].get(key, (0, 0)) for one in seeds] for key in names]
        cells = [f"{sum(found for found, _ in pairs)} / {sum(there for _, there in pairs)}" for pairs in counts]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines)


def _event_figures(one: ChangeEvaluation, belief: str) -> dict[str, float]:
    scores = one.events[belief]
    usual = scores["kind", "pieces"]
    return {
        "edits": len(one.reach.counted),
        "events": usual.found + usual.wrong + usual.aside,
        "precision": usual.precision,
        "recall": usual.recall,
        "f1": usual.f1,
        "traceless": len(one.reach.traceless),
        "f1_visible": one.visible[belief].f1,
        "f1_centroid": scores["kind", "centroid"].f1,
        "f1_element": scores["element", "pieces"].f1,
        "found": scores["place", "pieces"].recall,
        "false": one.false_per_km(belief),
    }


def _frame_figures(one: ChangeEvaluation) -> dict[str, float]:
    frames = one.frames
    match, mismatch = frames.accuracies
    return {
        "frames": int(frames.confusion.sum()),
        "m_acc": frames.m_acc,
        "match": match,
        "mismatch": mismatch,
        "ap_mismatch": frames.ap_mismatch,
        "ap_match": frames.ap_match,
        "unanswered": frames.unanswered,
    }


def _columns(seeds: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Figures of every seed, as figures over seeds."""
    return {name: [float(figures[name]) for figures in seeds] for name in seeds[0]}
