"""`python -m workers.training.preparation report|prepare|write`: look at data, make instruction JSONL."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.errors import ConfigurationInvalid, MaeariError
from shared.packs import load_pack
from workers.training.corpus import PACKS
from workers.training.corpus import dialogues as generated
from workers.training.corpus.report import STYLES

from .chats import read_chats
from .dialogues import prepare, write
from .quality import of_corpus, of_file, sample_of_corpus, sample_of_file


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the figures are one JSON object on standard output."""
    options = _options(arguments)
    try:
        print(json.dumps(options.run(options), ensure_ascii=False, indent=2))
    except MaeariError as error:
        print(f"error [{error.code}] {error.message}", file=sys.stderr)
        return 1
    return 0


def _report(options: argparse.Namespace) -> dict[str, Any]:
    if options.pack:
        load_pack(options.pack)
    figures = of_file(options.file, options.pack) if options.file else of_corpus(options.dialogues, options.seed)
    if options.sample:
        file, seed = options.file, options.seed
        texts = list(sample_of_file(file, seed) if file else sample_of_corpus(options.dialogues, seed))
        _text(options.sample, "\n".join(texts))
        figures["sample"] = {"file": str(options.sample), "examples": len(texts)}
    return figures


def _prepare(options: argparse.Namespace) -> dict[str, Any]:
    chats = (chat for path in options.files for chat in read_chats(path))
    done = prepare(chats, options.pack, options.parent, options.child)
    if not done.examples:
        raise ConfigurationInvalid(
            f"No conversation of parent and child was found: {dict(done.counts)}. Name them: --parent, --child.",
            field="file",
        )
    _written(options.out, done.examples)
    return {"file": str(options.out), **dict(done.counts)}


def _write(options: argparse.Namespace) -> dict[str, Any]:
    examples = list(_generated(options.style, options.count, options.seed))
    _written(options.out, examples)
    return {"file": str(options.out), "examples": len(examples)}


def _generated(style: str, count: int, seed: int) -> Iterator[dict[str, object]]:
    for made in generated(style, count, seed, "train"):
        messages = [{"role": message.role, "content": message.content} for message in made.messages]
        yield {"category": made.kind, "messages": [*messages, {"role": "assistant", "content": made.answer}]}


def _written(path: Path, examples: list[dict[str, object]]) -> None:
    try:
        write(path, examples)
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be written: {error.strerror}.", field="out") from error


def _text(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationInvalid(f"{path} cannot be written: {error.strerror}.", field="sample") from error


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m workers.training.preparation", description=__doc__)
    kinds = parser.add_subparsers(required=True)
    look = kinds.add_parser("report", help="counts, duplicates, lengths, broken style rules")
    look.add_argument("--file", type=Path, help="instruction JSONL; without it: what the project generates")
    look.add_argument("--pack", help="whose style rules the answers of the file should keep")
    look.add_argument("--sample", type=Path, metavar="TEXT", help="write a tenth of the examples there, to be read")
    look.add_argument("--dialogues", type=int, default=2000, help="generated dialogues of each style")
    look.add_argument("--seed", type=int, default=0)
    look.set_defaults(run=_report)
    make = kinds.add_parser("prepare", help="exported chats of parent and child to instruction JSONL")
    make.add_argument("files", type=Path, nargs="+", help="JSONL with turns, or KakaoTalk's text export")
    make.add_argument("--out", type=Path, required=True)
    make.add_argument("--pack", default="parent", help="whose system message stands in front")
    make.add_argument("--parent", action="append", default=[], metavar="NAME", help="a speaker who is a parent")
    make.add_argument("--child", action="append", default=[], metavar="NAME", help="a speaker who is a child")
    make.set_defaults(run=_prepare)
    out = kinds.add_parser("write", help="generated dialogues as instruction JSONL")
    out.add_argument("--style", choices=STYLES, default=PACKS[0])
    out.add_argument("--count", type=int, default=4500)
    out.add_argument("--seed", type=int, default=0)
    out.add_argument("--out", type=Path, required=True)
    out.set_defaults(run=_write)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
