"""The YubiKey provider beside bare yubikit: two virtual YubiKeys of one kind in one reader service.

Counts are exact and the same on hardware; times are the simulator's, and so only compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import bare_yubikey
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from figures import Figure, side_by_side
from pytest_benchmark.fixture import BenchmarkFixture
from yubikit.piv import KEY_TYPE, PIN_POLICY

from mesh_hsm.curves import Point, SecretScalar, XOnly, curve, verify_prehashed
from mesh_hsm.curves.weierstrass import WeierstrassCurve
from mesh_hsm.custody import PinPolicy
from mesh_hsm.provider import DeviceKey, KeySpec, Token, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind, SecretRequest
from mesh_hsm.testing.virtual_yubikey.rig import YubiKeyRig
from mesh_hsm.uri import Uri
from mesh_hsm_yubikey import YubiKeyProvider

PEER = "yubikit, a key of the same kind on a virtual YubiKey beside ours"
KINDS = {"P-256": KEY_TYPE.ECCP256, "P-384": KEY_TYPE.ECCP384, "X25519": KEY_TYPE.X25519}
WARM = 20


class Counting(FixedSecrets):
    """Counts how often a person is asked."""

    __slots__ = ("asked",)

    def secret(self, request: SecretRequest) -> bytes:
        object.__setattr__(self, "asked", getattr(self, "asked", 0) + 1)
        return super().secret(request)


@pytest.fixture
def secrets(virtual_yubikey: YubiKeyRig) -> Counting:
    return Counting({SecretKind.PIN: virtual_yubikey.pin.encode()})


@pytest.fixture
def token(virtual_yubikey: YubiKeyRig, secrets: Counting, tmp_path: Path) -> Iterator[Token]:
    uri = Uri.parse(virtual_yubikey.uri)
    with YubiKeyProvider(tmp_path).open(uri, secrets) as token:
        yield token


def make(token: Token, algorithm: str, use: Use, pin: PinPolicy) -> DeviceKey:
    return token.generate(KeySpec(algorithm, use, "bench", pin=pin))


def in_library(point: Point) -> ec.EllipticCurvePublicKey | x25519.X25519PublicKey:
    c = point.curve
    if isinstance(c, WeierstrassCurve):
        return ec.EllipticCurvePublicNumbers(point.x, point.y, c.in_library).public_key()
    return x25519.X25519PublicKey.from_public_bytes(point.agreement_octets())


@pytest.mark.figures("yubikey-agree", "yubikey-agree-p256", "yubikey-agree-x25519")
@pytest.mark.figures("yubikey-agree-unchecked", "yubikey-agree-p256-unchecked")
@pytest.mark.figures("yubikey-agree-x25519-unchecked")
@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("yubikey-agree", "P-384"),
        ("yubikey-agree-p256", "P-256"),
        ("yubikey-agree-x25519", "X25519"),
    ],
)
def test_agree(
    name: str,
    algorithm: str,
    checked: bool,
    virtual_yubikey: YubiKeyRig,
    token: Token,
    benchmark: BenchmarkFixture,
    figure: Figure,
) -> None:
    key = make(token, algorithm, Use.ENCRYPT, PinPolicy.ONCE)
    beside = virtual_yubikey.add()
    bare = bare_yubikey.session(beside.serial, beside.management_key)
    bare_yubikey.make(bare, KINDS[algorithm], PIN_POLICY.ONCE)
    bare.verify_pin(beside.pin)
    point = SecretScalar.random(curve(algorithm)).public()
    peer = in_library(point)

    def agree_and_check() -> None:
        XOnly.decode(point.curve, bare_yubikey.agree(bare, peer)).check_answer()

    def agree() -> None:
        bare_yubikey.agree(bare, peer)

    ratio = side_by_side(
        benchmark, lambda: key.agree(point), agree_and_check if checked else agree, 500
    )
    if checked:
        figure(name, ratio, "times", 1.10, f"{PEER}, and the same check of its answer")
    else:
        figure(f"{name}-unchecked", ratio, "times", None, f"{PEER}, its answer believed")


@pytest.mark.figures("yubikey-sign", "yubikey-sign-p256")
@pytest.mark.parametrize(
    ("name", "algorithm", "hashed"),
    [("yubikey-sign", "P-384", hashlib.sha384), ("yubikey-sign-p256", "P-256", hashlib.sha256)],
)
def test_sign(
    name: str,
    algorithm: str,
    hashed: Callable[[bytes], hashlib._Hash],
    virtual_yubikey: YubiKeyRig,
    token: Token,
    benchmark: BenchmarkFixture,
    figure: Figure,
) -> None:
    key, digest = make(token, algorithm, Use.SIGN, PinPolicy.ALWAYS), hashed(b"bench").digest()
    beside = virtual_yubikey.add()
    bare = bare_yubikey.session(beside.serial, beside.management_key)
    public = curve(algorithm).decode(
        bare_yubikey.octets(bare_yubikey.make(bare, KINDS[algorithm], PIN_POLICY.ALWAYS))
    )

    def sign_and_verify() -> None:
        signature = bare_yubikey.sign(bare, KINDS[algorithm], digest, beside.pin)
        assert verify_prehashed(public, digest, signature)

    ratio = side_by_side(benchmark, lambda: key.sign(digest), sign_and_verify, 500)
    figure(name, ratio, "times", 1.10, f"{PEER}, PIN each time, and the same verification")


@pytest.mark.figures("yubikey-apdus-agree", "yubikey-apdus-sign")
@pytest.mark.parametrize(
    ("name", "use", "pin", "bound"),
    [
        ("yubikey-apdus-agree", Use.ENCRYPT, PinPolicy.ONCE, 1),
        ("yubikey-apdus-sign", Use.SIGN, PinPolicy.ALWAYS, 2),
    ],
)
def test_warm_commands(
    name: str,
    use: Use,
    pin: PinPolicy,
    bound: int,
    virtual_yubikey: YubiKeyRig,
    token: Token,
    figure: Figure,
) -> None:
    key = make(token, "P-384", use, pin)
    exercise(key)
    before = virtual_yubikey.device.apdus
    for _ in range(WARM):
        exercise(key)
    count = (virtual_yubikey.device.apdus - before) / WARM
    figure(name, count, "commands", bound, "none: exact")


@pytest.mark.figures("yubikey-apdus-cold", "yubikey-apdus-generate", "yubikey-pins")
def test_cold_commands(
    virtual_yubikey: YubiKeyRig, tmp_path: Path, secrets: Counting, figure: Figure
) -> None:
    """From nothing to the first agreement, and what making a key costs."""
    device, uri = virtual_yubikey.device, Uri.parse(virtual_yubikey.uri)
    provider = YubiKeyProvider(tmp_path)
    with provider.open(uri, secrets) as token:
        before = device.apdus
        made = make(token, "P-384", Use.ENCRYPT, PinPolicy.ONCE)
        figure("yubikey-apdus-generate", device.apdus - before, "commands", None, "none: exact")
        for _ in range(WARM):
            exercise(made)
        figure("yubikey-pins", secrets.asked, "PIN entries", 1, f"key and {WARM} agreements")
    before = device.apdus
    with provider.open(uri, secrets) as token:
        exercise(token.key(made.uri))
        figure("yubikey-apdus-cold", device.apdus - before, "commands", None, "none: exact")


def exercise(key: DeviceKey) -> None:
    if key.use is Use.SIGN:
        key.sign(b"\x5a" * 48)
    else:
        key.agree(key.public.curve.base)
