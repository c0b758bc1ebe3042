"""The modules registered with p11-kit on this machine: its files, read as pkcs11.conf(5) says.

Open this file when a registered module is not found. p11-kit's own library is not needed, nor is
pkg-config: the folders are those of the distributions.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from mesh_hsm.errors import FormatError, NotFoundError, StorageError
from mesh_hsm.files import read_limited, storage_errors

_LONGEST = 1 << 16
_MODULE_FILE = re.compile(r"([A-Za-z0-9][A-Za-z0-9_,.-]*)\.module\Z")
_WHERE = re.compile(r"[,\s]+")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NO_TOKENS = frozenset({"p11-kit-proxy", "p11-kit-client", "p11-kit-trust"})
_THROUGH_THE_PROXY = "reach it through p11-kit's proxy: MESH_HSM_PKCS11_MODULE=/…/p11-kit-proxy.so"

Settings = dict[str, str]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where p11-kit keeps what. ``library_dirs``: where a relative ``module:`` is looked for.

    Without ``users`` nothing of the user's is read.
    """

    system_config: Path
    user_config: Path
    package_modules: Path
    system_modules: Path
    user_modules: Path
    library_dirs: tuple[Path, ...]
    users: bool = True

    @classmethod
    def of_this_machine(cls, environment: Mapping[str, str] = os.environ) -> Layout:
        """The folders of a distribution's p11-kit, and those of the user."""
        user = _user_folder(environment) / "pkcs11"
        return cls(
            system_config=Path("/etc/pkcs11/pkcs11.conf"),
            user_config=user / "pkcs11.conf",
            package_modules=Path("/usr/share/p11-kit/modules"),
            system_modules=Path("/etc/pkcs11/modules"),
            user_modules=user / "modules",
            library_dirs=tuple(_library_dirs()),
            users="P11_KIT_NO_USER_CONFIG" not in environment and not _is_privileged(),
        )


@dataclass(frozen=True, slots=True)
class Registered:
    """A module that is meant for us. ``path`` is absolute, or None for one in another process.

    ``reserved`` is what C_Initialize is to be told in ``pReserved`` (x-init-reserved); ``obstacle``
    says why we cannot load it ourselves, and what to do then.
    """

    name: str
    path: Path | None
    obstacle: str | None = None
    reserved: str | None = None


def registered(layout: Layout, program: str = "mesh-hsm") -> list[Registered]:
    """The modules in p11-kit's order: by ``priority``, then by name.

    Without those that hold trust policy only, those that ``enable-in`` or ``disable-in`` keep from
    this program, and p11-kit's own. Raises ``FormatError`` for a file that p11-kit refuses too.
    """
    found = {
        name: settings
        for name, settings in _settings(layout).items()
        if _is_meant(settings, program) and settings.get("trust-policy") != "yes"
    }
    order = sorted(found, key=lambda name: (-_priority(found[name]), name))
    modules = (_module(name, found[name], layout) for name in order)
    return [m for m in modules if m and (m.path is None or m.path.stem not in _NO_TOKENS)]


def _module(name: str, settings: Settings, layout: Layout) -> Registered | None:
    file = settings.get("module", "")
    path = _located(file, layout) if file else None
    if settings.get("remote"):
        return Registered(name, path, f"it runs in a process of its own; {_THROUGH_THE_PROXY}")
    if path is None:  # pkcs11.conf(5): how a user switches off what the system registers
        return None
    return Registered(name, path, reserved=settings.get("x-init-reserved") or None)


def _located(file: str, layout: Layout) -> Path:
    places = [folder / file for folder in layout.library_dirs]  # an absolute file stays itself
    return next((place for place in places if os.path.exists(place)), places[0])


def _is_meant(settings: Settings, program: str) -> bool:
    if "enable-in" in settings:
        return program in _WHERE.split(settings["enable-in"])
    return program not in _WHERE.split(settings.get("disable-in", ""))


def _priority(settings: Settings) -> int:
    number = _INTEGER.match(settings.get("priority", ""))
    return int(number[0]) if number else 0


def _settings(layout: Layout) -> dict[str, Settings]:
    """Every module's settings; what a user sets goes before what the system sets, key by key."""
    mode = _user_mode(layout)
    folders = []
    if mode != "none":
        folders.append((layout.user_modules, True))
    if mode != "only":
        folders += [(layout.system_modules, False), (layout.package_modules, False)]
    merged: dict[str, Settings] = {}
    for folder, users in folders:
        for name, file in _module_files(folder, users=users):
            merged[name] = _parsed(file, users=users) | merged.get(name, {})
    return merged


def _user_mode(layout: Layout) -> str:
    """``none``, ``merge`` or ``only``: as the system says, unless it lets the user say."""
    if not layout.users:
        return "none"
    mode = _mode(layout.system_config, "merge", users=False)
    return mode if mode == "none" else _mode(layout.user_config, mode, users=True)


def _mode(config: Path, default: str, *, users: bool) -> str:
    mode = _parsed(config, users=users).get("user-config", default)
    if mode not in {"none", "merge", "only", "override"}:
        raise FormatError(f"{config}: user-config is none of none, merge, only, override")
    return "only" if mode == "override" else mode


def _module_files(folder: Path, *, users: bool) -> Iterator[tuple[str, Path]]:
    with _forgiving(users), storage_errors("read", folder):
        try:
            files = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        for file in files:
            if (match := _MODULE_FILE.match(file.name)) and not file.is_dir():
                yield match[1], file


def _parsed(file: Path, *, users: bool) -> Settings:
    text = ""
    with _forgiving(users), suppress(NotFoundError):
        text = read_limited(file, _LONGEST).decode("utf-8", "surrogateescape")
    lines = enumerate((line.strip() for line in text.split("\n")), 1)
    return dict(_pair(file, number, line) for number, line in lines if line and line[0] != "#")


def _forgiving(users: bool) -> AbstractContextManager[None]:
    """What p11-kit does: a confined program may not look into the home folder, and need not."""
    return suppress(StorageError) if users else nullcontext()


def _pair(file: Path, number: int, line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or line.startswith("["):
        raise FormatError(
            f"{file}, line {number}, is not «name: value»", hint="p11-kit refuses this file, too"
        )
    return name.rstrip(), value.lstrip()


def _user_folder(environment: Mapping[str, str]) -> Path:
    told = Path(environment.get("XDG_CONFIG_HOME", ""))
    if told.is_absolute():
        return told
    home = environment.get("HOME")
    return Path(home) / ".config" if home else Path("~/.config").expanduser()


def _is_privileged() -> bool:
    """Root, setuid, setgid: p11-kit does not let a home folder say what such programs load."""
    return os.geteuid() == 0 or (os.getuid(), os.getgid()) != (os.geteuid(), os.getegid())


def _library_dirs() -> Iterator[Path]:
    multiarch = sysconfig.get_config_var("MULTIARCH")
    for prefix in ("/usr", "/usr/local"):
        if multiarch:
            yield Path(prefix, "lib", multiarch, "pkcs11")
        if sys.maxsize > 2**32:
            yield Path(prefix, "lib64", "pkcs11")
        yield Path(prefix, "lib", "pkcs11")
