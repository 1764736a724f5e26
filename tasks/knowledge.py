"""The keeping of knowledge."""

from __future__ import annotations

from shared import runtime
from shared.app import task
from shared.attempt import Attempt
from shared.contracts.rag import (
    Document,
    KnowledgeAddRequest,
    KnowledgeDeleteRequest,
    KnowledgeListRequest,
    KnowledgeReembedRequest,
    KnowledgeReport,
)
from shared.errors import InvalidRequest
from shared.protocols import OnProgress

from .clock import Stopwatch


def _timed(watch: Stopwatch, report: KnowledgeReport) -> KnowledgeReport:
    return report.model_copy(update={"engine_ms": watch.ms})


def _content(attempt: Attempt, place: int, document: Document) -> str:
    if document.blob is None:
        return document.text or ""
    field = f"documents.{place}.blob"
    try:
        return attempt.blobs.get(document.blob, tenant=attempt.tenant, field=field).decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("is not UTF-8 text.", field=field) from None


def _progress(attempt: Attempt) -> OnProgress:
    return lambda done, total: attempt.emit("progress", stage=attempt.spec.name, done=done, total=total)


@task("knowledge.add")
def add(attempt: Attempt, request: KnowledgeAddRequest) -> KnowledgeReport:
    """Add or replace documents."""
    texts = [_content(attempt, place, document) for place, document in enumerate(request.documents)]
    watch = Stopwatch()
    return _timed(watch, runtime.retriever().add(request, texts, stop=attempt.stop, on_progress=_progress(attempt)))


@task("knowledge.list")
def list_(_: Attempt, request: KnowledgeListRequest) -> KnowledgeReport:
    """Collections, or the documents of one."""
    watch = Stopwatch()
    return _timed(watch, runtime.retriever().list(request))


@task("knowledge.delete")
def delete(_: Attempt, request: KnowledgeDeleteRequest) -> KnowledgeReport:
    """Documents or a whole collection."""
    watch = Stopwatch()
    return _timed(watch, runtime.retriever().delete(request))


@task("knowledge.reembed")
def reembed(attempt: Attempt, request: KnowledgeReembedRequest) -> KnowledgeReport:
    """New vectors for a collection."""
    watch = Stopwatch()
    return _timed(watch, runtime.retriever().reembed(request, stop=attempt.stop, on_progress=_progress(attempt)))
