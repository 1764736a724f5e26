"""`python -m tests.chaos 1 2 3 [--jobs N] [--faults N] [--seconds S] [--real-llm]`: a run per seed; the last line is one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from .driver import Chaos, Outcome, percentile


def _run(seed: int, options: argparse.Namespace) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        chaos = Chaos(seed, Path(folder), real_llm=options.real_llm)
        try:
            outcome = chaos.run(options.jobs, options.faults, options.seconds)
        finally:
            chaos.close()
        return outcome


def _left(outcome: Outcome) -> int:
    """Keys, open records and processes that should be gone."""
    return len(outcome.leaked_keys) + len(outcome.leftovers) + len(outcome.orphans)


def _row(outcome: Outcome) -> str:
    faults = " ".join(f"{name}:{count}" for name, count in sorted(outcome.faults.items()))
    return (
        f"{outcome.seed:>5} {outcome.jobs:>5} {outcome.faults.total():>6} {len(outcome.lost):>5} {len(outcome.doubled):>7} "
        f"{len(outcome.broken_streams):>7} {_left(outcome):>6} {outcome.reruns:>6} "
        f"{percentile(outcome.recovery_ms, 0.5) or 0:>8} {percentile(outcome.recovery_ms, 0.95) or 0:>8} "
        f"{outcome.seconds:>6.0f}  {faults}  {dict(outcome.ends)}"
    )


def main() -> None:
    """Run, print the table, exit with 1 when an invariant broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=110)
    parser.add_argument("--faults", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--real-llm", action="store_true", help="generate with vLLM, and break its engine cores too")
    options = parser.parse_args()
    print(" seed  jobs faults  lost doubled streams  left  reruns  rec.p50  rec.p95   secs  faults  ends", flush=True)
    outcomes = []
    for seed in options.seeds:
        outcomes.append(_run(seed, options))
        print(_row(outcomes[-1]), flush=True)
        for problem in (*outcomes[-1].lost, *outcomes[-1].doubled, *outcomes[-1].broken_streams):
            print("      ", problem, flush=True)
        for what in (*outcomes[-1].leaked_keys, *outcomes[-1].leftovers, *outcomes[-1].orphans):
            print("       left:", what, flush=True)
    recovery = [value for outcome in outcomes for value in outcome.recovery_ms]
    figures = {
        "seeds": len(outcomes),
        "jobs": sum(outcome.jobs for outcome in outcomes),
        "faults": sum(outcome.faults.total() for outcome in outcomes),
        "lost": sum(len(outcome.lost) for outcome in outcomes),
        "doubled": sum(len(outcome.doubled) for outcome in outcomes),
        "broken_streams": sum(len(outcome.broken_streams) for outcome in outcomes),
        "left_behind": sum(_left(outcome) for outcome in outcomes),
        "reruns": sum(outcome.reruns for outcome in outcomes),
        "recovery_ms_p50": percentile(recovery, 0.5),
        "recovery_ms_p95": percentile(recovery, 0.95),
    }
    print(json.dumps(figures))
    sys.exit(0 if all(outcome.clean for outcome in outcomes) else 1)


if __name__ == "__main__":
    main()
