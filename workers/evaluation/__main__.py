"""`python -m workers.evaluation --pack P`: ask the running cluster, print its figures."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from shared.errors import ConfigurationInvalid, EngineFailed, MaeariError
from shared.packs import load_pack
from shared.producer import Producer
from shared.settings import settings
from shared.versions import Evaluation, Registry, now
from workers.training.corpus import PACKS

from .cases import Case, read_cases
from .conversation import Cluster
from .measures import figures
from .report import print_report, write_page
from .suites import own_cases
from .trials import plan, plan_version, run

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def evaluate(
    cluster: Cluster,
    pack: str,
    cases: list[Case] | None,
    on_done: Callable[[int, int], None],
    *,
    adapter: str | None = None,
    limit: int | None = None,
    version: bool = False,
) -> dict[str, Any]:
    """One pack's report: figures, and what they were measured on. `version`: only what decides about `adapter`."""
    started = time.monotonic()
    asked = own_cases(pack) if cases is None else cases
    trials = plan_version(pack, asked, adapter, limit) if version and adapter else plan(pack, asked, adapter, limit)
    verdicts = run(cluster, trials, on_done)
    measured = figures(verdicts)
    return {
        "pack": pack,
        "adapter": adapter or load_pack(pack).adapter,
        "met": all(figure["met"] is not False for figure in measured.values()),
        "figures": measured,
        "seconds": round(time.monotonic() - started, 1),
        "engines": _engines(cluster),
    }


def _engines(cluster: Cluster) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for worker in cluster.producer.workers():
        found.setdefault(worker.role, set()).update(f"{e.name} {e.version} ({e.model})" for e in worker.engines)
    return {role: sorted(engines) for role, engines in found.items()}


class Bar:
    """How far it is: a bar on a terminal, else a line per tenth."""

    def __init__(self, console: Console, title: str) -> None:
        """`title`: what is evaluated."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._console, self._title, self._tenth = console, title, 0
        self._task = self._progress.add_task(title, total=None) if self._progress else None

    def __enter__(self) -> Bar:
        if self._progress:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress:
            self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        """`done` of `total` trials."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)
        elif done * 10 // total > self._tenth:
            self._tenth = done * 10 // total
            self._console.print(f"{self._title}: {done} of {total}", highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 when everything was measured, whatever the figures are."""
    options = _options(arguments)
    try:
        return _run(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except MaeariError as error:
        if options.json:
            print(json.dumps({"error": {"code": error.code, "message": error.message, "field": error.field}}))
        print(f"error [{error.code}] {error.message}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    packs = list(PACKS) if options.all else options.pack
    for pack in packs:
        load_pack(pack)
    cases = read_cases(options.cases) if options.cases else None
    if options.write and cases is not None:
        raise ConfigurationInvalid(
            "The page is written from the project's own cases; leave --cases out.", field="write"
        )
    if options.write and not options.write.absolute().parent.is_dir():
        raise ConfigurationInvalid(f"There is no folder {options.write.absolute().parent}.", field="write")
    cluster = Cluster(Producer(), options.tenant)
    cluster.check()
    console = Console(stderr=True)
    reports: dict[str, dict[str, Any]] = {}
    given = {"adapter": options.record or options.adapter, "limit": options.limit, "version": bool(options.record)}
    for pack in packs:
        with Bar(console, pack) as bar:
            reports[pack] = evaluate(cluster, pack, cases, bar, **given)
    if options.record:
        _record(options.record, reports[packs[0]])
    _show(options, reports)
    return 0


def _record(label: str, report: dict[str, Any]) -> None:
    """From now on these figures decide whether the version may be served. Raises `EngineFailed` for half of them."""
    failed = {name: figure["errors"] for name, figure in report["figures"].items() if figure["failed_jobs"]}
    if failed:
        raise EngineFailed(f"Jobs failed, nothing is recorded for {label}: {failed}")
    values = {name: float(figure["value"]) for name, figure in report["figures"].items()}
    version = Registry.of(settings()).record(label, Evaluation(at=now(), source="cluster", figures=values))
    report["shortcomings"] = version.shortcomings()
    report["met"] = not report["shortcomings"]


def _show(options: argparse.Namespace, reports: dict[str, dict[str, Any]]) -> None:
    if options.write:
        shown = "--all" if options.all else " ".join(f"--pack {pack}" for pack in reports)
        for path in write_page(options.write, reports, f"maeari evaluate {shown} --write {options.shown_write}"):
            print(f"wrote {path}", file=sys.stderr)
    if options.json:
        whole = {"packs": reports} if len(reports) > 1 else next(iter(reports.values()))
        print(json.dumps(whole, ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    for report in reports.values():
        print_report(console, report)
        for shortcoming in report.get("shortcomings", ()):
            console.print(shortcoming, style="yellow")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.evaluation", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--pack", action="append", help="may be given again")
    which.add_argument("--all", action="store_true", help="every pack that the project has cases for")
    parser.add_argument("--cases", type=Path, help="JSONL with cases of your own")
    parser.add_argument("--adapter", help="instead of the packs' own")
    parser.add_argument("--record", metavar="NAME@N", help="measure a version of an adapter; its figures then decide")
    parser.add_argument("--limit", type=_positive, help="at most so many cases per figure")
    parser.add_argument("--tenant", default="default")
    parser.add_argument("--write", type=Path, help="write the page of documentation and its picture")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    if options.write:
        options.shown_write = str(options.write)
        if options.write.is_relative_to(Path.cwd()):
            options.shown_write = str(options.write.relative_to(Path.cwd()))
    return options


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
