"""The thin producer: submit, follow, result, cancel. Imports no model library and no Celery; starts at once.

producer = Producer()
job = producer.submit("turns.start", {"pack": "artist", "session": "s1", "text": "안녕!"})
for event in producer.follow(job.job_id):
    ...
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from . import endpoint, envelope, results, streams
from .connection import connect, connect_async, reaching
from .contracts.base import Fault, JobId, Request, first_problem
from .contracts.catalog import CATALOG, QUEUES, Priority
from .contracts.events import Event
from .contracts.status import JobView, QueueDepth, StageView, WorkerStatus
from .errors import InvalidRequest, QueueFull, UnknownTask
from .jobs import DeadLetter, Entry, Jobs
from .keys import BATCH, Keys, queue_list
from .settings import settings
from .signing import Signing

_JOB_ID: TypeAdapter[str] = TypeAdapter(JobId)


@dataclass(frozen=True)
class Submitted:
    """A job that the cluster has taken on."""

    job_id: str
    created: bool
    """False: the id was known; this is the same job."""


class Producer:
    """Talks to the cluster through Redis alone. Thread-safe; connects at the first call."""

    def __init__(self, url: str | None = None, *, prefix: str | None = None, application: str = "") -> None:
        """`url`, `prefix`: of the cluster's Redis; by default from the settings.

        `application`: its name, with which ids begin that are chosen here (`spring.<uuid>`); needed where Redis lets an
        application see its own jobs alone.
        """
        chosen = settings()
        self._ids = f"{application}." if application else ""
        self.jobs = Jobs(connect(url or chosen.redis_url), Keys(prefix or chosen.key_prefix), Signing.of(chosen))

    @property
    def _client(self) -> Any:
        return self.jobs.client

    def submit(
        self,
        task: str,
        request: Request | dict[str, Any],
        *,
        job_id: str | None = None,
        priority: Priority = "interactive",
        deadline_s: float | None = None,
        presence: bool = False,
    ) -> Submitted:
        """Hand in a job. The same `job_id` twice is one job.

        `deadline_s`: seconds from now after which nobody wants the result; `presence`: the job ends when
        `keep_alive` has not been called for `presence_ttl_s`.

        Raises `InvalidRequest`, `QueueFull`, `BrokerUnavailable`.
        """
        entry = self._entry(task, request, job_id, priority, deadline_s, presence=presence)
        with reaching(f"Hand the job {entry.job_id} in again under the same id: whatever has arrived, it is one job."):
            return Submitted(entry.job_id, self.jobs.enqueue(entry))

    def submit_all(
        self,
        task: str,
        requests: Sequence[Request | dict[str, Any]],
        *,
        job_ids: Sequence[str] | None = None,
        priority: Priority = "interactive",
        deadline_s: float | None = None,
    ) -> list[Submitted]:
        """Hand in many jobs of one kind, in a fraction of the trips; as `submit` for each, in order.

        All are checked before the first is handed in; `InvalidRequest` names the one that is wrong (`2.texts`). A queue
        without room for all raises `QueueFull`, whose `taken_on` says which are jobs now; with `job_ids`, hand the same
        ones in again.
        """
        entries = []
        chosen: Sequence[str | None] = job_ids or [None] * len(requests)
        for place, (request, job_id) in enumerate(zip(requests, chosen, strict=True)):
            try:
                entries.append(self._entry(task, request, job_id, priority, deadline_s))
            except InvalidRequest as error:
                raise InvalidRequest(error.detail, field=f"{place}.{error.field}") from None
        with reaching("Hand the jobs in again under the same ids: whatever has arrived, each is one job."):
            found = self.jobs.enqueue_all(entries)
        taken = [
            Submitted(entry.job_id, new) for entry, new in zip(entries, found, strict=True) if isinstance(new, bool)
        ]
        if full := next((one for one in found if isinstance(one, QueueFull)), None):
            full.taken_on = [job.job_id for job in taken]
            raise full
        return taken

    def _entry(
        self,
        task: str,
        request: Request | dict[str, Any],
        job_id: str | None,
        priority: Priority,
        deadline_s: float | None,
        *,
        presence: bool = False,
    ) -> Entry:
        chosen = self._chosen_id(job_id)
        valid = validated(task, request)
        payload = valid.model_dump(mode="json", exclude_none=True)
        level = BATCH if priority == "batch" else 0
        return Entry(chosen, task, payload, valid.tenant, level, int((deadline_s or 0) * 1000), presence)

    def _chosen_id(self, job_id: str | None) -> str:
        if job_id is None:
            return f"{self._ids}{uuid.uuid4()}"
        try:
            return _JOB_ID.validate_python(job_id)
        except ValidationError:
            raise InvalidRequest("needs 1 to 128 letters, digits, '.', '_', ':' or '-'.", field="job_id") from None

    def follow(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> Iterator[Event]:
        """The job's events behind number `after`, to the last one.

        Raises `JobNotFound`, `TimeoutError`, `BrokerUnavailable`; call it again behind the last event then.
        """
        with reaching():
            yield from streams.follow(self.jobs, job_id, after=after, timeout_s=timeout_s)

    def result(self, job_id: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """The job's result, waited for. Raises the error that the job failed with, `JobNotFound`, `TimeoutError`."""
        with reaching():
            return results.wait(self.jobs, job_id, timeout_s=timeout_s)

    @reaching()
    def cancel(self, job_id: str) -> bool:
        """Stop a job; False when it had ended. Raises `JobNotFound`."""
        return self.jobs.cancel(job_id) == "cancelled"

    @reaching()
    def keep_alive(self, job_id: str) -> None:
        """Say that the caller of an interactive job (`presence`) is still there."""
        self._client.set(self.jobs.keys.presence(job_id), 1, ex=settings().presence_ttl_s)

    # --- for operators ---

    @reaching()
    def job(self, job_id: str) -> JobView | None:
        """The job's record with its stages; None when there is none."""
        fields = self._client.hgetall(self.jobs.keys.job(job_id))
        if not fields:
            return None
        stages = self.jobs.stages(job_id)
        return _job_view(job_id, fields, [_stage_view(stage, found) for stage, found in stages if found])

    @reaching()
    def queues(self) -> dict[str, QueueDepth]:
        """What waits in each queue."""
        now = self.jobs.now_ms()
        return {queue: self._depth(queue, now) for queue in QUEUES}

    def _depth(self, queue: str, now_ms: int) -> QueueDepth:
        lists = (queue_list(queue), queue_list(queue, BATCH))
        waiting = sum(int(self._client.llen(name)) for name in lists)
        parked = int(self._client.hget(self.jobs.keys.shares(queue), "parked") or 0)
        heads = [envelope.job_id(raw) for name in lists if (raw := self._client.lindex(name, -1))]
        since = [int(at) for head in heads if (at := self._client.hget(self.jobs.keys.job(head), "created"))]
        return QueueDepth(
            waiting=waiting, parked=parked, oldest_wait_s=max((now_ms - at) / 1000 for at in since) if since else 0.0
        )

    @reaching()
    def workers(self) -> list[WorkerStatus]:
        """What each living worker says of itself."""
        names = sorted(self._client.scan_iter(self.jobs.keys.worker("*"), count=500))
        found = [self._client.get(name) for name in names]
        return [WorkerStatus.model_validate_json(status) for status in found if status]

    @reaching()
    def dead(self, limit: int = 100) -> list[DeadLetter]:
        """The newest dead letters."""
        return self.jobs.dead(limit)

    @reaching()
    def dead_letter(self, entry: str) -> DeadLetter:
        """One dead letter. Raises `JobNotFound`."""
        return self.jobs.dead_letter(entry)

    @reaching()
    def replay(self, entry: str) -> str:
        """Run a dead letter again; its job id."""
        return self.jobs.replay(entry)

    @reaching()
    def purge(self, entry: str | None = None) -> int:
        """Delete one dead letter, or all."""
        return self.jobs.purge(entry)


class AsyncProducer:
    """`Producer` for asyncio: events come over a connection of the loop, the short calls run in threads."""

    def __init__(self, url: str | None = None, *, prefix: str | None = None, application: str = "") -> None:
        """As `Producer`."""
        self._sync = Producer(url, prefix=prefix, application=application)
        self._client = connect_async(url or settings().redis_url)

    async def submit(self, task: str, request: Request | dict[str, Any], **options: Any) -> Submitted:
        """As `Producer.submit`."""
        return await asyncio.to_thread(self._sync.submit, task, request, **options)

    async def submit_all(
        self, task: str, requests: Sequence[Request | dict[str, Any]], **options: Any
    ) -> list[Submitted]:
        """As `Producer.submit_all`."""
        return await asyncio.to_thread(self._sync.submit_all, task, requests, **options)

    async def follow(self, job_id: str, *, after: int = 0, timeout_s: float | None = None) -> AsyncIterator[Event]:
        """As `Producer.follow`."""
        keys = self._sync.jobs.keys
        with reaching():
            async for event in streams.follow_async(self._client, keys, job_id, after=after, timeout_s=timeout_s):
                yield event

    async def result(self, job_id: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """As `Producer.result`."""
        return await asyncio.to_thread(self._sync.result, job_id, timeout_s=timeout_s)

    async def cancel(self, job_id: str) -> bool:
        """As `Producer.cancel`."""
        return await asyncio.to_thread(self._sync.cancel, job_id)

    async def close(self) -> None:
        """Close the connections."""
        await endpoint.close(self._client)


def validated(task: str, request: Request | dict[str, Any]) -> Request:
    """The request, checked as the cluster will check it. Raises `UnknownTask`, `InvalidRequest` with the field."""
    spec = CATALOG.get(task)
    if spec is None or not spec.public:
        raise UnknownTask(task, field="task")
    if isinstance(request, spec.request):
        return request
    try:
        return spec.request.model_validate(request)
    except ValidationError as error:
        field, sentence = first_problem(error.errors(include_url=False, include_input=False))
        raise InvalidRequest(sentence, field=field) from None


def _job_view(job_id: str, fields: dict[str, str], stages: list[StageView]) -> JobView:
    return JobView(
        job_id=job_id,
        tenant=fields["tenant"],
        priority="batch" if fields["priority"] == str(BATCH) else "interactive",
        deadline_ms=int(fields["deadline"]),
        fault=Fault.model_validate_json(fields["fault"]) if "fault" in fields else None,
        stages=tuple(stages),
        **_common(fields),
    )


def _stage_view(stage_id: str, fields: dict[str, str]) -> StageView:
    return StageView(id=stage_id, **_common(fields))


def _common(fields: dict[str, str]) -> dict[str, Any]:
    times = {f"{name}_ms": int(fields[name]) for name in ("created", "started", "finished") if name in fields}
    return {
        "task": fields["task"],
        "queue": fields["queue"],
        "state": fields["state"],
        "attempts": int(fields["attempts"]),
    } | times
