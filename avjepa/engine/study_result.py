"""What a study has found so far: for its tables, and as one JSON record with all that is needed to judge and to repeat it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avjepa.engine.config import settings_text
from avjepa.engine.study_plan import StudyPlan
from avjepa.engine.study_probes import failures_of
from avjepa.engine.study_runs import TrainingRun, monitors_of, state_in_words
from avjepa.probes.study import Study
from avjepa.reports.record import file_sha256
from avjepa.reports.study_tables import RunSummary, StudyResult, TaskRows


def result_of(plan: StudyPlan, runs: Collection[TrainingRun], studies: dict[str, Study], out: Path) -> StudyResult:
    """What is done in a study's folder: rows and runs that are not there are left out, never computed."""
    return StudyResult(
        titles={name: objective.title for name, objective in plan.objectives.items()},
        reference=plan.reference,
        seeds=plan.seeds,
        label_shares=plan.label_shares,
        runs={name: [summary_of(run) for run in runs if run.record.objective == name] for name in plan.objectives},
        tasks={name: _task_rows(plan, name, study, out) for name, study in studies.items()},
    )


def summary_of(run: TrainingRun) -> RunSummary:
    """A run as tables show it."""
    return RunSummary(
        seed=run.record.seed,
        finished=run.record.state == "finished",
        settled=run.is_settled,
        state=state_in_words(run),
        iterations=run.iteration,
        core_minutes=run.record.core_minutes,
        wall_minutes=run.record.wall_minutes,
        is_counted=run.record.is_counted,
        monitors=monitors_of(run),
    )


def study_record(
    plan: StudyPlan,
    runs: Collection[TrainingRun],
    studies: dict[str, Study],
    result: StudyResult,
    splits: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """Everything, but for the origin: the config; every run with its resolved config, parts, costs and last monitors; every row
    of every task, one for each name, head, label share and seed, with its metrics by split.

    Args:
        plan, runs, studies: of the study.
        result: of :func:`result_of`.
        splits: by task and split, see ``study_probes.split_records``.
    """
    return {
        "study": str(plan.path),
        "config": plan.text,
        "data": plan.data,
        "reference": plan.reference,
        "seeds": plan.seeds,
        "label_shares": list(plan.label_shares),
        "objectives": result.titles,
        "runs": [_run_record(run) for run in runs],
        "tasks": {
            name: {
                "title": task.title,
                "columns": task.columns,
                "convention": studies[name].probe.convention,
                "split": splits[name],
                "config": settings_text(plan.probing(name)),
                "rows": [asdict(row) for row in task.rows],
                "failures": [asdict(failure) for failure in task.failures],
            }
            for name, task in result.tasks.items()
        },
    }


def _run_record(run: TrainingRun) -> dict[str, Any]:
    """The run's own record, what came of it, and the hash of the checkpoint that was probed."""
    return {
        **asdict(run.record),
        **asdict(summary_of(run)),
        "state": run.record.state,
        "folder": str(run.folder),
        "checkpoint_sha256": file_sha256(run.probed) if run.probed else None,
    }


def _task_rows(plan: StudyPlan, name: str, study: Study, out: Path) -> TaskRows:
    task = plan.tasks[name]
    return TaskRows(
        title=task.title,
        columns={metric: study.probe.columns[metric] for metric in task.metrics},
        heads=task.heads,
        splits=tuple(study.tests),
        no_rivals=task.no_rivals,
        rows=[row for row in study.kept().values() if row is not None],
        failures=failures_of(name, study, out),
    )
