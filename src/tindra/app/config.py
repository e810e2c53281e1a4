"""Settings: from a TOML file, then the environment (TINDRA_...), then flags; later ones win.

Every field is documented in docs/operate/settings.md, which is made from here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec


class SettingsError(Exception):
    """A setting is unknown or wrong; the text says which one, where it came from and why."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All settings of an installation."""

    data: Annotated[str, msgspec.Meta(description="Folder for the database and mail")] = "./data"
    host: Annotated[str, msgspec.Meta(description="Address to listen on")] = "127.0.0.1"
    port: Annotated[
        int, msgspec.Meta(ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    ] = 8080
    base_url: Annotated[
        str,
        msgspec.Meta(description="Public address of this server, when a proxy stands before it"),
    ] = ""
    trust_proxy: Annotated[
        bool,
        msgspec.Meta(description="Believe X-Forwarded-Proto and -Host (only behind a proxy)"),
    ] = False
    key_file: Annotated[
        str,
        msgspec.Meta(description="Master key of the vault; made at first use if it is missing"),
    ] = ""
    """Empty: `master.key` in the data folder."""
    blobs: Annotated[
        str,
        msgspec.Meta(description="Where large messages go: a folder, or an s3:, gs: or az: URL"),
    ] = ""
    tls_cert: Annotated[
        str,
        msgspec.Meta(description="Certificate chain (PEM) to serve https with; needs tls_key"),
    ] = ""
    """Empty: plain http, for a proxy that stands before this server. A renewed file is taken up
    by itself."""
    tls_key: Annotated[
        str,
        msgspec.Meta(description="Private key (PEM) of tls_cert, readable by its owner only"),
    ] = ""
    cors_origins: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="Web origins whose pages may use the API; * for any"),
    ] = ("*",)
    metrics_token: Annotated[
        str,
        msgspec.Meta(description="Bearer token that opens /metrics to other machines"),
    ] = ""
    push_contact: Annotated[
        str,
        msgspec.Meta(description="mailto: or https: address that push services may write to"),
    ] = ""
    """Empty: base_url, if that is https; some push services (Apple's) refuse pushes without one."""
    push_allowed: Annotated[
        tuple[str, ...],
        msgspec.Meta(description="Hosts and networks not on the Internet that devices may name"),
    ] = ()
    """For a push service of your own, `push.intra.example` or `10.1.2.0/24`. A device tells us
    where to push to; without this it reaches public addresses only, at port 443 or 8443."""
    users_visible: Annotated[
        bool,
        msgspec.Meta(description="Users may find one another, to share Mailboxes"),
    ] = True
    """Else each knows only those with whom something is shared already."""
    log_format: Annotated[
        Literal["text", "json"], msgspec.Meta(description="How log lines look")
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        msgspec.Meta(description="The least important lines that are written"),
    ] = "info"

    @property
    def data_path(self) -> Path:
        """The data folder."""
        return Path(self.data).expanduser()

    @property
    def key_path(self) -> Path:
        """The master key's file."""
        return Path(self.key_file).expanduser() if self.key_file else self.data_path / "master.key"

    @property
    def vapid_path(self) -> Path:
        """The file of the key that push services know this server by."""
        return self.data_path / "vapid.key"

    @property
    def vapid_contact(self) -> str:
        """A mailto: or https: URI of the operator; "" for none."""
        is_public = self.base_url.startswith("https://")
        return self.push_contact or (self.base_url if is_public else "")

    @property
    def blob_path(self) -> Path | None:
        """Where large messages lie; None when they are in an object store elsewhere."""
        if "://" in self.blobs:
            return None
        return Path(self.blobs).expanduser() if self.blobs else self.data_path / "blobs"


ENVIRONMENT_PREFIX = "TINDRA_"
_SWITCHES = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def load_settings(
    file: Path | None, environment: Mapping[str, str] | None = None, **flags: Any
) -> Settings:
    """Settings from all three places.

    Args:
        file: a TOML file; None: `tindra.toml` in the working folder, if it is there.
        flags: fields given on the command line; None stands for not given.
    Raises: SettingsError.
    """
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    path = file if file is not None else Path("tindra.toml")
    if file is not None or path.exists():
        for name, value in _read_file(path).items():
            values[name], origin[name] = value, str(path)
    for name, text in _read_environment(os.environ if environment is None else environment):
        values[name], origin[name] = text, ENVIRONMENT_PREFIX + name.upper()
    for name, value in flags.items():
        if value is not None:
            values[name], origin[name] = value, f"--{name.replace('_', '-')}"
    return _check(values, origin)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}") from None


def _read_environment(environment: Mapping[str, str]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for field in msgspec.structs.fields(Settings):
        text = environment.get(ENVIRONMENT_PREFIX + field.name.upper())
        if text is None:
            continue
        value: Any = text
        if isinstance(field.default, tuple):
            value = [item.strip() for item in text.split(",") if item.strip()]
        elif isinstance(field.default, bool):
            value = _SWITCHES.get(text.lower(), text)
        elif isinstance(field.default, int) and text.isascii() and text.isdigit():
            value = int(text)
        found.append((field.name, value))
    return found


def _check(values: dict[str, Any], origin: dict[str, str]) -> Settings:
    known = {field.name for field in msgspec.structs.fields(Settings)}
    for name in values:
        if name not in known:
            raise SettingsError(f"{origin[name]}: there is no setting {name!r}")
    for name, value in values.items():
        try:
            msgspec.convert({name: value}, Settings)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at")[0]
            raise SettingsError(f"{origin[name]}: {name} is {value!r}: {reason}") from None
    return msgspec.convert(values, Settings)
