"""An envelope of ours opened and verified by nothing but `cryptography`, from hsm-1's text.

Every formula of hsm-1 §2-§3 is written out here a second time, without the modules that made the
envelope; where both agree, others can build to it.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mesh_hsm import dare
from mesh_hsm.curves import Point, curve

CONTENT = b"The CEO told me the product launch is today."
Z = bytes(range(1, 33))


def b64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def frame(*fields: bytes) -> bytes:
    return b"".join(len(field).to_bytes(2, "big") + field for field in fields)


def hkdf(ikm: bytes, info: bytes, size: int, salt: bytes | None = None) -> bytes:
    return HKDF(hashes.SHA512(), size, salt=salt, info=info).derive(ikm)


def fp(der: bytes) -> bytes:
    return hashlib.sha512(b"PKIXKey:" + hashlib.sha512(der).digest()).digest()


def spki(public: ec.EllipticCurvePublicKey) -> bytes:
    return public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


class X25519Holder:
    name, der = "X25519", bytes.fromhex("302e300706032b656e05000323000420")

    def __init__(self) -> None:
        self.key = X25519PrivateKey.from_private_bytes(Z)
        self.u = self.key.public_key().public_bytes_raw()
        self.fp = fp(self.der + self.u)
        self.public: Point = curve(self.name).decode_x(self.u)

    def agree(self, epk: bytes) -> bytes:
        assert len(epk) == 33
        return self.key.exchange(X25519PublicKey.from_public_bytes(epk[:32]))


class X448Holder:
    name, der = "X448", bytes.fromhex("3047300706032b656f0500033c000439")

    def __init__(self) -> None:
        self.key = X448PrivateKey.from_private_bytes(Z + bytes(24))
        self.public: Point = curve(self.name).decode_x(self.key.public_key().public_bytes_raw())
        self.fp = fp(self.der + self.public.encode())

    def agree(self, epk: bytes) -> bytes:
        assert len(epk) == 57
        return self.key.exchange(X448PublicKey.from_public_bytes(epk[:56]))


class NistHolder:
    def __init__(self, name: str, library: ec.EllipticCurve) -> None:
        self.name, self.library = name, library
        self.key = ec.derive_private_key(int.from_bytes(Z, "big") >> 8, library)
        public = self.key.public_key()
        self.fp = fp(spki(public))
        octets = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        self.public: Point = curve(name).decode(octets)

    def agree(self, epk: bytes) -> bytes:
        assert epk[0] == 4
        peer = ec.EllipticCurvePublicKey.from_encoded_point(self.library, epk)
        return self.key.exchange(ec.ECDH(), peer)


HOLDERS: dict[str, Callable[[], Any]] = {
    "X25519": X25519Holder,
    "X448": X448Holder,
    "P-256": lambda: NistHolder("P-256", ec.SECP256R1()),
    "P-384": lambda: NistHolder("P-384", ec.SECP384R1()),
    "P-521": lambda: NistHolder("P-521", ec.SECP521R1()),
}


def open_payload(header: Any, payload: bytes, seed: bytes) -> bytes:
    P = json.loads(b64(header["protected"]))
    okm = hkdf(seed, frame(b"mesh-hsm/1 payload", b"A256GCM"), 76, b64(P["Salt"]))
    assert b64(P["Commit"]) == okm[44:]
    return AESGCM(okm[:32]).decrypt(okm[32:44], payload, header["protected"].encode("ascii"))


@pytest.mark.parametrize("name", HOLDERS)
def test_a_recipient_opens_it_with_the_library_alone(name: str) -> None:
    holder = HOLDERS[name]()
    sink = BytesIO()
    dare.encode(
        BytesIO(CONTENT),
        sink,
        recipients=[dare.Recipient(holder.public)],
        meta=dare.ContentMeta(cty="text/plain", filename="a.txt"),
        size=len(CONTENT),
        envelope_id="NAAA",
    )
    file = sink.getvalue()
    at = file.index(b",\x8b")
    header, size = json.loads(file[1:at]), int.from_bytes(file[at + 2 : at + 10], "big")
    assert file[at + 10 + size :] == b"{}]\n"
    assert header.keys() == {"enc", "protected"}
    assert header["enc"] == "A256GCM"
    octets = b64(header["protected"])
    P = json.loads(octets)
    assert octets == json.dumps(P, separators=(",", ":")).encode()
    assert list(P) == [
        "v", "enc", "EnvelopeId", "ContentMetaData", "Salt", "Commit", "recipients",
    ]  # fmt: skip
    assert (P["v"], P["enc"], P["EnvelopeId"]) == ("hsm-1", "A256GCM", "NAAA")
    assert json.loads(b64(P["ContentMetaData"])) == {"cty": "text/plain", "Filename": "a.txt"}
    (entry,) = P["recipients"]
    assert entry.keys() == {"kid", "epk", "wmk"}
    epk = entry["epk"]["PublicKeyECDH"]
    assert epk["crv"] == name
    octets = b64(epk["Public"])
    info = frame(b"mesh-hsm/1 kek", b"A256GCM", name.encode(), octets, holder.fp)
    seed = aes_key_unwrap(hkdf(holder.agree(octets), info, 32), b64(entry["wmk"]))
    assert open_payload(header, file[at + 10 : at + 10 + size], seed) == CONTENT


def test_an_activation_needs_both_keys() -> None:
    device, once = HOLDERS["P-384"](), HOLDERS["X448"]()
    header, payload, trailer = dare.seal(
        CONTENT, recipients=[dare.DoubleRecipient(device.public, once.public)]
    )
    assert trailer == {}
    (entry,) = json.loads(b64(header["protected"]))["recipients"]
    assert entry.keys() == {"kid", "epk", "kid2", "epk2", "wmk"}
    one, two = (b64(entry[name]["PublicKeyECDH"]["Public"]) for name in ("epk", "epk2"))
    info = frame(b"mesh-hsm/1 kek2", b"A256GCM", b"P-384", one, device.fp, b"X448", two, once.fp)
    kek = hkdf(device.agree(one) + once.agree(two), info, 32)
    seed = aes_key_unwrap(kek, b64(entry["wmk"]))
    assert open_payload(header, b64(payload), seed) == CONTENT


@pytest.mark.parametrize(
    ("name", "library", "digest"),
    [
        ("P-256", ec.SECP256R1(), hashes.SHA256()),
        ("P-384", ec.SECP384R1(), hashes.SHA384()),
        ("P-521", ec.SECP521R1(), hashes.SHA512()),
    ],
)
def test_an_ecdsa_signature_verifies_with_the_library_alone(
    signer: Any, name: str, library: ec.EllipticCurve, digest: hashes.HashAlgorithm
) -> None:
    one = signer(name)
    header, payload, trailer = dare.seal(CONTENT, signers=[one])
    assert header.keys() == {"dig", "protected"}
    assert header["dig"] == "S512"
    P = json.loads(b64(header["protected"]))
    assert list(P) == ["v", "enc", "EnvelopeId", "ContentMetaData", "signers"]
    assert P["enc"] == "none"
    assert b64(payload) == CONTENT
    public = ec.EllipticCurvePublicKey.from_encoded_point(library, one.public.encode())
    assert P["signers"] == [_b64(fp(spki(public)))]
    ((entry),) = trailer["signatures"]
    assert entry.keys() == {"alg", "kid", "signature"}
    assert entry["alg"] == "MH1"
    M = message(fp(spki(public)), header, b64(payload))
    signature = b64(entry["signature"])
    half = len(signature) // 2
    r, s = (int.from_bytes(part, "big") for part in (signature[:half], signature[half:]))
    assert s <= one.public.curve.order // 2
    public.verify(encode_dss_signature(r, s), M, ec.ECDSA(digest))


@pytest.mark.parametrize(
    ("name", "der"),
    [
        ("Ed25519", "302e300706032b6570050003230004 20"),
        ("Ed448", "3047300706032b65710500033c0004 39"),
    ],
)
def test_an_eddsa_signature_verifies_with_the_library_alone(
    signer: Any, decryptor: Any, name: str, der: str
) -> None:
    one = signer(name)
    header, payload, trailer = dare.seal(
        CONTENT, signers=[one], recipients=[dare.Recipient(decryptor("P-256").public)]
    )
    assert header.keys() == {"enc", "dig", "protected"}
    library = one._eddsa.public_key()
    M = message(fp(bytes.fromhex(der) + library.public_bytes_raw()), header, b64(payload))
    library.verify(b64(trailer["signatures"][0]["signature"]), M)


def message(signer: bytes, header: Any, payload: bytes) -> bytes:
    protected = hashlib.sha512(header["protected"].encode("ascii")).digest()
    digest = hashlib.sha512(payload).digest()
    return frame(b"mesh-hsm/1 signature", signer, protected, digest)


def _b64(octets: bytes) -> str:
    return urlsafe_b64encode(octets).decode().rstrip("=")
