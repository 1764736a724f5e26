"""`python -m workers.training.corpus`: figures, a sample to read, the packs' knowledge written anew."""

from __future__ import annotations

import argparse
import json
import sys

from shared.packs import pack_folder
from workers.training.corpus.facts import PACKS, markdown
from workers.training.corpus.report import report, sample


def main() -> int:
    """Run the command line; 1 where a reply of the corpus breaks its own style rules."""
    arguments = _arguments()
    if arguments.write_knowledge:
        _write_knowledge()
    if arguments.sample:
        print("\n".join(sample(arguments.sample, arguments.seed)))
    if not arguments.report:
        return 0
    figures = report(arguments.dialogues, arguments.seed)
    print(json.dumps(figures, ensure_ascii=False, indent=2))
    return int(any(style["style_violations"] for style in figures["dialogues"].values()))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.training.corpus", description=__doc__)
    parser.add_argument("--report", action="store_true", help="print counts, duplicates, lengths, violations as JSON")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="print N dialogues of each style")
    parser.add_argument("--write-knowledge", action="store_true", help="write the packs' Markdown from the facts")
    parser.add_argument("--dialogues", type=int, default=2000, help="dialogues of each style to report on")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _write_knowledge() -> None:
    for pack_id in PACKS:
        folder = pack_folder(pack_id) / "knowledge"
        for name, text in markdown(pack_id).items():
            (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
