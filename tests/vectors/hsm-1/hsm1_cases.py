"""Opened for the records on keys, derivation, signatures, recovery and the TPM."""

from __future__ import annotations

from hashlib import sha512

from hsm1_fixed import (
    AGREEING,
    NIST,
    SIGNING,
    Case,
    FixedSigner,
    Json,
    fp,
    octets,
    point_hex,
    scalar_hex,
    secret,
    torsion,
)

from mesh_hsm.curves import SecretScalar, curve
from mesh_hsm.dare import suite
from mesh_hsm.threshold.derived import device_digest
from mesh_hsm.threshold.possession import prove_possession

ACTIVATION = "0103" + octets("activation seed").hex()
NAMES = {
    "Encryption": "ActivationDeviceEncrypt",
    "Authentication": "ActivationDeviceAuthenticate",
    "Signature": "ActivationDeviceSign",
}


def keys() -> list[Case]:
    """hsm-1 §1, and threshold §2.5, §3 for what is refused."""
    cases = []
    for on in AGREEING:
        public = point_hex(secret(on, "key").public())
        cases.append(Case(f"fingerprint of {on}", "fingerprint", {"crv": on, "public": public}))
        cases.append(Case(f"decode {on}", "decode", {"crv": on, "public": public}))
        for use, name in NAMES.items():
            if use != "Signature" or on in NIST:
                inputs = {"crv": on, "seed": ACTIVATION, "name": name}
                cases.append(Case(f"contribution to {use} on {on}", "contribution", inputs))
                cases += _combined(on, use)
        cases += _bad_points(on)
    for on in ("Ed25519", "Ed448"):
        public = point_hex(FixedSigner(on, "key").public)
        cases.append(Case(f"fingerprint of {on}", "fingerprint", {"crv": on, "public": public}))
    return cases


def _combined(on: str, use: str) -> list[Case]:
    x, y = secret(on, "x"), secret(on, "y")
    one, opposite = SecretScalar(x.curve, 1), SecretScalar(x.curve, x.curve.order - x.value)

    def case(name: str, factor: SecretScalar, failure: str | None = None) -> Case:
        inputs = {"crv": on, "use": use, "X": point_hex(x.public()), "y": scalar_hex(factor)}
        return Case(f"{use} on {on}: {name}", "combined", inputs, failure=failure)

    if use == "Signature":
        return [case("Z = yX", y), case("y = 1", one, "unsupported")]
    return [
        case("Z = X + yG", y),
        case("X + X, a doubling", x),
        case("Z neutral", opposite, "point"),
    ]


def _bad_points(on: str) -> list[Case]:
    group, size = curve(on), curve(on).field_size
    P = secret(on, "key").public()
    good = P.encode()
    beyond = group.field_prime.to_bytes(size, group.byteorder)
    bad: dict[str, bytes] = {"cut": good[:-1], "one octet more": good + b"\0"}
    if on in NIST:
        bad["off the curve"] = good[:-1] + bytes([good[-1] ^ 1])
        bad["x beyond the field"] = b"\x04" + beyond + good[1 + size :]
        bad["hybrid form"] = bytes([6 + P.is_odd]) + good[1:]
        bad["the neutral element"] = b"\0"
    else:
        twist = next(u for u in range(2, 99) if not _lifts(on, u))
        bad["on the twist"] = twist.to_bytes(size, "little") + b"\0"
        bad["u beyond the field"] = beyond + b"\0"
        bad["stray bits beside the sign"] = good[:-1] + bytes([good[-1] | 1])
        bad["without its sign"] = good[:-1]
        bad["u = 0, of order two"] = bytes(size + 1)
        bad["small order"] = torsion(group).encode()
    return [
        Case(f"{on}: {name}", "decode", {"crv": on, "public": value.hex()}, failure="point")
        for name, value in bad.items()
    ]


def _lifts(on: str, u: int) -> bool:
    try:
        curve(on).lift(u)
    except Exception:
        return False
    return True


def signatures() -> list[Case]:
    """hsm-1 §3, §6.5, and threshold §7 for derived keys."""
    cases = []
    protected, payload = "eyJ2IjoiaHNtLTEifQ", b"payload octets as they are on the wire"
    for on in SIGNING:
        signer, other = FixedSigner(on, "signer"), FixedSigner(on, "other signer")
        inputs: Json = {"crv": on, "public": point_hex(signer.public), "protected": protected}
        inputs["payload"] = payload.hex()
        cases.append(Case(f"signed octets, {on}", "message", inputs))
        M = suite.signed_octets(fp(signer.public), protected.encode(), sha512(payload).digest())
        signed = suite.to_be_signed(signer.public, M)
        good = suite.low_s(signer.public, signer.sign(signed))
        foreign = suite.signed_octets(fp(other.public), protected.encode(), M[-64:])
        wrong = {
            "of the payload alone": signer.sign(suite.to_be_signed(signer.public, payload)),
            "by another key": other.sign(signed),
            "over another key's fp": signer.sign(suite.to_be_signed(signer.public, foreign)),
            "cut": good[:-1],
        }
        if on in NIST:
            half, n = len(good) // 2, signer.public.curve.order
            r, s = good[:half], int.from_bytes(good[half:], "big")
            wrong["high s"] = r + (n - s).to_bytes(half, "big")
            wrong["s = 0"] = r + bytes(half)
            wrong["r = 0"] = bytes(half) + good[half:]
            wrong["r beyond n"] = n.to_bytes(half, "big") + good[half:]
        wrong = {
            name: suite.low_s(signer.public, bad) if name != "high s" and "cut" not in name else bad
            for name, bad in wrong.items()
        }
        cases.append(Case(f"MH1, {on}", "verify", {**inputs, "signature": good.hex()}))
        for name, bad in wrong.items():
            altered = {**inputs, "signature": bad.hex()}
            cases.append(Case(f"MH1, {on}: {name}", "verify", altered, failure="verification"))
        altered = {**inputs, "signature": good.hex(), "protected": protected[:-1] + "R"}
        cases.append(Case(f"MH1, {on}: P altered", "verify", altered, failure="verification"))
        cases += _possession(on)
    return cases + [_derived(on) for on in NIST]


def _possession(on: str) -> list[Case]:
    key, nonce = FixedSigner(on, "possession"), octets("possession nonce")
    verifier = "verifier.example"
    signature = prove_possession(key, fp(key.public), verifier, nonce)  # type: ignore[arg-type] # it signs
    inputs = {
        "crv": on,
        "public": point_hex(key.public),
        "verifier": verifier,
        "nonce": nonce.hex(),
        "signature": signature.hex(),
    }
    cases = [Case(f"possession, {on}", "possession", inputs)]
    for member, value in (
        ("verifier", "another.example"),
        ("nonce", octets("another nonce").hex()),
    ):
        altered = {**inputs, member: value}
        name = f"possession, {on}: another {member}"
        cases.append(Case(name, "possession", altered, failure="verification"))
    short = {**inputs, "nonce": bytes(8).hex()}
    name = f"possession, {on}: a short nonce"
    cases.append(Case(name, "possession", short, failure="verification"))
    if on in NIST:
        size, n = len(signature) // 2, key.public.curve.order
        s = n - int.from_bytes(signature[size:], "big")
        other = {**inputs, "signature": (signature[:size] + s.to_bytes(size, "big")).hex()}
        note = "a challenge is answered once: either s is right"
        cases.append(Case(f"possession, {on}: n - s", "possession", other, note))
    return cases


def _derived(on: str) -> Case:
    """The device's part by an ECDSA with k in the open, since no library signs 66 octets."""
    x, y, k = secret(on, "x"), secret(on, "y"), secret(on, "k")
    n, size = x.curve.order, x.curve.scalar_size
    digest = suite.to_be_signed(x.public(), b"M of a derived key")
    shift = 8 * size - n.bit_length()
    e = int.from_bytes(device_digest(x.curve, digest, y.value), "big") >> shift
    r = k.public().x % n
    s = pow(k.value, -1, n) * (e + r * x.value) % n
    inputs = {
        "crv": on,
        "X": point_hex(x.public()),
        "y": scalar_hex(y),
        "digest": digest.hex(),
        "device_signature": (r.to_bytes(size, "big") + s.to_bytes(size, "big")).hex(),
    }
    return Case(f"derived signature, {on}", "derived", inputs, "the device signs device_digest")


def recoveries() -> list[Case]:
    """hsm-1 §9: honest devices, faults, lies."""
    cases = []
    for on in AGREEING:
        cases += _plain(on) + _blinded(on)
    return cases


def _plain(on: str) -> list[Case]:
    x, S = secret(on, "device"), secret(on, "S").public()
    X, G = x.public(), curve(on).base
    x1, x3 = x.x_of(S).octets(), x.x_of(S + G).octets()
    lie = secret(on, "lie").public()
    inputs = {"crv": on, "X": point_hex(X)}

    def case(name: str, x1: bytes, x3: bytes, note: str = "", failure: str | None = None) -> Case:
        answers = {**inputs, "x1": x1.hex(), "x3": x3.hex()}
        return Case(f"{on}: {name}", "recover", answers, note, failure)

    return [
        case("xS from S and S + G", x1, x3),
        case("S = G", X.agreement_octets(), x.x_of(G + G).octets()),
        case("x1 of another point", lie.agreement_octets(), x3, failure="verification"),
        case("x3 of another point", x1, lie.agreement_octets(), failure="verification"),
        case(
            "a consistent lie",
            lie.agreement_octets(),
            (lie + X).agreement_octets(),
            "passes, and gives a wrong point: plain recovery does not find liars",
        ),
    ]


def _blinded(on: str) -> list[Case]:
    x, S, group = secret(on, "device"), secret(on, "S").public(), curve(on)
    a, r, X = secret(on, "a"), secret(on, "r"), x.public()
    Q = a.times(S) + r.public()
    x1, x2, xS = x.x_of(S).octets(), x.x_of(Q).octets(), x.times(S)
    lie = secret(on, "lie").public()
    inputs = {"crv": on, "X": point_hex(X), "S": point_hex(S)}

    def case(name: str, x1: bytes, x2: bytes, blind: SecretScalar, failure: str | None) -> Case:
        answers: Json = {**inputs, "a": scalar_hex(blind), "r": scalar_hex(r)}
        answers |= {"x1": x1.hex(), "x2": x2.hex()}
        return Case(f"{on}: blinded, {name}", "recover-blinded", answers, "", failure)

    bad = "verification"
    cases = [
        case("honest", x1, x2, a, None),
        case("a consistent lie", lie.agreement_octets(), (lie + X).agreement_octets(), a, bad),
        case("a lie in the second answer", x1, lie.agreement_octets(), a, bad),
    ]
    if group.cofactor > 1:
        even = SecretScalar(group, a.value - a.value % 8)
        second = x.x_of(even.times(S) + r.public()).octets()
        twisted = (xS + torsion(group)).agreement_octets()
        cases.append(case("xS + T of small order", twisted, second, even, bad))
    return cases


def tpm() -> list[Case]:
    """hsm-1 §10: policies and the wrap of an imported share."""
    values = [octets("PCR 0").hex(), octets("PCR 7").hex(), octets("PCR 16").hex()]
    cases = []
    for pin in (True, False):
        for count, pcrs in enumerate([[0], [0, 7], [0, 7, 16]], 1):
            inputs: Json = {"pcrs": pcrs, "pcr_values": values[:count], "pin": pin}
            name = f"PCRs {pcrs}{' and PIN' * pin}"
            cases.append(Case(name, "policy", inputs, "SHA-256 bank; PolicyPCR, PolicyAuthValue"))
    root = secret("P-256", "storage root").public()
    head = "0023000b00030472000000060080004300100003001000"  # the TCG's P-256 storage template
    coordinates = "20" + root.encode()[1:33].hex() + "0020" + root.encode()[33:].hex()
    for on in NIST:
        for use in ("Encryption", "Signature"):
            for count in (0, 2):
                inputs = {"crv": on, "use": use, "scalar": scalar_hex(secret(on, "share"))}
                inputs |= {"storage_key": head + coordinates}
                inputs |= {"ephemeral": scalar_hex(secret("P-256", "wrap")), "auth": b"1234".hex()}
                inputs |= {"pin": True, "pcrs": [0, 7][:count], "pcr_values": values[:count]}
                note = "TPMT_PUBLIC, TPM2B_PRIVATE and TPM2B_ENCRYPTED_SECRET without lengths"
                name = f"{use} share on {on}{' with PCRs' * bool(count)}"
                cases.append(Case(name, "share", inputs, note))
    return cases
