"""Compare pretraining objectives: train each with several seeds, probe them all, and write tables and plots with their costs."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Collection
from pathlib import Path

from mmengine.config import DictAction

from avjepa.cli import progress, run_tool
from avjepa.engine.study_plan import StudyPlan, read_plan
from avjepa.engine.study_probes import probe_all, probes_of, split_records
from avjepa.engine.study_result import result_of, study_record
from avjepa.engine.study_runs import TrainingRun, in_words, runs_of
from avjepa.engine.study_training import train_runs
from avjepa.errors import ConfigError, UserError
from avjepa.files import hold_lock, replacing, write_json
from avjepa.processes import cores
from avjepa.reports.figures import save_figure
from avjepa.reports.html_study import study_markdown, study_page
from avjepa.reports.record import origin
from avjepa.reports.study_figures import study_figures
from avjepa.reports.study_tables import StudyResult, main_table
from avjepa.reports.study_verdicts import verdict_table

EXAMPLE = """example:
  python tools/make_city.py --scenes 24 --out data/city24
  python tools/study.py configs/studies/city.py --data data/city24 --out work_dirs/study --workers 2
  python tools/study.py configs/studies/city.py --data data/city24 --out work_dirs/study --report-only   # what is there so far

Runs and rows that are done are kept: a study that was stopped goes on when the command is given again. A collapsed run is a
result and stays in the tables; one that failed is tried again, from its last checkpoint, and so are rows that failed. OUT holds
  study.md, study.html, study.json, *.png, *.svg     tables and plots, one page with both, everything as data
  runs/OBJECTIVE/seedS/                              work dirs of tools/train.py, with cost.json and train.log
  probes/TASK/rows/, embeddings/                     finished rows and kept embeddings
  probes/failed.json                                 rows that could not be made, and why
"""


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", type=Path, help="study config, one of configs/studies/")
    parser.add_argument("--data", metavar="ROOT", help="data root; default: the configs', or the variable they name")
    parser.add_argument("--out", type=Path, metavar="DIR", help="everything; default: work_dirs/study_CONFIG_NAME")
    parser.add_argument(
        "--workers",
        type=int,
        default=cores(),
        metavar="N",
        help=f"processes at once, which share the cores (default {cores()})",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="in place of the config's")
    parser.add_argument("--only", nargs="+", metavar="OBJECTIVE", help="train and probe these now (default: all)")
    parser.add_argument(
        "--tasks", nargs="*", metavar="TASK", help="probe by these now (default: all; none: train only)"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="train and probe nothing: tables and plots of what is there"
    )
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        action=DictAction,
        metavar="KEY=VALUE",
        help="settings in the study config to change",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Run the tool."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a kill, too, stops the runs and counts what they cost
    if args.workers < 1:
        raise ConfigError("--workers must be at least 1")
    data = str(Path(args.data).resolve()) if args.data else None
    plan = read_plan(args.config, args.cfg_options, data, args.seeds)
    only = chosen(args.only, plan.objectives, "--only")
    tasks = chosen(args.tasks, plan.tasks, "--tasks")
    out = args.out or Path("work_dirs") / f"study_{args.config.stem}"
    out.mkdir(parents=True, exist_ok=True)
    lock = None if args.report_only else hold_lock(out / ".lock")
    if lock is None and not args.report_only:
        raise ConfigError(f"{out}: another study is writing there; wait for it, or give another --out")
    runs = runs_of(plan, out)
    if not args.report_only:
        wanted = [run for run in runs if run.record.objective in only]
        train_runs(wanted, args.workers, Path(__file__).with_name("train.py"), say)
    result = probe_and_report(plan, runs, out, only, [] if args.report_only else tasks, args.workers)
    if lock is not None:
        lock.close()
    failed = [
        *(f"{run.name}: {in_words(run)} ({run.folder / 'train.log'})" for run in runs if run.record.state == "failed"),
        *(f"{task.title}: probing failed: {failure}" for task in result.tasks.values() for failure in task.failures),
    ]
    if failed and not args.report_only:
        raise UserError(f"{'; '.join(failed)}. The same command tries again")


def probe_and_report(
    plan: StudyPlan,
    runs: list[TrainingRun],
    out: Path,
    only: Collection[str],
    tasks: Collection[str],
    workers: int,
) -> StudyResult:
    """Probe the chosen objectives by the chosen tasks, then write the tables of everything that is there."""
    probes = probes_of(plan, out, runs)
    studies = probes.studies(probes.sources(plan.objectives), plan.tasks, progress)
    splits = split_records(probes, studies)
    if tasks:
        probe_all(probes, {task: studies[task] for task in tasks}, only, workers, progress, say)
    result = result_of(plan, runs, studies, out)
    write_json(out / "study.json", {**origin(), **study_record(plan, runs, studies, result, splits)})
    write_pages(out, plan, result)
    for split in result.splits:
        for table in (main_table(result, split), verdict_table(result, split)):
            print(f"\n{table.title}\n\n{table.markdown()}\n\n{table.note}")
    print(f"\nwritten: {out / 'study.html'}, and study.md, study.json and the plots beside it")
    return result


def write_pages(out: Path, plan: StudyPlan, result: StudyResult) -> None:
    """Markdown, plots, and one HTML page with both."""
    figures = study_figures(result)
    for name, figure in figures.items():
        for suffix in (".png", ".svg"):
            save_figure(figure, out / f"{name}{suffix}")
    pages = {
        "study.md": study_markdown(result, origin()),
        "study.html": study_page(result, origin(), plan.text, figures),
    }
    for name, text in pages.items():
        with replacing(out / name) as temporary:
            temporary.write_text(text)


def chosen(names: list[str] | None, known: Collection[str], option: str) -> list[str]:
    """Those that are named, or all.

    Raises:
        ConfigError: there is no such one.
    """
    unknown = set(names or ()) - set(known)
    if unknown:
        raise ConfigError(f"{option}: no {', '.join(sorted(unknown))}; there is {', '.join(known)}")
    return list(known) if names is None else names


def say(words: str) -> None:
    """A line, at once."""
    print(words, flush=True)


if __name__ == "__main__":
    run_tool(main)
