"""One setting at a time: what its value may be, and what is wrong with it in words."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from datetime import UTC, datetime
from functools import cached_property
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from argentor_asgi.api_keys import (
    HIDDEN,
    NAME_CHARACTERS,
    Key,
    Secret,
    check_name,
    check_scopes,
    parse_key,
    refuse_twins,
)
from argentor_asgi.errors import ConfigError
from argentor_asgi.providers import BUILTIN, check_provider

__all__ = ["Meta", "Option", "convert", "decode_table", "nearest", "origin_of", "shown"]

_SHOWN_CHARACTERS = 80
_INDEX = re.compile(r"\[[0-9]+\]")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_PUBLIC_URL = re.compile(r"(https?://[^/?#]+)(?:/[!$-.0->@-~/]*)?")
_CREDENTIALS = re.compile(r"\S*@")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HIGHEST_PORT = 65_535
T = TypeVar("T")
_RANGE_WORDS = {"ge": "at least", "gt": "above", "le": "at most"}


@dataclass(frozen=True)
class Option:
    """One setting: its name, its environment variable, its default and meaning, and the type that checks it."""

    name: str
    env: str
    default: object
    meaning: str
    kind: object = field(repr=False)

    @cached_property
    def bare(self) -> object:
        """The type, without its bounds and without `None`."""
        return _bare(self.kind)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return get_origin(self.bare) is tuple

    @property
    def row(self) -> type[Any] | None:
        """The dataclass of which the value has many, in a list or by name; None for plain values."""
        return next((kind for kind in get_args(self.bare) if is_dataclass(kind)), None)  # type: ignore[return-value]  # a type argument is a type

    @property
    def is_secret(self) -> bool:
        """Whether the value must never show."""
        return _hides(self.bare) or (self.row is not None and any(map(_hides, get_type_hints(self.row).values())))

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that the value is one of; none when it is free."""
        return get_args(self.bare) if get_origin(self.bare) is Literal else ()

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return "one of: " + ", ".join(self.choices)
        if self.bare in (int, float):
            return f"a {'whole ' if self.bare is int else ''}number{_range(self.kind)}"
        if self.row is not None:
            return "a list of tables" if self.is_list else "a table of tables"
        if self.is_list and get_origin(entry := get_args(self.bare)[0]) is Literal:
            return f"a list of: {', '.join(get_args(entry))}"
        return _WORDS.get(self.bare, "a list of texts" if self.is_list else "text")


_WORDS: Mapping[object, str] = {
    bool: "true or false",
    datetime: "a time with its offset from UTC, such as 2030-01-31T00:00:00Z",
}


def _hides(kind: object) -> bool:
    """Say whether a type holds a secret."""
    return kind is Secret or any(map(_hides, get_args(kind)))


def _bare(kind: object) -> object:
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in {Union, UnionType}:
        return _bare(next(member for member in get_args(kind) if member is not NoneType))
    return kind


def _bounds(kind: object) -> Iterable[Meta]:
    """Yield what limits a type, also inside `| None`."""
    for part in get_args(kind):
        if isinstance(part, Meta):
            yield part
        elif get_origin(part) in {Annotated, Union, UnionType}:
            yield from _bounds(part)


def _range(kind: object) -> str:
    bounds = [
        f"{words} {bound}"
        for meta in _bounds(kind)
        for name, words in _RANGE_WORDS.items()
        if (bound := getattr(meta, name)) is not None
    ]
    return "".join(f", {bound}" for bound in bounds)


def convert(option: Option, value: object, *, source: str, from_text: bool = False) -> object:
    """Check `value` against the option and return it as the option's type; times come out in UTC.

    `from_text`: numbers and booleans may be spelled as text, a list is comma-separated, tables are JSON. Raises
    `ConfigError` that names the setting, its source, the value unless it is secret, and what is expected.
    """
    try:
        if from_text and isinstance(value, str):
            value = _from_words(option, value)
        made = _made(option, value, source, strict=not from_text)
        _RULES.get(_INDEX.sub("[]", option.name), _anything)(made)
    except (msgspec.ValidationError, UnicodeEncodeError, OverflowError):
        raise ConfigError(f"{option.name} ({source}) is {shown(option, value)}; expected {option.expected}") from None
    except ValueError as error:
        at = "" if option.is_secret else f" is {shown(option, value)}"
        raise ConfigError(f"{option.name} ({source}){at}: {error}") from None
    return made


def _from_words(option: Option, text: str) -> object:
    if option.row is not None:
        return _decoded(text, list[object] if option.is_list else dict[str, object], f"{option.expected}, in JSON")
    return [item.strip() for item in text.split(",")] if option.is_list else text


def _made(option: Option, value: object, source: str, *, strict: bool) -> object:
    row = option.row
    if row is None:
        _refuse_undecodable(value)
        made: object = msgspec.convert(value, option.kind, strict=strict, dec_hook=_secret)
        return _in_utc(made) if isinstance(made, datetime) else made
    if option.is_list and isinstance(value, list | tuple):
        return tuple(_entry(row, f"{option.name}[{at}]", item, source) for at, item in enumerate(value))
    if not option.is_list and isinstance(value, Mapping):
        for name in value:
            check_name(name)
        return {name: _entry(row, f"{option.name}.{name}", item, source) for name, item in value.items()}
    raise msgspec.ValidationError(option.expected)


def _in_utc(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise msgspec.ValidationError("Expected an offset")
    return time.astimezone(UTC)


def _entry(row: type[Any], name: str, value: object, source: str) -> object:
    """Return one row of a setting that has many; an error names the place in it."""
    if isinstance(value, row):
        value = {each.name: getattr(value, each.name) for each in fields(row)}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} ({source}) is no table of settings")
    known = {each.name: each for each in fields(row)}
    for given in value:
        if given not in known:
            short = str(given)[:NAME_CHARACTERS]
            raise ConfigError(f"{name} ({source}): there is no {short!r} in it; the nearest is {nearest(short, known)}")
    for each in known.values():
        if each.default is each.default_factory is MISSING and each.name not in value:
            raise ConfigError(f"{name}.{each.name} ({source}) is missing")
    hints = get_type_hints(row, include_extras=True)
    made = {
        given: convert(Option(f"{name}.{given}", "", None, "", hints[given]), item, source=source)
        for given, item in value.items()
    }
    return row(**made)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the one of `known` that is most like `name`."""
    import difflib  # noqa: PLC0415  only to word an error

    return difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)[0]


def _secret(kind: type, value: object) -> object:
    if kind is Secret and isinstance(value, str | Secret):
        return value if isinstance(value, Secret) else Secret(value)
    raise msgspec.ValidationError("Expected `str`")


def _refuse_undecodable(value: object) -> None:
    """Raise `UnicodeEncodeError` for text with lone surrogates: bytes in the environment that were not UTF-8."""
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, str):
            item.encode()


def shown(option: Option, value: object) -> str:
    """Return a value as an error may show it: never a secret, never what stands before an @, never at length."""
    if option.is_secret:
        return HIDDEN
    text = _CREDENTIALS.sub(f"{HIDDEN}@", repr(value))
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."


def decode_table(text: str) -> Mapping[str, object]:
    """Return the JSON object in `text`; raises `ValueError` when it is none."""
    return _decoded(text, dict[str, object], "a JSON object")


def _decoded(text: str, kind: type[T], expected: str) -> T:
    try:
        return msgspec.json.decode(text.encode(), type=kind)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        raise ValueError(f"expected {expected}") from None


# --- what a value must also be ----------------------------------------------------------------------------------


def _check_entries(entries: tuple[Secret, ...]) -> None:
    refuse_twins(parse_key(entry) for entry in entries)


def _check_keys(keys: tuple[Key, ...]) -> None:
    for at, key in enumerate(keys):
        try:
            _ = key.held
        except ValueError as error:
            raise ValueError(f"number {at}, `{key.name}`: {error}") from None
    refuse_twins(key.held for key in keys)


def origin_of(text: str) -> str:
    """Return a web origin in its one spelling: lower-case, without the scheme's default port (RFC 6454 section 6.2).

    Raises `ValueError` for anything else, such as a path behind it, `null` or `*`.
    """
    found = _ORIGIN.fullmatch(text.lower()) if text.isascii() else None
    if found is None or (found[3] and int(found[3]) > _HIGHEST_PORT):
        raise ValueError("expected an origin, scheme://host or scheme://host:port, without a path")
    scheme, host, port = found.groups()
    ported = port is not None and str(int(port)) != _DEFAULT_PORTS.get(scheme)
    return f"{scheme}://{host}:{int(port)}" if ported else f"{scheme}://{host}"


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        origin_of(origin)


def _check_hosted(provider: str) -> None:
    check_provider(provider)
    if provider == BUILTIN:
        raise ValueError("a fallback is a hosted model")


def _check_plan(plan: str | None) -> None:
    if plan is not None:
        check_name(plan)


def _check_proxies(proxies: tuple[str, ...]) -> None:
    from ipaddress import ip_network  # noqa: PLC0415  only where a proxy is trusted

    for proxy in proxies:
        try:
            _ = proxy == "unix" or ip_network(proxy)
        except ValueError as error:
            raise ValueError(f"expected addresses, networks such as 10.0.0.0/8, or unix; {error}") from None


def _check_url(url: str | None) -> None:
    found = _PUBLIC_URL.fullmatch(url) if url is not None else None
    if found:
        origin_of(found[1])
    elif url is not None:
        raise ValueError("expected http(s)://host[:port][/path], without credentials, query or fragment")


def _check_storage(url: str) -> None:
    if url.startswith(("redis:", "rediss:", "valkey:")):
        raise ValueError("this version has no Redis yet; use sqlite:///argentor.db or memory://")
    path = url.removeprefix("sqlite:///")
    if url != "memory://" and (path in (url, "", "/") or not path.isprintable() or set(path) & set("?#:")):
        raise ValueError("expected sqlite:///relative.db, sqlite:////absolute.db or memory://")


def _anything(_value: object) -> None:
    """Accept every value that has the right type."""


_RULES: Mapping[str, Callable[..., None]] = {
    "auth.allowed_origins": _check_origins,
    "auth.api_keys": _check_entries,
    "auth.keys": _check_keys,
    "auth.keys[].name": check_name,
    "auth.keys[].plan": _check_plan,
    "auth.keys[].scopes": check_scopes,
    "auth.keys[].tenant": check_name,
    "auth.trusted_proxies": _check_proxies,
    "llm.base_url": _check_url,
    "llm.fallbacks[].base_url": _check_url,
    "llm.fallbacks[].provider": _check_hosted,
    "llm.provider": check_provider,
    "mcp.servers[].name": check_name,
    "mcp.servers[].url": _check_url,
    "otel.endpoint": _check_url,
    "public_url": _check_url,
    "storage.url": _check_storage,
}
