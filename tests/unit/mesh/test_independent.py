"""A second verifier of a ConnectionDevice, from the text of hsm-1 alone.

It shares no code with the library: JSON, hashes, ``cryptography`` for ECDSA, and affine arithmetic
on public P-384 points for the proofs. What it accepts, others can accept.
"""

from __future__ import annotations

import base64
import json
from hashlib import sha512
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Point = tuple[int, int] | None  # None: the neutral element

p = 2**384 - 2**128 - 2**96 + 2**32 - 1  # FIPS 186-4 D.1.2.4
n = int("F" * 48 + "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973", 16)
G: Point = (
    int(
        "AA87CA22BE8B05378EB1C71EF320AD746E1D3B628BA79B98"
        "59F741E082542A385502F25DBF55296C3A545E3872760AB7",
        16,
    ),
    int(
        "3617DE4A96262C6F5D9E98BF9292DC29F8F41DBD289A147C"
        "E9DA3113B5F0B8C00A60B1CE1D7E819D7A431D7C90EA0E5F",
        16,
    ),
)


def add(P: Point, Q: Point) -> Point:
    if P is None or Q is None:
        return P or Q
    if P[0] == Q[0] and (P[1] + Q[1]) % p == 0:
        return None
    if P == Q:
        slope = (3 * P[0] * P[0] - 3) * pow(2 * P[1], -1, p)
    else:
        slope = (Q[1] - P[1]) * pow(Q[0] - P[0], -1, p)
    x = (slope * slope - P[0] - Q[0]) % p
    return x, (slope * (P[0] - x) - P[1]) % p


def negative(P: Point) -> Point:
    return None if P is None else (P[0], -P[1] % p)


def times(k: int, P: Point) -> Point:
    total: Point = None
    while k:
        if k & 1:
            total = add(total, P)
        P, k = add(P, P), k >> 1
    return total


def un64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def F(*fields: bytes | str) -> bytes:  # noqa: N802  the specification's own name
    octets = [field.encode() if isinstance(field, str) else field for field in fields]
    return b"".join(len(field).to_bytes(2, "big") + field for field in octets)


def library_key(octets: bytes) -> ec.EllipticCurvePublicKey:
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), octets)


def point(octets: bytes) -> Point:
    numbers = library_key(octets).public_numbers()  # the library checks the equation
    return numbers.x, numbers.y


def fp(octets: bytes) -> bytes:
    """udf §3, §6 and hsm-1 §1: over the ordinary SubjectPublicKeyInfo."""
    info = library_key(octets).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha512(b"PKIXKey:" + sha512(info).digest()).digest()


def udf(octets: bytes) -> str:
    text = base64.b32encode(bytes([96]) + fp(octets)).decode()[:28]
    return "-".join(text[at : at + 4] for at in range(0, 28, 4))


def key(value: Any) -> bytes:
    parameters = value["PublicParameters"]["PublicKeyECDH"]
    octets = un64(parameters["Public"])
    assert parameters["crv"] == "P-384"
    assert value["Udf"] == udf(octets)
    return octets


def payload(envelope: Any, tag: str) -> Any:
    value = json.loads(un64(envelope[1]))
    assert list(value) == [tag]
    return value[tag]


def check_signature(envelope: Any, signer: bytes, *, required: bool) -> None:
    """hsm-1 §3: M covers the signer's key, the protected header and the payload; low s."""
    header, octets, trailer = envelope
    protected = json.loads(un64(header["protected"]))
    assert header == {"dig": "S512", "protected": header["protected"]}
    assert (protected["v"], protected["enc"]) == ("hsm-1", "none")
    assert ([fp(signer)] == [un64(one) for one in protected["signers"]]) is required
    (entry,) = (one for one in trailer["signatures"] if one["kid"] == udf(signer))
    assert entry["alg"] == "MH1"
    signature = un64(entry["signature"])
    r, s = int.from_bytes(signature[:48], "big"), int.from_bytes(signature[48:], "big")
    assert len(signature) == 96
    assert s <= n // 2
    M = F(
        "mesh-hsm/1 signature",
        fp(signer),
        sha512(header["protected"].encode()).digest(),
        sha512(un64(octets)).digest(),
    )
    library_key(signer).verify(encode_dss_signature(r, s), M, ec.ECDSA(SHA384()))


def check_proof(use: str, base: bytes, combined: Any, digest: bytes, authority: str) -> None:
    """hsm-1 §5: s·B = T + c·(Z - X) over G, or s·X = T + c·Z for the signature key."""
    Z, proof = key(combined), un64(combined["Proof"])
    T, s = proof[:97], int.from_bytes(proof[97:], "big")
    assert len(proof) == 97 + 48
    assert s < n
    framed = F("mesh-hsm/1 contribution", "P-384", use, base, Z, T, digest, authority)
    c = int.from_bytes(sha512(framed).digest(), "big") % n
    X = point(base)
    difference = add(point(Z), negative(X))
    assert difference is not None
    B, statement = (X, point(Z)) if use == "Signature" else (G, difference)
    assert times(s, B) == add(point(T), times(c, statement))


def verify(connection_text: bytes, master_text: bytes, device_text: bytes, now: str) -> None:
    connection, master, device = map(json.loads, (connection_text, master_text, device_text))
    profile = payload(master, "ProfileMaster")
    own = payload(device, "ProfileDevice")
    claims = payload(connection, "ConnectionDevice")
    root, subject = key(profile["ProfileSignature"]), key(own["ProfileSignature"])
    check_signature(master, root, required=True)
    check_signature(device, subject, required=True)
    (administrator,) = map(key, profile["AdministratorSignature"])
    check_signature(connection, administrator, required=True)
    check_signature(connection, subject, required=False)
    digest = sha512(un64(device[1])).digest()
    assert claims["AuthorityUdf"] == udf(root)
    assert claims["SubjectUdf"] == udf(subject)
    assert un64(claims["ProfileDeviceDigest"]) == digest
    assert claims["ProfileMasterVersion"] <= profile["Version"]
    assert claims["Created"] < claims["NotOnOrAfter"]  # RFC 3339 in UTC sorts as text
    assert now < claims["NotOnOrAfter"]
    protected = json.loads(un64(connection[0]["protected"]))
    assert protected["EnvelopeId"] == udf(subject)
    for use in ("Encryption", "Signature", "Authentication"):
        check_proof(use, key(own[use]), claims[use], digest, claims["AuthorityUdf"])


NOW = "2026-11-23T12:00:00Z"


@pytest.fixture
def texts(mesh: Any, device: Any, activated: Any) -> list[bytes]:
    signed = (activated.connection, mesh.profile, device.request.value.device)
    return [one.text for one in signed]


def test_the_arithmetic_here_is_that_of_the_curve() -> None:
    assert times(n, G) is None
    assert times(n - 1, G) == negative(G)
    numbers = ec.derive_private_key(12345, ec.SECP384R1()).public_key().public_numbers()
    assert times(12345, G) == (numbers.x, numbers.y)


def test_a_stranger_verifies_a_connection_from_its_text(texts: list[bytes]) -> None:
    verify(*texts, now=NOW)


def test_a_stranger_notices_what_is_wrong(
    texts: list[bytes], connected: Any, stranger: Any, other_device: Any
) -> None:
    connection, master, device = texts
    with pytest.raises(ValueError, match="not enough values"):
        verify(connected.connection.text, master, device, now=NOW)  # not countersigned
    with pytest.raises(AssertionError):
        verify(connection, stranger.profile.text, device, now=NOW)
    with pytest.raises((AssertionError, ValueError)):
        verify(connection, master, other_device.request.value.device.text, now=NOW)
    with pytest.raises(AssertionError):
        verify(*texts, now="2027-11-23T12:00:00Z")
    header, octets, trailer = json.loads(connection)
    claims = json.loads(un64(octets))
    claims["ConnectionDevice"]["Serial"] = "NAAA"
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    with pytest.raises(InvalidSignature):
        verify(json.dumps([header, changed, trailer]).encode(), master, device, now=NOW)


@pytest.mark.parametrize("use", ["Encryption", "Signature", "Authentication"])
def test_a_stranger_checks_each_proof(texts: list[bytes], use: str) -> None:
    connection, master, device = (json.loads(text) for text in texts)
    own, claims = payload(device, "ProfileDevice"), payload(connection, "ConnectionDevice")
    digest = sha512(un64(device[1])).digest()
    authority = claims["AuthorityUdf"]
    check_proof(use, key(own[use]), claims[use], digest, authority)
    with pytest.raises(AssertionError):
        check_proof(use, key(own[use]), claims[use], bytes(64), authority)
    with pytest.raises(AssertionError):
        check_proof(use, key(own["ProfileSignature"]), claims[use], digest, authority)
    assert authority == udf(key(payload(master, "ProfileMaster")["ProfileSignature"]))
