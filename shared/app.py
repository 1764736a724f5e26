"""The one Celery app, and how a function becomes a task of the catalog."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery, Task

import celeryconfig

from . import attempt, transport
from .claims import ASKED
from .connection import jobs
from .contracts.catalog import CATALOG, TaskSpec
from .envelope import DIGEST, REQUEST
from .errors import MaeariError
from .signing import DEADLINE

assert transport.ALIAS  # importing it registers the broker's scheme

app = Celery("maeari", set_as_current=True)
app.config_from_object(celeryconfig)
app.amqp.Connection = transport.Connection


class JobTask(Task[Any, None]):
    """A run of a catalog's task under the rules of the job record: claim, lease, fence, one recorded end."""

    abstract = True
    typing = False
    throws = (MaeariError,)
    spec: TaskSpec
    body: attempt.Body

    def run(self, payload: Any) -> None:
        """Run one attempt; its result is stored by the record, not by Celery.

        `payload`: the request, where the message did not come through our own channel.
        """
        told = self.request
        call = attempt.Call(
            str(told.id),
            getattr(told, REQUEST, payload),
            getattr(told, DEADLINE, 0),
            getattr(told, DIGEST, ""),
            getattr(told, ASKED, None),
        )
        attempt.run(self.spec, type(self).body, call, jobs())


def task(name: str) -> Callable[[attempt.Body], JobTask]:
    """Register a body as the catalog's task `name`. A name that the catalog lacks fails at import."""
    spec = CATALOG[name]

    def register(body: attempt.Body) -> JobTask:
        attributes = {
            "name": name,
            "spec": spec,
            "body": staticmethod(body),
            "__doc__": body.__doc__,
            "__module__": body.__module__,
        }
        registered: JobTask = app.register_task(type(body.__name__, (JobTask,), attributes)())
        return registered

    return register
