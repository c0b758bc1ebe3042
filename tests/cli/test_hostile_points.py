"""Points of an attacker's choice, in an envelope for this device: refused before a key is used."""

from __future__ import annotations

import base64
import json

import pytest

from tests.cli.conftest import PASSPHRASE, World

PRIME = 2**448 - 2**224 - 1
SECRET = {"passphrase": PASSPHRASE}


def u(value: int, sign: int = 0x00) -> bytes:
    """The signed form of an X448 point: u little-endian, then the sign octet."""
    return value.to_bytes(56, "little") + bytes([sign])


# epk octets -> error class, exit code
HOSTILE = {
    "on the twist": (u(6), "InvalidPointError", 3),
    "neutral, as u = 0 of order 2": (u(0), "InvalidPointError", 3),
    "small order, u = 1": (u(1), "InvalidPointError", 3),
    "small order, u = p - 1": (u(PRIME - 1), "InvalidPointError", 3),
    "not canonical, u = p + 5": (u(PRIME + 5), "InvalidPointError", 3),
    "not canonical, all ones": (b"\xff" * 56 + b"\0", "InvalidPointError", 3),
    "sign octet with other bits": (u(5, 0x01), "InvalidPointError", 3),
    "truncated": (u(5)[:-1], "FormatError", 3),
    "oversized": (u(5) + b"\0", "FormatError", 3),
    "empty": (b"", "FormatError", 3),
}


def b64(octets: bytes) -> str:
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def with_epk(envelope: bytes, octets: bytes) -> bytes:
    """The same envelope with other epk octets in all its recipients."""
    header, payload, trailer = json.loads(envelope)
    text = header["protected"]
    protected = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    for entry in protected["recipients"]:
        entry["epk"]["PublicKeyECDH"]["Public"] = b64(octets)
    header["protected"] = b64(json.dumps(protected, separators=(",", ":")).encode())
    return json.dumps([header, payload, trailer]).encode()


@pytest.fixture
def envelope(world: World) -> bytes:
    (world.folder / "letter").write_bytes(b"a letter\n")
    world.admin.ok("dare", "encode", "../letter", "-r", "laptop", "--armor", "-o", "letter.dare")
    return (world.admin.folder / "letter.dare").read_bytes()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_point_is_refused_before_a_secret_is_asked_for(
    world: World, envelope: bytes, name: str
) -> None:
    octets, error, code = HOSTILE[name]
    (world.laptop.folder / "hostile.dare").write_bytes(with_epk(envelope, octets))
    # No passphrase is given: if the device were asked, it would be exit code 5.
    done = world.laptop.run("dare", "decode", "hostile.dare", "-o", "opened", "--json")
    assert (done.error["type"], done.code) == (error, code)
    assert not (world.laptop.folder / "opened").exists()


def test_a_good_point_of_somebody_else_opens_nothing(world: World, envelope: bytes) -> None:
    other = u(5)  # the base point
    (world.laptop.folder / "hostile.dare").write_bytes(with_epk(envelope, other))
    opening = ("dare", "decode", "hostile.dare", "-o", "opened", "--json")
    done = world.laptop.run(*opening, secrets=SECRET)
    assert (done.error["type"], done.code) == ("DecryptionError", 8)
    assert not (world.laptop.folder / "opened").exists()
