"""Thread (RFC 8621 s3): read only; `threading` and `counters` write it."""

from __future__ import annotations

from typing import Any

from tindra.base import limits
from tindra.base.ids import ModSeq
from tindra.core.datatype import CallContext, GetRequest, GetResult
from tindra.core.errors import MethodError
from tindra.core.ports import Cursor, StoreReader
from tindra.core.state import encode_state
from tindra.model.mail import EmailQuery, ThreadRow

THREAD_PROPERTIES = frozenset({"id", "emailIds"})


class ThreadSource:
    """Loads Threads for /get."""

    async def load_for_get(self, context: CallContext, request: GetRequest) -> GetResult:
        """Raises: MethodError requestTooLarge. Source: RFC 8621 s3.1"""

        async def read(reader: StoreReader) -> tuple[list[ThreadRow], ModSeq]:
            ids = request.ids
            if ids is None:
                ids = await _list_all(reader)
            rows = await reader.load_threads(ids) if ids else []
            return rows, (await reader.load_states()).get("Thread", ModSeq(0))

        rows, state = await context.services.store.read(request.account_id, read)
        by_id = {str(row.id): row for row in rows}
        ids = request.ids if request.ids is not None else list(by_id)
        wanted = request.properties
        objects = [_render(by_id[id], wanted) for id in ids if id in by_id]
        missing = [id for id in ids if id not in by_id]
        return GetResult(encode_state(Cursor(state)), objects, missing)


async def _list_all(reader: StoreReader) -> list[str]:
    query = EmailQuery(collapse_threads=True)
    docs, _ = await reader.query_emails(query, limits.OBJECTS_IN_GET_MAX + 1, False)
    if len(docs) > limits.OBJECTS_IN_GET_MAX:
        raise MethodError("requestTooLarge", "there are too many Threads to get them all")
    return [row.thread_id for row in await reader.load_emails(docs)]


def _render(row: ThreadRow, wanted: list[str] | None) -> dict[str, Any]:
    if wanted is not None and "emailIds" not in wanted:
        return {"id": row.id}
    return {"id": row.id, "emailIds": list(row.email_ids)}
