"""Gates and advisories by firmware, against yubikit's own."""

from __future__ import annotations

from itertools import product

import pytest

from mesh_hsm.custody import PinPolicy, TouchPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import Use
from mesh_hsm_yubikey.firmware import (
    ADVISORIES,
    LEAST,
    Feature,
    check_key,
    concerns,
    has,
    is_fips,
    require,
    text,
)

VERSIONS = [
    (3, 5, 0),
    (4, 0, 0),
    (4, 1, 9),
    (4, 2, 0),
    (4, 2, 6),
    (4, 2, 9),
    (4, 3, 0),
    (4, 3, 4),
    (4, 3, 5),
    (4, 4, 2),
    (4, 4, 5),
    (4, 5, 0),
    (5, 2, 6),
    (5, 3, 0),
    (5, 4, 3),
    (5, 6, 9),
    (5, 7, 0),
    (5, 7, 4),
    (5, 8, 0),
]


def allowed(*told, **how) -> bool:
    try:
        check_key(*told, **how)
    except UnsupportedError:
        return False
    return True


def test_yubikit_draws_the_same_lines() -> None:
    core = pytest.importorskip("yubikit.core", reason="yubikey-manager is an extra")
    piv = pytest.importorskip("yubikit.piv")
    types = {
        "RSA-1024": piv.KEY_TYPE.RSA1024,
        "RSA-2048": piv.KEY_TYPE.RSA2048,
        "RSA-3072": piv.KEY_TYPE.RSA3072,
        "RSA-4096": piv.KEY_TYPE.RSA4096,
        "P-256": piv.KEY_TYPE.ECCP256,
        "P-384": piv.KEY_TYPE.ECCP384,
        "Ed25519": piv.KEY_TYPE.ED25519,
        "X25519": piv.KEY_TYPE.X25519,
    }
    assert set(types) == set(LEAST)
    pins = dict(zip(PinPolicy, (piv.PIN_POLICY(one) for one in (1, 2, 3)), strict=True))
    touches = dict(zip(TouchPolicy, (piv.TOUCH_POLICY(one) for one in (1, 2, 3)), strict=True))
    answers = set()
    for version, algorithm, pin, touch, made, fips in product(
        VERSIONS, types, pins, touches, (True, False), (True, False)
    ):
        ours = allowed(version, algorithm, pin, touch, fips=fips, generated=made)
        try:
            piv._do_check_key_support(
                core.Version(*version), types[algorithm], pins[pin], touches[touch], made, fips
            )
            theirs = True
        except core.NotSupportedError:
            theirs = False
        assert ours == theirs, (version, algorithm, pin, touch, made, fips)
        answers.add(ours)
    assert answers == {True, False}


REFUSALS = {
    "unknown": ((5, 7, 1), "P-521", PinPolicy.ONCE, TouchPolicy.NONE, "knows no P-521"),
    "old": ((5, 4, 3), "X25519", PinPolicy.ONCE, TouchPolicy.NONE, "firmware 5.7.0 or later"),
    "roca": ((4, 3, 4), "RSA-2048", PinPolicy.ONCE, TouchPolicy.NONE, "ROCA"),
    "cached": ((4, 2, 0), "P-256", PinPolicy.ONCE, TouchPolicy.CACHED, "counts for a while"),
    "policies": ((3, 5, 0), "P-256", PinPolicy.ONCE, TouchPolicy.NONE, "PIN and touch policies"),
    "fips": ((4, 4, 5), "P-256", PinPolicy.NONE, TouchPolicy.NONE, "no keys without a PIN"),
    "fips 1024": ((4, 4, 5), "RSA-1024", PinPolicy.ONCE, TouchPolicy.NONE, "no RSA-1024"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_say_why(name: str) -> None:
    *told, words = REFUSALS[name]
    with pytest.raises(UnsupportedError, match=words):
        check_key(*told)


@pytest.mark.parametrize("feature", Feature)
def test_features_come_with_a_version(feature: Feature) -> None:
    require(feature.least, feature)
    major, minor, _ = feature.least
    before = (major, minor - 1, 9) if minor else (major - 1, 9, 9)
    assert not has(before, feature)
    with pytest.raises(UnsupportedError, match=text(feature.least)) as caught:
        require(before, feature)
    assert text(before) in str(caught.value)


def ids(*told, **how) -> set[str]:
    said = concerns(*told, **how)
    return {one.name for one in ADVISORIES if {one.signing, one.agreeing} & set(said)}


def test_eucleak() -> None:
    for algorithm, use in product(("P-256", "P-384"), Use):
        assert ids((5, 6, 9), algorithm, use) == {"EUCLEAK"}
        assert ids((5, 7, 0), algorithm, use) == set()
    assert concerns((5, 4, 3), "P-256", Use.SIGN) != concerns((5, 4, 3), "P-256", Use.ENCRYPT)
    for algorithm in ("RSA-2048", "Ed25519", "X25519"):
        assert ids((5, 4, 3), algorithm, Use.SIGN) == set()
    for bio in (6, 7, 0x86):
        assert ids((5, 7, 1), "P-256", Use.SIGN, form_factor=bio) == {"EUCLEAK"}
        assert ids((5, 7, 2), "P-256", Use.SIGN, form_factor=bio) == set()
    assert ids((5, 7, 1), "P-256", Use.SIGN, form_factor=3) == set()


def test_roca_and_predictable_randomness() -> None:
    for version in ((4, 2, 6), (4, 3, 4)):
        assert ids(version, "RSA-2048", Use.SIGN) == {"ROCA"}
    for version in ((4, 2, 5), (4, 3, 5), (5, 4, 3)):
        assert ids(version, "RSA-2048", Use.SIGN) == set()
    for version, found in (((4, 4, 2), True), ((4, 4, 4), True), ((4, 4, 3), False)):
        assert ("YSA-2019-02" in ids(version, "P-256", Use.ENCRYPT)) == found
        assert ("YSA-2019-02" in ids(version, "RSA-2048", Use.SIGN)) == found
    assert "YSA-2019-02" not in ids((4, 4, 5), "P-256", Use.SIGN)


def test_sources_are_named() -> None:
    for one in ADVISORIES:
        assert one.source.startswith("https://www.yubico.com/support/security-advisories/ysa-")


@pytest.mark.parametrize(
    ("firmware", "form_factor", "expected"),
    [
        ((4, 4, 5), None, True),
        ((5, 4, 3), 0x83, True),
        ((5, 4, 3), 0x03, False),
        ((5, 4, 3), None, False),
        ((4, 3, 5), None, False),
    ],
)
def test_fips_series(firmware, form_factor, expected: bool) -> None:
    assert is_fips(firmware, form_factor) == expected
