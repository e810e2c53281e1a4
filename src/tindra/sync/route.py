"""The way out of an account: the SMTP half of its Connection, with the password from the vault."""

from __future__ import annotations

import msgspec

from tindra.base.ids import AccountId
from tindra.core.services import Services
from tindra.features.connect import Endpoint, load_connections, make_secret_name
from tindra.sync.ports import ServerSettings
from tindra.sync.submission import LoadRoute, Route


def make_settings(endpoint: Endpoint) -> ServerSettings:
    """How to reach one server of a Connection. Certificates are always checked."""
    return ServerSettings(endpoint.host, endpoint.port, endpoint.tls, endpoint.username)


def make_route_loader(services: Services) -> LoadRoute:
    """Finds the route of any account when it is needed."""

    async def load(account_id: AccountId) -> Route | None:
        for id, connection in (await load_connections(services, account_id)).items():
            secret = await services.secrets.open_secret(account_id, make_secret_name(id, "smtp"))
            if connection["smtp"] is not None and secret is not None:
                endpoint = msgspec.convert(connection["smtp"], Endpoint)
                return Route(make_settings(endpoint), secret)
        return None

    return load
