"""The management key: where it comes from, and that ykman and we read what the other wrote."""

from __future__ import annotations

import pytest
from own_yubikey import PIN, WRONG_PIN, Own, padded
from ykman.piv import (
    get_pivman_data,
    get_pivman_protected_data,
    pivman_set_mgm_key,
)
from yubikit.piv import MANAGEMENT_KEY_TYPE

from mesh_hsm.errors import AccessError, DeviceError, SecretRequiredError, WrongSecretError
from mesh_hsm.provider import KeySpec, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.virtual_yubikey.piv.management_key import KeyType, ManagementKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Ins, ObjectId, TouchPolicy

AES, TDES = MANAGEMENT_KEY_TYPE.AES256, MANAGEMENT_KEY_TYPE.TDES
SPEC = KeySpec("P-256", Use.SIGN, "key")
ADMIN_DATA = 0x5FFF00


def typed(own: Own, kind: KeyType, value: bytes) -> None:
    """Another program set a management key of its own, which lies nowhere."""
    own.state.management = ManagementKey(kind, value)
    own.state.objects.pop(ADMIN_DATA)
    own.state.objects.pop(ObjectId.PRINTED)


@pytest.mark.parametrize(
    ("firmware", "kind"),
    [((5, 7, 1), AES), ((5, 4, 2), AES), ((5, 4, 1), TDES), ((4, 3, 5), TDES)],
    ids=str,
)
def test_ykman_finds_and_uses_the_key_that_token_init_left_under_the_pin(
    new_yubikey, firmware, kind
) -> None:
    own = new_yubikey(firmware)
    own.set_up()
    with own.other_program() as piv:
        data = get_pivman_data(piv)
        assert data.has_stored_key
        assert not data.has_derived_key
        assert not data.puk_blocked
        piv.verify_pin(PIN.decode())
        key = get_pivman_protected_data(piv).key
        assert key is not None
        assert piv.management_key_type == kind
        assert len(key) == kind.key_len
        piv.authenticate(key)


def test_the_key_is_another_one_each_time(own: Own) -> None:
    first = own.state.management.value
    own.set_up()
    assert own.state.management.value != first


@pytest.mark.parametrize("kind", [MANAGEMENT_KEY_TYPE.AES128, AES, TDES], ids=str)
def test_a_key_that_ykman_put_under_the_pin_is_used(own: Own, kind) -> None:
    with own.other_program() as piv:
        piv.verify_pin(PIN.decode())
        piv.authenticate(get_pivman_protected_data(piv).key)
        pivman_set_mgm_key(piv, bytes(range(kind.key_len)), kind, store_on_device=True)
    person = own.person()
    with own.open(person) as token:
        token.generate(SPEC)
    assert person.kinds == [SecretKind.PIN]
    assert own.sent(Ins.VERIFY) == [padded(PIN)]


def test_a_key_that_ykman_took_from_under_the_pin_is_asked_for(own: Own) -> None:
    with own.other_program() as piv:
        piv.verify_pin(PIN.decode())
        piv.authenticate(get_pivman_protected_data(piv).key)
        pivman_set_mgm_key(piv, bytes(range(32)), AES, store_on_device=False)
    person = own.person(management_key=bytes(range(32)).hex().encode())
    with own.open(person) as token:
        token.generate(SPEC)
    assert person.kinds == [SecretKind.MANAGEMENT_KEY]


@pytest.mark.parametrize(
    ("kind", "size"),
    [(KeyType.TRIPLE_DES, 24), (KeyType.AES128, 16), (KeyType.AES192, 24), (KeyType.AES256, 32)],
)
@pytest.mark.parametrize("form", ["{}", "{}\n", " {} "])
def test_it_is_typed_in_hexadecimal_once(own: Own, kind, size, form) -> None:
    value = bytes(range(64, 64 + size))
    typed(own, kind, value)
    person = own.person(management_key=form.format(value.hex().upper()).encode())
    with own.open(person) as token:
        token.delete(token.generate(SPEC).uri)
        own.card.release()
        token.generate(SPEC)
    assert person.kinds == [SecretKind.MANAGEMENT_KEY]
    assert not own.secrets_sent


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (b"00" * 32, "refused"),
        (b"00" * 24, "32 octets"),
        (b"", "empty"),
        (b"00" * 31 + b"0", "hexadecimal"),
        (b"xy" * 32, "hexadecimal"),
        ("ä0".encode() * 16, "hexadecimal"),
    ],
)
def test_a_wrong_one_is_refused_and_asked_for_anew(own: Own, given, said) -> None:
    typed(own, KeyType.AES256, bytes(range(32)))
    person = own.person(management_key=given)
    token = own.open(person)
    with pytest.raises(AccessError, match=said) as caught:
        token.generate(SPEC)
    assert isinstance(caught.value, WrongSecretError if given else SecretRequiredError)
    if given:
        assert given.decode() not in str(caught.getrepr(style="long"))
    assert caught.value.__cause__ is None
    if said != "refused":
        assert not own.sent(Ins.AUTHENTICATE)
    person.answers[SecretKind.MANAGEMENT_KEY] = bytes(range(32)).hex().encode()
    token.generate(SPEC)
    assert len(person.asked) == 2


def test_a_card_that_does_not_know_the_key_is_not_believed(own: Own) -> None:
    """It takes the witness and gives another answer than the key would: no YubiKey of ours."""
    value = bytes(range(32))
    typed(own, KeyType.AES256, value)
    transmit, told = own.device.transmit, []

    def lie(command: bytes) -> bytes:
        answer = transmit(command)
        if command[1] == Ins.AUTHENTICATE:
            told.append(answer)
            if len(told) == 2:
                return answer[:4] + bytes(16) + b"\x90\x00"
        return answer

    own.device.transmit = lie
    with pytest.raises(WrongSecretError):
        own.open(own.person(management_key=value.hex().encode())).generate(SPEC)
    assert len(told) == 2


def test_a_flag_without_a_key_is_said_with_the_way_out(own: Own) -> None:
    own.state.objects.pop(ObjectId.PRINTED)
    with pytest.raises(DeviceError, match="holds none") as caught:
        own.open().generate(SPEC)
    assert "change-management-key" in (caught.value.hint or "")
    assert not own.state.keys.keys() - {0xF9}


def test_a_card_that_fails_has_not_refused_the_key(own: Own) -> None:
    own.device.fail_next(Ins.AUTHENTICATE, 0x6F00)
    with pytest.raises(DeviceError, match="6F00"):
        own.open().generate(SPEC)


@pytest.mark.parametrize(
    "octets", ["807f", "80028100", "800481020202", "800583030102ff"], ids=lambda octets: octets
)
def test_objects_that_nobody_understands_are_malformed(own: Own, octets: str) -> None:
    own.state.objects[ADMIN_DATA] = bytes.fromhex(octets)
    with pytest.raises(DeviceError, match="malformed"):
        own.open().generate(SPEC)


def test_a_wrong_pin_authenticates_nothing(own: Own) -> None:
    with pytest.raises(WrongSecretError):
        own.open(own.person(pin=WRONG_PIN)).generate(SPEC)
    assert not own.sent(Ins.AUTHENTICATE)
    assert not own.sent(Ins.PUT_DATA)


def test_it_is_proved_once_for_as_long_as_the_reader_is_held(own: Own) -> None:
    with own.open() as token:
        key = token.generate(SPEC)
        token.delete(key.uri)
    assert len(own.sent(Ins.AUTHENTICATE)) == 2
    assert len(own.sent(Ins.VERIFY)) == 1


def test_a_key_that_wants_a_touch_and_gets_none_was_not_refused(own: Own) -> None:
    value = bytes(range(32))
    typed(own, KeyType.AES256, value)
    own.state.management = ManagementKey(KeyType.AES256, value, TouchPolicy.ALWAYS)
    own.device.touch = "never"
    token = own.open(own.person(management_key=value.hex().encode()))
    with pytest.raises(AccessError, match="nobody touched") as caught:
        token.generate(SPEC)
    assert not isinstance(caught.value, WrongSecretError)
    own.device.touch = "automatic"
    token.generate(SPEC)
