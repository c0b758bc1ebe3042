"""Opened to see which function of mesh_hsm answers a kind of record: the counterpart of
tests/independent/answers.py, with the same inputs and outputs.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from hashlib import sha512
from typing import Any
from unittest import mock

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.keywrap import aes_key_wrap

from mesh_hsm import dare, errors
from mesh_hsm.curves import Curve, Point, SecretScalar, XOnly, curve, recover
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy
from mesh_hsm.dare import signatures, suite
from mesh_hsm.mesh.accepting import verify_connection
from mesh_hsm.mesh.contribution import combine_public
from mesh_hsm.mesh.pins import Pins
from mesh_hsm.mesh.profile_device import open_profile_device
from mesh_hsm.mesh.profile_master import open_profile_master
from mesh_hsm.mesh.witness import witness
from mesh_hsm.provider import DeviceKey, KeySpec, Use
from mesh_hsm.threshold import derived, possession, proof, recovery
from mesh_hsm.threshold.composite import CompositeKey
from mesh_hsm.threshold.scalar_share import ScalarShare
from mesh_hsm.udf import derive_key, fingerprint, key_info, udf_of
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2.policies import Policy, pcr_digest
from mesh_hsm_tpm2.wrapping import wrap_share

Json = dict[str, Any]
SOFTWARE = CustodyStatement(CustodyClass.SOFTWARE, Hardware.NONE, "test data")
USES = {"Encryption": Use.ENCRYPT, "Authentication": Use.AUTHENTICATE, "Signature": Use.SIGN}
FAILURES: tuple[tuple[type[errors.MeshHsmError], str], ...] = (
    (errors.InvalidPointError, "point"),
    (errors.FormatError, "format"),
    (errors.VerificationError, "verification"),
    (errors.DeviceError, "verification"),
    (errors.DecryptionError, "decryption"),
    (errors.UnsupportedError, "unsupported"),
)


def answer(kind: str, inputs: Json) -> Json:
    """The `expected` member of a record, errors included."""
    try:
        return KINDS[kind](inputs)
    except errors.MeshHsmError as error:
        for kind_of_error, failure in FAILURES:
            if isinstance(error, kind_of_error):
                return {"error": failure}
        raise


def _octets(inputs: Json, *names: str) -> list[bytes]:
    return [bytes.fromhex(inputs[name]) for name in names]


def _point(inputs: Json, name: str) -> Point:
    return curve(inputs["crv"]).decode(bytes.fromhex(inputs[name]))


def _secret(inputs: Json, name: str) -> SecretScalar:
    on = curve(inputs["crv"])
    return SecretScalar(on, on.scalar(bytes.fromhex(inputs[name])))


def _fingerprint(inputs: Json) -> Json:
    public = _point(inputs, "public")
    return {
        "key_info": key_info(public).hex(),
        "fp": fingerprint(public).octets.hex(),
        "udf": udf_of(public),
    }


def _decode(inputs: Json) -> Json:
    public = _point(inputs, "public")
    public.check_foreign()
    return {"plain": public.agreement_octets().hex(), "odd": public.is_odd}


def _contribution(inputs: Json) -> Json:
    on = curve(inputs["crv"])
    y = derive_key(bytes.fromhex(inputs["seed"]), inputs["name"], on)
    return {"y": on.scalar_octets(y).hex(), "Y": SecretScalar(on, y).public().encode().hex()}


def _combined(inputs: Json) -> Json:
    Z = combine_public(_point(inputs, "X"), _secret(inputs, "y"), USES[inputs["use"]])
    return {"Z": Z.encode().hex()}


def _kek(inputs: Json) -> Json:
    recipient, ephemeral = _point(inputs, "recipient"), _secret(inputs, "ephemeral")
    Z, epk = ephemeral.x_of(recipient).octets(), ephemeral.public()
    key = suite.kek(Z, epk, recipient)
    return {
        "epk": epk.encode().hex(),
        "Z": Z.hex(),
        "fp": fingerprint(recipient).octets.hex(),
        "kek": key.hex(),
        "wmk": aes_key_wrap(key, bytes.fromhex(inputs["seed"])).hex(),
    }


def _kek2(inputs: Json) -> Json:
    device, once = inputs["device"], inputs["once"]
    e, e2 = _secret(device, "ephemeral"), _secret(once, "ephemeral")
    X, X2 = _point(device, "recipient"), _point(once, "recipient")
    Z, Z2 = e.x_of(X).octets(), e2.x_of(X2).octets()
    key = suite.kek2(Z, e.public(), X, Z2, e2.public(), X2)
    return {
        "epk": e.public().encode().hex(),
        "epk2": e2.public().encode().hex(),
        "kek": key.hex(),
        "wmk": aes_key_wrap(key, bytes.fromhex(inputs["seed"])).hex(),
    }


def _payload(inputs: Json) -> Json:
    keys = suite.payload_keys(*_octets(inputs, "seed", "salt"))
    content, protected = bytes.fromhex(inputs["content"]), inputs["protected"].encode()
    return {
        "key": keys.key.hex(),
        "iv": keys.iv.hex(),
        "commit": keys.commit.hex(),
        "payload": AESGCM(keys.key).encrypt(keys.iv, content, protected).hex(),
    }


def own_key(inputs: Json) -> CompositeKey:
    """An agreement key in memory."""
    share = ScalarShare(_secret(inputs, "private"), Use.ENCRYPT, label="test", custody=SOFTWARE)
    return CompositeKey(share.public, Use.ENCRYPT, [share])


def _open(inputs: Json) -> Json:
    own = [own_key(one) for one in inputs["keys"]]
    doubles = [dare.DoubleDecryptor(a, b) for a in own for b in own if a is not b]
    points = [_point(one, "public") for one in inputs["trusted"]]
    octets = bytes.fromhex(inputs["binary"]) if "binary" in inputs else inputs["text"].encode()
    sink = io.BytesIO()
    dare.decode(
        io.BytesIO(octets),
        sink,
        keys=[*own, *doubles],
        trusted={fingerprint(one).octets: one for one in points},
    )
    return {"content": sink.getvalue().hex()}


def message(inputs: Json) -> bytes:
    """M of hsm-1 §3."""
    fp = fingerprint(_point(inputs, "public")).octets
    digest = sha512(bytes.fromhex(inputs["payload"])).digest()
    return suite.signed_octets(fp, inputs["protected"].encode(), digest)


def _message(inputs: Json) -> Json:
    M = message(inputs)
    return {"M": M.hex(), "signed": suite.to_be_signed(_point(inputs, "public"), M).hex()}


def _verify(inputs: Json) -> Json:
    public, payload = _point(inputs, "public"), bytes.fromhex(inputs["payload"])
    fp = fingerprint(public).octets
    required = ((fp, bytes.fromhex(inputs["signature"])),)
    found = signatures.Signatures(required, ())
    signatures.verify(found, inputs["protected"], sha512(payload).digest(), {fp: public})
    return {"verified": True}


def _derived(inputs: Json) -> Json:
    X, y = _point(inputs, "X"), _secret(inputs, "y")
    digest, signature = _octets(inputs, "digest", "device_signature")
    return {
        "Z": derived.derive_public(X, y).encode().hex(),
        "device_digest": derived.device_digest(X.curve, digest, y.value).hex(),
        "signature": derived.finish(X.curve, signature, y.value).hex(),
    }


def _possession(inputs: Json) -> Json:
    public, (signature, nonce) = _point(inputs, "public"), _octets(inputs, "signature", "nonce")
    fp, verifier = fingerprint(public).octets, inputs["verifier"]
    possession.verify_possession(signature, public, fp, verifier, nonce)
    return {"signed": possession._octets(public, fp, verifier, nonce).hex()}


def _statement(inputs: Json) -> tuple[Point, Point, Use, bytes, str]:
    digest = sha512(bytes.fromhex(inputs["profile_device"])).digest()
    use = USES[inputs["use"]]
    return _point(inputs, "X"), _point(inputs, "Z"), use, digest, inputs["authority"]


def _prove(inputs: Json) -> Json:
    k, y = _secret(inputs, "k"), _secret(inputs, "y")
    return {"proof": proof._prove(k, y, *_statement(inputs)).hex()}


def _verify_proof(inputs: Json) -> Json:
    statement = _statement(inputs)
    try:
        proof.verify_proof(bytes.fromhex(inputs["proof"]), *statement)
    except errors.InvalidPointError:  # the statement's own points; a proof's are void with it
        return {"error": "verification"}
    return {"verified": True}


def _witness(inputs: Json) -> Json:
    request, connection = _octets(inputs, "request", "connection")
    return {"witness": witness(sha512(request).digest(), sha512(connection).digest())}


def _recover(inputs: Json) -> Json:
    X = _point(inputs, "X")
    x1, x3 = (XOnly.decode(X.curve, octets) for octets in _octets(inputs, "x1", "x3"))
    return {"xS": recover(X, x1, x3).encode().hex()}


class _Told(DeviceKey):
    """A device that gives the answers of a record."""

    use, label, uri = Use.ENCRYPT, "told", Uri("told", (("key", "told"),))

    def __init__(self, public: Point, answers: list[bytes]) -> None:
        self.public, self._answers, self.asked = public, iter(answers), [public]

    def custody(self) -> CustodyStatement:
        return SOFTWARE

    def _agree(self, point: Point) -> XOnly:
        self.asked.append(point)
        return XOnly.decode(self.public.curve, next(self._answers))


@contextlib.contextmanager
def _drawn(*scalars: SecretScalar) -> Iterator[None]:
    """The next random scalars are these."""
    with mock.patch.object(SecretScalar, "random", side_effect=scalars):
        yield


def _recover_blinded(inputs: Json) -> Json:
    device = _Told(_point(inputs, "X"), _octets(inputs, "x1", "x2"))
    with _drawn(_secret(inputs, "a"), _secret(inputs, "r")):
        xS = recovery.recover_blinded(device, _point(inputs, "S"))
    return {"Q": device.asked[-1].encode().hex(), "xS": xS.encode().hex()}


def _version(inputs: Json) -> Json:
    pinned, profile = inputs["pinned"], open_profile_master(inputs["offered"].encode())
    digest = bytes.fromhex(pinned["digest"])
    Pins("", pinned["udf"], pinned["version"], "", digest, b"").check_master(profile)
    return {
        "version": profile.value.version,
        "digest": profile.digest.hex(),
        "previous": profile.value.previous_digest.hex(),
    }


def _connection(inputs: Json) -> Json:
    master = open_profile_master(inputs["profile_master"].encode())
    verified = verify_connection(
        inputs["connection"].encode(),
        master=master,
        device=open_profile_device(inputs["profile_device"].encode()),
        now=datetime.fromisoformat(inputs["now"]),
    )
    return {"composite": str(verified.composite)}


def _policy(inputs: Json) -> Json:
    values = pcr_digest([bytes.fromhex(value) for value in inputs["pcr_values"]])
    return {"policy": Policy(tuple(inputs["pcrs"]), values, inputs["pin"]).digest.hex()}


def _share(inputs: Json) -> Json:
    values = [bytes.fromhex(value) for value in inputs["pcr_values"]]
    pin = PinPolicy.ONCE if inputs["pin"] else PinPolicy.NONE
    spec = KeySpec(inputs["crv"], USES[inputs["use"]], "share", pin, tuple(inputs["pcrs"]))
    once = ec.derive_private_key(int(inputs["ephemeral"], 16), ec.SECP256R1())
    with mock.patch.object(ec, "generate_private_key", return_value=once):
        made = wrap_share(
            bytes.fromhex(inputs["storage_key"]),
            _secret(inputs, "scalar").value,
            spec,
            pcr_digest=pcr_digest(values) if values else b"",
            initial_auth=bytes.fromhex(inputs["auth"]),
        )
    return {
        "public": made.public.hex(),
        "duplicate": made.duplicate.hex(),
        "encrypted_seed": made.seed.hex(),
    }


def scalar_hex(on: Curve, value: int) -> str:
    """A scalar as records hold it."""
    return on.scalar_octets(value).hex()


KINDS: dict[str, Callable[[Json], Json]] = {
    "fingerprint": _fingerprint,
    "decode": _decode,
    "contribution": _contribution,
    "combined": _combined,
    "kek": _kek,
    "kek2": _kek2,
    "payload": _payload,
    "open": _open,
    "message": _message,
    "verify": _verify,
    "derived": _derived,
    "possession": _possession,
    "prove": _prove,
    "verify-proof": _verify_proof,
    "witness": _witness,
    "recover": _recover,
    "recover-blinded": _recover_blinded,
    "version": _version,
    "connection": _connection,
    "policy": _policy,
    "share": _share,
}
