"""Every verified vector of keys and agreements, by kind; a kind that is left out says why.

The JSON files are the published and computed examples as they are, each with its source. Scalars
in them are public, so they are multiplied by ordinary point arithmetic here.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mesh_hsm.curves import (
    CURVES,
    ED25519,
    Curve,
    Point,
    SecretScalar,
    XOnly,
    recover,
)
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.threshold import CompositeKey, ScalarShare, combine, recover_plain
from mesh_hsm.threshold.lagrange import coefficients, evaluate
from mesh_hsm.uri import Uri

FILES = sorted((Path(__file__).parent / "threshold").glob("*.json"))
IN_SIGNATURES = {  # test_threshold_signature_vectors.py
    "check-point",
    "diagnosis",
    "ecdsa-multiplicative",
    "lagrange",
    "related-key-attack",
    "shamir-shares",
    "threshold-signature",
    "threshold-signature-corrected",
    "threshold-signature-ctx",
}
NOT_COVERED = {
    "statistics": "counts of somebody's random trials, without data; ours are property tests",
    "copy": "says that two published members are equal: nothing to compute",
}
Members = dict[str, Any]


# -- private octets to scalars (threshold §1) ----------------------------------------------------


def clamped(curve: Curve, private: bytes) -> bytes:
    """RFC 7748 §5."""
    octets = bytearray(private)
    octets[0] &= 0xF8 if curve.cofactor == 8 else 0xFC
    if curve.name == "X25519":
        octets[-1] &= 0x7F
    octets[-1] |= 0x40 if curve.name == "X25519" else 0x80
    return bytes(octets)


def expanded(curve: Curve, private: bytes) -> tuple[int, bytes]:
    """The scalar of private octets, and an EdDSA key's prefix."""
    if curve.family == "weierstrass":
        return int.from_bytes(private, "big"), b""
    if curve.family == "montgomery":
        return int.from_bytes(clamped(curve, private), "little"), b""
    if curve is ED25519:
        digest = hashlib.sha512(private).digest()
        return int.from_bytes(digest[:32], "little") & ~7 & (2**255 - 1) | 2**254, digest[32:]
    digest = hashlib.shake_256(private).digest(114)
    return int.from_bytes(digest[:56], "little") & ~3 | 2**447, digest[57:]


def public_of(curve: Curve, scalar: int) -> Point:
    """sG, by plain arithmetic and, where the library can, by the library as well."""
    plain = curve.base.multiply(scalar)
    if curve.family != "edwards":
        assert SecretScalar(curve, scalar % curve.order).public() == plain
    return plain


def hkdf(ikm: bytes, curve: Curve, *, salt: bytes = b"", info: bytes = b"") -> bytes:
    size = curve.scalar_size
    return HKDF(hashes.SHA512(), size, salt or None, info).derive(ikm)


def fingerprint(point: Point, content_type: bytes = b"PKIXKey") -> str:
    """The UDF of a CFRG key at 140 bits, by hand (udf §3, §6)."""
    octets = point.encode()[:32] if point.curve.name == "X25519" else point.encode()
    oid = bytes(
        [0x2B, 0x65, {"X25519": 110, "X448": 111, "Ed25519": 112, "Ed448": 113}[point.curve.name]]
    )

    def der(tag: int, content: bytes) -> bytes:
        return bytes([tag, len(content)]) + content

    algorithm = der(0x30, der(0x06, oid) + b"\x05\x00")
    info = der(0x30, algorithm + der(0x03, b"\0" + der(0x04, octets)))
    digest = hashlib.sha512(content_type + b":" + hashlib.sha512(info).digest()).digest()
    text = base64.b32encode(b"\x60" + digest).decode()[:28]
    return "-".join(text[i : i + 4] for i in range(0, 28, 4))


def seed_octets(udf: str) -> bytes:
    """The octets of a seed UDF after its type; bits beyond whole octets are dropped (udf §1.6)."""
    text = udf.replace("-", "")
    value = 0
    for character in text:
        value = value << 5 | "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".index(character)
    size, rest = divmod(5 * len(text), 8)
    octets = (value >> rest).to_bytes(size, "big")
    assert octets[0] == 200
    return octets[1:]


def curve_of(i: Members) -> Curve:
    name = i.get("algorithm") or i.get("curve") or i["crv"]
    aliases = {"curve25519": "X25519", "curve448": "X448", "X448z": "X448"}
    return CURVES[aliases.get(name, name)]


def point_of(curve: Curve, octets: str) -> Point:
    """A point in the signed form or, where the vector has only that, the plain one."""
    raw = bytes.fromhex(octets)
    if curve.family == "montgomery" and len(raw) == curve.scalar_size:
        return curve.decode_x(raw)
    return curve.decode(raw)


def affine(curve: Curve, pair: Members) -> Point:
    x, y = pair.values()
    return curve.point(int(x), int(y))


def same(point: Point, octets: str) -> bool:
    """Equal to the encoding, the plain one of a Montgomery point included."""
    raw = bytes.fromhex(octets)
    if point.curve.family == "montgomery" and len(raw) == point.curve.scalar_size:
        return point.agreement_octets() == raw
    return point.encode() == raw


# -- one check for each kind ---------------------------------------------------------------------


def keypair(i: Members, e: Members) -> None:
    curve = curve_of(i)
    scalar, prefix = expanded(curve, bytes.fromhex(i["private"]))
    assert scalar == int(e["scalar"])
    public = public_of(curve, scalar)
    if "public" in e:
        assert same(public, e["public"])
        first, second = ("u", "v") if curve.family == "montgomery" else ("x", "y")
        assert (public.x, public.y) == (int(e[first]), int(e[second]))
    assert prefix.hex() == e.get("prefix", "")


def udf_derive(i: Members, e: Members) -> None:
    curve = curve_of(i)
    ikm = seed_octets(i["udf"])
    place = "salt" if "salt=algorithm" in i["derivation"] else "info"
    private = hkdf(ikm, curve, **{place: ikm[:2]})
    if curve.family == "montgomery":
        private = clamped(curve, private)
    assert int.from_bytes(ikm[:2], "big") == curve.algorithm_id
    assert private.hex() == e["private"]


def cogeneration(i: Members, e: Members) -> None:
    curve = curve_of(i)
    scalars = [int(s) for s in i.get("scalars") or (i["scalar_1"], i["scalar_2"])]
    if "private" in i:
        assert scalars == [expanded(curve, bytes.fromhex(p))[0] for p in i["private"]]
    publics = [public_of(curve, s) for s in scalars]
    printed = i.get("public") or [i[k] for k in ("public_1", "public_2") if k in i]
    assert not printed or all(map(same, publics, printed))
    z = sum(scalars) % curve.order
    assert z == int(e["scalar"])
    assert curve.scalar_octets(z).hex() == e.get("scalar_octets", e.get("encoded_scalar"))
    Z = combine(publics)
    assert public_of(curve, z) == Z
    names = ("composite_public", "public", "public_signed", "public_unsigned", "published_public")
    found = [e[name] for name in names if name in e]
    assert found
    assert all(same(Z, octets) for octets in found)
    coordinates = [int(e[name]) for name in ("u", "v", "x", "y") if name in e]
    assert coordinates in ([], [Z.x, Z.y])


def profile_device_key(i: Members, e: Members) -> None:
    curve = curve_of(i)
    ikm = bytes.fromhex(i["ikm"])
    info = ikm[:2] + i["key_name"].encode()
    assert info.hex() == i["hkdf_info"]
    private = hkdf(ikm, curve, info=info)
    assert private.hex() == e["private"]
    scalar, _ = expanded(curve, private)
    assert scalar == int(e["scalar"])
    public = public_of(curve, scalar)
    assert public.encode().hex() == e["public"]
    assert fingerprint(public) == e["fingerprint"]


def device_composite_key(i: Members, e: Members) -> None:
    curve = curve_of(i)
    ikm = bytes.fromhex(i["ikm"])
    private = hkdf(ikm, curve, info=ikm[:2] + i["key_name"].encode())
    assert private.hex() == e["contribution_private"]
    scalar, _ = expanded(curve, private)
    assert scalar == int(e["contribution_scalar"])
    Y = public_of(curve, scalar)
    assert Y.encode().hex() == e["contribution_public"]
    Z = combine([point_of(curve, i["base_public"]), Y])
    assert Z.encode().hex() == e["composite_public"]
    assert fingerprint(Z) == e["composite_fingerprint"]


def account_private_key(i: Members, e: Members) -> None:
    curve = curve_of(i)
    public = public_of(curve, expanded(curve, bytes.fromhex(i["private"]))[0])
    assert public.encode().hex() == e["public"]
    assert fingerprint(public) == e["fingerprint"]


def key_overlay(i: Members, e: Members) -> None:
    curve, old = curve_of(i), b"application/x509-keyinfo"
    base = point_of(curve, i["base_public"])
    assert fingerprint(base, old) == i["base_fingerprint"]
    overlay = public_of(curve, expanded(curve, bytes.fromhex(i["overlay_private"]))[0])
    Z = combine([base, overlay])
    assert Z.encode().hex() == e["composite_public"]
    assert fingerprint(Z, old) == e["composite_fingerprint"]


def raw_share(i: Members, e: Members) -> None:
    curve = curve_of(i)
    scalar = curve.scalar(bytes.fromhex(i["private"]))
    assert scalar == int(e["scalar"])
    assert public_of(curve, scalar).encode().hex() == e["share_public_signed"]
    assert clamped(curve, bytes.fromhex(i["private"])).hex() != i["private"]


def key_split(i: Members, e: Members) -> None:
    curve = curve_of(i)
    rest = (int(i["scalar"]) - int(i["scalar_1"])) % curve.order
    assert rest == int(e["scalar_2"])
    assert curve.scalar_octets(rest).hex() == e["encoded"]


def agreement(i: Members, e: Members) -> None:
    curve = curve_of(i)
    E = point_of(curve, i["ephemeral_public"])
    assert E.x == public_of(curve, int(i["ephemeral_scalar"])).x
    answer = share(curve, int(i["scalar"])).agree(E)
    assert isinstance(answer, XOnly)
    assert answer.x == int(e["u"])
    assert answer.octets().hex() == e["encoded"]


def ladder_recovery(i: Members, e: Members) -> None:
    """The ladder's two registers are x(kP) and x(kP + P): what recovery starts from."""
    curve = curve_of(i)
    P, p = curve.point(int(i["u"]), int(i["v"])), curve.field_prime
    x1, x3 = (int(e[f"x_{j}"]) * pow(int(e[f"z_{j}"]), -1, p) % p for j in (2, 3))
    kP = recover(P, XOnly(curve, x1), XOnly(curve, x3))
    assert (kP.x, kP.y) == (int(e["result_u"]), int(e["result_v"]))
    assert kP == P.multiply(int(i["scalar"]))


def combination(i: Members, e: Members) -> None:
    curve = curve_of(i)
    shares = [share(curve, int(i[name])) for name in ("scalar_1", "scalar_2")]
    E = curve.point(int(i["ephemeral_u"]), int(i["ephemeral_v"]))
    for j in (1, 2):
        assert recover_plain(shares[j - 1], E).encode().hex() == e[f"contribution_{j}"]
    assert_whole(shares, E, curve.point(int(e["sum_u"]), int(e["sum_v"])))
    assert curve.decode_x(bytes.fromhex(e["agreement"])).x == int(e["sum_u"])


def split_decrypt(i: Members, e: Members) -> None:
    curve = curve_of(i)
    scalars = [int(s) for s in i["shares"]]
    assert sum(scalars) % curve.order == int(i["scalar"]) % curve.order
    E = point_of(curve, i["ephemeral_public"])
    assert public_of(curve, int(i["ephemeral_scalar"])) == E
    contributions = [E.multiply(s) for s in scalars]
    assert [C.encode().hex() for C in contributions] == e["contributions"]
    total = combine(contributions)
    assert total.encode().hex() == e["sum"]
    if curve.family != "edwards":
        assert_whole([share(curve, s) for s in scalars], E, total)


def shamir_decrypt(i: Members, e: Members) -> None:
    curve = curve_of(i)
    polynomial = [int(a) for a in i["polynomial"]]
    shares = {int(index): int(s) for index, s in i["shares"].items()}
    assert shares == {index: evaluate(curve, polynomial, index) for index in shares}
    weights = coefficients(curve, i["selected"])
    assert weights == {int(index): int(w) for index, w in e["lagrange"].items()}
    E = point_of(curve, i["ephemeral_public"])
    assert public_of(curve, int(i["ephemeral_scalar"])) == E
    weighted = [weights[j] * shares[j] % curve.order for j in i["selected"]]
    contributions = [E.multiply(shares[j]).multiply(weights[j]) for j in i["selected"]]
    assert contributions == [E.multiply(s) for s in weighted]
    assert [C.encode().hex() for C in contributions] == e["contributions"]
    total = combine(contributions)
    assert total.encode().hex() == e["sum"]
    assert total == E.multiply(polynomial[0])
    if curve.family != "edwards":
        assert_whole([share(curve, s) for s in weighted], E, total)


def two_of_three(i: Members, e: Members) -> None:
    curve = curve_of(i)
    n, k = curve.order, int(i["k"])
    sets = {name: [int(s) for s in scalars] for name, scalars in i["key_sets"].items()}
    a, b = int(i["a"]), int(i["b"])
    assert sets == {"A": [a], "B": [(k - a) % n, b], "C": [(k - a) % n, (k - b) % n]}

    def complete(scalars: set[int]) -> bool:
        sums = (sum(c) % n for size in (1, 2) for c in combinations(sorted(scalars), size))
        return k % n in sums

    assert {name: complete(set(sets[name])) for name in sets} == e["single_complete"]
    pairs = {x + y: complete({*sets[x], *sets[y]}) for x, y in combinations(sets, 2)}
    assert pairs == e["pair_complete"]
    user_a, user_b = (a - int(i["A_service"])) % n, (k - a - int(i["B_service"])) % n
    assert (user_a, user_b) == (int(e["A_user"]), int(e["B_user"]))
    service = (int(i["A_service"]) + int(i["B_service"])) % n
    user = (user_a + user_b) % n
    assert (service, user) == (int(e["service_share"]), int(e["user_share"]))
    E = public_of(curve, int(i["ephemeral_scalar"]))
    shares = [share(curve, service), share(curve, user)]
    for one, name in zip(shares, ("service", "user"), strict=True):
        assert recover_plain(one, E).encode().hex() == e[f"{name}_contribution"]
    total = point_of(curve, e["agreement"])
    assert total == E.multiply(k)
    assert_whole(shares, E, total)


def hardware_share(i: Members, e: Members) -> None:
    """Candidates by one call, the point by two. §6(c), the multiplicative form, is not offered."""
    curve = curve_of(i)
    k, y = int(i["device_secret_for_checking"]), int(i["software_scalar"])
    device = XOnlyDevice(affine(curve, i["device_public"]), SecretScalar(curve, k % curve.order))
    software = share(curve, y)
    S = affine(curve, i["S"])
    assert S.x == public_of(curve, int(i["ephemeral_scalar"])).x  # any lift of S serves (§6)
    assert device.agree(S).x == int(e["device_x_of_xS"])
    assert device.agree(S + curve.base).x == int(e["device_x_of_x_S_plus_G"])
    assert device.agree(S.multiply(y)).x == int(e["device_x_of_x_yS"])
    assert recover_plain(device, S) == affine(curve, e["recovered_xS"])
    assert recover_plain(software, S) == affine(curve, e["software_yS"])
    Z = affine(curve, e["composite_public_additive"])
    key = CompositeKey(Z, Use.ENCRYPT, [device, software])
    width = curve.field_size
    printed = {int(x).to_bytes(width, curve.byteorder) for x in e["candidates_additive"]}
    assert set(key.agreements(S)) == printed
    for blinded in (False, True):
        whole = key.agree(S, blinded=blinded)
        assert whole.x == int(e["agreement_additive"])
        assert whole.agreement_octets().hex() == e["agreement_additive_octets"]


CHECKS: dict[str, Callable[[Members, Members], None]] = {
    "account-private-key": account_private_key,
    "agreement": agreement,
    "cogeneration": cogeneration,
    "combination-corrected": combination,
    "device-composite-key": device_composite_key,
    "hardware-share": hardware_share,
    "key-overlay": key_overlay,
    "key-split-corrected": key_split,
    "keypair": keypair,
    "ladder-recovery": ladder_recovery,
    "profile-device-key": profile_device_key,
    "raw-share": raw_share,
    "shamir-decrypt": shamir_decrypt,
    "split-decrypt": split_decrypt,
    "two-of-three": two_of_three,
    "udf-derive": udf_derive,
}
VERIFIED = [
    (f"{path.stem}-{number}-{record['name']}", record)
    for path in FILES
    for number, record in enumerate(json.loads(path.read_text()))
    if record["verified"]
]
COVERED = [(name, record) for name, record in VERIFIED if record["kind"] in CHECKS]


@pytest.mark.parametrize("record", [r for _, r in COVERED], ids=[name for name, _ in COVERED])
def test_vector(record: Members) -> None:
    CHECKS[record["kind"]](record["inputs"], record["expected"])


def test_every_verified_vector_is_covered_or_says_why_not() -> None:
    assert len(FILES) == 7
    kinds = [record["kind"] for _, record in VERIFIED]
    assert set(kinds) == CHECKS.keys() | NOT_COVERED.keys() | IN_SIGNATURES
    assert len(COVERED) == 145
    assert sum(kind in IN_SIGNATURES for kind in kinds) == 69
    assert sum(kind in NOT_COVERED for kind in kinds) == 13
    assert len(VERIFIED) == 145 + 69 + 13


# -- parts ---------------------------------------------------------------------------------------

_IN_MEMORY = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "test")


class XOnlyDevice(DeviceKey):
    """A device whose public key has whichever sign the vector chose."""

    def __init__(self, public: Point, x: SecretScalar) -> None:
        self.uri = Uri("vector")
        self.label = "device"
        self.use = Use.ENCRYPT
        self.public = public
        self._x = x

    def custody(self) -> CustodyStatement:
        return _IN_MEMORY

    def _agree(self, point: Point) -> XOnly:
        return self._x.x_of(point)


def share(curve: Curve, scalar: int) -> ScalarShare:
    y = SecretScalar(curve, scalar % curve.order)
    return ScalarShare(y, Use.ENCRYPT, label=str(scalar)[:4], custody=_IN_MEMORY)


def assert_whole(shares: list[ScalarShare], S: Point, expected: Point) -> None:
    """Every way of combining the shares comes to the expected point."""
    key = CompositeKey(combine([s.public for s in shares]), Use.ENCRYPT, shares)
    candidates = list(key.agreements(S))
    assert len(candidates) == 2 ** (len(shares) - 1)
    assert candidates.count(expected.agreement_octets()) == 1
    assert key.agree(S) == key.agree(S, blinded=True) == expected
