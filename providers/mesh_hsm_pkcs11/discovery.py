"""Which modules are asked for tokens. Open this file to see what may name code that is loaded here.

In this order, and the first that says anything says all: the URI's ``module-path``; the variable
``MESH_HSM_PKCS11_MODULE`` (set but empty: no module at all); ``modules`` in ``modules.toml``;
what is registered with p11-kit. Never a message, an envelope or anything else that was received.
"""

from __future__ import annotations

import os
import shlex
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mesh_hsm.errors import AccessError, FormatError, NotFoundError
from mesh_hsm.files import read_limited, storage_errors
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import p11kit
from mesh_hsm_pkcs11.naming import absolute_file, module_path, query_attribute

VARIABLE = "MESH_HSM_PKCS11_MODULE"
CONFIGURATION = "modules.toml"
_LONGEST = 1 << 16
_CONTENT = 'it holds one line: modules = ["/…/libname.so"]'


class Origin(StrEnum):
    """Who named a module."""

    URI = "the URI"
    ENVIRONMENT = VARIABLE
    CONFIGURATION = CONFIGURATION
    P11_KIT = "p11-kit"


@dataclass(frozen=True, slots=True)
class Source:
    """A module's file: absolute, perhaps missing. ``names``: what ``module-name`` may call it.

    ``obstacle`` says why it must not be loaded; only p11-kit's modules have one, since what
    somebody named for us is refused at once. ``reserved`` is what p11-kit has it told at its start.
    """

    path: Path
    origin: Origin
    names: tuple[str, ...]
    obstacle: str | None = None
    reserved: str | None = None

    @property
    def name(self) -> str:
        """What to call it: p11-kit's name for it, or its file's without affixes."""
        return self.names[0]


def modules(
    uri: Uri | None,
    records: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    layout: p11kit.Layout | None = None,
) -> list[Source]:
    """The modules to ask, each real file once, those of the user's choice also if missing.

    ``module-name`` in the URI selects among them, whatever the case of its letters (RFC 7512
    §2.3): ``NotFoundError`` if it fits none. ``FormatError`` for a path that is not absolute or not
    of a file, or a malformed configuration; ``AccessError`` where others than this user and root
    may choose what is loaded.
    """
    known = _each_once(_named(uri, records, environment, layout))
    wanted = query_attribute(uri, "module-name") if uri else None
    if wanted is None:
        return known
    chosen = [source for source in known if _bare(wanted) in map(_bare, source.names)]
    if not chosen:
        raise NotFoundError(
            "module-name fits no PKCS#11 module that is known here",
            hint="known: " + (", ".join(source.name for source in known) or "none"),
        )
    return chosen


def refuse_if_others_may_write(path: Path) -> None:
    """``AccessError`` if anybody may write a file or replace it: they choose what runs here.

    A folder that a group may write, as some /usr/local/lib, is its administrators' choice. Nothing
    is said of what is missing.
    """
    real = _real(path)
    near = (real, real.parent, path.parent)
    for place in dict.fromkeys((*near, *real.parents, *path.parents)):
        with suppress(OSError):
            mode = place.stat().st_mode
            # Farther up, a sticky bit keeps others from moving what is not theirs.
            if mode & stat.S_IWOTH and (place in near or not mode & stat.S_ISVTX):
                away = "keep it in a folder that others may not write"
                raise AccessError(
                    f"everybody may write {place}, and so choose code that runs here",
                    hint=away
                    if mode & stat.S_ISVTX
                    else f"see what they wrote, then: chmod o-w {shlex.quote(str(place))}",
                )


def _named(
    uri: Uri | None, records: Path, environment: Mapping[str, str], layout: p11kit.Layout | None
) -> Iterator[Source]:
    path = module_path(uri) if uri else None
    if path is not None:
        return _explicit([path], Origin.URI)
    if (text := environment.get(VARIABLE)) is not None:
        entries = filter(None, text.split(os.pathsep))
        return _explicit([absolute_file(e, VARIABLE) for e in entries], Origin.ENVIRONMENT)
    if (configured := _configured(records)) is not None:
        return _explicit(configured, Origin.CONFIGURATION)
    return _registered(layout or p11kit.Layout.of_this_machine(environment))


def _explicit(paths: Iterable[Path], origin: Origin) -> Iterator[Source]:
    for path in paths:
        refuse_if_others_may_write(path)
        yield Source(path, origin, (_bare(path.name),))


def _registered(layout: p11kit.Layout) -> Iterator[Source]:
    for module in p11kit.registered(layout):
        if module.path is None:
            continue
        obstacle = module.obstacle
        try:
            refuse_if_others_may_write(module.path)
        except AccessError as error:
            obstacle = str(error)
        names = dict.fromkeys((module.name, _bare(module.path.name)))
        yield Source(module.path, Origin.P11_KIT, tuple(names), obstacle, module.reserved)


def _each_once(sources: Iterable[Source]) -> list[Source]:
    found: dict[Path, Source] = {}
    for source in sources:
        first = found.setdefault(_real(source.path), source)
        names = tuple(dict.fromkeys(first.names + source.names))
        found[_real(source.path)] = replace(first, names=names)
    return list(found.values())


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve() raises RuntimeError for a loop of links


def _bare(name: str) -> str:
    """RFC 7512 §2.3: without "lib" and ".so", letters of any case alike."""
    return name.casefold().removeprefix("lib").partition(".so")[0]


def _configured(records: Path) -> list[Path] | None:
    """``modules`` of the configuration, None if there is none."""
    file = records / CONFIGURATION
    with storage_errors("read", file):
        try:
            file.lstat()
        except FileNotFoundError:
            return None
    for place in (records, file, _real(file).parent):
        _refuse_unless_ours(place)
    try:
        settings = tomllib.loads(read_limited(file, _LONGEST).decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise FormatError(f"{file} is not TOML", hint=_CONTENT) from error
    if set(settings) != {"modules"} or not _is_list_of_text(settings["modules"]):
        raise FormatError(f"{file} holds something else than modules", hint=_CONTENT)
    return [absolute_file(path, str(file)) for path in settings["modules"]]


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _refuse_unless_ours(place: Path) -> None:
    with storage_errors("read", place):
        status = place.stat()
    if status.st_uid not in {0, os.geteuid()}:
        raise AccessError(f"{place} belongs to another user, who could choose code that runs here")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AccessError(
            f"others may write {place}, and so choose code that runs here",
            hint=f"see what they wrote, then: chmod go-w {shlex.quote(str(place))}",
        )
