"""Joins the rooms: the only file that names concrete classes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import obstore.store
from obstore.exceptions import BaseError

from tindra.app.config import Settings, SettingsError
from tindra.app.disk import DiskWatch
from tindra.app.local_bus import LocalBus
from tindra.app.log import report
from tindra.app.ports import BlobEraser, Registrar
from tindra.app.system import SystemClock, SystemRandom, ThreadOffload
from tindra.base.byte_cache import ByteCache
from tindra.core.datatype import Feature, Registry
from tindra.core.methods.standard import add_standard_methods
from tindra.core.services import Services
from tindra.features import ALL
from tindra.model.search_feed import SearchFeed
from tindra.outside.imap.provider import ImapProvider
from tindra.outside.smtp.sender import SmtpSender
from tindra.server.app import Server
from tindra.server.options import ServerOptions
from tindra.server.session_object import CORE_CAPABILITY, WEBSOCKET_CAPABILITY
from tindra.store.blobs.store import Blobs
from tindra.store.search.index import SqliteSearch
from tindra.store.sqlite.directory import SqliteDirectory
from tindra.store.sqlite.registrar import SqliteRegistrar
from tindra.store.sqlite.store import SqliteStore
from tindra.store.vault import Vault
from tindra.sync.arrival import ARRIVAL_FEATURE
from tindra.sync.intents import MIRROR_FEATURE

STATIC_DIR = Path(__file__).parent.parent / "server" / "static"


def make_registry() -> Registry:
    """All capabilities, types, methods and reactions of the product."""
    core = Feature(name="core", capabilities=(CORE_CAPABILITY, WEBSOCKET_CAPABILITY))
    registry = Registry((core, *ALL, MIRROR_FEATURE, ARRIVAL_FEATURE))
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
    registry = make_registry()
    clock, offload = SystemClock(), ThreadOffload()
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
            random=SystemRandom(),
            reactions=registry.reactions,
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
        )
    finally:
        await store.close()
        offload.close()


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
    settings = installation.settings
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
            find_trouble=DiskWatch(settings, installation.store).find_trouble,
        ),
    )
