"""The probes of a study: one table a task, with every objective beside random-init, raw input and answers without training.

A job is one encoder (or the answers without training) under all tasks, so that no embedding is computed twice; several jobs
run at once. Every finished row is a file: a study that was stopped goes on.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import torch
from threadpoolctl import threadpool_limits

from avjepa.engine.config import load_config
from avjepa.engine.probe_study import check_splits, pretrained_sources, study_of_sources, untrained_sources
from avjepa.engine.study_plan import StudyPlan
from avjepa.engine.study_runs import TrainingRun
from avjepa.errors import UserError
from avjepa.probes.frozen import Source
from avjepa.probes.study import RAW_INPUT, RowKey, Study
from avjepa.processes import cores, follow_parent

ANSWERS = "answers without training"
Progress = Callable[[Iterable, str, int], Iterable]


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
    checkpoints = [path for paths in probes.checkpoints.values() for path in paths if path is not None]
    return {
        task: {
            split: checked.record() for split, checked in check_splits(study.train, study.tests, checkpoints).items()
        }
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
    """Compute the rows that are missing.

    Args:
        probes: of the study.
        studies: by task, its whole table.
        only: objectives to probe; the rows that no objective has are computed with them.
        workers: jobs at once.
        progress: as in :class:`Study`; of a single worker.
        say: is told of every job that ends.

    Raises:
        UserError: a worker was killed.
    """
    jobs = missing_jobs(probes.plan, studies, only)
    tasks = list(studies)
    if workers == 1 or len(jobs) < 2:
        for number, job in enumerate(jobs, 1):
            run_job(probes, tasks, job, progress)
            say(f"[{number}/{len(jobs)}] probed: {job}")
        return
    threads = max(1, cores() // workers)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker, initargs=(threads,)) as pool:
        try:
            futures = {pool.submit(run_job, probes, tasks, job, _silently): job for job in jobs}
            for number, future in enumerate(as_completed(futures), 1):
                future.result()
                say(f"[{number}/{len(jobs)}] probed: {futures[future]}")
        except BrokenProcessPool as error:
            raise UserError(
                "a probing process was killed; run this again, with fewer --workers if memory is short"
            ) from error
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


def run_job(probes: StudyProbes, tasks: Iterable[str], job: Job, progress: Progress) -> None:
    """Compute the rows of one job under all tasks."""
    sources = probes.sources([job.name] if job.name in probes.plan.objectives else [])
    for study in probes.studies(sources, tasks, progress).values():
        if job.name == ANSWERS:
            list(study.untrained_rows())
        elif job.name in study.trained_names:
            list(study.trained_rows([job.name], job.seeds))


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
