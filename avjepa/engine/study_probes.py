"""The probes of a study: one table a task, with every objective beside random-init, raw input and answers without training.

A job is one encoder (or the answers without training) under all tasks, so that no embedding is computed twice; several jobs
run at once. Every finished row is a file: a study that was stopped goes on. What fails is kept in ``probes/failed.json`` until
its rows are there, and keeps nothing else from being probed.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from threadpoolctl import threadpool_limits

from avjepa.engine.config import load_config
from avjepa.engine.probe_study import (
    check_splits,
    pretrained_sources,
    pretraining_scenes,
    study_of_sources,
    untrained_sources,
)
from avjepa.engine.study_plan import StudyPlan
from avjepa.engine.study_runs import TrainingRun
from avjepa.errors import UserError
from avjepa.files import write_json
from avjepa.probes.frozen import Source
from avjepa.probes.study import ANSWERS, RAW_INPUT, RowKey, Study
from avjepa.processes import cores, follow_parent
from avjepa.reports.study_tables import ProbeFailure

KILLED = "a probing process was killed; with fewer --workers, there is more memory for each"
Progress = Callable[[Iterable, str, int], Iterable]

log = logging.getLogger("avjepa")


@dataclass(frozen=True)
class Job:
    """Rows of one name.

    Attributes:
        name: of an objective, "raw input", "random init", "supervised from scratch", or ANSWERS.
        seeds: of its rows.
    """

    name: str
    seeds: tuple[int, ...]

    def __str__(self) -> str:
        return self.name + (f", seed {self.seeds[0]}" if len(self.seeds) == 1 and self.name != ANSWERS else "")


@dataclass(frozen=True)
class StudyProbes:
    """What the probes of a study read and where they write.

    Attributes:
        plan: the study.
        checkpoints: by objective, one for each seed, None where there is none.
        out: of the study.
    """

    plan: StudyPlan
    checkpoints: dict[str, list[Path | None]]
    out: Path

    def studies(
        self, sources: dict[str, list[Source | None]], tasks: Iterable[str], progress: Progress
    ) -> dict[str, Study]:
        """By task, its table of some encoders.

        Raises:
            ConfigError, DataError: as :func:`study_of_sources`.
        """
        return {task: self._study(task, sources, progress) for task in tasks}

    def _study(self, task: str, sources: dict[str, list[Source | None]], progress: Progress) -> Study:
        settings = self.plan.tasks[task]
        return study_of_sources(
            self.plan.probing(task),
            sources,
            folder=self.out / "probes" / task,
            features=self.out / "embeddings",
            heads=list(settings.heads),
            supervised=settings.supervised,
            label_shares=self.plan.label_shares,
            progress=progress,
        )

    def sources(self, objectives: Iterable[str]) -> dict[str, list[Source | None]]:
        """Raw input, random-init encoders of the reference's architecture, and those of some objectives.

        Raises:
            CheckpointError: a checkpoint cannot be read, or is of another model.
        """
        reference = load_config(self.plan.training_config(self.plan.reference), kind="training")
        sources: dict[str, list[Source | None]] = dict(untrained_sources(reference, self.plan.seeds))
        for name in objectives:
            pretrain = load_config(self.plan.training_config(name), kind="training")
            sources[name] = pretrained_sources(name, pretrain, self.checkpoints[name])
        return sources


def probes_of(plan: StudyPlan, out: Path, runs: Iterable[TrainingRun]) -> StudyProbes:
    """The probes of what was trained."""
    checkpoints: dict[str, list[Path | None]] = {name: [None] * plan.seeds for name in plan.objectives}
    for run in runs:
        checkpoints[run.record.objective][run.record.seed] = run.probed
    return StudyProbes(plan, checkpoints, out)


def split_records(probes: StudyProbes, studies: dict[str, Study]) -> dict[str, dict[str, Any]]:
    """By task and split, its scenes and what it leaks, for the record.

    Raises:
        ConfigError: a checkpoint was trained on a scene that a task scores.
    """
    seen = pretraining_scenes(path for paths in probes.checkpoints.values() for path in paths if path is not None)
    return {
        task: {split: checked.record() for split, checked in check_splits(study.train, study.tests, seen).items()}
        for task, study in studies.items()
    }


def probe_all(
    probes: StudyProbes,
    studies: dict[str, Study],
    only: Collection[str],
    workers: int,
    progress: Progress,
    say: Callable[[str], None],
) -> None:
    """Compute the rows that are missing; those that fail are kept for :func:`failures_of`, and the others go on.

    Args:
        probes: of the study.
        studies: by task, its whole table.
        only: objectives to probe; the rows that no objective has are computed with them.
        workers: jobs at once.
        progress: as in :class:`Study`; of a single worker.
        say: is told of every job that ends.
    """
    jobs = missing_jobs(probes.plan, studies, only)
    tasks = list(studies)

    def ended(job: Job, number: int, failed: Mapping[str, str]) -> None:
        _keep_failures(probes.out, job, tasks, failed)
        words = [f"[{number}/{len(jobs)}] probed: {job}", *(f"{task} failed: {why}" for task, why in failed.items())]
        say("; ".join(words))

    if workers == 1 or len(jobs) < 2:
        for number, job in enumerate(jobs, 1):
            ended(job, number, run_job(probes, tasks, job, progress))
        return
    threads = max(1, cores() // workers)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(threads,)) as pool:
        try:
            futures = {pool.submit(run_job, probes, tasks, job, _silently): job for job in jobs}
            for number, future in enumerate(as_completed(futures), 1):
                try:
                    failed = future.result()
                except BrokenProcessPool:  # and so with every job that had not ended
                    failed = dict.fromkeys(tasks, KILLED)
                ended(futures[future], number, failed)
        except BaseException:  # what is under way would be waited for
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def missing_jobs(plan: StudyPlan, studies: dict[str, Study], only: Collection[str]) -> list[Job]:
    """The jobs that have rows to compute, those that no objective enters first."""
    left_out = set(plan.objectives) - set(only)
    jobs = [
        _job_of(key, plan.seeds)
        for study in studies.values()
        for key, row in study.kept().items()
        if row is None and key.name not in left_out
    ]
    return list(dict.fromkeys(jobs))


def _job_of(key: RowKey, seeds: int) -> Job:
    if not key.head:
        return Job(ANSWERS, (0,))
    # The raw input is the same for every seed: one job, so that it is not embedded by several at once.
    return Job(key.name, tuple(range(seeds)) if key.name == RAW_INPUT else (key.seed,))


def run_job(probes: StudyProbes, tasks: Iterable[str], job: Job, progress: Progress) -> dict[str, str]:
    """Compute the rows of one job under all tasks.

    Returns:
        By task that failed, why. What is no mistake of a user's is logged with its traceback.
    """
    sources = probes.sources([job.name] if job.name in probes.plan.objectives else [])
    failed = {}
    for task, study in probes.studies(sources, tasks, progress).items():
        try:
            if job.name == ANSWERS:
                list(study.untrained_rows())
            elif job.name in study.trained_names:
                list(study.trained_rows([job.name], job.seeds))
        except UserError as error:
            failed[task] = str(error)
        except Exception as error:  # the other rows are worth having all the same
            log.exception("%s, %s: probing failed", task, job)
            failed[task] = f"{type(error).__name__}: {error}"
    return failed


def failures_of(task: str, study: Study, out: Path) -> list[ProbeFailure]:
    """What was tried of a task and failed, as far as its rows are still missing."""
    missing = {(key.name if key.head else ANSWERS, key.seed) for key, row in study.kept().items() if row is None}
    failures = _read_failures(out).get(task, [])
    return [failure for failure in failures if missing & {(failure.name, seed) for seed in failure.seeds}]


def _keep_failures(out: Path, job: Job, tasks: Iterable[str], failed: Mapping[str, str]) -> None:
    """What became of a job, in place of what was known of it."""
    kept = _read_failures(out)
    if not failed and not kept:
        return
    for task in tasks:
        others = [f for f in kept.get(task, []) if (f.name, f.seeds) != (job.name, job.seeds)]
        reason = [" ".join(failed[task].split())] if task in failed else []
        kept[task] = [*others, *(ProbeFailure(job.name, job.seeds, words) for words in reason)]
    write_json(
        _failures_file(out), {task: [asdict(failure) for failure in failures] for task, failures in kept.items()}
    )


def _read_failures(out: Path) -> dict[str, list[ProbeFailure]]:
    path = _failures_file(out)
    tasks = json.loads(path.read_text()) if path.is_file() else {}
    return {
        task: [ProbeFailure(**{**failure, "seeds": tuple(failure["seeds"])}) for failure in failures]
        for task, failures in tasks.items()
    }


def _failures_file(out: Path) -> Path:
    return out / "probes" / "failed.json"


def _start_worker(threads: int) -> None:
    """No worker outlives a killed parent, and none takes more than its share of the cores."""
    follow_parent()
    signal.signal(
        signal.SIGINT, lambda *_: os._exit(130)
    )  # Ctrl-C reaches all of us; the parent says what is to be said
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    cv2.setNumThreads(threads)


def _silently(items: Iterable, what: str, total: int) -> Iterable:
    """A bar that is not shown: those of several workers would overwrite each other."""
    return items
