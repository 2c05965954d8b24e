"""Capabilities: what skills may reach, by the configuration's word, and whether a call stays within it.

A skill needs each of its `required_capabilities` granted: `"network_access"`, or with what it reaches
`{"network_access": {"allowed_hosts": [".example.com"]}}`. Its `checked_arguments` are held against the grants call by
call. This is the gate before a call; what a name leads to in the end is only known when it is used, so that a skill
that opens a file or a connection keeps to its grant by itself.
"""

import os
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from argentor_asgi.agent.skills import SkillDescriptor
from argentor_asgi.agent_sections import Capabilities
from argentor_asgi.protocol.schema import JsonValue

Check: TypeAlias = Callable[[tuple[str, ...], str], str | None]
"""Holds a text against what is granted; returns what is wrong with it, in words that continue `<argument>: `."""

VALUE_CHARS: Final = 4096
"""The longest text that is held against a grant: the longest path that Linux takes."""

# Texts, compiled when they are first used: most gateways have no skill that names a host or a command.
_URL: Final = r"[A-Za-z][A-Za-z0-9+.-]*://([^/?#]*)"
_ODD: Final = r"[\\\s\x00-\x1f\x7f]"
_BEHIND: Final = r"[/?#]"
_SEPARATOR: Final = r"(\$\(|`|[<>]\(|\$\{(?=[\s|]))|\|\||&&|[|;&\n]"
"""Where a shell begins another command; the group: where what it prints becomes a part of the one around it."""
_BLANKS: Final = " \t"


class Grants:
    """What the configuration grants, and how a skill and its calls are held against it."""

    __slots__ = ("_granted",)

    def __init__(self, capabilities: Capabilities) -> None:
        """Keep what is granted; a capability whose list is empty is not."""
        lists = {name: getattr(capabilities, name) for name in _LISTS}
        self._granted: dict[str, tuple[str, ...]] = {name: granted for name, granted in lists.items() if granted}
        if capabilities.database_query:
            self._granted["database_query"] = ()

    def refusal(self, descriptor: SkillDescriptor, arguments: Mapping[str, JsonValue]) -> str | None:
        """Return why the call may not run, None when it may. Raises nothing; looks paths up in the file system."""
        for needed in descriptor.required_capabilities:
            if (missing := self._missing(needed)) is not None:
                return f"skill '{descriptor.name}' requires capability {missing}, which is not granted."
        for name, capability in descriptor.checked_arguments.items():
            value = arguments.get(name, _default(descriptor, name))
            if (wrong := self._wrong(capability, value)) is not None:
                return f"argument validation failed for '{descriptor.name}': {name}: {wrong}."
        return None

    def _missing(self, needed: JsonValue) -> str | None:
        """Return which part of what a skill needs is not granted."""
        kind, wanted = _read(needed)
        if kind not in self._granted:
            return kind
        outside = (value for value in wanted if not _covers(kind, self._granted[kind], value))
        return next((f"{kind} of {_shown(value)}" for value in outside), None)

    def _wrong(self, capability: str, value: JsonValue) -> str | None:
        if value is None:
            return None
        granted = self._granted.get(capability)
        if granted is None:
            return f"the capability {capability} is not granted"
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) and len(each) <= VALUE_CHARS for each in values):
            return f"it is no text of at most {VALUE_CHARS} characters"
        check = _CHECKS.get(capability)
        return None if check is None else next(filter(None, (check(granted, each) for each in values)), None)


def path_fault(roots: tuple[str, ...], path: str) -> str | None:
    """Return what is wrong with a path, None when it is one of `roots` or below one.

    Symlinks and `..` are resolved first, of the roots too, as far as the path exists; then whole components are
    compared, so that `/data` does not grant `/database`.
    """
    if not path.startswith("/"):
        return "the path is not absolute"
    try:
        real = os.path.realpath(path)
        is_inside = any(is_within(os.path.realpath(root), real) for root in roots if root.startswith("/"))
    except (OSError, ValueError):
        return "it is no path"
    return None if is_inside else f"the path {_shown(path)} is outside of what is allowed"


def is_within(root: str, path: str) -> bool:
    """Whether a resolved path is the resolved `root`, or below it."""
    return path == root or path.startswith(root.rstrip("/") + "/")


def host_fault(granted: tuple[str, ...], place: str) -> str | None:
    """Return what is wrong with a host, `host:port` or URL; None when its host is granted.

    Only what every parser of URLs reads alike passes: no user, backslash or space. A private or reserved address is
    never granted, in whatever way it is written; what a name resolves to is for whoever connects to judge.
    """
    host = host_of(place)
    if host is None:
        return f"{_shown(place)} has no host that is plain to read"
    from argentor_asgi.net.addresses import is_literal, refusal  # noqa: PLC0415  few skills name a host

    if is_literal(host) and (word := refusal(host)) is not None:
        return f"the address {_shown(host)} is refused: {word}"
    if host == "localhost" or host.endswith(".localhost"):
        return f"the host {_shown(host)} is private"
    return None if is_granted_host(granted, host) else f"the host {_shown(host)} is not among those allowed"


def is_granted_host(granted: tuple[str, ...], host: str) -> bool:
    """Whether a host is granted: by `*`, by its name, or by a `.suffix` of a name. Case is nothing, nor a last dot."""
    from argentor_asgi.net.addresses import is_literal  # noqa: PLC0415  few skills name a host

    name = _plain(host)
    patterns = [_plain(each) for each in granted]
    if "*" in patterns or name in patterns:
        return True
    return any(each.startswith(".") and name.endswith(each) for each in patterns) and not is_literal(name)


def host_of(place: str) -> str | None:
    """Return the host of a URL, of `host:port` or of a host alone, as `net.addresses` writes it, which connects to it.

    None for what is none, and for what two parsers could read differently.
    """
    from argentor_asgi.net.addresses import UrlRefused, target  # noqa: PLC0415  few skills name a host

    url = re.match(_URL, place)
    authority = url[1] if url else place
    if re.search(_ODD, place) or re.search(_BEHIND, authority):
        return None
    if not url and authority.count(":") > 1 and not authority.startswith("["):
        authority = f"[{authority}]"
    try:
        return target(f"http://{authority}/").host
    except UrlRefused:
        return None


def command_fault(commands: tuple[str, ...], line: str) -> str | None:
    """Return what is wrong with a shell command line; None when each of its commands is one of `commands`.

    The line is cut wherever a shell begins another command. Each part's first word must be a listed command as it is
    written: `/tmp/ls` is not `ls`, and no command may come from a substitution. What a shell would read in a way that
    this does not is refused: of two backticks none is known to be the closing one, since quotes are not read.
    """
    parts = re.split(_SEPARATOR, line)
    faults = (_segment_fault(commands, *part) for part in zip(parts[::2], [*parts[1::2], None], strict=True))
    if not any(segment.strip(_BLANKS) for segment in parts[::2]):
        return "there is no command"
    if any("(" in segment for segment in parts[::2]):
        return "a parenthesis may only begin a substitution"
    return next(filter(None, faults), None)


def _segment_fault(commands: tuple[str, ...], segment: str, opener: str | None) -> str | None:
    """Judge one command of a line, and the substitution that `opener` begins behind it."""
    command, blank, _ = segment.lstrip(_BLANKS).replace("\t", " ").partition(" ")
    if opener is not None and not (command and blank):
        return "a command may not come from a substitution"
    command = command.rstrip(")")
    return None if not command or command in commands else f"the command {_shown(command)} is not among those allowed"


def variable_fault(variables: tuple[str, ...], name: str) -> str | None:
    """Return what is wrong with an environment variable's name; None when it is one of `variables`."""
    return None if name in variables else f"the variable {_shown(name)} is not among those allowed"


_CHECKS: dict[str, Check] = {
    "file_read": path_fault,
    "file_write": path_fault,
    "network_access": host_fault,
    "browser_access": host_fault,
    "shell_exec": command_fault,
    "env_read": variable_fault,
}
_LISTS: dict[str, str] = {
    "file_read": "allowed_paths",
    "file_write": "allowed_paths",
    "network_access": "allowed_hosts",
    "browser_access": "allowed_domains",
    "shell_exec": "allowed_commands",
    "env_read": "allowed_vars",
}
"""The capabilities that have a list, and what a skill that needs one calls its own list of it."""


def _read(needed: JsonValue) -> tuple[str, tuple[str, ...]]:
    """Return the capability that a skill needs, and what it reaches by it; one of no known shape is granted to none."""
    if isinstance(needed, dict) and len(needed) == 1:
        ((kind, fields),) = needed.items()
        wanted = fields.get(_LISTS.get(kind, ""), ()) if isinstance(fields, dict) else ()
        return str(kind), tuple(map(str, wanted))
    return str(needed), ()


def _covers(kind: str, granted: tuple[str, ...], wanted: str) -> bool:
    """Whether all that `wanted` stands for is granted; a pattern of hosts needs one that is as wide."""
    if kind in {"network_access", "browser_access"} and wanted.startswith((".", "*")):
        wide = _plain(wanted)
        return any(
            each in {"*", wide} or (each.startswith(".") and wide.endswith(each)) for each in map(_plain, granted)
        )
    check = _CHECKS.get(kind)
    return check is None or check(granted, wanted) is None


def _default(descriptor: SkillDescriptor, name: str) -> JsonValue:
    """Return what the skill takes for an argument that is left out."""
    field = descriptor.parameters_schema.get("properties", {}).get(name)
    return field.get("default") if isinstance(field, dict) else None


def _plain(host: str) -> str:
    return host.lower().removesuffix(".")


def _shown(value: str) -> str:
    return repr(value[:200])
