"""The published and computed examples of key combination, with one share in an HSM.

Whatever a vector has of agreement keys: one scalar after the other is put into SoftHSM, the rest
stay in memory, and public keys, partial results and agreements must be the printed ones. No token
takes an EdDSA scalar from outside, so that vectors of Edwards curves stay with the library's tests.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from vectors.test_threshold_vectors import VERIFIED, affine, curve_of, expanded, point_of, same

from mesh_hsm.curves import Curve, Point, SecretScalar
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.threshold import CompositeKey, ScalarShare, combine, recover_plain
from mesh_hsm.threshold.lagrange import coefficients
from mesh_hsm_pkcs11.token import Pkcs11Token

IN_MEMORY = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "test")
WITHOUT_RSA = (
    "CKM_EC_KEY_PAIR_GEN",
    "CKM_EC_EDWARDS_KEY_PAIR_GEN",
    "CKM_ECDH1_DERIVE",
    "CKM_ECDSA",
    "CKM_EDDSA",
)
"""Else every share would wait for an RSA key to be made, under which it enters the token."""

DEALER = ("the author of the vector",)
Members = dict[str, Any]


# -- shares ----------------------------------------------------------------------------------------


class Bench:
    """Puts scalars of one curve into a token, or keeps them in memory."""

    def __init__(self, token: Pkcs11Token, curve: Curve, use: Use) -> None:
        self.token, self.curve, self.use = token, curve, use

    def in_device(self, scalar: int) -> DeviceKey:
        spec = KeySpec(self.curve.name, self.use, f"share {secrets.token_hex(4)}")
        key = self.token.import_scalar(spec, scalar % self.curve.order, DEALER)
        assert key.public == self.curve.base.multiply(scalar % self.curve.order)
        return key

    def in_memory(self, scalar: int) -> DeviceKey:
        y = SecretScalar(self.curve, scalar % self.curve.order)
        return ScalarShare(y, self.use, label="memory", custody=IN_MEMORY)

    def composites(self, scalars: list[int]) -> list[CompositeKey]:
        """The key of these scalars, once for each: that one is in the device."""
        places = [
            [self.in_device(s) if number == here else self.in_memory(s) for number, s in pairs]
            for pairs in [list(enumerate(scalars))]
            for here in range(len(scalars))
        ]
        return [
            CompositeKey(combine([share.public for share in shares]), self.use, shares)
            for shares in places
        ]

    def check_whole(self, scalars: list[int], E: Point, total: Point) -> None:
        """Decryption finds the printed result, authentication gives it."""
        for key in self.composites(scalars):
            assert total.agreement_octets() in list(key.agreements(E))
            assert key.agree(E) == key.agree(E, blinded=True) == total


# -- one check for each kind -----------------------------------------------------------------------


def keypair(bench: Bench, i: Members, e: Members) -> None:
    key = bench.in_device(int(e["scalar"]))
    if "public" in e:
        assert same(key.public, e["public"])


def private_key(bench: Bench, i: Members, e: Members) -> None:
    private = bytes.fromhex(i.get("private") or e["private"])
    key = bench.in_device(expanded(bench.curve, private)[0])
    assert key.public.encode().hex() == e["public"]


def raw_share(bench: Bench, i: Members, e: Members) -> None:
    """A scalar that no clamping device can take as it is (threshold §10)."""
    key = bench.in_device(int(e["scalar"]))
    assert key.public.encode().hex() == e["share_public_signed"]


def device_composite_key(bench: Bench, i: Members, e: Members) -> None:
    """The device's base key in the HSM, the administrator's contribution in memory."""
    y = bench.in_memory(int(e["contribution_scalar"]))
    assert y.public.encode().hex() == e["contribution_public"]
    base = bench.in_device(BASE_SCALARS[i["base_public"]])
    assert base.public.encode().hex() == i["base_public"]
    key = CompositeKey(point_of(bench.curve, e["composite_public"]), bench.use, [base, y])
    peer = SecretScalar.random(bench.curve)
    assert key.agree(peer.public()) == peer.times(key.public)


def cogeneration(bench: Bench, i: Members, e: Members) -> None:
    scalars = [int(s) for s in i.get("scalars") or (i["scalar_1"], i["scalar_2"])]
    peer = SecretScalar.random(bench.curve)
    names = ("composite_public", "public", "public_signed", "public_unsigned", "published_public")
    printed = [e[name] for name in names if name in e]
    assert printed
    for key in bench.composites(scalars):
        assert all(same(key.public, octets) for octets in printed)
        assert key.agree(peer.public()) == peer.times(key.public)


def agreement(bench: Bench, i: Members, e: Members) -> None:
    answer = bench.in_device(int(i["scalar"])).agree(point_of(bench.curve, i["ephemeral_public"]))
    assert answer.x == int(e["u"])
    assert answer.octets().hex() == e["encoded"]


def ladder_recovery(bench: Bench, i: Members, e: Members) -> None:
    kP = recover_plain(
        bench.in_device(int(i["scalar"])), bench.curve.point(int(i["u"]), int(i["v"]))
    )
    assert (kP.x, kP.y) == (int(e["result_u"]), int(e["result_v"]))


def combination(bench: Bench, i: Members, e: Members) -> None:
    scalars = [int(i[name]) for name in ("scalar_1", "scalar_2")]
    E = bench.curve.point(int(i["ephemeral_u"]), int(i["ephemeral_v"]))
    for scalar, name in zip(scalars, ("contribution_1", "contribution_2"), strict=True):
        assert recover_plain(bench.in_device(scalar), E).encode().hex() == e[name]
    bench.check_whole(scalars, E, bench.curve.point(int(e["sum_u"]), int(e["sum_v"])))


def split_decrypt(bench: Bench, i: Members, e: Members) -> None:
    scalars = [int(s) for s in i["shares"]]
    _check_contributions(bench, scalars, i, e)


def shamir_decrypt(bench: Bench, i: Members, e: Members) -> None:
    """Each share is weighted before it enters the device: afterwards only sums are formed."""
    shares = {int(index): int(s) for index, s in i["shares"].items()}
    weights = coefficients(bench.curve, i["selected"])
    scalars = [weights[j] * shares[j] % bench.curve.order for j in i["selected"]]
    _check_contributions(bench, scalars, i, e)


def _check_contributions(bench: Bench, scalars: list[int], i: Members, e: Members) -> None:
    E = point_of(bench.curve, i["ephemeral_public"])
    for scalar, printed in zip(scalars, e["contributions"], strict=True):
        assert recover_plain(bench.in_device(scalar), E).encode().hex() == printed
    bench.check_whole(scalars, E, point_of(bench.curve, e["sum"]))


def two_of_three(bench: Bench, i: Members, e: Members) -> None:
    E = bench.curve.base.multiply(int(i["ephemeral_scalar"]))
    scalars = [int(e[name]) for name in ("service_share", "user_share")]
    for scalar, name in zip(scalars, ("service", "user"), strict=True):
        contribution = recover_plain(bench.in_device(scalar), E)
        assert contribution.encode().hex() == e[f"{name}_contribution"]
    bench.check_whole(scalars, E, point_of(bench.curve, e["agreement"]))


def hardware_share(bench: Bench, i: Members, e: Members) -> None:
    """The vectors that were computed for a device like this one."""
    curve = bench.curve
    device = bench.in_device(int(i["device_secret_for_checking"]))
    software = bench.in_memory(int(i["software_scalar"]))
    X, S = affine(curve, i["device_public"]), affine(curve, i["S"])
    assert device.public == X
    assert device.agree(S).x == int(e["device_x_of_xS"])
    assert device.agree(S + curve.base).x == int(e["device_x_of_x_S_plus_G"])
    assert recover_plain(device, S) == affine(curve, e["recovered_xS"])
    key = CompositeKey(affine(curve, e["composite_public_additive"]), bench.use, [device, software])
    printed = {int(x).to_bytes(curve.field_size, curve.byteorder) for x in e["candidates_additive"]}
    assert set(key.agreements(S)) == printed
    assert key.agree(S).agreement_octets().hex() == e["agreement_additive_octets"]


CHECKS: dict[str, Callable[[Bench, Members, Members], None]] = {
    "account-private-key": private_key,
    "agreement": agreement,
    "cogeneration": cogeneration,
    "combination-corrected": combination,
    "device-composite-key": device_composite_key,
    "hardware-share": hardware_share,
    "keypair": keypair,
    "ladder-recovery": ladder_recovery,
    "profile-device-key": private_key,
    "raw-share": raw_share,
    "shamir-decrypt": shamir_decrypt,
    "split-decrypt": split_decrypt,
    "two-of-three": two_of_three,
}
BASE_SCALARS = {
    record["expected"]["public"]: int(record["expected"]["scalar"])
    for _, record in VERIFIED
    if record["kind"] == "profile-device-key"
}
COVERED = [
    (name, record)
    for name, record in VERIFIED
    if record["kind"] in CHECKS and curve_of(record["inputs"]).family != "edwards"
    # Of one published device, only the public keys were.
    if record["inputs"].get("base_public", "") in {"", *BASE_SCALARS}
]


@pytest.fixture
def softhsm_token(softhsm_token: Softhsm) -> Softhsm:
    text = softhsm_token.conf.read_text()
    few = text.replace("slots.mechanisms = ALL", f"slots.mechanisms = {','.join(WITHOUT_RSA)}")
    assert few != text
    softhsm_token.conf.write_text(few)  # read when the module is initialised: at its first use
    return softhsm_token


@pytest.mark.parametrize("record", [r for _, r in COVERED], ids=[name for name, _ in COVERED])
def test_vector(token: Pkcs11Token, record: Members) -> None:
    authenticates = "uthenticat" in str(record["inputs"].get("key_name"))
    use = Use.AUTHENTICATE if authenticates else Use.ENCRYPT
    bench = Bench(token, curve_of(record["inputs"]), use)
    CHECKS[record["kind"]](bench, record["inputs"], record["expected"])


def test_nothing_is_left_out_unnoticed() -> None:
    kinds = [(record["kind"], curve_of(record["inputs"]).name) for _, record in COVERED]
    assert len(kinds) == 78
    assert {kind for kind, _ in kinds} == CHECKS.keys()
    assert {curve for _, curve in kinds} == {"P-256", "P-384", "P-521", "X25519", "X448"}
    assert kinds.count(("device-composite-key", "X448")) == 2
