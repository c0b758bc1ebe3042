"""Each dialect of the interposer is another token than SoftHSM, and with none it is SoftHSM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bare_module as p11
import pytest
from bare_module import BareModule, InitializeArguments, Template
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils, x448, x25519
from interposer import NSS, OPENCRYPTOKI, STRICT_TEMPLATES, Interposer, Rv

from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.testing.softhsm_maker import RefusedError

P256, P521 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06052b81040023")
NIST = {P256: ec.SECP256R1(), P521: ec.SECP521R1()}
ED25519, ED448 = bytes.fromhex("06032b6570"), bytes.fromhex("06032b6571")
X25519, X448 = bytes.fromhex("06032b656e"), bytes.fromhex("06032b656f")
NAMES = {
    ED25519: b"\x13\x0cedwards25519",
    ED448: b"\x13\x0aedwards448",
    X25519: b"\x13\x0acurve25519",
    X448: b"\x13\x08curve448",
}
NSS_X25519 = bytes.fromhex("06092b06010401da470f01")
RAW_SIZE = {P256: 65, P521: 133, ED25519: 32, ED448: 57, X25519: 32, X448: 56}
ALL = list(RAW_SIZE)
OTHERS = [ED25519, ED448, X25519, X448]

MONTGOMERY_AND_EDWARDS = p11.MONTGOMERY_GENERATION, p11.EDWARDS_GENERATION

ATTRIBUTE_READ_ONLY, ATTRIBUTE_SENSITIVE, ATTRIBUTE_TYPE_INVALID = 0x10, 0x11, 0x12
ATTRIBUTE_VALUE_INVALID, TEMPLATE_INCONSISTENT = 0x13, 0xD1
MECHANISM_INVALID, MECHANISM_PARAM_INVALID = 0x70, 0x71
DOMAIN_PARAMS_INVALID, CURVE_NOT_SUPPORTED, BUFFER_TOO_SMALL = 0x130, 0x140, 0x150
KEY_HANDLE_INVALID, OBJECT_HANDLE_INVALID = 0x60, 0x82


@dataclass
class Bench:
    """A session, logged in, through the interposer."""

    interposer: Interposer
    module: BareModule
    slot: int
    session: int
    pin: str

    def generate(
        self,
        params: bytes,
        mechanism: int | None = None,
        key_type: int | None = None,
        private: Template | None = None,
    ) -> tuple[int, int]:
        """A key pair of this curve, by SoftHSM's mechanism where none is given."""
        usual = p11.EC_GENERATION if params in NIST else p11.EDWARDS_GENERATION
        agrees = params in (*NIST, X25519, X448, NSS_X25519, *map(NAMES.get, (X25519, X448)))
        type_: Template = {} if key_type is None else {p11.KEY_TYPE: key_type}
        public: Template = {p11.TOKEN: False, p11.PRIVATE: False, p11.EC_PARAMS: params}
        usual_private: Template = {
            p11.TOKEN: False,
            p11.SENSITIVE: True,
            p11.EXTRACTABLE: False,
            p11.SIGN: True,
            p11.DERIVE: agrees,
        }
        return self.module.generate(
            self.session,
            mechanism or usual,
            {**public, **type_},
            {**usual_private, **type_, **(private or {})},
        )

    def read(self, key: int, kind: int) -> bytes:
        return self.module.read(self.session, key, kind)

    def number(self, key: int, kind: int) -> int:
        return int.from_bytes(self.read(key, kind), "little")

    def agree(self, key: int, peer: bytes, template: Template = p11.READABLE) -> bytes:
        secret = self.module.derive(self.session, key, peer, template)
        return self.read(secret, p11.VALUE)

    def find(self, template: Template) -> list[int]:
        return sorted(self.module.find(self.session, template))


@pytest.fixture
def bench(softhsm_token: Softhsm, tmp_path: Path) -> Iterator[Bench]:
    with Interposer(softhsm_token.module, tmp_path / "interposer") as interposer:
        module = BareModule(interposer.path)
        module("C_Initialize", InitializeArguments(flags=2))
        slot = module.slots()[0]
        session = module.open(slot)
        module.login(session, softhsm_token.pin)
        yield Bench(interposer, module, slot, session, softhsm_token.pin)


@contextmanager
def refused(*codes: int) -> Iterator[None]:
    with pytest.raises(RefusedError) as caught:
        yield
    assert caught.value.code in codes, hex(caught.value.code)


def name_of(params: bytes) -> str:
    return NIST[params].name if params in NIST else NAMES[params][2:].decode()


def wrapped(point: bytes) -> bytes:
    return b"\x04" + (b"\x81" if len(point) > 127 else b"") + bytes([len(point)]) + point


def peer_of(params: bytes) -> bytes:
    """Somebody's bare public point."""
    if params in NIST:
        public = ec.derive_private_key(4711, NIST[params]).public_key()
        return public.public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
    key = x448.X448PrivateKey if params == X448 else x25519.X25519PrivateKey
    return key.from_private_bytes(bytes([77]) * RAW_SIZE[params]).public_key().public_bytes_raw()


# -- SoftHSM itself --------------------------------------------------------------------------------


@pytest.mark.parametrize("params", ALL, ids=name_of)
def test_softhsm_as_it_is(bench: Bench, params: bytes) -> None:
    public, private = bench.generate(params)
    point = bench.read(public, p11.EC_POINT)
    assert point == wrapped(point[-RAW_SIZE[params] :])
    assert bench.number(private, p11.KEY_TYPE) == (p11.EC if params in NIST else p11.EDWARDS)
    for kind in (p11.LOCAL, p11.ALWAYS_SENSITIVE, p11.NEVER_EXTRACTABLE):
        assert bench.read(private, kind) == b"\1"
    assert bench.read(private, p11.EXTRACTABLE) == b"\0"
    if params in NAMES:
        bench.generate(NAMES[params])
    if params in (*NIST, X25519, X448):
        peer = peer_of(params)
        assert bench.agree(private, peer) == bench.agree(private, wrapped(peer))
        assert p11.ECDH1_DERIVE in bench.module.mechanisms(bench.slot)
    assert p11.MONTGOMERY_GENERATION not in bench.module.mechanisms(bench.slot)


# -- points ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", ["raw_points", "raw_points_all"])
@pytest.mark.parametrize("params", ALL, ids=name_of)
def test_raw_points(bench: Bench, params: bytes, feature: str) -> None:
    public, _ = bench.generate(params)
    before = bench.read(public, p11.EC_POINT)
    bench.interposer.speak(feature)
    after = bench.read(public, p11.EC_POINT)
    if params in NIST and feature == "raw_points":
        assert after == before
        return
    assert after == before[-RAW_SIZE[params] :]
    assert len(after) == RAW_SIZE[params]
    assert bench.find({p11.EC_POINT: after}) == [public]
    key_type = p11.EC if params in NIST else p11.EDWARDS
    template: Template = {
        p11.CLASS: p11.PUBLIC_KEY,
        p11.KEY_TYPE: key_type,
        p11.EC_PARAMS: params,
        p11.TOKEN: False,
        p11.EC_POINT: before,
    }
    with refused(ATTRIBUTE_VALUE_INVALID):
        bench.module.create(bench.session, template)
    made = bench.module.create(bench.session, {**template, p11.EC_POINT: after})
    assert bench.read(made, p11.EC_POINT) == after
    bench.interposer.reset()
    assert bench.read(made, p11.EC_POINT) == before


@pytest.mark.parametrize("params", [P256, P521, X25519, X448], ids=name_of)
def test_which_peers_are_taken(bench: Bench, params: bytes) -> None:
    _, private = bench.generate(params)
    peer = peer_of(params)
    z = bench.agree(private, peer)
    bench.interposer.speak("raw_peer_only")
    assert bench.agree(private, peer) == z
    with refused(MECHANISM_PARAM_INVALID):
        bench.agree(private, wrapped(peer))
    bench.interposer.reset()
    bench.interposer.speak("der_peer_only")
    assert bench.agree(private, wrapped(peer)) == z
    with refused(MECHANISM_PARAM_INVALID):
        bench.agree(private, peer)


def test_a_buffer_that_is_too_small(bench: Bench) -> None:
    public, private = bench.generate(ED25519)
    bench.interposer.speak("raw_points", "montgomery", "ecdsa_der")
    assert bench.module.read(bench.session, public, p11.EC_POINT, room=32)
    with refused(BUFFER_TOO_SMALL):
        bench.module.read(bench.session, public, p11.EC_POINT, room=31)
    count = len(bench.module.mechanisms(bench.slot))
    with refused(BUFFER_TOO_SMALL):
        bench.module.mechanisms(bench.slot, room=count - 1)
    _, private = bench.generate(P256)
    bench.module.begin_signature(bench.session, private, p11.ECDSA)
    with refused(BUFFER_TOO_SMALL):
        bench.module.finish_signature(bench.session, bytes(32), room=64)
    assert bench.module.finish_signature(bench.session, bytes(32), room=80)[0] == 0x30


# -- curves and key types -------------------------------------------------------------------------


@pytest.mark.parametrize("params", [X25519, X448], ids=name_of)
def test_montgomery(bench: Bench, params: bytes) -> None:
    edwards, _ = bench.generate(ED25519)
    with refused(MECHANISM_INVALID):
        bench.generate(params, p11.MONTGOMERY_GENERATION)
    with refused(MECHANISM_INVALID):
        bench.module.mechanism_info(bench.slot, p11.MONTGOMERY_GENERATION)
    bench.interposer.speak("montgomery")
    assert p11.MONTGOMERY_GENERATION in bench.module.mechanisms(bench.slot)
    info = (bench.module.mechanism_info(bench.slot, m) for m in MONTGOMERY_AND_EDWARDS)
    assert len(set(info)) == 1
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(params)
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(ED25519, p11.MONTGOMERY_GENERATION)
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(P256, p11.MONTGOMERY_GENERATION)
    with refused(TEMPLATE_INCONSISTENT):
        bench.generate(params, p11.MONTGOMERY_GENERATION, p11.EDWARDS)
    public, private = bench.generate(params, p11.MONTGOMERY_GENERATION, p11.MONTGOMERY)
    bench.generate(params, p11.MONTGOMERY_GENERATION)
    assert bench.number(public, p11.KEY_TYPE) == p11.MONTGOMERY
    assert bench.number(private, p11.KEY_TYPE) == p11.MONTGOMERY
    assert bench.number(edwards, p11.KEY_TYPE) == p11.EDWARDS
    of_type: Template = {p11.CLASS: p11.PUBLIC_KEY, p11.KEY_TYPE: p11.MONTGOMERY}
    assert public in bench.find(of_type)
    assert len(bench.find(of_type)) == 2
    assert bench.find({**of_type, p11.KEY_TYPE: p11.EDWARDS}) == [edwards]
    bench.agree(private, peer_of(params))
    bench.generate(ED25519, key_type=p11.EDWARDS)
    bench.generate(P256, key_type=p11.EC)
    bench.interposer.reset()
    assert bench.number(public, p11.KEY_TYPE) == p11.EDWARDS
    assert len(bench.find({**of_type, p11.KEY_TYPE: p11.EDWARDS})) == 4


def test_many_keys_are_found_among_others(bench: Bench) -> None:
    bench.interposer.speak("montgomery")
    ours = []
    for _ in range(7):
        ours.append(bench.generate(X25519, p11.MONTGOMERY_GENERATION)[1])
        for _ in range(3):
            bench.generate(ED25519)
    assert bench.find({p11.CLASS: p11.PRIVATE_KEY, p11.KEY_TYPE: p11.MONTGOMERY}) == sorted(ours)


def test_montgomery_keys_are_imported(bench: Bench) -> None:
    secret = bytes([88]) + bytes(30) + bytes([64])
    template: Template = {
        p11.CLASS: p11.PRIVATE_KEY,
        p11.KEY_TYPE: p11.MONTGOMERY,
        p11.TOKEN: False,
        p11.DERIVE: True,
        p11.EC_PARAMS: X25519,
        p11.VALUE: secret,
    }
    bench.interposer.speak("montgomery")
    with refused(TEMPLATE_INCONSISTENT):
        bench.module.create(bench.session, {**template, p11.KEY_TYPE: p11.EDWARDS})
    key = bench.module.create(bench.session, template)
    peer = peer_of(X25519)
    expected = x25519.X25519PrivateKey.from_private_bytes(secret).exchange(
        x25519.X25519PublicKey.from_public_bytes(peer)
    )
    assert bench.agree(key, peer) == expected
    bench.interposer.reset()
    with refused(*range(1, 0x200)):
        bench.module.create(bench.session, template)


def test_x25519_as_an_ec_key(bench: Bench) -> None:
    with refused(*range(1, 0x200)):
        bench.generate(NSS_X25519, p11.EC_GENERATION)
    p256, _ = bench.generate(P256)
    bench.interposer.speak("oids")
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(NSS_X25519, p11.EDWARDS_GENERATION)
    bench.interposer.reset()
    bench.interposer.speak("ec_type_x25519")
    for params, mechanism in (
        (X25519, p11.EC_GENERATION),
        (X25519, p11.EDWARDS_GENERATION),
        (NSS_X25519, p11.EDWARDS_GENERATION),
    ):
        with refused(CURVE_NOT_SUPPORTED):
            bench.generate(params, mechanism)
    public, private = bench.generate(NSS_X25519, p11.EC_GENERATION, p11.EC)
    assert bench.number(private, p11.KEY_TYPE) == p11.EC
    assert bench.read(public, p11.EC_PARAMS) == NSS_X25519
    assert len(bench.read(public, p11.EC_POINT)) == 32
    assert bench.find({p11.CLASS: p11.PUBLIC_KEY, p11.KEY_TYPE: p11.EC}) == sorted([p256, public])
    assert bench.find({p11.CLASS: p11.PUBLIC_KEY, p11.EC_PARAMS: NSS_X25519}) == [public]
    mine = x25519.X25519PrivateKey.generate()
    theirs = x25519.X25519PublicKey.from_public_bytes(bench.read(public, p11.EC_POINT))
    assert bench.agree(private, mine.public_key().public_bytes_raw()) == mine.exchange(theirs)
    bench.generate(X448)


@pytest.mark.parametrize("params", OTHERS, ids=name_of)
def test_names_of_curves(bench: Bench, params: bytes) -> None:
    bench.interposer.speak("oids")
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(NAMES[params])
    made = bench.generate(params)
    assert [bench.read(key, p11.EC_PARAMS) for key in made] == [params] * 2
    assert bench.find({p11.CLASS: p11.PUBLIC_KEY, p11.EC_PARAMS: params}) == [made[0]]
    bench.interposer.reset()
    by_oid, _ = bench.generate(params)
    assert bench.read(by_oid, p11.EC_PARAMS) == params
    bench.interposer.speak("printable_only")
    assert bench.read(by_oid, p11.EC_PARAMS) == NAMES[params]
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(params)
    bench.generate(NAMES[params])
    assert [bench.read(key, p11.EC_PARAMS) for key in made] == [NAMES[params]] * 2
    assert bench.read(bench.generate(P256)[0], p11.EC_PARAMS) == P256


def test_curves_that_are_not_there(bench: Bench) -> None:
    bench.interposer.speak("no_ed448")
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(ED448)
    key = bench.generate(ED25519)[1]
    bench.generate(X448)
    bench.interposer.speak("no_edwards")
    for params in OTHERS:
        with refused(CURVE_NOT_SUPPORTED, MECHANISM_INVALID):
            bench.generate(params)
    assert not {p11.EDWARDS_GENERATION, p11.EDDSA} & set(bench.module.mechanisms(bench.slot))
    with refused(MECHANISM_INVALID):
        bench.module.sign(bench.session, key, p11.EDDSA, b"message")
    bench.interposer.speak("montgomery")
    bench.generate(X448, p11.MONTGOMERY_GENERATION)
    bench.generate(P256)


# -- agreement ------------------------------------------------------------------------------------


def test_no_derivation(bench: Bench) -> None:
    _, private = bench.generate(P256)
    bench.interposer.speak("no_derive")
    assert p11.ECDH1_DERIVE not in bench.module.mechanisms(bench.slot)
    with refused(MECHANISM_INVALID):
        bench.agree(private, peer_of(P256))
    with refused(MECHANISM_INVALID):
        bench.module.mechanism_info(bench.slot, p11.ECDH1_DERIVE)
    bench.interposer.reset()
    bench.agree(private, peer_of(P256))
    bench.module.mechanism_info(bench.slot, p11.ECDH1_DERIVE)


def test_no_null_kdf(bench: Bench) -> None:
    _, private = bench.generate(P256)
    bench.agree(private, peer_of(P256))
    bench.interposer.speak("no_null_kdf")
    with refused(MECHANISM_PARAM_INVALID):
        bench.agree(private, peer_of(P256))


def test_derived_secrets_that_cannot_be_read(bench: Bench) -> None:
    _, private = bench.generate(P256)
    bench.interposer.speak("sensitive_derived")
    closed = {**p11.READABLE, p11.SENSITIVE: True, p11.EXTRACTABLE: False}
    for wrong in ({p11.SENSITIVE: False}, {p11.EXTRACTABLE: True}):
        with refused(TEMPLATE_INCONSISTENT):
            bench.module.derive(bench.session, private, peer_of(P256), {**closed, **wrong})
    bench.module.derive(bench.session, private, peer_of(P256), closed)
    bench.interposer.reset()
    bench.interposer.speak("silently_sensitive")
    with refused(ATTRIBUTE_SENSITIVE):
        bench.agree(private, peer_of(P256))
    secret = bench.module.derive(bench.session, private, peer_of(P256))
    assert bench.read(secret, p11.SENSITIVE) == b"\1"
    assert bench.read(secret, p11.EXTRACTABLE) == b"\0"
    bench.interposer.reset()
    assert len(bench.agree(private, peer_of(P256))) == 32


def test_leading_zeros_are_lost(bench: Bench) -> None:
    template: Template = {
        **p11.READABLE,
        p11.VALUE: b"\0\0\1" + bytes(29),
    }
    key = bench.module.create(bench.session, template)
    assert bench.read(key, p11.VALUE) == b"\0\0\1" + bytes(29)
    data = bench.module.create(
        bench.session, {p11.CLASS: p11.DATA, p11.TOKEN: False, p11.VALUE: b"\0data"}
    )
    bench.interposer.speak("stripped_z")
    assert bench.read(key, p11.VALUE) == b"\1" + bytes(29)
    assert bench.read(data, p11.VALUE) == b"\0data"


# -- signing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("params", NIST, ids=name_of)
def test_ecdsa_in_der(bench: Bench, params: bytes) -> None:
    public, private = bench.generate(params)
    size = RAW_SIZE[params] // 2
    point = bench.read(public, p11.EC_POINT)[-RAW_SIZE[params] :]
    verifier = ec.EllipticCurvePublicKey.from_encoded_point(NIST[params], point)
    digest, how = bytes(range(32)), ec.ECDSA(utils.Prehashed(hashes.SHA256()))
    signature = bench.module.sign(bench.session, private, p11.ECDSA, digest)
    r, s = (int.from_bytes(signature[i : i + size], "big") for i in (0, size))
    verifier.verify(utils.encode_dss_signature(r, s), digest, how)
    bench.interposer.speak("ecdsa_der")
    for _ in range(20):  # r and s with and without a leading zero, or one to be added
        signature = bench.module.sign(bench.session, private, p11.ECDSA, digest)
        assert utils.encode_dss_signature(*utils.decode_dss_signature(signature)) == signature
        verifier.verify(signature, digest, how)


def test_other_signatures_stay(bench: Bench) -> None:
    bench.interposer.speak("ecdsa_der")
    public, private = bench.generate(ED25519)
    signature = bench.module.sign(bench.session, private, p11.EDDSA, b"message")
    raw = bench.read(public, p11.EC_POINT)[2:]
    ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(signature, b"message")


# -- attributes -----------------------------------------------------------------------------------


def test_private_keys_that_can_be_extracted(bench: Bench) -> None:
    _, private = bench.generate(P256)
    bench.interposer.speak("extractable")
    assert bench.read(private, p11.EXTRACTABLE) == b"\1"
    assert bench.read(private, p11.NEVER_EXTRACTABLE) == b"\0"
    assert bench.read(private, p11.ALWAYS_SENSITIVE) == b"\1"
    closed: Template = {**p11.READABLE, p11.EXTRACTABLE: False, p11.VALUE: bytes(16)}
    secret = bench.module.create(bench.session, closed)
    assert bench.read(secret, p11.EXTRACTABLE) == b"\0"


def test_history_that_is_not_kept(bench: Bench) -> None:
    _, private = bench.generate(P256)
    kinds = [p11.LOCAL, p11.NEVER_EXTRACTABLE, p11.ALWAYS_SENSITIVE, p11.SIGN]
    assert bench.module.sizes(bench.session, private, kinds) == (0, [1, 1, 1, 1])
    bench.interposer.speak("no_history")
    none = p11.UNAVAILABLE
    assert bench.module.sizes(bench.session, private, kinds) == (
        ATTRIBUTE_TYPE_INVALID,
        [none, none, none, 1],
    )


@pytest.mark.parametrize("feature", STRICT_TEMPLATES)
def test_attributes_that_are_not_known(bench: Bench, feature: str) -> None:
    value: dict[str, Template] = {
        "no_modifiable": {p11.MODIFIABLE: False},
        "no_copyable": {p11.COPYABLE: False},
        "no_destroyable": {p11.DESTROYABLE: True},
        "no_allowed_mechanisms": {p11.ALLOWED_MECHANISMS: p11.ECDH1_DERIVE},
    }
    if feature == "no_value_len":
        _, private = bench.generate(P256)
        template = {**p11.READABLE, p11.VALUE_LEN: 32}
        bench.agree(private, peer_of(P256), template)
        bench.interposer.speak(feature)
        with refused(TEMPLATE_INCONSISTENT):
            bench.agree(private, peer_of(P256), template)
        bench.agree(private, peer_of(P256))
        return
    (kind,) = value[feature]
    _, private = bench.generate(P256, private=value[feature])
    bench.read(private, kind)
    bench.interposer.speak(feature)
    with refused(ATTRIBUTE_TYPE_INVALID):
        bench.read(private, kind)
    with refused(ATTRIBUTE_TYPE_INVALID):
        bench.generate(P256, private=value[feature])
    bench.generate(P256)
    for other in set(STRICT_TEMPLATES) - {feature, "no_value_len"}:
        bench.generate(P256, private=value[other])


def test_login_comes_first(bench: Bench) -> None:
    public: Template = {
        p11.CLASS: p11.PUBLIC_KEY,
        p11.KEY_TYPE: p11.EC,
        p11.TOKEN: False,
        p11.PRIVATE: False,
        p11.EC_PARAMS: P256,
        p11.EC_POINT: wrapped(peer_of(P256)),
    }
    bench.interposer.speak("login_first")
    bench.module.create(bench.session, public)
    bench.module("C_Logout", bench.session)
    with refused(Rv.USER_NOT_LOGGED_IN):
        bench.module.create(bench.session, public)
    bench.interposer.reset()
    bench.module.create(bench.session, public)


def test_the_token_chooses_identifiers(bench: Bench) -> None:
    wanted: Template = {p11.ID: b"mine"}
    _, private = bench.generate(P256, private=wanted)
    assert bench.read(private, p11.ID) == b"mine"
    bench.interposer.speak("own_ids")
    pairs = [bench.generate(P256, private=wanted), bench.generate(P256, private=wanted)]
    identifiers = [{bench.read(key, p11.ID) for key in made} for made in pairs]
    assert [len(found) for found in identifiers] == [1, 1]
    assert not identifiers[0] & identifiers[1]
    assert b"mine" not in identifiers[0] | identifiers[1]
    bench.module.create(bench.session, {p11.CLASS: p11.DATA, p11.TOKEN: False})  # has no ID
    assert bench.find(wanted) == [private]
    with refused(ATTRIBUTE_READ_ONLY):
        bench.module.change(bench.session, private, {p11.ID: b"other"})
    bench.module.change(bench.session, private, {p11.LABEL: b"label"})
    bench.interposer.reset()
    bench.module.change(bench.session, private, {p11.ID: b"other"})


def test_wrapped_keys_meet_the_same_dialect(bench: Bench) -> None:
    secret, wrapping = ec.derive_private_key(4711, ec.SECP256R1()), bytes(range(32))
    wrapped_key = keywrap.aes_key_wrap_with_padding(
        wrapping,
        secret.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
    aes: Template = {
        p11.CLASS: p11.SECRET_KEY,
        p11.KEY_TYPE: p11.AES,
        p11.TOKEN: False,
        p11.UNWRAP: True,
        p11.VALUE: wrapping,
    }
    template: Template = {
        p11.CLASS: p11.PRIVATE_KEY,
        p11.KEY_TYPE: p11.EC,
        p11.TOKEN: False,
        p11.DERIVE: True,
        p11.ID: b"mine",
    }
    key = bench.module.create(bench.session, aes)

    def unwrap(template: Template) -> int:
        return bench.module.unwrap(bench.session, p11.AES_KEY_WRAP_PAD, key, wrapped_key, template)

    assert bench.read(unwrap(template), p11.ID) == b"mine"
    bench.interposer.speak("own_ids")
    made = unwrap(template)
    assert bench.read(made, p11.ID) != b"mine"
    peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), peer_of(P256))
    assert bench.agree(made, peer_of(P256)) == secret.exchange(ec.ECDH(), peer)
    bench.interposer.speak("no_modifiable")
    with refused(ATTRIBUTE_TYPE_INVALID):
        unwrap({**template, p11.MODIFIABLE: False})


# -- error codes ----------------------------------------------------------------------------------


def test_other_error_codes(bench: Bench) -> None:
    _, private = bench.generate(P256)
    off_curve = b"\x04" + bytes(63) + b"\1"
    cases = [
        (0x5, Rv.ARGUMENTS_BAD, lambda: bench.agree(private, off_curve)),
        (OBJECT_HANDLE_INVALID, KEY_HANDLE_INVALID, lambda: bench.agree(4711, off_curve)),
        (
            ATTRIBUTE_TYPE_INVALID,
            TEMPLATE_INCONSISTENT,
            lambda: bench.generate(P256, private={0x7FFFFFFF: b""}),
        ),
        (Rv.SESSION_HANDLE_INVALID, Rv.SESSION_CLOSED, lambda: bench.module.find(4711, {})),
    ]
    for usual, _, act in cases:
        with refused(usual):
            act()
    bench.interposer.speak("other_codes")
    for _, other, act in cases:
        with refused(other):
            act()
    bench.interposer.speak("no_ed448")
    with refused(DOMAIN_PARAMS_INVALID):
        bench.generate(ED448)
    with refused(ATTRIBUTE_TYPE_INVALID):
        bench.read(private, 0x7FFFFFFF)
    bench.module("C_Logout", bench.session)
    with refused(Rv.USER_NOT_LOGGED_IN):
        bench.agree(private, peer_of(P256))


def test_a_fault_keeps_its_code(bench: Bench) -> None:
    bench.interposer.speak("other_codes")
    bench.interposer.always("C_FindObjectsInit", Rv.SESSION_HANDLE_INVALID)
    with refused(Rv.SESSION_HANDLE_INVALID):
        bench.find({})


# -- together -------------------------------------------------------------------------------------


def test_a_token_like_opencryptoki(bench: Bench) -> None:
    bench.interposer.speak(*OPENCRYPTOKI)
    public, private = bench.generate(X448, p11.MONTGOMERY_GENERATION, p11.MONTGOMERY)
    assert len(bench.read(public, p11.EC_POINT)) == 56
    assert bench.read(public, p11.EC_PARAMS) == X448
    assert len(bench.agree(private, peer_of(X448))) == 56
    assert bench.read(bench.generate(P256)[0], p11.EC_POINT)[:2] == b"\x04\x41"


def test_a_token_like_nss(bench: Bench) -> None:
    bench.interposer.speak(*NSS)
    public, private = bench.generate(NSS_X25519, p11.EC_GENERATION, p11.EC)
    assert bench.agree(private, peer_of(X25519))
    assert bench.read(public, p11.EC_PARAMS) == NSS_X25519
    with refused(CURVE_NOT_SUPPORTED):
        bench.generate(X448)
