"""The mark of Infineon's RSA keys."""

from __future__ import annotations

from independent.piv_certificates import roca_key, rsa_key

from mesh_hsm_yubikey.roca import has_fingerprint
from mesh_hsm_yubikey.roots import Roots


def test_a_key_of_that_form_is_marked() -> None:
    numbers = roca_key().public_key().public_numbers()
    assert has_fingerprint(numbers.n)
    assert not has_fingerprint(numbers.n + 2)


def test_sound_keys_are_not() -> None:
    for number in range(2):
        assert not has_fingerprint(rsa_key(number).public_key().public_numbers().n)
    for one in (*Roots.yubico().anchors, *Roots.yubico().intermediates):
        assert not has_fingerprint(one.public_key().public_numbers().n)
