"""Wrapping a share to somebody's TPM, from a machine without one.

Open this file to deal a share: it is encrypted to the storage key of the TPM that is to hold it, so
that it never appears in that machine's memory. Needs ``cryptography`` only. The construction is
that of Duplicate without inner wrapper (TPM 2.0 Part 1 §11.4.10, §23.3, Part 3 §13.3).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.kdf.kbkdf import KBKDFHMAC, CounterLocation, Mode

from mesh_hsm.curves import SecretScalar, curve
from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import FormatError
from mesh_hsm.provider import KeySpec
from mesh_hsm_tpm2 import templates
from mesh_hsm_tpm2.policies import Policy
from mesh_hsm_tpm2.structures import Alg, AuthValue, PublicArea, point_octets, sized

try:  # cryptography moved it; TPMs will go on using it
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    from cryptography.hazmat.primitives.ciphers.modes import CFB

_DUPLICATE, _STORAGE, _INTEGRITY = b"DUPLICATE\0", b"STORAGE", b"INTEGRITY"


@dataclass(frozen=True, slots=True)
class WrappedShare:
    """A share that one TPM can import. Nothing in it is secret.

    ``public`` is TPMT_PUBLIC, ``duplicate`` the content of TPM2B_PRIVATE, ``seed`` that of
    TPM2B_ENCRYPTED_SECRET, ``parent`` the storage key's name. ``has_auth``: the dealer chose an
    initial PIN, to be told to the device's owner by another way.
    """

    public: bytes
    duplicate: bytes
    seed: bytes
    parent: bytes
    has_auth: bool

    def to_json(self) -> dict[str, str | bool]:
        """The documented JSON form."""
        return {
            name: value if isinstance(value, bool) else base64.b64encode(value).decode()
            for name, value in (
                ("public", self.public),
                ("duplicate", self.duplicate),
                ("seed", self.seed),
                ("parent", self.parent),
                ("has_auth", self.has_auth),
            )
        }

    @classmethod
    def from_json(cls, text: bytes) -> WrappedShare:
        """Read the JSON form. Raises ``FormatError``."""
        try:
            value = json.loads(text)
            names = ("public", "duplicate", "seed", "parent")
            public, duplicate, seed, parent = (
                base64.b64decode(value[name], validate=True) for name in names
            )
            share = cls(public, duplicate, seed, parent, value["has_auth"])
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError("not a share wrapped to a TPM") from error
        if not isinstance(share.has_auth, bool) or share.to_json() != value:
            raise FormatError("not a share wrapped to a TPM")
        return share


def wrap_share(
    storage_key: bytes,
    scalar: int,
    spec: KeySpec,
    *,
    pcr_digest: bytes = b"",
    initial_auth: bytes = b"",
) -> WrappedShare:
    """Encrypt a scalar mod n to a TPM's storage key, as a key of ``spec``.

    ``storage_key`` is its TPMT_PUBLIC, which must be the TCG's P-256 storage template: compare its
    name with one certified by an EK-bound attestation key first, else the device's record says
    "parent: unattested". A ``spec`` with PCRs needs their ``pcr_digest`` on that device. Raises
    ``FormatError`` for another parent or a scalar outside [1, n).
    """
    parent = PublicArea.parse(storage_key)
    if replace(parent, unique=()) != templates.STORAGE_ROOT:
        raise FormatError("shares are wrapped to a P-256 storage root key of the TCG's template")
    if bool(spec.pcrs) != bool(pcr_digest):
        raise FormatError("a key with PCRs needs their digest, and only such a key")
    on = curve(spec.algorithm)
    if not 1 <= scalar < on.order:
        raise FormatError(f"a {on.name} share is a scalar in [1, n)")
    policy = Policy(tuple(sorted(set(spec.pcrs))), pcr_digest, spec.pin is not PinPolicy.NONE)
    template = templates.key(spec.algorithm, spec.use, policy, imported=True)
    area = replace(template, unique=point_octets(SecretScalar(on, scalar).public()))
    auth = AuthValue.of_pin(initial_auth) if initial_auth else AuthValue()
    sensitive = Alg.ECC.to_bytes(2, "big") + sized(auth.octets, b"", on.scalar_octets(scalar))
    duplicate, seed = _outer_wrap(parent, area.name, sized(sensitive))
    return WrappedShare(area.marshal(), duplicate, seed, parent.name, bool(initial_auth))


def _outer_wrap(parent: PublicArea, name: bytes, sensitive: bytes) -> tuple[bytes, bytes]:
    """TPM2B_PRIVATE and TPM2B_ENCRYPTED_SECRET contents for a parent with SHA-256 and AES-128."""
    seed, encrypted_seed = _seed_for(parent)
    cipher = Cipher(AES(_kdf_a(seed, _STORAGE, name, 128)), CFB(bytes(16))).encryptor()
    ciphertext = cipher.update(sensitive) + cipher.finalize()
    mac = hmac.HMAC(_kdf_a(seed, _INTEGRITY, b"", 256), hashes.SHA256())
    mac.update(ciphertext + name)
    return sized(mac.finalize()) + ciphertext, encrypted_seed


def _seed_for(parent: PublicArea) -> tuple[bytes, bytes]:
    """A seed for the parent alone: one-pass ECDH and KDFe (Part 1 §C.6.1)."""
    x, y = parent.point.x, parent.point.y
    once = ec.generate_private_key(ec.SECP256R1())
    sent = once.public_key().public_numbers()
    shared = once.exchange(
        ec.ECDH(), ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    )
    octets = [value.to_bytes(32, "big") for value in (sent.x, sent.y, x)]
    other = _DUPLICATE + octets[0] + octets[2]
    seed = ConcatKDFHash(hashes.SHA256(), length=32, otherinfo=other).derive(shared)
    return seed, sized(octets[0], octets[1])


def _kdf_a(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa with SHA-256 (Part 1 §11.4.10.2)."""
    return KBKDFHMAC(
        algorithm=hashes.SHA256(),
        mode=Mode.CounterMode,
        length=bits // 8,
        rlen=4,
        llen=4,
        location=CounterLocation.BeforeFixed,
        label=label,
        context=context,
        fixed=None,
    ).derive(key)
