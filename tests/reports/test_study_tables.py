"""Tables of a study by hand-computed numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from avjepa.probes.study import ANSWERS, RANDOM_INIT, RAW_INPUT, SUPERVISED, Row
from avjepa.reports.html_study import study_markdown, study_page
from avjepa.reports.study_figures import study_figures
from avjepa.reports.study_tables import (
    Column,
    ProbeFailure,
    RunSummary,
    StudyResult,
    TaskRows,
    cell,
    columns_of,
    cost_cell,
    main_table,
    runs_table,
    share_table,
    state_cell,
)
from avjepa.reports.study_verdicts import verdict_table

ORIGIN = {"command": "python tools/study.py <a> & b", "commit": None}


def run(seed: int, minutes: float, state: str = "finished", **changes) -> RunSummary:
    settled, monitors = state.startswith(("finished", "collapsed")), {"std": 0.9 + seed / 10}
    summary = RunSummary(seed, state == "finished", settled, state, 200, minutes, minutes / 2, True, monitors)
    return replace(summary, **changes)


def row(name: str, seed: int, iou: float, error_m: float, share: float = 1.0, head: str = "conv") -> Row:
    return Row(name, head, share, seed, {"near": {"iou": iou, "l1": error_m}}, 0.5, "")


@pytest.fixture
def result() -> StudyResult:
    rows = [
        *(row("jepa", s, iou, error) for s, (iou, error) in enumerate([(0.5, 2.0), (0.6, 2.1), (0.7, 2.2)])),
        *(row("mae", s, iou, error) for s, (iou, error) in enumerate([(0.41, 1.0), (0.42, 1.1), (0.43, 1.2)])),
        *(row("mae", s, 0.2, 4.0, share=0.1) for s in range(3)),
        *(row(RAW_INPUT, s, 0.65, 2.05) for s in range(2)),
        row(RANDOM_INIT, 0, 0.1, math.nan),
        row(SUPERVISED, 0, 0.9, 0.5, head="linear"),
        row("copied", 0, 0.8, 3.0, head=""),
        row("all free", 0, 0.0, 1.5, head=""),
        row("the truth", 0, 1.0, 0.0, head=""),
    ]
    columns = {"iou": "IoU", "l1": "L1 m ↓"}
    task = TaskRows("map", columns, ("conv",), ("near",), ("the truth",), rows, [])
    runs = {
        "jepa": [run(s, minutes) for s, minutes in enumerate((10, 12, 14))],
        "mae": [run(0, 20), run(1, 22, is_counted=False), run(2, 3, "collapsed at step 7 | of 200")],
        "idle": [run(s, 0, "not run", iterations=0, monitors={}) for s in range(3)],
    }
    titles = {"jepa": "JEPA", "mae": "MAE", "idle": "never run"}
    return StudyResult(titles, "jepa", 3, (0.1, 1.0), runs, {"map": task})


def test_the_main_table(result):
    table = main_table(result, "near")
    titles = ["map, conv: IoU", "map, conv: L1 m ↓", "core-minutes a run", "pretraining"]
    assert table.columns == titles
    assert table.rows == {
        "JEPA": ["0.600 ± 0.100", "2.100 ± 0.100", "12.0 ± 2.0", "3 of 3 finished"],
        "MAE": [
            "0.420 ± 0.010",
            "1.100 ± 0.100",
            "> 15.0 ± 10.4",
            "2 of 3 finished; seed 2 collapsed at step 7 / of 200",
        ],
        "never run": ["-", "-", "-", "0 of 3 finished; seed 0 not run; seed 1 not run; seed 2 not run"],
        SUPERVISED: ["0.900 (1 of 3 seeds)", "0.500 (1 of 3 seeds)", "-", "-"],
        RANDOM_INIT: ["0.100 (1 of 3 seeds)", "-", "-", "-"],
        RAW_INPUT: ["0.650 ± 0.000 (2 of 3 seeds)", "2.050 ± 0.000 (2 of 3 seeds)", "-", "-"],
        "best answer without training": [
            "0.800",
            "1.500",
            "-",
            "-",
        ],  # the largest IoU, the smallest error; not the truth
    }
    assert table.note == "Best answers without training: map, conv: IoU: copied; map, conv: L1 m ↓: all free."
    lines = table.markdown().splitlines()
    assert lines[0] == "| | " + " | ".join(titles) + " |"
    assert lines[1] == "|---|---|---|---|---|"
    assert lines[2] == "| JEPA | 0.600 ± 0.100 | 2.100 ± 0.100 | 12.0 ± 2.0 | 3 of 3 finished |"


def test_verdicts_ask_for_more_than_the_larger_spread_and_for_seeds(result):
    """JEPA .5 .6 .7 and 2.0 2.1 2.2 m, seed by seed."""
    rows = verdict_table(result, "near").rows
    assert rows["against MAE"] == ["gain, better in 3 of 3 seeds", "loss, better in 0 of 3 seeds"]
    assert "against never run" not in rows, "there is nothing to say"
    assert rows[f"against {SUPERVISED}"] == ["one seed: no verdict"] * 2
    assert rows[f"against {RANDOM_INIT}"] == ["one seed: no verdict", "-"]  # whose error is not defined
    # Two seeds in common: .55 ± .07 against .65; 2.05 ± .07 against 2.05.
    assert rows[f"against {RAW_INPUT}"] == ["loss, better in 0 of 2 seeds", "no gain, better in 1 of 2 seeds"]
    one = verdict_table(with_rows(result, lambda row: row.seed == 0), "near").rows
    assert set(one["against MAE"]) == {"one seed: no verdict"}
    assert set(one["against the best answer without training"]) == {"one seed: no verdict"}


def with_rows(result: StudyResult, keep) -> StudyResult:
    task = result.tasks["map"]
    return replace(result, tasks={"map": replace(task, rows=[row for row in task.rows if keep(row)])})


def test_a_gain_within_the_spread_is_none_though_every_seed_is_better(result):
    table = verdict_table(replace(result, reference="mae"), "near")
    assert table.rows["against JEPA"] == ["loss, better in 0 of 3 seeds", "gain, better in 3 of 3 seeds"]
    rows = [row("jepa", s, v, 1.0) for s, v in enumerate((0.2, 0.4, 0.6))]
    rows += [row("mae", s, v, 1.0) for s, v in enumerate((0.1, 0.3, 0.5))]
    close = replace(result.tasks["map"], rows=rows)
    table = verdict_table(replace(result, tasks={"map": close}), "near")
    assert table.rows["against MAE"] == ["no gain, better in 3 of 3 seeds", "no gain, better in 0 of 3 seeds"]


def test_verdicts_against_answers_without_training(result):
    """Copied: .8 and 3.0 m; all free: .0 and 1.5 m; the truth is no rival."""
    rows = verdict_table(result, "near").rows
    loss, gain = "loss, better in 0 of 3 seeds", "gain, better in 3 of 3 seeds"
    assert rows["against the best answer without training"] == [loss, loss]
    assert rows["against copied"] == [loss, gain]
    assert rows["against all free"] == [gain, loss]
    assert "against the truth" not in rows
    far = replace(result.tasks["map"], title="other", rows=[row("jepa", s, 0.5, 1.0) for s in range(3)])
    both = verdict_table(replace(result, tasks={**result.tasks, "other": far}), "near").rows
    assert both["against copied"] == [loss, gain, "-", "-"]  # the other task has no such answer


def test_few_labels_against_all_of_them_from_scratch(result):
    """JEPA's heads see 10 %; supervised from scratch sees 100 %."""
    name = f"with 10 % of the labels, against {SUPERVISED} with 100 %"
    assert name not in verdict_table(result, "near").rows
    few = [row("jepa", s, v, 0.5, share=0.1) for s, v in enumerate((0.90, 0.91, 0.92))]
    scratch = [row(SUPERVISED, s, v, 0.5, head="linear") for s, v in enumerate((0.7, 0.8, 0.8))]
    scratch += [row(SUPERVISED, s, 1.0, 0.0, share=0.1, head="linear") for s in range(3)]  # not these
    task = replace(result.tasks["map"], rows=few + scratch)
    table = verdict_table(replace(result, tasks={"map": task}), "near")
    assert table.rows[name] == ["gain, better in 3 of 3 seeds", "no gain, better in 0 of 3 seeds"]
    assert name not in verdict_table(with_rows(result, lambda row: row.name != SUPERVISED), "near").rows


def test_failed_probes_are_named_in_the_table(result):
    failures = [
        ProbeFailure("mae", (2,), "OSError: disk full"),
        ProbeFailure("idle", (0, 1, 2), "killed"),
        ProbeFailure(ANSWERS, (0,), "no map"),
    ]
    task = replace(result.tasks["map"], failures=failures)
    failed = replace(result, tasks={"map": task})
    table = main_table(with_rows(failed, lambda row: row.head and (row.name, row.seed) != ("mae", 2)), "near")
    assert table.rows["MAE"][0] == "0.415 ± 0.007 (2 of 3 seeds), others failed"
    assert table.rows["never run"][:2] == ["failed", "failed"]
    assert table.rows["JEPA"][0] == "0.600 ± 0.100"
    assert table.rows["best answer without training"] == ["failed", "failed", "-", "-"]
    assert table.note == (
        "Probing failed: map: mae, seed 2: OSError: disk full; map: idle: killed; map: answers without training: no map."
    )
    assert main_table(result, "near").rows["MAE"][0] == "0.420 ± 0.010"


def test_shares_of_labels(result):
    column = columns_of(result, "near")[0]
    table = share_table(result, column)
    assert table.columns == ["10 % of labels", "100 % of labels"]
    assert table.rows["MAE"] == ["0.200 ± 0.000", "0.420 ± 0.010"]
    assert table.rows["JEPA"] == ["-", "0.600 ± 0.100"]
    assert "never run" not in table.rows


def test_monitors_and_costs(result):
    table = runs_table(result)
    assert table.rows["JEPA"][:2] == ["200", "1.000 ± 0.100"]  # .9, 1.0, 1.1
    assert table.rows["JEPA"][-3:] == ["12.0 ± 2.0", "6.0 ± 1.0", "3 of 3 finished"]
    assert table.rows["never run"][:2] == ["0", "-"]
    assert table.columns[1] == "std"


def test_runs_that_are_not_settled_count_in_no_mean(result):
    """A run that was killed has neither its full cost nor its last monitors; a collapse is a result."""
    runs = [run(0, 10), run(1, 1, "unfinished after 3 of 200 steps"), run(2, 4, "collapsed at step 80 of 200")]
    partly = replace(result, runs={**result.runs, "jepa": runs})
    cells = runs_table(partly).rows["JEPA"]
    assert cells[1] == "1.000 ± 0.141 (2 of 3 seeds)"  # .9 and 1.1
    assert cells[-3:-1] == ["7.0 ± 4.2 (2 of 3 seeds)", "3.5 ± 2.1 (2 of 3 seeds)"]
    assert main_table(partly, "near").rows["JEPA"][-2] == "7.0 ± 4.2 (2 of 3 seeds)"
    points = {c.get_label(): c.lines[0].get_xdata()[0] for c in study_figures(partly)["cost"].axes[0].containers}
    assert points["JEPA"] == pytest.approx(7)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "-"),
        ([math.nan], "-"),
        ([0.5, math.nan], "-"),
        ([0.5], "0.50 (1 of 2 seeds)"),
        ([0.5, 0.7], "0.60 ± 0.14"),
    ],
)
def test_cells(values, words):
    assert cell(values, 2, 2) == words


def test_a_cost_that_was_not_counted_is_a_lower_bound():
    assert cost_cell([run(0, 4), run(1, 6)]) == "5.0 ± 1.4"
    assert cost_cell([run(0, 0, is_counted=False)]) == "> 0.0"
    assert cost_cell([run(0, 0, "not run")]) == "-"
    assert state_cell([]) == "-"


def test_per_cents_have_one_decimal(result):
    task = replace(result.tasks["map"], columns={"iou": "HA %"})
    assert main_table(replace(result, tasks={"map": task}), "near").rows["JEPA"][0] == "0.6 ± 0.1"


def test_a_split_that_a_task_has_not(result):
    other = replace(result.tasks["map"], title="other", splits=("far",))
    both = replace(result, tasks={**result.tasks, "other": other})
    assert both.splits == ["near", "far"]
    assert [column.title for column in columns_of(both, "far")] == ["other, conv: IoU", "other, conv: L1 m ↓"]
    assert Column(other, "conv", "iou", "far").values("jepa", 1.0) == []


def test_figures_show_every_value(result):
    figures = study_figures(result)
    assert list(figures) == ["objectives", "label_share", "cost"]
    (axis,) = figures["objectives"].axes
    dots = [line for line in axis.lines if line.get_marker() == "o"]
    assert sorted(x for line in dots for x in line.get_xdata()) == pytest.approx(
        [0.1, 0.41, 0.42, 0.43, 0.5, 0.6, 0.65, 0.65, 0.7, 0.9]
    )
    assert [label.get_text() for label in axis.get_yticklabels()] == [result.title(name) for name in result.names]
    (axis,) = figures["label_share"].axes
    curves = {c.get_label(): list(c.lines[0].get_xydata().ravel()) for c in axis.containers}
    assert curves["MAE"] == pytest.approx([10, 0.2, 100, 0.42])
    (axis,) = figures["cost"].axes
    points = {c.get_label(): list(c.lines[0].get_xydata().ravel()) for c in axis.containers}
    assert points["JEPA"] == pytest.approx([12, 0.6])
    assert set(points) == {"JEPA", "MAE"}


def test_no_figure_without_a_number(result):
    empty = {"map": replace(result.tasks["map"], rows=[])}
    assert study_figures(replace(result, tasks=empty)) == {}


def test_pages_hold_all_tables_and_escape(result):
    result = replace(result, titles={**result.titles, "mae": "<MAE>"})
    markdown = study_markdown(result, ORIGIN)
    for heading in ("## Results", "## Gains and losses of the reference", "## With fewer labels", "## Pretraining"):
        assert heading in markdown
    assert "Commit not known." in markdown
    page = study_page(result, ORIGIN, "seeds = 3", study_figures(result))
    assert "&lt;MAE&gt;" in page
    assert "<MAE>" not in page
    assert "python tools/study.py &lt;a&gt; &amp; b" in page
    assert page.count("<img ") == 3
    assert page.count("<tr class=ours>") == 3  # of the main, the share and the runs table
