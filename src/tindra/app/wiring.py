"""Joins the rooms: the only file that names concrete classes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore.store
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from obstore.exceptions import BaseError

from tindra.app.config import Settings, SettingsError
from tindra.app.disk import DiskWatch
from tindra.app.local_bus import LocalBus
from tindra.app.log import report
from tindra.app.ports import BlobEraser, Registrar
from tindra.app.readings import Readings
from tindra.app.system import SystemClock, SystemRandom, ThreadOffload
from tindra.base.byte_cache import ByteCache
from tindra.core.datatype import Feature, Registry
from tindra.core.methods.standard import add_standard_methods
from tindra.core.services import Services
from tindra.features import ALL
from tindra.features.push_subscription import make_vapid_feature
from tindra.model.search_feed import SearchFeed
from tindra.outside.connector import Connector, parse_allowed
from tindra.outside.imap.provider import ImapProvider
from tindra.outside.push.sender import WebPushSender
from tindra.outside.smtp.sender import SmtpSender
from tindra.server.app import Server
from tindra.server.options import ServerOptions
from tindra.server.session_object import CORE_CAPABILITY, WEBSOCKET_CAPABILITY
from tindra.store.blobs.store import Blobs
from tindra.store.key_file import create_key_file, read_key_file
from tindra.store.search.index import SqliteSearch
from tindra.store.sqlite.backlog import SqliteBacklog
from tindra.store.sqlite.directory import SqliteDirectory
from tindra.store.sqlite.registrar import SqliteRegistrar
from tindra.store.sqlite.store import SqliteStore
from tindra.store.vault import Vault
from tindra.sync.arrival.runner import ARRIVAL_FEATURE
from tindra.sync.intents import MIRROR_FEATURE
from tindra.wire.webpush.encryption import make_private_key
from tindra.wire.webpush.vapid import encode_private_key, parse_private_key

STATIC_DIR = Path(__file__).parent.parent / "server" / "static"


def make_registry(*more: Feature) -> Registry:
    """All capabilities, types, methods and reactions of the product.

    Args:
        more: features that know something of this installation.
    """
    core = Feature(name="core", capabilities=(CORE_CAPABILITY, WEBSOCKET_CAPABILITY))
    registry = Registry((core, *ALL, MIRROR_FEATURE, ARRIVAL_FEATURE, *more))
    add_standard_methods(registry)
    return registry


@dataclass(frozen=True)
class Installation:
    """An opened data folder with everything that works on it."""

    settings: Settings
    registry: Registry
    services: Services
    store: SqliteStore
    registrar: Registrar
    blob_eraser: BlobEraser
    imap: ImapProvider
    smtp: SmtpSender
    push: WebPushSender


def make_data_folder(settings: Settings) -> None:
    """Make the data folder, if it is not there. Raises: SettingsError."""
    data = settings.data_path
    # Mail is for its owner's eyes, also in a folder that somebody else made.
    os.umask(0o077)
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SettingsError(f"the data folder {data} cannot be made: {reason}") from None
    if not os.access(data, os.W_OK | os.X_OK):
        raise SettingsError(f"the data folder {data} cannot be written to")


@asynccontextmanager
async def open_installation(settings: Settings) -> AsyncIterator[Installation]:
    """Open (at first make) the data folder.

    Raises: SettingsError in words for the one who runs it; StoreError (a schema that is too new,
        a master key that is missing).
    """
    data = settings.data_path
    make_data_folder(settings)
    clock, random, offload = SystemClock(), SystemRandom(), ThreadOffload()
    push = WebPushSender(
        _make_connector(settings), clock, random, _load_vapid_key(settings, random),
        _check_contact(settings),
    )  # fmt: skip
    registry = make_registry(make_vapid_feature(push.application_server_key))
    store = await SqliteStore.open(data / "tindra.sqlite")
    try:
        vault = Vault(store, settings.key_path)
        await vault.start()
        bus = LocalBus()
        store.on_commit = bus.publish
        blobs = Blobs(store, _open_objects(settings), clock)
        services = Services(
            store=store,
            directory=SqliteDirectory(store),
            secrets=vault,
            blobs=blobs,
            search=SqliteSearch(store),
            feed=SearchFeed(),
            cache=ByteCache(),
            bus=bus,
            offload=offload,
            clock=clock,
            random=random,
            reactions=registry.reactions,
            are_users_visible=settings.users_visible,
        )
        yield Installation(
            settings=settings,
            registry=registry,
            services=services,
            store=store,
            registrar=SqliteRegistrar(store, vault),
            blob_eraser=blobs,
            imap=ImapProvider(),
            smtp=SmtpSender(),
            push=push,
        )
    finally:
        await store.close()
        offload.close()


def _check_contact(settings: Settings) -> str:
    """Raises: SettingsError. Source: RFC 8292 s2.1"""
    contact = settings.vapid_contact
    if contact and not contact.startswith(("mailto:", "https://")):
        raise SettingsError(f"push_contact: {contact!r} begins with neither mailto: nor https://")
    return contact


def _make_connector(settings: Settings) -> Connector:
    """What connects to places that devices name. Raises: SettingsError."""
    try:
        return Connector(parse_allowed(settings.push_allowed))
    except ValueError as error:
        raise SettingsError(f"push_allowed: {error}") from None


def _load_vapid_key(settings: Settings, random: SystemRandom) -> EllipticCurvePrivateKey:
    """The key that push services know this installation by, made at the first start.

    Raises: SettingsError, KeyMissing.
    """
    path = settings.vapid_path
    octets = read_key_file(path, "push key")
    if octets is None:
        made = encode_private_key(make_private_key(random))
        octets = create_key_file(path, "push key", made)
    try:
        return parse_private_key(octets)
    except ValueError:
        raise SettingsError(f"{path} holds no P-256 key; without it a new one is made") from None


def _open_objects(settings: Settings) -> obstore.store.ObjectStore:
    """Where large blobs live. Raises: SettingsError."""
    path = settings.blob_path
    if path is not None:
        try:
            return obstore.store.LocalStore(path, mkdir=True, automatic_cleanup=True)
        except (BaseError, OSError) as error:
            raise SettingsError(f"the blob folder {path} cannot be made: {error}") from None
    try:
        return obstore.store.from_url(settings.blobs)
    except (BaseError, ValueError) as error:
        raise SettingsError(f"blobs: {settings.blobs!r} cannot be opened: {error}") from None


def make_server(installation: Installation) -> Server:
    """The HTTP application of an installation."""
    settings, store = installation.settings, installation.store
    disk = DiskWatch(settings, store)
    return Server(
        installation.registry,
        installation.services,
        ServerOptions(
            base_url=settings.base_url.rstrip("/") or None,
            trust_proxy=settings.trust_proxy,
            static_dir=STATIC_DIR if (STATIC_DIR / "index.html").exists() else None,
            cors_origins=settings.cors_origins,
            metrics_token=settings.metrics_token or None,
            report=report,
            find_trouble=disk.find_trouble,
            load_readings=Readings(
                SqliteBacklog(store), disk, installation.services.clock, installation.push.results
            ).load,
        ),
    )
