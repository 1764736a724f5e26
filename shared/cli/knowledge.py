"""`maeari knowledge`: what a persona may know beside its pack."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.errors import InvalidRequest

from .tools import Json, Tenant, Tools, run_job, tools_of

if TYPE_CHECKING:
    from shared.contracts.events import Event
    from shared.contracts.rag import KnowledgeReport

INLINE = 32_768
"""Characters up to which a document travels in the request itself; a longer one goes through the blob store."""

Collection = Annotated[str, typer.Argument(metavar="COLLECTION", help="Name of the collection.")]

app = typer.Typer(no_args_is_help=True, help="Add, search, list and delete knowledge of a tenant.")


@app.command("add")
def add(
    ctx: typer.Context,
    collection: Collection,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Text (.txt) or Markdown (.md) files.")],
    profile: Annotated[str, typer.Option("--profile", help="tokens-512-64 or chars-1000-0.")] = "tokens-512-64",
    meta: Annotated[
        list[str] | None, typer.Option("--meta", "-m", help="KEY=VALUE for every document.", metavar="K=V")
    ] = None,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Add documents, or replace those of the same name."""
    tools = tools_of(ctx, json)
    metadata = dict(_pair(value) for value in meta or [])
    documents = [_document(tools, path, metadata, tenant) for path in files]
    if len({document["id"] for document in documents}) != len(documents):
        raise InvalidRequest("Two files have the same name; a document is known by its file's name.", field="documents")
    request = {"tenant": tenant, "collection": collection, "documents": documents, "profile": profile}
    report = _run(tools, "knowledge.add", request)
    if not tools.json:
        tools.say(f"{len(report.documents) or len(documents)} document(s), {report.chunks} chunk(s) in {collection}.")


def _pair(value: str) -> tuple[str, str | int | float | bool]:
    key, mark, text = value.partition("=")
    if not mark or not key:
        raise InvalidRequest(f"{value!r} is not KEY=VALUE.", field="metadata")
    if text in ("true", "false"):
        return key, text == "true"
    for kind in (int, float):
        try:
            return key, kind(text)
        except ValueError:
            continue
    return key, text


def _document(tools: Tools, path: Path, metadata: dict[str, Any], tenant: str) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not UTF-8 text.", field="documents") from None
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.", field="documents") from None
    kind = "text/markdown" if path.suffix.lower() in (".md", ".markdown") else "text/plain"
    name = document_id(path)
    document: dict[str, Any] = {"id": name, "media_type": kind, "metadata": {"source": path.name} | metadata}
    if len(text) <= INLINE:
        return document | {"text": text}
    ref = tools.store().put(tenant, "document", f"{name}{path.suffix.lower()}", text.encode(), kind)
    return document | {"blob": ref.model_dump(exclude_none=True)}


def document_id(path: Path) -> str:
    """A document's name from its file's: ASCII letters, digits, `.`, `_`, `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", unicodedata.normalize("NFC", path.stem)).strip("-._")
    if not name:
        import hashlib

        name = "document-" + hashlib.sha256(unicodedata.normalize("NFC", path.stem).encode()).hexdigest()[:12]
    return name[:64]


def _run(tools: Tools, task: str, request: dict[str, Any]) -> KnowledgeReport:
    from shared.contracts.rag import KnowledgeReport

    def on_event(event: Event) -> None:
        if event.type == "progress" and tools.err.is_terminal:
            tools.hint(f"{event.done} of {event.total} {event.note}".rstrip())

    _, result = run_job(tools, task, request, on_event)
    if tools.json:
        tools.print_json(result)
    return KnowledgeReport.model_validate(result)


@app.command("search")
def search(
    ctx: typer.Context,
    query: Annotated[str, typer.Argument(help="What is looked for.")],
    collection: Annotated[list[str] | None, typer.Option("--collection", "-c", help="May be given again.")] = None,
    pack: Annotated[str | None, typer.Option("--pack", "-p", help="Search this pack's knowledge too.")] = None,
    top_k: Annotated[int, typer.Option("--top", "-k", min=1, max=100, help="Hits to show.")] = 3,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Find what is known about something."""
    from shared.contracts.rag import Retrieval

    tools = tools_of(ctx, json)
    request: dict[str, Any] = {"tenant": tenant, "query": query, "top_k": top_k}
    request["collections"] = [{"name": name} for name in collection or []]
    if pack is not None:
        request["pack"] = pack
    _, result = run_job(tools, "rag.retrieve", request)
    if tools.json:
        tools.print_json(result)
        return
    sources = Retrieval.model_validate(result).sources
    if not sources:
        tools.say("Nothing was found.")
    for source in sources:
        tools.say(f"{source.score:.2f}  {source.collection}/{source.document}", "bold yellow")
        tools.say(" ".join(source.text.split()))


@app.command("list")
def list_(
    ctx: typer.Context,
    collection: Annotated[str | None, typer.Argument(metavar="[COLLECTION]", help="Show its documents.")] = None,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """The tenant's collections, or the documents of one."""
    from .render import plain_table

    tools = tools_of(ctx, json)
    request = {"tenant": tenant} | ({"collection": collection} if collection else {})
    report = _run(tools, "knowledge.list", request)
    if tools.json:
        return
    if collection:
        table = plain_table(("document", "left"), ("chunks", "right"), ("metadata", "wrap"))
        for document in report.documents:
            shown = " ".join(f"{key}={value}" for key, value in document.metadata.items())
            table.add_row(document.id, str(document.chunks), shown)
    else:
        table = plain_table(("collection", "left"), ("chunks", "right"), ("profile", "left"), ("embedding", "wrap"))
        for found in report.collections:
            table.add_row(found.name, str(found.chunks), found.profile, found.embedding)
    tools.out.print(table if table.row_count else "Nothing is kept here yet.")


@app.command("rm")
def remove(
    ctx: typer.Context,
    collection: Collection,
    documents: Annotated[list[str] | None, typer.Argument(metavar="[DOCUMENT]...", help="Only these.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The whole collection.")] = False,
    tenant: Tenant = "default",
    json: Json = False,
) -> None:
    """Delete documents, or with --all a whole collection."""
    tools = tools_of(ctx, json)
    if bool(documents) == everything:
        raise InvalidRequest("Name documents, or give --all for the whole collection.", field="documents")
    report = _run(tools, "knowledge.delete", {"tenant": tenant, "collection": collection, "documents": documents or []})
    if not tools.json:
        tools.say(f"Deleted {report.chunks} chunk(s) of {collection}.")
