"""A share whose scalar is in this process's memory, behaving like any other device.

Open this file for the software side of a composite key: an administrator's contribution, a
one-time key, an escrow key read from a backup.
"""

from __future__ import annotations

from mesh_hsm.curves import Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyStatement
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import DeviceKey, Use
from mesh_hsm.uri import Uri


class ScalarShare(DeviceKey):
    """An agreement key y in memory: an x-only device played by the library (threshold §10).

    ``custody`` says where the scalar rests when it is not in memory; the caller knows. The share is
    named ``share:label=…`` in errors; no provider opens that name. Raises ``UnsupportedError`` for
    a signature use: a contribution to a signature key is a factor (``DerivedKey``).
    """

    def __init__(self, y: SecretScalar, use: Use, *, label: str, custody: CustodyStatement) -> None:
        if use is Use.SIGN:
            raise UnsupportedError("a share in memory agrees; it does not sign")
        self.uri = Uri("share", (("label", label),))
        self.label = label
        self.use = use
        self.public: Point = y.public()
        self._y = y
        self._custody = custody

    def custody(self) -> CustodyStatement:
        """What the caller said of it."""
        return self._custody

    def _agree(self, point: Point) -> XOnly:
        # On X25519/X448 the library multiplies by a multiple of the cofactor, so a small-order
        # part of the point is gone and y mod h does not leak (threshold §6.1).
        return self._y.x_of(point)
