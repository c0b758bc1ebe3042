"""ActivationDevice: the seed of the contributions, on its way to the device (schema §4)."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ActivationDevice:
    """``seed``: algorithm id (2 octets) || 32 secret octets, from the UDF ``ActivationKey``.

    The digests bind it to one request and one ConnectionDevice.
    """

    seed: bytes = field(repr=False)
    authority_udf: str
    subject_udf: str
    request_digest: bytes
    connection_digest: bytes
