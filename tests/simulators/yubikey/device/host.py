"""A host in a few lines: sends APDUs to a device and collects what comes in parts.

Deliberately without yubikit, and without the simulator's own TLV code for what it sends.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from mesh_hsm.testing.virtual_yubikey import VirtualYubiKey
from mesh_hsm.testing.virtual_yubikey.piv.names import Algorithm, Ins

PIV, MANAGEMENT = bytes.fromhex("A000000308"), bytes.fromhex("A000000527471117")
PIN, PUK, WRONG = b"123456\xff\xff", b"12345678", b"999999\xff\xff"
FACTORY_KEY = bytes(range(1, 9)) * 3
OK, MORE = 0x9000, 0x61


def tlv(tag: int, value: bytes = b"") -> bytes:
    """One TLV, with the length that fits."""
    size = len(value)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    return tag.to_bytes(2 if tag > 0xFF else 1, "big") + length + value


class Host:
    """Holds one device, with PIV selected. ``send`` gives data and status word."""

    def __init__(self, device: VirtualYubiKey, *, extended: bool = True) -> None:
        self.device, self.extended = device, extended
        self.select()

    def select(self, aid: bytes = PIV) -> bytes:
        return self.ok(0xA4, 4, 0, aid)

    def transmit(self, octets: bytes) -> tuple[bytes, int]:
        answer = self.device.transmit(octets)
        return answer[:-2], int.from_bytes(answer[-2:], "big")

    def send(self, ins: int, p1: int = 0, p2: int = 0, data: bytes = b"") -> tuple[bytes, int]:
        """As yubikit sends: no Le; extended where there is data, or chained blocks of 255."""
        header = bytes([ins, p1, p2])
        if self.extended:
            length = b"\0" + len(data).to_bytes(2, "big") if data else b""
            answer, status = self.transmit(b"\0" + header + length + data)
        else:
            while len(data) > 255:
                block, data = data[:255], data[255:]
                answer, status = self.transmit(b"\x10" + header + b"\xff" + block)
                if status != OK:
                    return answer, status
            answer, status = self.transmit(b"\0" + header + bytes([len(data)]) + data)
        while status >> 8 == MORE:
            more, status = self.transmit(bytes.fromhex("00C00000"))
            answer += more
        return answer, status

    def ok(self, ins: int, p1: int = 0, p2: int = 0, data: bytes = b"") -> bytes:
        answer, status = self.send(ins, p1, p2, data)
        assert status == OK, f"{ins:02X}: {status:04X}"
        return answer

    def status(self, ins: int, p1: int = 0, p2: int = 0, data: bytes = b"") -> int:
        answer, status = self.send(ins, p1, p2, data)
        assert status == OK or not answer
        return status

    # -- PIV -------------------------------------------------------------------------------------

    def import_p256(self, slot: int = 0x9D) -> None:
        self.ok(Ins.IMPORT, Algorithm.P256, slot, tlv(0x06, bytes(31) + b"\x01"))

    def verify(self, pin: bytes = PIN) -> int:
        return self.status(Ins.VERIFY, 0, 0x80, pin)

    def manage(self, key: bytes = FACTORY_KEY, kind: int | None = None) -> int:
        """Authenticate with the management key, both ways; the status of the last step."""
        if kind is None:
            kind = 0x0A if self.device.firmware >= (5, 7, 0) else 0x03
        cipher: Any = Cipher(TripleDES(key) if kind == 3 else AES(key), ECB())
        challenge = bytes(range(8 if kind == 3 else 16))
        witness = self.ok(Ins.AUTHENTICATE, kind, 0x9B, tlv(0x7C, tlv(0x80)))[4:]
        answered = tlv(0x80, cipher.decryptor().update(witness)) + tlv(0x81, challenge)
        answer, status = self.send(Ins.AUTHENTICATE, kind, 0x9B, tlv(0x7C, answered))
        if status == OK:
            assert answer == tlv(0x7C, tlv(0x82, cipher.encryptor().update(challenge)))
        return status

    def generate(self, slot: int, kind: int, pin: int = 0, touch: int = 0) -> bytes:
        """The public key's TLVs, ``7F49`` taken off."""
        policies = (tlv(0xAA, bytes([pin])) if pin else b"") + (
            tlv(0xAB, bytes([touch])) if touch else b""
        )
        request = tlv(0xAC, tlv(0x80, bytes([kind])) + policies)
        return unwrapped(self.ok(Ins.GENERATE, 0, slot, request), 0x7F49)

    def use(self, slot: int, kind: int, tag: int, value: bytes) -> tuple[bytes, int]:
        request = tlv(0x7C, tlv(0x82) + tlv(tag, value))
        answer, status = self.send(Ins.AUTHENTICATE, kind, slot, request)
        if status != OK:
            return answer, status
        return unwrapped(unwrapped(answer, 0x7C), 0x82), status

    def sign(self, slot: int, kind: int, value: bytes = bytes(32)) -> tuple[bytes, int]:
        if kind in RSA_SIZES and value == bytes(32):
            value = bytes(RSA_SIZES[kind])
        return self.use(slot, kind, 0x81, value)

    def agree(self, slot: int, kind: int, point: bytes) -> tuple[bytes, int]:
        return self.use(slot, kind, 0x85, point)

    def metadata(self, reference: int) -> dict[int, bytes]:
        return pairs(self.ok(Ins.METADATA, 0, reference))

    def put(self, name: int, content: bytes) -> int:
        return self.status(Ins.PUT_DATA, 0x3F, 0xFF, named(name) + tlv(0x53, content))

    def get(self, name: int) -> tuple[bytes, int]:
        answer, status = self.send(Ins.GET_DATA, 0x3F, 0xFF, named(name))
        return (unwrapped(answer, 0x53) if status == OK else answer), status


RSA_SIZES = {Algorithm.RSA1024: 128, Algorithm.RSA2048: 256}


def named(name: int) -> bytes:
    return tlv(0x5C, name.to_bytes(3, "big"))


def unwrapped(octets: bytes, tag: int) -> bytes:
    """The value of the one TLV with this tag."""
    size = 2 if tag > 0xFF else 1
    assert octets[:size] == tag.to_bytes(size, "big")
    value, rest = _value(octets[size:])
    assert not rest
    return value


def pairs(octets: bytes) -> dict[int, bytes]:
    """TLVs of one-octet tags."""
    found = {}
    while octets:
        tag = octets[0]
        found[tag], octets = _value(octets[1:])
    return found


def _value(octets: bytes) -> tuple[bytes, bytes]:
    first, octets = octets[0], octets[1:]
    if first >= 0x80:
        count = first - 0x80
        first, octets = int.from_bytes(octets[:count], "big"), octets[count:]
    assert len(octets) >= first
    return octets[:first], octets[first:]


def public_key(kind: int, fields: bytes) -> Any:
    """The public key of GENERATE's or METADATA's TLVs."""
    values = pairs(fields)
    match kind:
        case Algorithm.P256:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), values[0x86])
        case Algorithm.P384:
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), values[0x86])
        case Algorithm.ED25519:
            return ed25519.Ed25519PublicKey.from_public_bytes(values[0x86])
        case Algorithm.X25519:
            return x25519.X25519PublicKey.from_public_bytes(values[0x86])
    n, e = (int.from_bytes(values[tag], "big") for tag in (0x81, 0x82))
    return rsa.RSAPublicNumbers(e, n).public_key()


def rsa_secret(key: rsa.RSAPrivateKey) -> bytes:
    """What IMPORT wants of an RSA key: p, q, dp, dq, qinv."""
    numbers, size = key.private_numbers(), key.key_size // 16
    parts = (numbers.p, numbers.q, numbers.dmp1, numbers.dmq1, numbers.iqmp)
    return b"".join(tlv(tag, part.to_bytes(size, "big")) for tag, part in enumerate(parts, 1))


def openssl(folder: Path, *arguments: str) -> bytes:
    """Run the openssl command in a folder; ``AssertionError`` with its words if it fails."""
    ran = subprocess.run(["openssl", *arguments], cwd=folder, capture_output=True, check=False)
    assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()
    return ran.stdout
