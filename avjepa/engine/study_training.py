"""Trains the runs of a study, several at once, each a process of tools/train.py that ends with this one and is counted."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Collection
from pathlib import Path

from avjepa.engine.study_runs import Part, TrainingRun, in_words
from avjepa.processes import cores, killed_with_parent

COLLAPSE = re.compile(r"^error: ((?:embedding collapsed|loss is \S+) at iteration (\d+).*)", re.MULTILINE)
POLL_S = 0.2
PATIENCE_S = 20.0  # for a stopped process to leave by itself


def train_runs(runs: Collection[TrainingRun], workers: int, train_tool: Path, say: Callable[[str], None]) -> None:
    """Train what is not settled, several at once; a run that fails is recorded, and the others go on.

    Args:
        runs: of :func:`runs_of`; their records are kept up to date.
        workers: runs at once; each gets its share of the cores.
        train_tool: tools/train.py.
        say: is told of every run that starts or ends.

    Raises:
        KeyboardInterrupt: after all runs were stopped and counted.
    """
    threads = max(1, cores() // workers)
    waiting = [run for run in runs if not run.is_settled]
    total, done, going = len(waiting), 0, []
    try:
        while waiting or going:
            while waiting and len(going) < workers:
                run = waiting.pop(0)
                going.append(Process(run, train_tool, threads))
                say(f"{run.name}: training from {run.iteration} to {run.record.iterations}, {threads} threads")
            time.sleep(POLL_S)
            for process in [process for process in going if process.has_ended()]:
                going.remove(process)
                done += 1
                say(f"[{done}/{total}] {process.run.name}: {in_words(process.run)}")
    except BaseException:
        stop_all(going)
        raise


def stop_all(processes: Collection[Process]) -> None:
    """Interrupt all at once, as Ctrl-C would, and kill those for which that is not enough; all are counted."""
    for process in processes:
        process.interrupt()
    deadline = time.monotonic() + PATIENCE_S
    going = list(processes)
    while going and time.monotonic() < deadline:
        going = [process for process in going if not process.has_ended()]
        time.sleep(POLL_S / 4)
    for process in going:
        process.kill()


class Process:
    """A run's process, which ends with this one; its costs are in the record as soon as it has ended."""

    def __init__(self, run: TrainingRun, train_tool: Path, threads: int) -> None:
        """Start it. Its output goes to ``train.log`` in the run's folder."""
        self.run = run
        self.is_stopped = False
        run.folder.mkdir(parents=True, exist_ok=True)
        command = run.command(train_tool)
        self.part = Part(shlex.join(command), time.strftime("%Y-%m-%dT%H:%M:%S"), threads)
        run.record.parts.append(self.part)
        run.record.state, run.record.reason = "unfinished", ""
        run.keep()
        self.started = time.monotonic()
        self.log = run.folder / "train.log"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
        }
        with self.log.open("ab") as log:
            self.log_start = log.tell()
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C is for us; we stop it
                preexec_fn=_prepare_child,
            )

    def has_ended(self, wait: bool = False) -> bool:
        """Whether it has; then it is counted and recorded."""
        if self.process.returncode is None and not self._count(wait):
            return False
        self.run.keep()  # what it cost, before its checkpoint is read
        self._judge(self.process.returncode)
        self.run.keep()
        return True

    def _count(self, wait: bool) -> bool:
        """Collect the process if it has ended, and note what it cost: both, or with an interruption on the way neither."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            pid, status, usage = os.wait4(self.process.pid, 0 if wait else os.WNOHANG)
            if pid:
                # The kernel adds to a process those of its children that it waited for: its loaders.
                self.part.core_s = round(usage.ru_utime + usage.ru_stime, 3)
                self.part.wall_s = round(time.monotonic() - self.started, 3)
                self.part.exit_code = self.process.returncode = os.waitstatus_to_exitcode(status)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return bool(pid)

    def interrupt(self) -> None:
        """Ask it to end, as Ctrl-C would."""
        if self.process.returncode is None:
            self.is_stopped = True
            os.kill(self.process.pid, signal.SIGINT)  # not send_signal(), which collects one that just ended, uncounted

    def kill(self) -> None:
        """End it and its loaders."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.has_ended(wait=True)

    def _judge(self, code: int) -> None:
        """How the run ended: by its checkpoint, then by its last words."""
        record = self.run.record
        if self.run.iteration == record.iterations:
            record.state = "finished"
            return
        with self.log.open("rb") as log:
            log.seek(self.log_start)
            said = log.read().decode(errors="replace")
        collapse = COLLAPSE.search(said)
        if code == 2 and collapse:
            record.state, record.reason, record.stopped_at = "collapsed", collapse[1], int(collapse[2])
        elif self.is_stopped:
            record.reason = "interrupted"
        else:
            last = next(filter(None, map(str.strip, reversed(said.splitlines()))), "no word")
            record.state = "failed"
            record.reason = f"{'killed by ' + signal.Signals(-code).name if code < 0 else f'exit code {code}'}: {last}"


def _prepare_child() -> None:
    """Between fork and exec."""
    killed_with_parent()
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # it must hear our SIGINT, also where we ignore Ctrl-C, as in a shell's "&"
