"""The job record: the truth about every job, changed by the scripts in `lua/` alone, each atomic.

A Celery message only carries a job's id to a worker; lost or doubled messages change nothing. Why stock Celery on Redis
is not enough: docs/decisions/0001-job-records.md.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import redis

from . import codec, envelope
from .claims import Asked, Claim, Refused, claim_of
from .contracts.base import Fault
from .contracts.catalog import CATALOG
from .errors import InvalidRequest, JobNotFound, QueueFull
from .keys import BATCH, Keys
from .lane import POP, WAIT, Calls, Hearing, Lane, OwnConnections
from .settings import Settings
from .signing import UNSIGNED, Signing

Verdict = Literal["ok", "lost", "ended", "deadline", "gone"]
"""What a running attempt learns when it reports: go on, or why it must stop."""

_GONE = (redis.ConnectionError, redis.TimeoutError, redis.ReadOnlyError)
"""What is raised once patience is spent."""

RAW_LIMIT = 1_000_000
"""Characters that are kept of a message that cannot be read; the dead letters hold thousands of them."""

OPENING, TOGETHER = 16, 100
"""Of many jobs, those of the first trip, so that workers begin meanwhile, and of each further one; more would keep
others waiting."""

STAGE_SEPARATOR = "/"
"""Between a job's id and a stage's name; no producer's id holds it."""


class Entry(NamedTuple):
    """A job to be recorded and pushed."""

    job_id: str
    task: str
    request: dict[str, Any]
    tenant: str
    priority: int = 0
    deadline_ms: int = 0
    """From now; 0: the cluster's default."""
    presence: bool = False


class Stage(NamedTuple):
    """A further stage of a job, recorded and pushed when the attempt reports it."""

    id: str
    task: str
    request: dict[str, Any]


class Append(NamedTuple):
    """A value for a bounded, expiring list (short-term memory)."""

    key: str
    value: str
    keep: int
    ttl_s: int


@dataclass(frozen=True)
class Report:
    """What an attempt does to the world in one step; nothing of it happens once its fence is stale."""

    events: Sequence[tuple[str, dict[str, Any]]] = ()
    stages: Sequence[Stage] = ()
    appends: Sequence[Append] = ()
    checkpoint: str = ""
    """What a later attempt may go on from; recorded together with the stages of this report."""
    ending: Literal["", "done", "wait"] = ""
    result: dict[str, Any] | str | None = None
    """With `done`: the record's result, an object or its JSON text."""
    ends_job: bool = False
    """With `done`: the result is the whole job's."""
    last: Stage | None = None
    """With `wait`: the stage that ends the job, started once no other is open."""
    number: int = 0
    """Counted by the attempt: sent again after a lost answer, a report changes nothing more. 0: a mere heartbeat."""


class DeadLetter(NamedTuple):
    """A message that could not be run."""

    entry: str
    queue: str
    job_id: str
    task: str
    reason: str
    raw: str

    @property
    def at_ms(self) -> int:
        """When it was buried, Redis time."""
        return int(self.entry.split("-")[0])


class Next(threading.local):
    """The next message of this thread of a worker, which is asked for in the trip that ends its job."""

    lists: Callable[[], Sequence[str]] | None = None
    """Says where to take it from, the first list that has one; where it gives none, nothing is asked for."""
    answered = False
    answer: Any = None
    """The list and its messages, None where all were empty, or Redis's error."""


NEXT = Next()


@dataclass
class Jobs:
    """All that may be done to job records, over one Redis client (decoding replies to `str`)."""

    client: Any
    """A `redis.Redis` with `decode_responses`; its stubs cannot say that it then gives `str`."""
    keys: Keys
    signing: Signing = UNSIGNED
    _scripts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Calls that many threads make share trips."""
        self._lane = Lane()
        self._own = OwnConnections(self.client)

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Redis's answers, as it gives them, to commands that only read; one trip."""
        with contextlib.suppress(redis.RedisError):
            answers = self._own.ask(commands)
            if not any(isinstance(answer, redis.RedisError) for answer in answers):
                return answers
        again = self.client.pipeline(transaction=False)  # with redis-py's patience
        for command in commands:
            again.execute_command(*command)
        found: list[Any] = again.execute()
        return found

    def hearing(self) -> contextlib.AbstractContextManager[Hearing]:
        """A connection that hears what is published."""
        return self._own.hearing()

    def _call(self, script: str, args: Sequence[Any]) -> Any:
        # a lane that kept `_carry` would hold these jobs and their connections until the garbage is collected
        (answer,) = self._lane.call(self._carry, (script, args))
        _raise(answer)
        return answer

    def run(self, script: str, *args: Any) -> Any:
        """Run a script of `lua/`."""
        return self._script(script)(args=[self.keys.prefix, *args])

    def _script(self, name: str) -> Any:
        if name not in self._scripts:
            self._scripts[name] = self.client.register_script(_source(name))
        return self._scripts[name]

    # --- producers ---

    def enqueue(self, entry: Entry) -> bool:
        """Record and push a job. False: the id is known already. Raises `QueueFull` with a hint when to come back."""
        return self._accepted(entry, self._call("enqueue", self._entry_args(entry)))

    def enqueue_all(self, entries: Sequence[Entry]) -> list[bool | QueueFull]:
        """As `enqueue` for each, many to a trip; a full queue is said in the job's place."""
        found: list[bool | QueueFull] = []
        while len(found) < len(entries):
            first = len(found)
            part = entries[first : first + (TOGETHER if first else OPENING)]
            answers = self._carry([("enqueue", self._entry_args(entry)) for entry in part])
            for entry, answer in zip(part, answers, strict=True):
                _raise(answer)
                try:
                    found.append(self._accepted(entry, answer))
                except QueueFull as full:
                    found.append(full)
        return found

    def _entry_args(self, entry: Entry) -> Sequence[Any]:
        spec = CATALOG[entry.task]
        within_ms = self.signing.within(entry.deadline_ms)
        message = self.message(entry.task, entry.job_id, entry.request, priority=entry.priority, within_ms=within_ms)
        limits = (within_ms, int(entry.presence), spec.max_attempts)
        return (entry.job_id, entry.task, spec.queue, entry.priority, entry.tenant, *limits, message)

    def _accepted(self, entry: Entry, answer: Any) -> bool:
        if answer[0] == "full":
            hint = int(answer[1]) / 1000
            sentence = f"Queue {CATALOG[entry.task].queue} has no room for {entry.tenant}; come back in {hint:.1f} s."
            raise QueueFull(sentence, retry_after_s=hint)
        return bool(answer[0] == "ok")

    def message(
        self,
        task: str,
        job_id: str,
        request: dict[str, Any],
        *,
        priority: int = 0,
        within_ms: int = 0,
        until_ms: int = 0,
    ) -> str:
        """A message, signed where this cluster signs.

        Its deadline is `until_ms` (since the epoch) or else `within_ms` from now.
        """
        until_ms = until_ms or int(time.time() * 1000) + within_ms
        return envelope.build(task, job_id, request, priority=priority, signing=self.signing, deadline_ms=until_ms)

    def cancel(self, job_id: str) -> str:
        """End a job. `cancelled`, or the state in which it had ended. Raises `JobNotFound`."""
        state = str(self.run("cancel", job_id))
        if state == "unknown":
            raise JobNotFound(job_id)
        return state

    # --- workers ---

    def claim(self, job_id: str, owner: str, digest: str = "") -> Claim | Refused:
        """Begin an attempt on a record, or learn why not. The same `owner` is given the same claim once more.

        `digest`: SHA-1 (hex) of the message that asks for it; one that the record was not made with gets no claim.
        """
        asked_at = time.monotonic()
        return claim_of(job_id, self._call("claim", (job_id, owner, digest)), asked_at)

    def ask_ahead(self, wanted: Sequence[tuple[str, str, str]]) -> list[Asked]:
        """Send `claim`'s questions (id, owner, digest) in one trip, whose answers are for whoever runs the jobs.

        It takes no waiting; where it would, none is sent.
        """
        if not wanted or self._lane.busy:
            return []
        trip = self._own.send([self._command("claim", args) for args in wanted])
        return [Asked(*asked[:2], trip, place) for place, asked in enumerate(wanted)] if trip else []

    def report(self, claim: Claim, report: Report) -> Verdict:
        """Apply a report. With one that ends the attempt, what `NEXT` asks for is taken."""
        advance = ("advance", self._report_args(claim, report))
        lists = NEXT.lists() if report.ending and NEXT.lists and not NEXT.answered else ()
        if not lists:
            verdict: Verdict = self._call(*advance)
            return verdict
        verdict, NEXT.answer = self._lane.call(self._carry, advance, _pop(lists))
        NEXT.answered = True
        _raise(verdict)
        return verdict

    def take(self, lists: Sequence[str]) -> Any:
        """The first list that has a message, with the next of it; None where all are empty; or Redis's error."""
        (answer,) = self._lane.call(self._carry, _pop(lists))
        return answer

    def wait(self, lists: Sequence[str], seconds: float, count: int) -> Any:
        """As `take`, up to `count` messages as soon as there are any; None when none comes within `seconds`."""
        try:
            return self._own.ask([(WAIT, seconds, len(lists), *lists, "RIGHT", "COUNT", count)])[0]
        except redis.RedisError as error:
            return error

    def report_all(self, reports: Sequence[tuple[Claim, Report]]) -> list[Verdict]:
        """Apply the reports of many attempts in one round trip; the verdicts, in order."""
        verdicts = self._carry([("advance", self._report_args(claim, report)) for claim, report in reports])
        for verdict in verdicts:
            _raise(verdict)
        return verdicts

    def _carry(self, calls: Calls) -> list[Any]:
        """Run scripts in one round trip; their answers, or the errors that Redis answered with."""
        commands = [self._command(script, args) for script, args in calls]
        try:
            answers = self._own.ask(commands)
        except redis.RedisError as error:
            answers = [error.with_traceback(None)] * len(calls)
        gone = None
        for place, answer in enumerate(answers):
            if isinstance(answer, redis.RedisError) and calls[place][0] != POP:
                # Redis was restarted or replaced: loads, finds the primary
                answers[place] = gone or self._alone(*calls[place])
                gone = answers[place] if isinstance(answers[place], _GONE) else None  # patience is spent once for all
        return answers

    def _command(self, script: str, args: Sequence[Any]) -> Sequence[Any]:
        return (POP, *args) if script == POP else ("EVALSHA", self._script(script).sha, 0, self.keys.prefix, *args)

    def _alone(self, script: str, args: Sequence[Any]) -> Any:
        try:
            return self.run(script, *args)
        except redis.RedisError as error:
            return error

    def _report_args(self, claim: Claim, report: Report) -> list[Any]:
        result = _text(report.result)
        meta = _success_head(claim.root) if report.ends_job else ""
        args: list[Any] = [claim.id, claim.fence, report.ending, result, meta, self._last(claim, report)]
        args += (report.checkpoint, report.number, len(report.events))
        for kind, data in report.events:
            args += (kind, codec.write_plain(data))
        args.append(len(report.stages))
        for stage in report.stages:
            spec = CATALOG[stage.task]
            args += (stage.id, stage.task, spec.queue, spec.max_attempts, self._carrier(claim, stage))
        args.append(len(report.appends))
        for append in report.appends:
            args += append
        return args

    def _last(self, claim: Claim, report: Report) -> str:
        if report.last is None:
            return ""
        stage = report.last
        queue = CATALOG[stage.task].queue
        return json.dumps({"id": stage.id, "task": stage.task, "queue": queue, "env": self._carrier(claim, stage)})

    def _carrier(self, claim: Claim, stage: Stage) -> str:
        """The message of a stage, which ends when its job ends."""
        return self.message(stage.task, stage.id, stage.request, until_ms=claim.deadline_ms)

    def fail(self, claim: Claim, fault: Fault, *, retry_ms: int | None) -> str:
        """End an attempt badly; `retry_ms`: try again after that long, None: never. `retry`, `failed` or `lost`."""
        return str(
            self.run("fail", claim.id, claim.fence, fault.model_dump_json(), -1 if retry_ms is None else retry_ms)
        )

    def stages(self, job_id: str) -> list[tuple[str, dict[str, str]]]:
        """The records of a job's stages, in the order of their making."""
        ids = self.client.lrange(self.keys.stages(job_id), 0, -1)
        pipe = self.client.pipeline(transaction=False)
        for stage in ids:
            pipe.hgetall(self.keys.job(stage))
        return list(zip(ids, pipe.execute(), strict=True))

    def now_ms(self) -> int:
        """Redis time, the only clock that records know."""
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def release(self, claim: Claim) -> bool:
        """Give up an attempt, which then does not count, so that another worker makes it at once."""
        return bool(self.run("release", claim.id, claim.fence))

    def hand_back(self, job_id: str) -> bool:
        """Put back a popped message whose record was not claimed."""
        return bool(self.run("hand_back", job_id))

    # --- keepers ---

    def configure(self, settings: Settings) -> None:
        """Write the limits that the scripts apply."""
        limits = {
            "share": settings.tenant_share,
            "queue_limit": settings.queue_limit,
            "tenant_limit": settings.tenant_limit,
            "lease_ms": int(settings.lease_s * 1000),
            "redeliver_ms": int(settings.redeliver_after_s * 1000),
            "job_ttl_s": settings.job_ttl_s,
            "events_ttl_s": settings.events_ttl_s,
            "open_ttl_s": settings.open_ttl_s,
            "deadline_ms": int(settings.default_deadline_s * 1000),
            "presence_ttl_s": settings.presence_ttl_s,
            "dead_limit": settings.dead_limit,
        }
        self.client.hset(self.keys.config, mapping=limits)

    def reconcile(self, limit: int = 500) -> tuple[int, int, int]:
        """One pass over what is due: (delivered again, taken over from dead workers, ended)."""
        again, taken, ended = self.run("reconcile", limit)
        return int(again), int(taken), int(ended)

    def bury(self, queue: str, raw: bytes | str, fault: Fault, job_id: str = "") -> str:
        """Keep a message that cannot be run as a dead letter; fail its job if that was recorded with this message."""
        text = raw if isinstance(raw, str) else raw.decode("utf-8", "backslashreplace")
        return str(self.run("bury", queue, fault.message, text[:RAW_LIMIT], job_id, fault.model_dump_json(), raw))

    def dead(self, limit: int = 100) -> list[DeadLetter]:
        """The newest dead letters."""
        rows = self.client.xrevrange(self.keys.dead, count=limit)
        return [_dead_letter(entry, values) for entry, values in rows]

    def dead_letter(self, entry: str) -> DeadLetter:
        """One dead letter. Raises `JobNotFound`."""
        rows = self.client.xrange(self.keys.dead, entry, entry)
        if not rows:
            raise JobNotFound(f"No dead letter {entry}.")
        return _dead_letter(*rows[0])

    def replay(self, entry: str) -> str:
        """Run a dead letter again under its job id, which is given back. It is validated as if it came new."""
        letter = self.dead_letter(entry)
        checked = envelope.check(letter.raw, signing=self.signing)
        spec = CATALOG[checked.task]
        request = spec.request.model_validate(checked.request)
        priority = BATCH if checked.message["properties"]["priority"] >= BATCH else 0
        within_ms = self.signing.within(0)
        answer = self.run(
            "replay",
            entry,
            checked.job_id,
            checked.task,
            spec.queue,
            priority,
            request.tenant,
            spec.max_attempts,
            self.message(checked.task, checked.job_id, checked.request, priority=priority, within_ms=within_ms),
        )
        if answer == "gone":
            raise JobNotFound(f"No dead letter {entry}.")
        if answer == "open":
            raise InvalidRequest(f"A job {checked.job_id} is under way; its dead letter stays.", field="id")
        return checked.job_id

    def purge(self, entry: str | None = None) -> int:
        """Delete one dead letter, or all; how many went."""
        if entry is not None:
            return int(self.client.xdel(self.keys.dead, entry))
        count = int(self.client.xlen(self.keys.dead))
        self.client.xtrim(self.keys.dead, maxlen=0, approximate=False)
        return count


@cache
def _source(script: str) -> str:
    folder = Path(__file__).parent / "lua"
    return "\n".join((folder / f"{name}.lua").read_text("utf-8") for name in ("common", script))


def _pop(lists: Sequence[str]) -> tuple[str, Sequence[Any]]:
    return POP, (len(lists), *lists, "RIGHT")


def _raise(answer: Any) -> None:
    """If it is an error."""
    if isinstance(answer, BaseException):
        try:
            raise answer
        finally:
            del answer  # the error's frames would hold the error


def _text(result: dict[str, Any] | str | None) -> str:
    if isinstance(result, dict):
        return json.dumps(result, ensure_ascii=False)
    return result or ""


def _success_head(job_id: str) -> str:
    """Celery's result of a finished job (`celery.backends.base`, `_get_result_meta`), up to what its task gave."""
    head = json.dumps({"status": "SUCCESS", "traceback": None, "children": [], "task_id": job_id})
    return f'{head[:-1]}, "result": '


def _dead_letter(entry: str, values: dict[str, str]) -> DeadLetter:
    return DeadLetter(entry, values["queue"], values["job_id"], values["task"], values["reason"], values["raw"])
