"""PIN files that a URI points to."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import pytest

from mesh_hsm.errors import (
    AccessError,
    FormatError,
    MeshHsmError,
    NotFoundError,
    StorageError,
    UnsupportedError,
)
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import pin_source

PIN = b"s3cret-pin"


def at(source: str) -> Uri:
    return Uri("pkcs11", (("token", "a"),), (("pin-source", source),))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token pin"
    path.touch(mode=0o600)
    path.write_bytes(PIN + b"\n")
    return path


def test_a_uri_need_not_name_a_file() -> None:
    assert pin_source.read(Uri.parse("pkcs11:token=a")) is None
    assert pin_source.read(Uri("pkcs11", (("pin-source", "/nowhere"),))) is None


WAYS = {
    "path": "{}",
    "file:": "file:{}",
    "file://": "file://{}",
    "this host": "file://localhost{}",
    "scheme in capitals": "FILE:{}",
}


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_named_by_path_or_uri(file: Path, way: str) -> None:
    path = str(file) if way == "path" else str(file).replace(" ", "%20")
    assert pin_source.read(at(WAYS[way].format(path))) == PIN


def test_what_a_user_types_is_decoded_once_for_each_uri(file: Path) -> None:
    encoded = str(file).replace(" ", "%2520")
    assert pin_source.read(Uri.parse(f"pkcs11:?pin-source=file:{encoded}")) == PIN


def test_a_path_may_hold_a_percent_sign(file: Path) -> None:
    other = file.rename(file.parent / "a%20b")
    assert pin_source.read(at(str(other))) == PIN


CONTENTS = {
    "no end": (b"1234", b"1234"),
    "CR LF": (b"1234\r\n", b"1234"),
    "blanks are its own": (b" 12 34 \n", b" 12 34 "),
    "more lines": (b"1234\n5678\n", b"1234"),
    "UTF-8": ("pä\n".encode(), "pä".encode()),
    "as long as may be": (b"9" * 1024, b"9" * 1024),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_the_first_line_is_the_pin(file: Path, name: str) -> None:
    content, pin = CONTENTS[name]
    file.write_bytes(content)
    assert pin_source.read(at(str(file))) == pin


def held(traceback: TracebackType | None) -> str:
    """All that the frames of the library hold at the point of failure."""
    text = ""
    while traceback:
        if traceback.tb_frame.f_code.co_filename != __file__:
            text += repr(traceback.tb_frame.f_locals)
        traceback = traceback.tb_next
    return text


def assert_unseen(error: MeshHsmError) -> None:
    link: BaseException | None = error
    while link:
        said = f"{link!r} {link.__dict__}"
        assert PIN.decode() not in said + held(link.__traceback__)
        link = link.__cause__ or link.__context__


NO_PINS = {
    "empty": b"",
    "empty line": b"\n" + PIN,
    "empty line, CR LF": b"\r\n" + PIN,
    "too long": PIN + b"9" * 1024,
    "too long by its second line": PIN + b"\n" + b"9" * 1024,
}


@pytest.mark.parametrize("name", NO_PINS)
def test_what_does_not_begin_with_a_pin_is_refused(file: Path, name: str) -> None:
    file.write_bytes(NO_PINS[name])
    with pytest.raises(FormatError) as caught:
        pin_source.read(at(str(file)))
    assert_unseen(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644])
def test_a_file_that_is_open_to_others_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(AccessError, match="open to others") as caught:
        pin_source.read(at(str(file)))
    assert "chmod 600" in str(caught.value.hint)
    assert_unseen(caught.value)


def test_a_file_that_is_only_read_is_taken(file: Path) -> None:
    file.chmod(0o400)
    assert pin_source.read(at(str(file))) == PIN


def test_a_file_of_another_user_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        os.chown(file, 65534, -1)
    else:  # only root may give a file away: so we become somebody else
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(AccessError, match="another user") as caught:
        pin_source.read(at(str(file)))
    assert_unseen(caught.value)


def folder(path: Path) -> None:
    path.mkdir(mode=0o700)


def pipe(path: Path) -> None:
    os.mkfifo(path, 0o600)


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [folder, pipe, link_to_a_device])
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "pin")
    with pytest.raises(FormatError, match="regular"):
        pin_source.read(at(str(tmp_path / "pin")))


def test_a_socket_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name may be no longer than 107 octets
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("pin")
        with pytest.raises(StorageError):
            pin_source.read(at(str(tmp_path / "pin")))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="PIN file"):
        pin_source.read(at(str(tmp_path / "pin")))


def test_a_file_that_may_not_be_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)  # root may read everything
    with pytest.raises(AccessError, match="may not be read"):
        pin_source.read(at(str(file)))


REFUSED: dict[str, tuple[str, type[MeshHsmError]]] = {
    "command": ("|/usr/lib/pinomatic", UnsupportedError),
    "network": ("https://example.com/pin", UnsupportedError),
    "another host": ("file://example.com/pin", UnsupportedError),
    "another host, like this one": ("file://localhosts/pin", UnsupportedError),
    "host without a file": ("file://localhost", UnsupportedError),
    "environment": ("env:PIN", UnsupportedError),
    "drive": ("C:/pin", UnsupportedError),
    "relative": ("pin", FormatError),
    "relative in a URI": ("file:pin", FormatError),
    "home": ("~/pin", FormatError),
    "empty": ("", FormatError),
    "empty in a URI": ("file:", FormatError),
    "NUL": ("/pin\0", FormatError),
    "NUL in a URI": ("file:/pin%00", FormatError),
    "line feed": ("/a\nb", FormatError),
    "not UTF-8 in a URI": ("file:/%ff", FormatError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_but_a_file_is_read(name: str) -> None:
    source, error = REFUSED[name]
    with pytest.raises(error, match="pin-source") as caught:
        pin_source.read(at(source))
    assert caught.value.hint is not None
    assert str(caught.value).isprintable()
