"""Keys of each dialect agree, sign and describe themselves as keys of another token would."""

from __future__ import annotations

import bare_module as p11
import pytest
from bare_module import Template
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from interposed_bench import (
    ATTRIBUTE_READ_ONLY,
    ATTRIBUTE_SENSITIVE,
    ATTRIBUTE_TYPE_INVALID,
    CURVE_NOT_SUPPORTED,
    DOMAIN_PARAMS_INVALID,
    ED448,
    ED25519,
    KEY_HANDLE_INVALID,
    MECHANISM_INVALID,
    MECHANISM_PARAM_INVALID,
    NIST,
    NSS_X25519,
    OBJECT_HANDLE_INVALID,
    P256,
    RAW_SIZE,
    TEMPLATE_INCONSISTENT,
    X448,
    X25519,
    Bench,
    name_of,
    peer_of,
    refused,
    wrapped,
)
from interposer import NSS, OPENCRYPTOKI, STRICT_TEMPLATES, Rv

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
