"""TPM key files, ``BEGIN TSS2 PRIVATE KEY``. Open this file for how a key lies on disk.

The format is that of "ASN.1 Specification for TPM 2.0 Key Files", which tpm2-tools, tpm2-openssl
and tpm2-pytss read. The private part is encrypted by the TPM and useless to any other.
"""

from __future__ import annotations

import base64
import binascii
import textwrap
from dataclasses import dataclass

from mesh_hsm.errors import FormatError
from mesh_hsm_tpm2 import asn1
from mesh_hsm_tpm2.structures import Reader, sized

OWNER = 0x40000001
"""Parent: the standard ECC primary of the owner hierarchy, made by whoever loads the key."""

_LOADABLE_KEY = bytes.fromhex("6781050a0103")  # 2.23.133.10.1.3
_SEALED_DATA = bytes.fromhex("6781050a0105")  # 2.23.133.10.1.5
_BEGIN, _END = "-----BEGIN TSS2 PRIVATE KEY-----", "-----END TSS2 PRIVATE KEY-----"
_EMPTY_AUTH, _POLICY, _CODE, _BODY = asn1.EXPLICIT, asn1.EXPLICIT + 1, asn1.EXPLICIT, 0xA1


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key or sealed datum under a storage root.

    ``public`` is TPMT_PUBLIC, ``private`` the content of TPM2B_PRIVATE, ``policy`` the policy's
    commands and parameters. ``empty_auth``: it has no PIN.
    """

    public: bytes
    private: bytes
    empty_auth: bool
    parent: int = OWNER
    policy: tuple[tuple[int, bytes], ...] = ()
    sealed: bool = False

    def to_pem(self) -> bytes:
        """The key file."""
        body = asn1.tlv(asn1.OID, _SEALED_DATA if self.sealed else _LOADABLE_KEY)
        # Said either way: tpm2-openssl 1.1 takes a missing emptyAuth for true.
        empty = asn1.tlv(asn1.BOOLEAN, b"\xff" if self.empty_auth else b"\0")
        body += asn1.tlv(_EMPTY_AUTH, empty)
        if self.policy:
            steps = b"".join(
                asn1.tlv(
                    asn1.SEQUENCE,
                    asn1.tlv(_CODE, asn1.integer(code))
                    + asn1.tlv(_BODY, asn1.tlv(asn1.OCTETS, parameters)),
                )
                for code, parameters in self.policy
            )
            body += asn1.tlv(_POLICY, asn1.tlv(asn1.SEQUENCE, steps))
        body += asn1.integer(self.parent)
        body += asn1.tlv(asn1.OCTETS, sized(self.public))
        body += asn1.tlv(asn1.OCTETS, sized(self.private))
        text = base64.b64encode(asn1.tlv(asn1.SEQUENCE, body)).decode()
        return "\n".join((_BEGIN, *textwrap.wrap(text, 64), _END, "")).encode()

    @classmethod
    def from_pem(cls, pem: bytes) -> KeyFile:
        """Read a key file that ``to_pem`` wrote. Raises ``FormatError`` for anything else."""
        try:
            lines = pem.decode("ascii").split("\n")
            der = base64.b64decode("".join(lines[1:-2]), validate=True)
        except (UnicodeDecodeError, binascii.Error) as error:
            raise FormatError("not a TPM key file") from error
        key = cls._from_der(der)
        if key.to_pem() != pem:
            raise FormatError("a TPM key file with parts that we do not know")
        return key

    @classmethod
    def _from_der(cls, der: bytes) -> KeyFile:
        match asn1.elements(der):
            case [(asn1.SEQUENCE, body)]:
                fields = asn1.elements(body)
            case _:
                raise FormatError("not a TPM key file")
        match fields:
            case [
                (asn1.OID, kind),
                *optional,
                (asn1.INTEGER, parent),
                (asn1.OCTETS, public),
                (asn1.OCTETS, private),
            ]:
                options = dict(optional)
            case _:
                raise FormatError("a TPM key file with parts that we do not know")
        return cls(
            Reader(public).sized(),
            Reader(private).sized(),
            empty_auth=options.get(_EMPTY_AUTH) == asn1.tlv(asn1.BOOLEAN, b"\xff"),
            parent=int.from_bytes(parent, "big"),
            policy=_steps(options.get(_POLICY, b"")),
            sealed=kind == _SEALED_DATA,
        )


def _steps(content: bytes) -> tuple[tuple[int, bytes], ...]:
    found = []
    for _, sequence in asn1.elements(content):
        for _, step in asn1.elements(sequence):
            match [asn1.elements(part) for _, part in asn1.elements(step)]:
                case [[(asn1.INTEGER, code)], [(asn1.OCTETS, parameters)]]:
                    found.append((int.from_bytes(code, "big"), parameters))
                case _:
                    raise FormatError("a policy in a TPM key file that we do not know")
    return tuple(found)
