"""What a study may claim: whether the reference gains, and in how many seeds; nothing of a single seed, and no gain within the
spread.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from avjepa.probes.study import SUPERVISED
from avjepa.reports.study_tables import BEST_ANSWER, NONE, StudyResult, TextTable, columns_of, said
from avjepa.reports.tables import gain_verdict, lower_is_better

ONE_SEED = "one seed: no verdict"


def verdict_table(result: StudyResult, split: str) -> TextTable:
    """The reference on a split against
    every other row, all with the same labels;
    the best answer without training, and each such answer;
    encoders trained from scratch with all labels, while its own heads see fewer.
    """
    columns, share = columns_of(result, split), result.label_shares[-1]
    ours = [column.by_seed(result.reference, share) for column in columns]
    rivals = {
        f"against {result.title(name)}": [column.by_seed(name, share) for column in columns]
        for name in result.names
        if name != result.reference
    }
    answers = [column.answers() for column in columns]
    if any(answers):
        best = [column.best_answer() for column in columns]
        rivals[f"against the {BEST_ANSWER}"] = [
            dict.fromkeys(mine, b[1]) if b else {} for mine, b in zip(ours, best, strict=True)
        ]
    for name in dict.fromkeys(name for found in answers for name in found):
        rivals[f"against {name}"] = [
            dict.fromkeys(mine, found[name]) if name in found else {} for mine, found in zip(ours, answers, strict=True)
        ]
    titles = [column.title for column in columns]
    rows = {
        against: [verdict(*seeds, title) for *seeds, title in zip(ours, theirs, titles, strict=True)]
        for against, theirs in rivals.items()
    }
    for fewer in result.label_shares[:-1] if SUPERVISED in result.names else ():
        rows[f"with {100 * fewer:g} % of the labels, against {SUPERVISED} with {100 * share:g} %"] = [
            verdict(column.by_seed(result.reference, fewer), column.by_seed(SUPERVISED, share), column.title)
            for column in columns
        ]
    note = (
        "A difference no larger than the larger spread over seeds is no gain. Each seed is held against the same seed."
    )
    return TextTable(f"{result.title(result.reference)}, {split}", titles, said(rows), note)


def verdict(ours: Mapping[int, float], theirs: Mapping[int, float], title: str) -> str:
    """Whether ours gains, over the seeds that both have.

    Args:
        ours, theirs: the metric by seed.
        title: of the metric, see :func:`avjepa.reports.tables.lower_is_better`.
    """
    seeds = sorted(set(ours) & set(theirs))
    mine, other = ([values[seed] for seed in seeds] for values in (ours, theirs))
    if not seeds or not all(map(math.isfinite, (*mine, *other))):
        return NONE
    if len(seeds) == 1:
        return ONE_SEED
    word = gain_verdict(mine, other, title)
    word = "no gain" if word == "no difference" else word
    better = sum((a < b) if lower_is_better(title) else (a > b) for a, b in zip(mine, other, strict=True))
    return f"{word}, better in {better} of {len(seeds)} seeds"
