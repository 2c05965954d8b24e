"""Where settings come from: the file and the environment, as values by the full names of the settings.

Table `[limits]`, field `runs` is `limits.runs`, and `ARGENTOR_LIMITS_RUNS` in the environment. What the values may
be is another module's business: this one knows names, files and variables.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from argentor_asgi.api_keys import NAME_CHARACTERS
from argentor_asgi.errors import ConfigError
from argentor_asgi.settings import Option, decode_table, nearest

FILE_NAME = "argentor.toml"
"""The configuration file, looked for in the working directory."""
FILE_VARIABLE = "ARGENTOR_CONFIG"
"""The environment variable that names another one."""
FILE_BYTES = 1024 * 1024
"""How large that file, or one named by a `_FILE` variable, may be."""
LATER_TABLES = frozenset({"a2a", "backplane", "control", "sso", "ui", "vault", "webhooks"})
"""The tables that a later version has."""
_PREFIX = "ARGENTOR_"
_REFERENCE = re.compile(r"\$\{([^}]*)\}")
# Kubernetes adds these for a Service named "argentor"; they are nobody's settings.
_SERVICE_LINK = re.compile(
    r"ARGENTOR_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


class Given(NamedTuple):
    """A value as it was given, and by what. `from_text`: by an environment variable, which has nothing but text."""

    value: object
    source: str
    from_text: bool = False


def variable(name: str) -> str:
    """Return the environment variable of a setting or table."""
    return _PREFIX + name.replace(".", "_").upper()


def gather(environ: Mapping[str, str], directory: Path, options: Sequence[Option]) -> dict[str, Given]:
    """Return what the file in `directory` (or the one that `environ` names) and `environ` give, by name of setting.

    The environment wins. Raises `ConfigError` for what cannot be read, and for a name that is none of `options`.
    """
    given = dict(_from_file(environ, directory, options))
    given.update(_from_environment(environ, directory, options))
    return given


def _tables(options: Sequence[Option]) -> Sequence[str]:
    return tuple(dict.fromkeys(table for option in options for table, dot, _ in [option.name.partition(".")] if dot))


# --- the file ----------------------------------------------------------------------------------------------------


def _from_file(environ: Mapping[str, str], directory: Path, options: Sequence[Option]) -> Iterator[tuple[str, Given]]:
    named = environ.get(FILE_VARIABLE)
    path = directory / (FILE_NAME if named is None else named)
    try:
        text = _read(path)
    except FileNotFoundError:
        if named is None:
            return
        raise ConfigError(f"{FILE_VARIABLE}: there is no file {str(path)!r}") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {_reason(error)}") from None
    for name, value in _flat(_parsed(text, path), options):
        yield name, Given(_expanded(value, name, environ), str(path))


def _read(path: Path) -> str:
    """Return a small text file's content; raises `OSError` or `ValueError`."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ValueError(f"it is larger than {FILE_BYTES} bytes")
    return data.decode()


def _reason(error: OSError | ValueError) -> str:
    # The text of a decoding error quotes the bytes, which may be a secret's.
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return (error.strerror or "the system refuses") if isinstance(error, OSError) else str(error)


def _parsed(text: str, path: Path) -> Mapping[str, object]:
    import tomllib  # noqa: PLC0415  only where there is a file: it costs every other start milliseconds

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it nests too deep" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{str(path)!r} is not valid TOML: {reason}") from None


def _flat(document: Mapping[str, object], options: Sequence[Option]) -> Iterator[tuple[str, object]]:
    """Yield each setting of a document by its full name; raises `ConfigError` for a name that there is not."""
    known, tables = {option.name for option in options}, _tables(options)
    for name, value in document.items():
        if name in tables:
            if not isinstance(value, Mapping):
                raise ConfigError(f"{name} is a table: write [{name}] above its settings")
            yield from _flat({f"{name}.{key}": item for key, item in value.items()}, options)
        elif name in known:
            yield name, value
        else:
            raise _unknown(name, known, later=name in LATER_TABLES)


def _expanded(value: object, name: str, environ: Mapping[str, str]) -> object:
    """Return `value` with `${VAR}` in its texts replaced; raises `ConfigError` for a variable that is not set."""
    if isinstance(value, list):
        return [_expanded(item, f"{name}[{at}]", environ) for at, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: _expanded(item, f"{name}.{key}"[:NAME_CHARACTERS], environ) for key, item in value.items()}
    if not isinstance(value, str):
        return value

    def replaced(found: re.Match[str]) -> str:
        if found[1] not in environ:
            raise ConfigError(f"{name}: the environment variable {found[1][:NAME_CHARACTERS]!r} is not set")
        return environ[found[1]]

    return _REFERENCE.sub(replaced, value)


# --- the environment ---------------------------------------------------------------------------------------------


def _from_environment(
    environ: Mapping[str, str], directory: Path, options: Sequence[Option]
) -> Iterator[tuple[str, Given]]:
    mine = {name for name in environ if name.startswith(_PREFIX) and not _SERVICE_LINK.fullmatch(name)}
    mine.discard(FILE_VARIABLE)
    for name in _tables(options):
        if variable(name) in mine:
            yield from _from_json(variable(name), name, environ, options)
    for option in options:
        found = mine & {option.env, f"{option.env}_FILE"}
        if len(found) > 1:
            raise ConfigError(f"{option.env} and {option.env}_FILE are both set; keep one")
        for source in found:
            text = environ[source] if source == option.env else _from_named_file(source, environ, directory)
            yield option.name, Given(text, source, from_text=True)
    _refuse_unknown(mine, options)


def _from_json(
    source: str, name: str, environ: Mapping[str, str], options: Sequence[Option]
) -> Iterator[tuple[str, Given]]:
    try:
        document = decode_table(environ[source])
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    for setting, value in _flat({name: document}, options):
        yield setting, Given(value, source)


def _from_named_file(source: str, environ: Mapping[str, str], directory: Path) -> str:
    path = directory / environ[source]
    try:
        return _read(path).removesuffix("\n").removesuffix("\r")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{source}: {str(path)!r} cannot be read: {_reason(error)}") from None


def _refuse_unknown(variables: set[str], options: Sequence[Option]) -> None:
    plain = {FILE_VARIABLE, *map(variable, _tables(options)), *(option.env for option in options)}
    known = plain | {f"{option.env}_FILE" for option in options}
    later = set(map(variable, LATER_TABLES))
    for name in sorted(variables - known):
        base = name.removesuffix("_FILE")
        in_later_table = any(name.startswith(f"{variable(each)}_") for each in LATER_TABLES)
        raise _unknown(name, plain, later=base in later or in_later_table)


def _unknown(name: str, known: set[str], *, later: bool) -> ConfigError:
    if later:
        return ConfigError(f"{name} is not available in this version")
    return ConfigError(f"there is no setting {name[:NAME_CHARACTERS]!r}; the nearest is {nearest(name, known)}")
