"""The figures: what each means, its target, and how verdicts on single cases become one number."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.contracts.pack import Pack
from workers.training.corpus import violations
from workers.training.corpus.style import without_emoji
from workers.training.speech_examination import Score, edits

from .cases import Case, MeasureName

EXAMPLES = 8
"""Failures that a report quotes per figure."""

_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Measure:
    """A figure."""

    name: MeasureName
    what: str
    target: float | None
    """None: shown, and nothing is asked of it."""
    most: bool
    """The target is the most that the figure may be; else the least."""
    error_rate: bool = False
    """Character errors over characters said; else the share of good cases."""

    def met(self, value: float) -> bool | None:
        """Whether `value` reaches the target; None without one."""
        if self.target is None:
            return None
        return value <= self.target if self.most else value >= self.target


MEASURES: dict[MeasureName, Measure] = {
    measure.name: measure
    for measure in (
        Measure("heard_cer", "spoken questions, unseen combinations, speed, pitch: character errors", 0.08, True, True),
        Measure("noisy_cer", "the same over background noise at 20 dB: character errors", 0.15, True, True),
        Measure("new_wordings_cer", "spoken questions in wordings never trained: character errors", None, True, True),
        Measure("hit_at_3", "paraphrased questions: the right chunk is among the first three", 0.95, False),
        Measure("fact_stated", "replies that state the retrieved fact", 0.90, False),
        Measure("style_kept", "replies that keep every speech-style rule", 0.95, False),
        Measure("other_style_kept", "the same with another pack's adapter", 0.30, True),
        Measure("recall_stated", "replies that take up what was said up to three turns earlier", 0.80, False),
        Measure("spoken_back_cer", "the reply's own audio, recognised again: character errors", 0.15, True, True),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What one case says about one figure."""

    measure: MeasureName
    case: Case
    good: bool = False
    said: str = ""
    heard: str = ""
    """Of an error rate: what was said and what was understood."""
    shown: str = ""
    """What a reader needs to see of a failure."""
    error: str = ""
    """The job's error; such a case counts for no figure, and keeps its figure from being met."""
    aside: bool = False
    """The case cannot be counted, e.g. a fact that retrieval did not bring."""


def heard(measure: MeasureName, case: Case, said: str, text: str) -> Verdict:
    """An utterance and what was understood of it."""
    said, text = _plain(said), _plain(text)
    return Verdict(measure, case, good=said == text, said=said, heard=text, shown=f"{said} → {text or '(nothing)'}")


def found(case: Case, chunks: Sequence[str]) -> Verdict:
    """Whether one of the chunks holds all that is wanted."""
    first = _line(chunks[0]) if chunks else "(nothing)"
    return Verdict("hit_at_3", case, good=holds(chunks, case.wanted), shown=f"{case.last} → {first}")


def stated(measure: MeasureName, case: Case, reply: str, chunks: Sequence[str]) -> Verdict:
    """Whether the reply holds what is expected. A fact that was not retrieved cannot be stated: it is set aside."""
    good = all(squeezed(value) in squeezed(reply) for value in case.expect)
    missing = measure == "fact_stated" and not holds(chunks, case.wanted)
    asked = " / ".join(case.turns)
    shown = f"{asked} → {reply} (expected: {', '.join(case.expect)})"
    return Verdict(measure, case, good=good, shown=shown, aside=missing)


def styled(measure: MeasureName, case: Case, reply: str, pack: Pack) -> Verdict:
    """Whether the reply keeps the pack's rules that the case names."""
    broken = [rule for rule in violations(pack.id, reply, case.name) if rule in (*case.rules, "empty")]
    return Verdict(measure, case, good=not broken, shown=f"{case.last} → {reply} ({', '.join(broken) or 'kept'})")


def spoken_back(case: Case, reply: str, text: str) -> Verdict:
    """What a reply says, and what is understood of its own audio."""
    return heard("spoken_back_cer", case, without_emoji(reply), text)


def holds(chunks: Sequence[str], wanted: Sequence[str]) -> bool:
    """One chunk has all of it; spacing does not matter."""
    return any(all(squeezed(value) in squeezed(chunk) for value in wanted) for chunk in chunks)


def squeezed(text: str) -> str:
    """`text` without spaces."""
    return _SPACE.sub("", text)


def figures(verdicts: Iterable[Verdict]) -> dict[str, dict[str, Any]]:
    """Every figure that there are cases for, in the order of the table."""
    sorted_in: dict[str, list[Verdict]] = {name: [] for name in MEASURES}
    for verdict in verdicts:
        sorted_in[verdict.measure].append(verdict)
    return {name: _figure(MEASURES[name], sorted_in[name]) for name in MEASURES if sorted_in[name]}


def _figure(measure: Measure, verdicts: list[Verdict]) -> dict[str, Any]:
    failed = [verdict for verdict in verdicts if verdict.error]
    counted = [verdict for verdict in verdicts if not verdict.error and not verdict.aside]
    value, more = _error_rate(counted) if measure.error_rate else _share(counted)
    bad = sorted((verdict for verdict in counted if _is_failure(measure, verdict)), key=lambda one: -_weight(one))
    met = measure.met(value) if counted and not failed else None if measure.target is None else False
    return {
        "value": value,
        "target": measure.target,
        "at": "most" if measure.most else "least",
        "met": met,
        "cases": len(counted),
        "failed_jobs": len(failed),
        "set_aside": sum(verdict.aside for verdict in verdicts),
        **more,
        "failures": [{"case": one.case.id, "shown": one.shown} for one in bad[:EXAMPLES]],
        "errors": sorted({verdict.error for verdict in failed})[:EXAMPLES],
    }


def _error_rate(verdicts: list[Verdict]) -> tuple[float, dict[str, Any]]:
    score = Score()
    for verdict in verdicts:
        score.add(verdict.said, verdict.heard)
    told = score.figures()
    return told["cer"], {"exact": told["exact"], "without_spaces_and_marks": told["cer_plain"]}


def _share(verdicts: list[Verdict]) -> tuple[float, dict[str, Any]]:
    good = sum(verdict.good for verdict in verdicts)
    return round(good / max(1, len(verdicts)), 4), {"good": good}


def _is_failure(measure: Measure, verdict: Verdict) -> bool:
    """A wrong adapter's reply fails when it keeps the style after all."""
    return verdict.good if measure.name == "other_style_kept" else not verdict.good


def _weight(verdict: Verdict) -> float:
    """Failures that are worst come first, where there is a more and a less."""
    return edits(verdict.said, verdict.heard) / max(1, len(verdict.said)) if verdict.said else 0.0


def _plain(text: str) -> str:
    return " ".join(text.split())


def _line(text: str) -> str:
    return " ".join(text.replace("#", " ").split())
