"""Small secrets sealed under the storage root key. Open this file for the layout of a blob.

A blob is JSON: ``label``, ``pin`` (its policy) and ``key``, a TPM key file of the sealed-data kind
that other TPM tools read too. Nothing stays in the TPM.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256

from tpm2_pytss import (
    ESAPI,
    TPM2B_DATA,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_PCR_SELECTION,
    TPMS_SENSITIVE_CREATE,
    TPMT_PUBLIC,
)

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import FormatError
from mesh_hsm_tpm2 import sessions, templates
from mesh_hsm_tpm2.authorisation import Authoriser
from mesh_hsm_tpm2.blobs import KeyFile
from mesh_hsm_tpm2.structures import AuthValue, PublicArea
from mesh_hsm_tpm2.tpm import Tpm

LIMIT = 128  # MAX_SYM_DATA: what every TPM takes
_NOTHING = b"\0"  # a TPM seals no empty data; the template says that this is none


@dataclass(frozen=True, slots=True)
class Box:
    """A sealed secret as it lies on disk."""

    label: str
    pin: PinPolicy
    key: KeyFile

    @property
    def pcrs(self) -> tuple[int, ...]:
        """None: a sealed secret has no policy but its PIN."""
        return ()

    @property
    def identity(self) -> str:
        """What tells this secret from every other one."""
        return f"sealed {sha256(self.key.private).hexdigest()}"

    def to_octets(self) -> bytes:
        """The blob."""
        value = {"label": self.label, "pin": self.pin, "key": self.key.to_pem().decode()}
        return json.dumps(value, indent=1).encode()

    @classmethod
    def parse(cls, blob: bytes) -> Box:
        """Read a blob. Raises ``FormatError`` for anything that ``to_octets`` did not write."""
        try:
            value = json.loads(blob)
            label, pin, pem = value["label"], PinPolicy(value["pin"]), value["key"].encode()
            box = cls(label, pin, KeyFile.from_pem(pem))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError("not a secret sealed by a TPM") from error
        if not box.key.sealed or not isinstance(label, str) or box.to_octets() != blob:
            raise FormatError("not a secret sealed by a TPM")
        return box


def seal(tpm: Tpm, label: str, secret: bytes, pin: PinPolicy, auth: AuthValue) -> bytes:
    """TPM2_Create of a sealed datum; the secret and its PIN travel encrypted."""
    if len(secret) > LIMIT:
        raise FormatError(f"a TPM seals at most {LIMIT} octets")
    template = templates.sealed() if secret else templates.sealed_nothing()
    area, _ = TPMT_PUBLIC.unmarshal(template.marshal())
    sensitive = TPM2B_SENSITIVE_CREATE(
        TPMS_SENSITIVE_CREATE(userAuth=auth.octets, data=secret or _NOTHING)
    )

    def create(esapi: ESAPI) -> tuple[bytes, bytes]:
        root = tpm.root(esapi)
        private, public, _, _, _ = esapi.create(
            root,
            sensitive,
            TPM2B_PUBLIC(publicArea=area),
            TPM2B_DATA(),
            TPML_PCR_SELECTION(),
            session1=tpm.session(esapi),
        )
        return public.publicArea.marshal(), bytes(private.buffer)

    public, private = tpm.run(create)
    blob = KeyFile(public, private, empty_auth=not auth, parent=tpm.parent, sealed=True)
    return Box(label, pin, blob).to_octets()


def unseal(tpm: Tpm, authoriser: Authoriser, box: Box) -> bytes:
    """TPM2_Unseal, the answer encrypted. ``DeviceError`` for another TPM's blob."""
    auth = authoriser.pin(box)

    def open_box(esapi: ESAPI) -> bytes:
        with sessions.flushed(esapi, tpm.load(esapi, box.key.private, box.key.public)) as handle:
            esapi.tr_set_auth(handle, auth.octets)
            secret = esapi.unseal(handle, session1=tpm.session(esapi, sessions.OUTWARD))
            return bytes(secret)

    secret = authoriser.tried(box, auth, open_box)
    # What the TPM loaded is what its public area says, so the policy there can be trusted.
    sealed = PublicArea.parse(box.key.public)
    return b"" if sealed.policy == templates.sealed_nothing().policy else secret
