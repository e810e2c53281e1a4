"""From an Email object to the octets of a message: every legal shape, and a refusal of all others.

Three steps: `plan_message` checks the object and makes a tree without the contents of blobs (pure);
`load_contents` fetches those; `build_planned` writes it all (pure, runs off the loop when large).
Source: RFC 8621 s4.6
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tindra.base import limits
from tindra.base.ids import AccountId, encode_base32
from tindra.core.blob_parts import BlobPlace, find_blob, load_place
from tindra.core.errors import SetError
from tindra.core.services import Services
from tindra.features.mail.writing.compose_headers import (
    HeaderProblem,
    PlannedHeader,
    is_header_name,
    plan_header,
)
from tindra.features.mail.writing.octet_budget import OctetBudget
from tindra.features.mail.writing.placing import OFFLOAD_BYTES
from tindra.wire.jmap.date import encode_utc_date
from tindra.wire.mime.build import (
    AddressesValue,
    BodyPart,
    DateValue,
    HeaderValue,
    MessageIdsValue,
    build_message,
)
from tindra.wire.mime.compose import check_token, encode_id
from tindra.wire.mime.params import decode_param, parse_content_type, parse_disposition

PARTS_MAX = 1000
"""Leaves of one message; each may be a blob to load."""
PROPERTIES_TOLD_MAX = 50
"""Wrong properties named in one SetError."""

_METADATA = frozenset({"mailboxIds", "keywords", "receivedAt"})
_BODY = frozenset({"bodyStructure", "bodyValues", "textBody", "htmlBody", "attachments"})
_PART = frozenset(
    {
        "partId", "blobId", "size", "name", "type", "charset", "disposition", "cid", "language",
        "location", "subParts",
    }
)  # fmt: skip
_PART_FIELDS = {
    "type": "content-type",
    "charset": "content-type",
    "disposition": "content-disposition",
    "cid": "content-id",
    "language": "content-language",
    "location": "content-location",
}
"""Property of an EmailBodyPart -> field it stands for."""
_FIRST = ("from", "sender", "reply-to", "to", "cc", "bcc", "subject", "date", "message-id")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*")


class MessagePlan(msgspec.Struct):
    """A checked message whose blobs are not loaded yet."""

    headers: list[tuple[str, HeaderValue]]
    root: BodyPart
    blobs: list[tuple[BodyPart, str]]
    """Leaves that wait for their content, and its blob id."""
    content_bytes: int
    """Octets of all contents that are in the tree already."""

    def has_field(self, name: str) -> bool:
        """Whether the message has a header field of this name (lower case)."""
        fields = itertools.chain(self.headers, self.root.headers)
        return any(field.lower() == name for field, _ in fields)


def plan_message(obj: dict[str, Any]) -> MessagePlan:
    """The plan of an Email object given to Email/set create; metadata is for the caller.

    Raises: SetError invalidProperties, naming every property that is wrong.
    Source: RFC 8621 s4.6
    """
    return _Planner(obj).run()


class _Planner:
    """One run over one Email object; all that is wrong is gathered before it is refused."""

    def __init__(self, obj: dict[str, Any]) -> None:
        self._obj = obj
        self._wrong: dict[str, str] = {}
        self._blobs: list[tuple[BodyPart, str]] = []
        self._value_bytes = 0
        self._leaves = 0
        self._values: dict[str, bytes] = {}
        self._root_path = "bodyStructure"

    def run(self) -> MessagePlan:
        """Raises: SetError invalidProperties."""
        for name in self._obj:
            if name not in _METADATA | _BODY and not is_header_name(name):
                self._refuse(name, "cannot be set")
        fields = self._plan_headers(self._obj, "")
        for planned, path in fields.values():
            if planned.key.startswith("content-"):
                self._refuse(path, "belongs to a body part")
        self._read_values()
        root = self._plan_root()
        for name, _ in root.headers:
            if name.lower() in fields:
                self._refuse(f"{self._root_path}/header:{name}", "the Email has this field already")
        if self._leaves > PARTS_MAX:
            self._refuse("attachments", f"there are over {PARTS_MAX} parts")
        if self._wrong:
            paths = list(self._wrong)[:PROPERTIES_TOLD_MAX]
            text = "; ".join(f"{path}: {self._wrong[path]}"[:200] for path in paths[:5])
            raise SetError("invalidProperties", text, paths)
        headers = _in_order([planned for planned, _ in fields.values()])
        return MessagePlan(headers, root, self._blobs, self._value_bytes)

    def _refuse(self, path: str, why: str) -> None:
        self._wrong.setdefault(path, why)

    # -- header fields ---------------------------------------------------------------------------
    def _plan_headers(
        self, obj: dict[str, Any], prefix: str
    ) -> dict[str, tuple[PlannedHeader, str]]:
        """Field, lower case -> what is asked for, and by which property."""
        fields: dict[str, tuple[PlannedHeader, str]] = {}
        for name, value in obj.items():
            if not name.startswith("header:") and (prefix or not is_header_name(name)):
                continue
            path = prefix + name
            try:
                planned = plan_header(name, value)
            except HeaderProblem as problem:
                self._refuse(path, str(problem))
                continue
            other = fields.setdefault(planned.key, (planned, path))[1]
            if other != path:
                self._refuse(path, f"the same field as {other}")
                self._refuse(other, f"the same field as {path}")
        return {key: found for key, found in fields.items() if found[0].values}

    # -- body ------------------------------------------------------------------------------------
    def _read_values(self) -> None:
        """Source: RFC 8621 s4.6 (EmailBodyValue)"""
        given = self._obj.get("bodyValues")
        if given is None:
            return
        if not isinstance(given, dict):
            self._refuse("bodyValues", "must be an object")
            return
        for part_id, value in given.items():
            path = f"bodyValues/{part_id}"
            if not isinstance(value, dict) or not isinstance(value.get("value"), str):
                self._refuse(path, "needs a value")
                continue
            for name in value.keys() - {"value"}:
                if name not in ("isEncodingProblem", "isTruncated"):
                    self._refuse(f"{path}/{name}", "there is no such property")
                elif value[name] is not False:
                    self._refuse(f"{path}/{name}", "must be false")
            # Encoded once: many parts may show the same value.
            self._values[part_id] = value["value"].encode("utf-8", "replace")

    def _plan_root(self) -> BodyPart:
        """The tree, from bodyStructure or made of the other three."""
        structure = self._obj.get("bodyStructure")
        if structure is None:
            return self._assemble()
        for name in ("textBody", "htmlBody", "attachments"):
            if self._obj.get(name) is not None:
                self._refuse(name, "bodyStructure is given")
                self._refuse("bodyStructure", f"{name} is given")
        return self._plan_part(structure, "bodyStructure")

    def _assemble(self) -> BodyPart:
        """mixed around alternative around related multiparts, each only where it is needed."""
        text = self._plan_body("textBody", "text/plain")
        html = self._plan_body("htmlBody", "text/html")
        given = self._obj.get("attachments")
        if given is not None and not isinstance(given, list):
            self._refuse("attachments", "must be a list")
        attached: list[BodyPart] = []
        related: list[BodyPart] = []
        for index, item in enumerate(given if isinstance(given, list) else ()):
            part = self._plan_part(item, f"attachments/{index}", is_leaf=True)
            is_related = html is not None and part.cid is not None
            is_related = is_related and part.disposition in (None, "inline")
            part.disposition = part.disposition or ("inline" if is_related else "attachment")
            (related if is_related else attached).append(part)
        if html is not None and related:
            html = BodyPart("multipart/related", children=[html, *related])
        bodies = [part for part in (text, html) if part is not None]
        if len(bodies) == 2:
            bodies = [BodyPart("multipart/alternative", children=bodies)]
        if attached:
            return BodyPart("multipart/mixed", children=[*bodies, *attached])
        self._root_path = "htmlBody/0" if text is None else "textBody/0"
        return bodies[0] if bodies else BodyPart("text/plain", b"")

    def _plan_body(self, name: str, type: str) -> BodyPart | None:
        given = self._obj.get(name)
        if given is None:
            return None
        if not isinstance(given, list) or len(given) != 1:
            self._refuse(name, "must hold exactly one part")
            return None
        part = self._plan_part(given[0], f"{name}/0", is_leaf=True, default_type=type)
        if part.type != type:
            self._refuse(f"{name}/0/type", f"must be {type}")
        return part

    def _plan_part(
        self, obj: Any, path: str, is_leaf: bool = False, default_type: str | None = None
    ) -> BodyPart:
        """One part with all below it; a stand-in where it is wrong."""
        if not isinstance(obj, dict):
            self._refuse(path, "must be an EmailBodyPart")
            return BodyPart(content=b"")
        for name in obj:
            if name not in _PART and not name.startswith("header:"):
                self._refuse(f"{path}/{name}", "cannot be set")
        part = BodyPart()
        self._fill_headers(part, obj, path)
        self._fill_texts(part, obj, path)
        self._fill_type(part, obj, path, default_type)
        children = obj.get("subParts")
        if part.type.startswith("multipart/"):
            if is_leaf:
                self._refuse(f"{path}/type", "a multipart cannot be here")
            self._plan_children(part, obj, path, children)
        else:
            if children is not None:
                self._refuse(f"{path}/subParts", "only a multipart has parts")
            self._plan_content(part, obj, path)
        return part

    def _plan_children(self, part: BodyPart, obj: dict[str, Any], path: str, given: Any) -> None:
        if not isinstance(given, list) or not given:
            self._refuse(f"{path}/subParts", "a multipart needs parts")
            given = []
        for name in ("partId", "blobId", "charset", "size"):
            if obj.get(name) is not None:
                self._refuse(f"{path}/{name}", "a multipart has no content of its own")
        part.charset = None
        part.children = [
            self._plan_part(child, f"{path}/subParts/{index}") for index, child in enumerate(given)
        ]

    def _plan_content(self, part: BodyPart, obj: dict[str, Any], path: str) -> None:
        """Source: RFC 8621 s4.6 (partId or blobId)"""
        self._leaves += 1
        part_id, blob_id = obj.get("partId"), obj.get("blobId")
        if (part_id is None) == (blob_id is None):
            why = "one of partId and blobId must be given, not both"
            self._refuse(f"{path}/partId", why)
            self._refuse(f"{path}/blobId", why)
        elif part_id is not None:
            for name in ("charset", "size"):
                if obj.get(name) is not None:
                    self._refuse(f"{path}/{name}", "must be left out with a partId")
            part.charset = None
            if not isinstance(part_id, str) or part_id not in self._values:
                self._refuse(f"{path}/partId", "is not in bodyValues")
                return
            part.content = self._values[part_id]
            self._value_bytes += len(part.content)
        elif isinstance(blob_id, str):
            self._blobs.append((part, blob_id))
        else:
            self._refuse(f"{path}/blobId", "must be a blob id")

    # -- properties of a part --------------------------------------------------------------------
    def _fill_headers(self, part: BodyPart, obj: dict[str, Any], path: str) -> None:
        """header:… of a part; Content-Type and Content-Disposition become its own properties."""
        stood_for = {_PART_FIELDS[n]: n for n in _PART_FIELDS if obj.get(n) is not None}
        for key, (planned, where) in self._plan_headers(obj, f"{path}/").items():
            value = planned.values[0]
            if key == "content-transfer-encoding":
                self._refuse(where, "the server chooses the encoding")
            elif key in stood_for:
                self._refuse(where, f"the same field as {stood_for[key]}")
            elif key in ("content-type", "content-disposition"):
                if len(planned.values) > 1:
                    self._refuse(where, "a part has one of it")
                self._fill_from_field(part, key, getattr(value, "value", None), where)
                if part.name is not None and obj.get("name") not in (None, part.name):
                    self._refuse(where, "holds another name")
            else:
                part.headers += [(planned.name, value) for value in planned.values]

    def _fill_from_field(self, part: BodyPart, key: str, value: Any, where: str) -> None:
        if not isinstance(value, str):
            self._refuse(where, "must be given in raw form")
            return
        if key == "content-type":
            part.type, params = parse_content_type(value.encode())
            part.charset = decode_param(params, "charset")
            known = {"charset", "name"}
            part.name = decode_param(params, "name") or part.name
        else:
            part.disposition, params = parse_disposition(value.encode())
            known = {"filename"}
            part.name = decode_param(params, "filename") or part.name
        if part.type.startswith("multipart/") or not params.keys() <= known:
            self._refuse(where, "holds parameters that cannot be set")

    def _fill_texts(self, part: BodyPart, obj: dict[str, Any], path: str) -> None:
        """name, disposition, cid, language, location: each a string that can be written."""
        for name in ("name", "disposition", "cid", "location", "charset"):
            value = obj.get(name)
            if value is None:
                continue
            try:
                if not isinstance(value, str):
                    raise ValueError("must be a string")
                if name in ("disposition", "charset"):
                    value = check_token(name, value)
                elif name == "name" and any(c < " " or c == "\x7f" for c in value):
                    raise ValueError("holds control characters")
                elif name != "name" and not encode_id(name, value).isascii():
                    raise ValueError("must be ASCII")
            except ValueError as error:
                self._refuse(f"{path}/{name}", str(error))
            else:
                setattr(part, name, value)
        language = obj.get("language")
        if language is None:
            return
        try:
            for tag in msgspec.convert(language, list[str]):
                check_token("language", tag)
            part.language = language
        except ValueError as error:  # of msgspec too
            self._refuse(f"{path}/language", str(error))

    def _fill_type(
        self, part: BodyPart, obj: dict[str, Any], path: str, default: str | None
    ) -> None:
        given = obj.get("type")
        if given is not None:
            try:
                part.type = check_token("type", given, is_type=True)
            except (ValueError, TypeError):
                self._refuse(f"{path}/type", "is no media type")
        elif not any(name.lower().startswith("header:content-type") for name in obj):
            if default is None and obj.get("subParts") is not None:
                default = "multipart/mixed"
            if default is None:
                default = "text/plain" if obj.get("partId") else "application/octet-stream"
            part.type = default


def _in_order(planned: Sequence[PlannedHeader]) -> list[tuple[str, HeaderValue]]:
    """Header fields in the order people and programs expect, others behind as given."""
    rank = {key: place for place, key in enumerate(_FIRST)}
    ordered = sorted(planned, key=lambda header: rank.get(header.key, len(rank)))
    return [(header.name, value) for header in ordered for value in header.values]


def add_defaults(plan: MessagePlan, now: str, token: str) -> dict[str, Any]:
    """Give the message a Date and a Message-ID if it has none; the Email properties that says.

    Args:
        now: RFC 3339.
        token: random, for the Message-ID.
    Source: RFC 8621 s4.6, RFC 5322 s3.6.1, s3.6.4
    """
    told: dict[str, Any] = {}
    if not plan.has_field("date"):
        plan.headers.append(("Date", DateValue(now)))
        told["sentAt"] = now
    if not plan.has_field("message-id"):
        id = f"{token}@{_find_domain(plan)}"
        plan.headers.append(("Message-ID", MessageIdsValue([id])))
        told["messageId"] = [id]
    return told


def _find_domain(plan: MessagePlan) -> str:
    for _, value in plan.headers[:2]:
        if isinstance(value, AddressesValue):
            domain = value.value[0].email.rpartition("@")[2]
            if _DOMAIN.fullmatch(domain) and len(domain) <= 255:
                return domain.lower()
    return "tindra.invalid"


async def load_contents(
    services: Services, account_id: AccountId, plan: MessagePlan, budget: OctetBudget
) -> None:
    """Put the contents of blobs into the plan.

    Cost: one read a blob for its size; nothing is loaded before all of them are known to exist
    and to fit.
    Raises: SetError blobNotFound, tooLarge, rateLimit. Source: RFC 8621 s4.6
    """
    places: dict[str, BlobPlace | None] = {}
    for _, blob_id in plan.blobs:
        if blob_id not in places:
            places[blob_id] = await find_blob(services, account_id, blob_id)
    missing = [blob_id for blob_id, place in places.items() if place is None]
    if missing:
        raise _not_found(missing)
    # A blob that stands twice counts twice: that is what the message will weigh.
    total = plan.content_bytes
    for _, blob_id in plan.blobs:
        place = places[blob_id]
        assert place is not None
        total += place.end - place.start
    if total > limits.ATTACHMENTS_PER_EMAIL_BYTES_MAX:
        raise SetError(
            "tooLarge", f"over {limits.ATTACHMENTS_PER_EMAIL_BYTES_MAX} octets of content"
        )
    budget.spend(total)
    loaded: dict[str, bytes] = {}
    for blob_id, place in places.items():
        assert place is not None
        content = await load_place(services, account_id, place)
        if content is None:
            raise _not_found([blob_id])
        loaded[blob_id] = content
    for part, blob_id in plan.blobs:
        part.content = loaded[blob_id]
        plan.content_bytes += len(loaded[blob_id])


def _not_found(blob_ids: list[str]) -> SetError:
    return SetError("blobNotFound", "there is no such blob", notFound=blob_ids)


def build_planned(headers: list[tuple[str, HeaderValue]], root: BodyPart, token: str) -> bytes:
    """The message of a plan whose contents are loaded.

    Args:
        token: random, so that no content can hold a boundary on purpose.
    Raises: ValueError for what only shows when it is written.
    Cost: linear in the content, once more per level of nesting.
    """
    numbers = itertools.count()
    return build_message(headers, root, boundary=lambda: f"{token}{next(numbers):x}")


async def compose_message(
    services: Services, account_id: AccountId, obj: dict[str, Any], budget: OctetBudget
) -> tuple[bytes, dict[str, Any]]:
    """The octets of a new message, and the Email properties that the server chose for it.

    Raises: SetError invalidProperties, blobNotFound, tooLarge, rateLimit.
    Cost: a read or two for each blob, and linear in the message.
    Source: RFC 8621 s4.6
    """
    plan = plan_message(obj)
    token = encode_base32(services.random.bits(120), 24)
    told = add_defaults(plan, encode_utc_date(services.clock.now_ms()), token)
    await load_contents(services, account_id, plan, budget)
    mark = f"=_{encode_base32(services.random.bits(120), 24)}_"
    try:
        if plan.content_bytes > OFFLOAD_BYTES:
            raw = await services.offload.run(build_planned, plan.headers, plan.root, mark)
        else:
            raw = build_planned(plan.headers, plan.root, mark)
    except ValueError as error:
        raise SetError("invalidProperties", str(error)[:300], ["bodyStructure"]) from None
    return raw, told
