"""Where the work on a log runs: here, or on Ray."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import torch
from threadpoolctl import threadpool_limits

from avjepa.errors import ConfigError, UserError

OBJECT_STORE_BYTES = 100 * 2**20  # nothing but the task itself travels through Ray
THREADS = 1  # of each library for one log, with both engines: the last digits of a sum depend on them
PATIENCE_S = 10.0  # for workers to end when a run is interrupted

Work = Callable[[str, Path], None]


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed: in one line, in full, and whether another one may end better."""

    error: str
    text: str
    is_final: bool


class Engine(Protocol):
    """Works on logs, up to ``size`` at once."""

    size: int

    def start(self, name: str, folder: Path) -> None:
        """Begin the work on a log."""

    def wait(self) -> tuple[str, Failure | None]:
        """The next log whose work ended, and why it failed if it did."""

    def stop(self) -> None:
        """End what is going on. Afterwards nobody writes into the folders."""


class SerialEngine:
    """One log after the other, in this process."""

    size = 1

    def __init__(self, work: Work) -> None:
        """Nothing starts yet."""
        self.work = work

    def start(self, name: str, folder: Path) -> None:
        """Only noted."""
        self.log = name, folder

    def wait(self) -> tuple[str, Failure | None]:
        """Do the work."""
        return self.log[0], attempt(self.work, *self.log)

    def stop(self) -> None:
        """Nothing goes on by itself."""


class RayEngine:
    """One Ray task a log. Ray retries nothing itself, so that the death of a worker counts as an attempt."""

    def __init__(self, ray: Any, work: Work, workers: int) -> None:
        """Starts Ray, or joins the cluster at $RAY_ADDRESS, unless this process has done so."""
        self.ray, self.size = ray, workers
        self.is_own = not ray.is_initialized()
        self.going: dict[Any, str] = {}
        if self.is_own:
            _start(ray, workers * THREADS)
        self.remote = ray.remote(num_cpus=THREADS, max_retries=0)(attempt)
        self.work = ray.put(work)  # travels once

    def start(self, name: str, folder: Path) -> None:
        """Hand a log to Ray."""
        self.going[self.remote.remote(self.work, name, folder.resolve())] = name

    def wait(self) -> tuple[str, Failure | None]:
        """The next log that ended, or whose worker did."""
        (ended,), _ = self.ray.wait(list(self.going), num_returns=1)
        name = self.going.pop(ended)
        try:
            return name, self.ray.get(ended)
        except self.ray.exceptions.RayError as error:  # the worker is gone: killed, crashed, out of memory
            return name, Failure(_one_line(error), str(error), is_final=False)

    def stop(self) -> None:
        """Kill the workers that are at work, wait for their end, and take Ray down if we started it."""
        for task in self.going:
            self.ray.cancel(task, force=True)
        if self.going:
            self.ray.wait(list(self.going), num_returns=len(self.going), timeout=PATIENCE_S)
        if self.is_own:
            self.ray.shutdown()


def _start(ray: Any, cores: int) -> None:
    """Join the cluster at $RAY_ADDRESS, or start a Ray of our own with so many cores."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        ray.init("local", num_cpus=cores, object_store_memory=OBJECT_STORE_BYTES, **quiet)
        return
    try:
        ray.init(**quiet)
    except ConnectionError as error:
        raise ConfigError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({_one_line(error)}); start it, unset RAY_ADDRESS, "
            "or if it asks for a token, set RAY_AUTH_MODE=token"
        ) from error


def ray_engine(work: Work, workers: int) -> RayEngine:
    """Work on Ray, which is imported here and nowhere else.

    Raises:
        ConfigError: it is not installed, or the cluster at $RAY_ADDRESS does not answer.
    """
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(
            f"--engine ray: {error}; pip install avjepa[fleet] brings Ray, --engine serial needs none"
        ) from error
    return RayEngine(ray, work, workers)


def attempt(work: Work, name: str, folder: Path) -> Failure | None:
    """Work on one log; why it failed, or None."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(THREADS)
    cv2.setNumThreads(THREADS)
    try:
        with threadpool_limits(THREADS):
            work(name, folder)
    except UserError as error:
        return Failure(" ".join(str(error).split()), traceback.format_exc(), is_final=True)
    except (Exception, SystemExit) as error:
        return Failure(_one_line(error), traceback.format_exc(), is_final=False)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
