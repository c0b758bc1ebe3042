"""P-256, P-384 and P-521 with their encodings (SEC 1 §2.3, hsm-1 §1)."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from mesh_hsm.curves.cubic import CubicCurve
from mesh_hsm.curves.group import Point
from mesh_hsm.errors import InvalidPointError


class WeierstrassCurve(CubicCurve):
    """A NIST curve: a₄ = -3, cofactor 1, all octets big-endian (FIPS 186-4 D.1.2).

    ``in_library`` is what the cryptography library calls it.
    """

    def __init__(
        self,
        name: str,
        algorithm_id: int,
        in_library: ec.EllipticCurve,
        *,
        p: int,
        n: int,
        b: int,
        base: tuple[int, int],
    ) -> None:
        self.name = name
        self.in_library = in_library
        self.algorithm_id = algorithm_id
        self.family = "weierstrass"
        self.byteorder = "big"
        self.field_prime, self.order, self.cofactor = p, n, 1
        self.a2, self.a4, self.a6 = 0, p - 3, b
        self.field_size = self.scalar_size = (p.bit_length() + 7) // 8
        self.encoded_size = 1 + 2 * self.field_size
        self.neutral = Point(self, None)
        self.base = Point(self, base)

    def decode(self, octets: bytes) -> Point:
        """04 || x || y or 02/03 || x, big-endian. Raises ``InvalidPointError``."""
        size = self.field_size
        prefix = octets[0] if octets else None
        if prefix == 4 and len(octets) == self.encoded_size:
            x = int.from_bytes(octets[1 : 1 + size], "big")
            return self.point(x, int.from_bytes(octets[1 + size :], "big"))
        if prefix in (2, 3) and len(octets) == 1 + size:
            return self.lift(int.from_bytes(octets[1:], "big"), odd=prefix == 3)
        raise InvalidPointError(f"not an encoded {self.name} point")

    def decode_x(self, octets: bytes) -> Point:
        """x alone, big-endian at field width, lifted with even y."""
        if len(octets) != self.field_size:
            raise InvalidPointError(f"a plain {self.name} value has {self.field_size} octets")
        return self.lift(int.from_bytes(octets, "big"))

    def _ordinate(self, x: int) -> int | None:
        # Four times as fast as a root taken here; what comes back is checked like any point.
        octets = b"\x02" + x.to_bytes(self.field_size, "big")
        try:
            found = ec.EllipticCurvePublicKey.from_encoded_point(self.in_library, octets)
        except ValueError:
            return None
        return found.public_numbers().y

    def _shows_small_order(self, x: int) -> bool:
        return False  # only the neutral element is, and that has no x

    def _encode(self, P: Point) -> bytes:
        size = self.field_size
        return b"\x04" + P.x.to_bytes(size, "big") + P.y.to_bytes(size, "big")

    def _agreement_octets(self, P: Point) -> bytes:
        return P.x.to_bytes(self.field_size, "big")


P256: Final = WeierstrassCurve(
    "P-256",
    5,
    ec.SECP256R1(),
    p=2**256 - 2**224 + 2**192 + 2**96 - 1,
    n=0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    b=0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    base=(
        0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
        0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
    ),
)

P384: Final = WeierstrassCurve(
    "P-384",
    6,
    ec.SECP384R1(),
    p=2**384 - 2**128 - 2**96 + 2**32 - 1,
    n=int(
        "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF"
        "C7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973",
        16,
    ),
    b=int(
        "B3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE814112"
        "0314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF",
        16,
    ),
    base=(
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
    ),
)

P521: Final = WeierstrassCurve(
    "P-521",
    7,
    ec.SECP521R1(),
    p=2**521 - 1,
    n=int(
        "01FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFA"
        "51868783BF2F966B7FCC0148F709A5D03BB5C9B8899C47AEBB6FB71E91386409",
        16,
    ),
    b=int(
        "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E1"
        "56193951EC7E937B1652C0BD3BB1BF073573DF883D2C34F1EF451FD46B503F00",
        16,
    ),
    base=(
        int(
            "00C6858E06B70404E9CD9E3ECB662395B4429C648139053FB521F828AF606B4D3DBA"
            "A14B5E77EFE75928FE1DC127A2FFA8DE3348B3C1856A429BF97E7E31C2E5BD66",
            16,
        ),
        int(
            "011839296A789A3BC0045C8A5FB42C7D1BD998F54449579B446817AFBD17273E662C"
            "97EE72995EF42640C550B9013FAD0761353C7086A272C24088BE94769FD16650",
            16,
        ),
    ),
)
