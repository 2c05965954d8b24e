"""`argentor doctor`: what of this machine and this configuration would trouble a gateway, and what to do about it.

Each check looks at one thing, changes nothing, and returns what it found.
"""

import errno
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from argentor_asgi.config import Config, load
from argentor_asgi.doctor.agency import agent
from argentor_asgi.doctor.finding import Finding, Level
from argentor_asgi.doctor.hosted import models
from argentor_asgi.errors import ConfigError
from argentor_asgi.security.hosts import is_local_name
from argentor_asgi.server import system

DISK_NEEDED_BYTES: Final = 100 * 1024 * 1024
DISK_WANTED_BYTES: Final = 1024 * 1024 * 1024
KEY_CHARACTERS: Final = 16
"""A key shorter than this can be guessed."""


def examine(environ: Mapping[str, str], directory: Path, bind: Sequence[str]) -> Iterator[Finding]:
    """Yield what is found, the most general first; what depends on a configuration that does not load is left out."""
    yield from (python(), sqlite(), loop(), zones(), guards(), kernel(system.missing_options()))
    try:
        config = load(environ, directory)
    except ConfigError as error:
        yield Finding("fail", "config", str(error))
        return
    yield Finding("ok", "config", _sources(config))
    yield store(config.storage.path)
    yield disk(config.storage.path or directory)
    yield audit(config)
    yield files(config.limits.connections)
    yield from traces(config, can_send=_has_otel())
    yield callers(config, bind)
    yield from holders(config, datetime.now(UTC))
    yield from keys(config)
    parts = list(agent(config))
    yield from parts
    if all(found.level != "fail" for found in parts if found.subject == "agent"):
        yield from models(config)
    yield from (port(address) for address in bind)


def python() -> Finding:
    """Look at the interpreter."""
    return Finding("ok", "python", f"{platform.python_version()} at {sys.executable}")


def sqlite(search_module: str = "fts5") -> Finding:
    """Look at the SQLite library, and for the part of it that notes are searched with."""
    from argentor_asgi.sessions.probe import SQLITE_VERSION, has_module, has_reset_bug  # noqa: PLC0415  drags in sqlite3

    if not has_module(search_module):
        lack = f"{SQLITE_VERSION} lacks {search_module.upper()}, without which no database file is opened"
        return Finding("fail", "sqlite", lack)
    if has_reset_bug(tuple(int(part) for part in SQLITE_VERSION.split("."))):
        note = "has the WAL-reset bug, fixed in 3.51.3: while the gateway runs, let no other program write its database"
        return Finding("ok", "sqlite", f"{SQLITE_VERSION} {note}")
    return Finding("ok", "sqlite", SQLITE_VERSION)


def loop() -> Finding:
    """Look for uvloop."""
    if find_spec("uvloop"):
        return Finding("ok", "uvloop", "installed; `argentor serve` uses it")
    return Finding("warn", "uvloop", "not installed; pip install 'argentor-asgi[speed]' makes the server faster")


def zones() -> Finding:
    """Look for the time zone database."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415  costs milliseconds, and only here

    try:
        ZoneInfo("Europe/Madrid")
    except ZoneInfoNotFoundError:
        return Finding("warn", "tzdata", "no time zone database; pip install tzdata, or the system's tzdata package")
    return Finding("ok", "tzdata", "time zones are known")


def guards() -> Finding:
    """Look whether the guards against hostile clients fit the server that is installed."""
    from argentor_asgi.server.guards import unknown  # noqa: PLC0415  brings all of hypercorn

    return guarded(unknown())


def guarded(strange: str) -> Finding:
    """Say what it means that the guards were not made for what is `strange`."""
    if strange:
        advice = "install what this package asks for"
        return Finding("warn", "guards", f"not made for {strange}, so `argentor serve` runs without; {advice}")
    return Finding("ok", "guards", "`argentor serve` guards against clients that flood, stall or never read")


def kernel(missing: Sequence[str]) -> Finding:
    """Say whether the kernel can notice dead peers, from the options that it lacks."""
    if missing:
        return Finding("warn", "kernel", f"lacks {', '.join(missing)}: connections of dead peers stay open for long")
    return Finding("ok", "kernel", "`argentor serve` has it end connections of dead peers")


def _sources(config: Config) -> str:
    found = sorted(set(config.sources.values()))
    return f"read from {', '.join(found)}" if found else "nothing is configured; the defaults apply"


def store(path: Path | None) -> Finding:
    """Try whether the store can be opened and written."""
    if path is None:
        return Finding("warn", "store", "memory:// forgets everything when the gateway stops")
    folder = path.absolute().parent
    if not folder.is_dir():
        return Finding("fail", "store", f"{folder} does not exist; create it, or change storage.url")
    if not os.access(folder, os.W_OK | os.X_OK):
        return Finding("fail", "store", f"{folder} cannot be written; change its owner, or change storage.url")
    if not path.exists():
        return Finding("ok", "store", f"{path} does not exist yet; the gateway will create it")
    return _existing(path)


def _existing(path: Path) -> Finding:
    from argentor_asgi.sessions.probe import try_write, writer_of  # noqa: PLC0415  drags in sqlite3

    try:
        if holder := writer_of(path):
            return Finding("ok", "store", f"{path} is in use by a running gateway, process {holder}; not tried out")
        try_write(path)
    except Exception as error:  # noqa: BLE001  whatever the library raises is the finding
        return Finding("fail", "store", f"{path} cannot be written: {error}")
    return Finding("ok", "store", f"{path} can be written")


def audit(config: Config) -> Finding:
    """Look whether the audit log can be written where it is to be."""
    database, named = config.storage.path, config.audit.directory
    if not config.audit.enabled:
        return Finding("ok", "audit", "no audit log is kept")
    if named is None and database is None:
        return Finding("warn", "audit", "the audit log goes with the process; name an audit.directory to keep it")
    folder = Path(named) if named else _beside(database or Path())
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Finding("fail", "audit", f"{place} cannot be written; change its owner, or name another audit.directory")
    return Finding("ok", "audit", f"{folder} can be written")


def _beside(database: Path) -> Path:
    return database.with_name(f"{database.name}-audit")


def disk(path: Path) -> Finding:
    """Look at the free space where the store is."""
    folder = next(each for each in (path.absolute(), *path.absolute().parents) if each.is_dir())
    free = shutil.disk_usage(folder).free
    level: Level = "fail" if free < DISK_NEEDED_BYTES else "warn" if free < DISK_WANTED_BYTES else "ok"
    advice = "" if level == "ok" else "; free some space before the store fills the disk"
    return Finding(level, "disk", f"{free // 1024**2} MiB are free at {folder}{advice}")


def files(connections: int) -> Finding:
    """Look at how many files the process may be allowed to open; `argentor serve` raises its limit so far."""
    most, wanted = system.most_files(), system.wanted_files(connections)
    if most >= wanted:
        return Finding("ok", "files", f"{most:.0f} may be open at a time")
    advice = f"raise it (ulimit -Hn {wanted}, LimitNOFILE={wanted}), or lower limits.connections"
    return Finding("warn", "files", f"{most:.0f} may be open, limits.connections is {connections}: {advice}")


def traces(config: Config, *, can_send: bool) -> Iterator[Finding]:
    """Look for what sends traces, where they are to be sent."""
    if config.otel.endpoint is None:
        return
    if can_send:
        yield Finding("ok", "traces", f"go to {config.otel.endpoint}")
    else:
        yield Finding("fail", "traces", "otel.endpoint is set; pip install 'argentor-asgi[otel]', or unset it")


def _has_otel() -> bool:
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http") is not None
    except ModuleNotFoundError:
        return False


def callers(config: Config, bind: Sequence[str]) -> Finding:
    """Look at who will be served."""
    far = [address for address in bind if not is_near(address)]
    if config.auth.allow_anonymous:
        words = "everybody who reaches the gateway is served without a key"
        return Finding("warn" if far else "ok", "callers", words)
    if config.auth.held:
        return Finding("ok", "callers", "only those with a key are served")
    if far:
        advice = "set auth.api_keys (argentor new-key), or auth.allow_anonymous=true"
        return Finding("warn", "callers", f"no key is configured, so callers at {', '.join(far)} get 403; {advice}")
    return Finding("ok", "callers", "no key is configured; only this machine is served")


def holders(config: Config, now: datetime) -> Iterator[Finding]:
    """Count the keys that are configured, by what they may do; no name of any is told."""
    held = config.auth.held
    if not held:
        return
    expired = sum(key.expires_at is not None and key.expires_at <= now for key in held)
    kinds = [f"{len(held)} configured", f"{sum('*' in key.scopes for key in held)} with every scope"]
    kinds += [f"{expired} expired"] * bool(expired)
    kinds += [f"{sum(key.plan == plan for key in held)} of plan {plan}" for plan in sorted(config.plans)]
    yield Finding("ok", "keys", ", ".join(kinds))


def keys(config: Config) -> Iterator[Finding]:
    """Look for keys that can be guessed."""
    entries = (key.reveal().rpartition(":")[2] for key in config.auth.api_keys)
    listed = [(f"key {at} of auth.api_keys", text) for at, text in enumerate(entries, 1)]
    listed += [(f"key `{row.name}` of auth.keys", row.key.reveal()) for row in config.auth.keys if row.key]
    for which, text in listed:
        if len(text) < KEY_CHARACTERS:
            yield Finding("warn", "keys", f"{which} is short; argentor new-key makes a good one")


def is_near(address: str) -> bool:
    """Say whether an address to listen on is reached from this machine only."""
    return address.startswith("unix:") or is_local_name(address.encode("utf-8", "replace"))


def port(address: str) -> Finding:
    """Try whether a TCP address can be listened on; of a Unix socket only the folder, of a descriptor nothing."""
    if address.startswith("fd://"):
        return Finding("ok", "bind", f"{address} is for whoever starts the gateway to open")
    if address.startswith("unix:"):
        folder = Path(address.removeprefix("unix:")).absolute().parent
        known = folder.is_dir()
        return Finding("ok" if known else "fail", "bind", address if known else f"{folder} does not exist; create it")
    host, _, number = address.rpartition(":")
    try:
        _listen(host.strip("[]"), int(number))
    except OSError as error:
        return _not_free(address, error)
    except (ValueError, OverflowError):
        return Finding("fail", "bind", f"{address!r} is not host:port, [v6]:port or unix:path")
    return Finding("ok", "bind", f"{address} is free")


def _listen(host: str, number: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, number))
        probe.listen()


def _not_free(address: str, error: OSError) -> Finding:
    if error.errno == errno.EADDRINUSE:
        return Finding("warn", "bind", f"{address} is taken; if not by the running gateway, choose another --bind")
    return Finding("fail", "bind", f"{address} cannot be listened on: {error.strerror}; choose another --bind")
