"""Identity (RFC 8621 s6): who a user may write as, with signatures.

The address of the account is an Identity that cannot be destroyed; others come and go.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tindra.core.datatype import Datatype, SetContext
from tindra.core.errors import SetError
from tindra.core.ports import StoreReader
from tindra.core.tx import Tx
from tindra.features.mail.writing.addresses import fold_address, is_identity_email, speaks_for
from tindra.features.objects import ObjectType, Property
from tindra.wire.html.sanitise import sanitise_html

SUBMISSION = "urn:ietf:params:jmap:submission"
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


class _EmailAddress(msgspec.Struct, forbid_unknown_fields=True):
    """Source: RFC 8621 s4.1.2.3"""

    email: str
    name: str | None = None


async def load_identities(reader: StoreReader) -> dict[str, dict[str, Any]]:
    """id -> Identity, all of the account."""
    rows = await reader.load_objects("Identity", None)
    return {str(row.id): msgspec.json.decode(row.data) for row in rows}


async def apply_default_identity(tx: Tx, email: str, name: str = "") -> str:
    """The Identity of the account's own address, made now if there is none; gives its id.

    Called when a mailbox is connected. It cannot be destroyed by a device.
    """
    for id, known in (await load_identities(tx.store)).items():
        if fold_address(known["email"]) == fold_address(email) and not known["mayDelete"]:
            return id
    identity: dict[str, Any] = {
        name: prop.default for name, prop in IDENTITY_TYPE.properties.items()
    }
    return await tx.create(
        "Identity", identity | {"email": email, "name": name, "mayDelete": False}, "i"
    )


async def _check(
    context: SetContext, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> None:
    """Raises: SetError forbidden, forbiddenFrom, invalidProperties. Source: RFC 8621 s6.3"""
    if after is None:
        if before is not None and not before["mayDelete"]:
            raise SetError("forbidden", "this is the address of the account itself")
        return
    _check_names(after)
    if before is None:
        await _check_email(context, after["email"])
    if before is None or after["htmlSignature"] != before["htmlSignature"]:
        after["htmlSignature"] = clean_signature(after["htmlSignature"])


def clean_signature(html: str) -> str:
    """A snippet for the body of a message. Who shares the account gets it into their own page
    while they write, so nothing in it may do more than show. Source: RFC 8621 s6, s9.2
    """
    return sanitise_html(html, cid_url=lambda cid: f"cid:{cid}", allow_remote=True).html


def _check_names(identity: dict[str, Any]) -> None:
    """They go into header fields, which have no room for control characters."""
    for field in ("name", "replyTo", "bcc"):
        value = identity[field]
        texts = [value]
        if field != "name":
            texts = [text for one in value or () for text in (one.get("name"), one["email"])]
        if any(_CONTROLS.search(text or "") for text in texts):
            raise SetError("invalidProperties", "it has control characters", [field])


async def _check_email(context: SetContext, email: str) -> None:
    if not is_identity_email(email):
        raise SetError("invalidProperties", f"{email[:60]!r} is no address", ["email"])
    if "admin" in context.access.rights:
        # The provider has the last word on what its user may write as; we cannot know aliases.
        return
    own = [context.access.account.name]
    own += [known["email"] for known in (await load_identities(context.tx.store)).values()]
    if not any(speaks_for(mine, email) for mine in own):
        raise SetError(
            "forbiddenFrom", "a new address needs the right to administer this account", ["email"]
        )


_ADDRESSES = list[_EmailAddress] | None

IDENTITY_TYPE = ObjectType(
    name="Identity",
    prefix="i",
    properties={
        "name": Property(str, ""),
        "email": Property(str, is_immutable=True),
        "replyTo": Property(_ADDRESSES, None),
        "bcc": Property(_ADDRESSES, None),
        "textSignature": Property(str, ""),
        "htmlSignature": Property(str, ""),
        "mayDelete": Property(bool, True, is_server_set=True),
    },
    check=_check,
)
"""Source: RFC 8621 s6"""

IDENTITY = Datatype(
    name="Identity",
    capability=SUBMISSION,
    properties=frozenset({"id", *IDENTITY_TYPE.properties}),
    source=IDENTITY_TYPE,
    writer=IDENTITY_TYPE,
    right="send",
)
