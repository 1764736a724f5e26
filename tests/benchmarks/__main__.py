"""`python -m tests.benchmarks [SECTION ...]`: ratios measured in one run; the last line is one JSON object.

Writes docs/benchmarks.json, and from it docs/benchmarks.md and its pictures. What counts are ratios of medians from
interleaved rounds; machines are noisy, so the spread is shown, and what else the machine did.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from . import machine, report

SECTIONS = ("generation", "hops", "turn", "throughput", "scale", "start", "idle")


def main() -> None:
    """Run the sections that were asked for; the others keep their place in the report."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; default: all")
    parser.add_argument("--dry", action="store_true", help="leave the report as it is")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # leaves nothing running on its way out
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # spinning threads of many processes on few cores slow all of them
    figures: dict[str, float] = {}
    for name in options.sections or SECTIONS:
        module = importlib.import_module(f"tests.benchmarks.{name}")
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        watch = machine.Watch()
        began = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="maeari-bench-") as folder:
            section = module.measure(Path(folder))
        watch.end()
        noise = watch.noise()
        print(report.plain(section), flush=True)
        print(f"  ({time.perf_counter() - began:.0f} s; {noise})", flush=True)
        figures |= {f"{name}.{figure}": value for figure, value in section.figures.items()}
        if not options.dry:
            report.update(name, asdict(section), module.__doc__ or "", noise)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
