"""One setting at a time: what its value may be, what is wrong with it in words, and the secrets that never show."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from argentor_asgi.errors import ConfigError

__all__ = ["HIDDEN", "ApiKey", "Meta", "Option", "Secret", "convert", "decode_table", "origin_of", "parse_key", "shown"]

HIDDEN = "***"
"""What shows of a secret."""
_SHOWN_CHARACTERS = 80
_KEY = re.compile(
    r"(?:(?P<name>[A-Za-z0-9._-]{1,64}):)?+(?:sha256:(?P<digest>[0-9a-fA-F]{64})|(?P<key>(?!\S*sha256:)[\x21-\x7e]{1,1024}))"
)
_RESERVED_NAMES = frozenset({"anonymous", "sha256"})
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?")
_PUBLIC_URL = re.compile(r"(https?://[^/?#]+)(?:/[!$-.0->@-~/]*)?")
_CREDENTIALS = re.compile(r"\S*@")
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_HIGHEST_PORT = 65_535
_RANGE_WORDS = {"ge": "at least", "gt": "above", "le": "at most"}


class Secret:
    """A text that never shows: its `repr`, its `str` and every format of it are `***`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Hide the text."""
        self._text = text

    def reveal(self) -> str:
        """Return the text itself, for the one place that needs it."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


@dataclass(frozen=True, slots=True)
class Option:
    """One setting: its name, its environment variable, its default and meaning, and the type that checks it."""

    name: str
    env: str
    default: object
    meaning: str
    kind: object = field(repr=False)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return get_origin(_bare(self.kind)) is tuple

    @property
    def is_secret(self) -> bool:
        """Whether the value must never show."""
        return Secret in get_args(_bare(self.kind))

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that the value is one of; none when it is free."""
        bare = _bare(self.kind)
        return get_args(bare) if get_origin(bare) is Literal else ()

    @property
    def expected(self) -> str:
        """What a value must be, in words."""
        bare = _bare(self.kind)
        if self.choices:
            return "one of: " + ", ".join(self.choices)
        if bare in (int, float):
            return f"a {'whole ' if bare is int else ''}number{_range(self.kind)}"
        return "true or false" if bare is bool else "a list of texts" if self.is_list else "text"


def _bare(kind: object) -> object:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _range(kind: object) -> str:
    bounds = [
        f"{words} {bound}"
        for meta in get_args(kind)[1:]
        for name, words in _RANGE_WORDS.items()
        if (bound := getattr(meta, name)) is not None
    ]
    return "".join(f", {bound}" for bound in bounds)


def convert(option: Option, value: object, *, source: str, from_text: bool = False) -> object:
    """Check `value` against the option and return it as the option's type.

    `from_text`: numbers and booleans may be spelled as text, a list is comma-separated. Raises `ConfigError` that names
    the setting, its source, the value unless it is secret, and what is expected.
    """
    if from_text and option.is_list and isinstance(value, str):
        value = [item.strip() for item in value.split(",")]
    try:
        _refuse_undecodable(value)
        made: object = msgspec.convert(value, option.kind, strict=not from_text, dec_hook=_secret)
        _RULES.get(option.name, _anything)(made)
    except (msgspec.ValidationError, UnicodeEncodeError):
        raise ConfigError(f"{option.name} ({source}) is {shown(option, value)}; expected {option.expected}") from None
    except ValueError as error:
        at = "" if option.is_secret else f" is {shown(option, value)}"
        raise ConfigError(f"{option.name} ({source}){at}: {error}") from None
    return made


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
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, object])
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        raise ValueError("expected a JSON object") from None


# --- API keys ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is held: its public name and the SHA-256 of the key itself."""

    name: str
    digest: bytes


def parse_key(entry: Secret) -> ApiKey:
    """Return the key that `key`, `name:key` or `name:sha256:<hex>` stands for.

    One without a name is named after its digest. Raises `ValueError`, which never holds any of the entry.
    """
    text = entry.reveal()
    if not text.strip():
        raise ValueError("an API key is empty")
    found = _KEY.fullmatch(text)
    if found is None:
        raise ValueError("an API key is not `key`, `name:key` or `name:sha256:<64 hex digits>` in visible ASCII")
    digest = bytes.fromhex(found["digest"]) if found["digest"] else sha256(found["key"].encode()).digest()
    if found["name"] in _RESERVED_NAMES or (found["digest"] and not found["name"]):
        raise ValueError("an API key needs a name of its own: not `anonymous`, not `sha256`")
    return ApiKey(found["name"] or f"key-{digest.hex()[:8]}", digest)


def _check_keys(keys: tuple[Secret, ...]) -> None:
    parsed = [parse_key(key) for key in keys]
    if name := _twice([key.name for key in parsed]):
        raise ValueError(f"two API keys are named `{name}`")
    if _twice([key.digest.hex() for key in parsed]):
        raise ValueError("the same API key is listed under two names")


def _twice(texts: list[str]) -> str | None:
    return next((text for at, text in enumerate(texts) if text in texts[:at]), None)


# --- URLs --------------------------------------------------------------------------------------------------------


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


def _check_public_url(url: str | None) -> None:
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
    "auth.api_keys": _check_keys,
    "auth.allowed_origins": _check_origins,
    "public_url": _check_public_url,
    "storage.url": _check_storage,
}
