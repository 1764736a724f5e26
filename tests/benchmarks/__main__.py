"""`python -m tests.benchmarks [SECTION ...]`: ratios measured in one run; the last line is one JSON object.

Sections: generation, pipelining, hops, turn, idle. Machines are noisy: what counts are ratios of medians from interleaved
rounds, and the spread is shown.
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
from pathlib import Path

SECTIONS = ("generation", "pipelining", "hops", "turn", "idle")


def main() -> None:
    """Run the sections that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("sections", nargs="*", help=f"any of {', '.join(SECTIONS)}; default: all")
    chosen = parser.parse_args().sections or SECTIONS
    figures: dict[str, object] = {}
    for section in chosen:
        module = importlib.import_module(f"tests.benchmarks.{section}")
        print(f"\n{section}: {(module.__doc__ or '').splitlines()[0]}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            found = module.measure(Path(folder))
        for name, value in found.items():
            print(f"  {name:<36} {value}", flush=True)
        figures |= {f"{section}.{name}": value for name, value in found.items()}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
