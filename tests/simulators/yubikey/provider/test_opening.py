"""Which YubiKey a URI opens, and what closing it ends."""

from __future__ import annotations

import pickle

import pytest
from own_yubikey import PIN, Own

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import DeviceError, NotFoundError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins, ObjectId
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey.pin import Pin

SPEC = KeySpec("P-256", Use.SIGN, "key", pin=PinPolicy.ONCE)


@pytest.mark.parametrize(
    "uri",
    [
        "yubikey:",
        "yubikey:slot=9c",
        "soft:serial=1",
        "yubikey:serial=one",
        "yubikey:serial=",
        "yubikey:serial=12345678901",
        "yubikey:serial=%D9%A1",
        "yubikey:serial=30000001;label=a",
        "yubikey:serial=1",
    ],
)
def test_a_uri_that_names_no_yubikey_here(own: Own, uri: str) -> None:
    with pytest.raises(NotFoundError):
        own.provider.open(Uri.parse(uri), own.person())


def test_one_that_stops_answering_is_not_listed_and_ends_no_list(own: Own) -> None:
    own.device.fail_next(Ins.VERSION, 0x6F00, times=2)
    assert not own.provider.tokens()
    own.device.stop_failing()
    assert [one.uri for one in own.provider.tokens()] == [own.uri]


def test_a_card_that_fails_to_show_its_f9_certificate_is_not_called_real(own: Own) -> None:
    own.card.release()
    transmit = own.device.transmit

    def fail(command: bytes) -> bytes:
        asked = command[1] == Ins.GET_DATA and ObjectId.ATTESTATION.to_bytes(3, "big") in command
        return b"\x6f\x00" if asked else transmit(command)

    own.device.transmit = fail
    with pytest.raises(DeviceError, match="6F00"):
        own.open()


def test_closed_means_closed(own: Own) -> None:
    token = own.open()
    key = token.generate(SPEC)
    token.close()
    token.close()
    own.wire.clear()
    for use in (
        token.keys,
        token.capabilities,
        lambda: token.generate(SPEC),
        lambda: token.change_pin(own.uri),
        lambda: key.sign(bytes(32)),
        lambda: token.delete(key.uri),
        lambda: token.import_scalar(SPEC, 5, ()),
        lambda: token.attest(key.uri, b""),
    ):
        with pytest.raises(DeviceError, match="closed"):
            use()
    assert not own.wire
    assert own.is_free()


def test_one_who_closes_his_ends_nobody_else_s(own: Own) -> None:
    key = own.make(PinPolicy.ONCE)
    other = own.open()
    key.sign(bytes(32))
    other.close()
    key.sign(bytes(32))


def test_a_pin_is_neither_pickled_nor_shown() -> None:
    pin = Pin(PIN)
    assert PIN.decode() not in f"{pin} {pin!r}"
    with pytest.raises(TypeError):
        pickle.dumps(pin)
