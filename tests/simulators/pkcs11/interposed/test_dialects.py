"""Each dialect's curves, key types and points; with none, SoftHSM is itself."""

from __future__ import annotations

import bare_module as p11
import pytest
from bare_module import Template
from cryptography.hazmat.primitives.asymmetric import x25519
from interposed_bench import (
    ALL,
    ATTRIBUTE_VALUE_INVALID,
    BUFFER_TOO_SMALL,
    CURVE_NOT_SUPPORTED,
    ED448,
    ED25519,
    MECHANISM_INVALID,
    MECHANISM_PARAM_INVALID,
    NAMES,
    NIST,
    NSS_X25519,
    OTHERS,
    P256,
    P521,
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

MONTGOMERY_AND_EDWARDS = p11.MONTGOMERY_GENERATION, p11.EDWARDS_GENERATION


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
