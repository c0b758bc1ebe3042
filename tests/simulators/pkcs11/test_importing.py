"""Shares from outside: by which way they enter a token, what is seen of them, and what stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interposer import NSS, OPENCRYPTOKI, STRICT_TEMPLATES, Interposer, Rv
from pkcs11 import Attribute
from softhsm_bench import SofthsmBench

from mesh_hsm.curves import Point, SecretScalar, XOnly, curve
from mesh_hsm.custody import CustodyClass, PinPolicy
from mesh_hsm.errors import DeviceError, MeshHsmError, UnsupportedError
from mesh_hsm.provider import DeviceKey, Imports, KeySpec, Token, Use
from mesh_hsm.testing.conformance.bench import exercise, seen
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.threshold import recover_plain
from mesh_hsm_pkcs11 import importing, wrapping
from mesh_hsm_pkcs11.binding import MAPPER, Kind
from mesh_hsm_pkcs11.dialect import Dialect
from mesh_hsm_pkcs11.module import forget_modules
from mesh_hsm_pkcs11.templates import Template
from mesh_hsm_pkcs11.token import Pkcs11Token

VECTORS = Path(__file__).parents[2] / "vectors" / "threshold"
NIST = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
CURVES = (*NIST, "X25519", "X448")
WRAPPED = "it entered the token wrapped under a key of the token's"
IN_THE_CLEAR = "it entered the token in the clear, through the module's memory"


def bench_on(rig: Softhsm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SofthsmBench]:
    for name, value in rig.environment.items():
        monkeypatch.setenv(name, value)
    with Interposer(rig.module, folder / "module") as interposer:
        monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", str(interposer.path))
        yield SofthsmBench(rig, interposer, folder / "records")


@pytest.fixture
def bench(
    softhsm_token: Softhsm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SofthsmBench]:
    yield from bench_on(softhsm_token, tmp_path, monkeypatch)


@pytest.fixture
def token(bench: SofthsmBench) -> Iterator[Token]:
    with bench.open() as token:
        yield token


def import_into(
    token: Token, share: SecretScalar, label: str = "share", use: Use = Use.ENCRYPT
) -> DeviceKey:
    assert isinstance(token, Imports)
    return token.import_scalar(KeySpec(share.curve.name, use, label), share.value, ("dealer",))


def share_of(algorithm: str, *, odd: bool = False) -> SecretScalar:
    """A random share; of X25519 and X448, one whose public point has this sign."""
    share = SecretScalar.random(curve(algorithm))
    if share.curve.family == "montgomery" and share.public().is_odd != odd:
        share = SecretScalar(share.curve, share.curve.order - share.value)
    return share


# -- what an imported share answers ----------------------------------------------------------------


def library_exchange(key: DeviceKey) -> tuple[bytes, bytes]:
    """What a peer made by the library gets with the key's public half, and what the token gets."""
    c = key.public.curve
    if c.name in NIST:
        peer = ec.generate_private_key(NIST[c.name])
        numbers = peer.public_key().public_numbers()
        own = ec.EllipticCurvePublicKey.from_encoded_point(NIST[c.name], key.public.encode())
        answer = key.agree(c.point(numbers.x, numbers.y))
        return peer.exchange(ec.ECDH(), own), XOnly(c, answer.x).octets()
    octets = key.public.agreement_octets()
    if c.name == "X25519":
        short = X25519PrivateKey.generate()
        shared = short.exchange(X25519PublicKey.from_public_bytes(octets))
        return shared, key.agree(c.decode_x(short.public_key().public_bytes_raw())).octets()
    long = X448PrivateKey.generate()
    shared = long.exchange(X448PublicKey.from_public_bytes(octets))
    return shared, key.agree(c.decode_x(long.public_key().public_bytes_raw())).octets()


@pytest.mark.parametrize("algorithm", CURVES)
@settings(
    max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(more=st.integers(0, 2**240))
def test_the_token_multiplies_by_the_share(token: Token, algorithm: str, more: int) -> None:
    """Shares of every size, against the library on the other side of the agreement."""
    n = curve(algorithm).order
    share = SecretScalar(curve(algorithm), (n // 3 if algorithm[0] == "X" else 1) + more)
    key = import_into(token, share)
    assert key.public == share.public()
    theirs, ours = library_exchange(key)
    assert ours == theirs
    token.delete(key.uri)


COMBINATION = "combination-corrected"


def vector(algorithm: str) -> dict[str, dict[str, str]]:
    for record in json.loads((VECTORS / "published-decryption.json").read_text()):
        if (record["kind"], record["inputs"].get("algorithm")) == (COMBINATION, algorithm):
            return record
    raise AssertionError("the vectors lack it")


@pytest.mark.parametrize("algorithm", ["X25519", "X448"])
def test_two_published_shares_decrypt(token: Token, algorithm: str) -> None:
    """threshold-06 §6.2: each share's contribution with its sign, and their sum."""
    found, c = vector(algorithm), curve(algorithm)
    inputs, expected = found["inputs"], found["expected"]
    S = c.point(int(inputs["ephemeral_u"]), int(inputs["ephemeral_v"]))
    parts: list[Point] = []
    for number in "12":
        share = SecretScalar(c, int(inputs[f"scalar_{number}"]) % c.order)
        key = import_into(token, share, f"share {number}")
        parts.append(recover_plain(key, S))
        assert parts[-1].encode().hex() == expected[f"contribution_{number}"]
    assert (parts[0] + parts[1]).agreement_octets().hex() == expected["agreement"]


def test_a_published_raw_share_is_not_clamped(token: Token) -> None:
    """mesh-protocol-08, GroupInvitation: a scalar that is not of clamped form."""
    record = json.loads((VECTORS / "published-mesh-keys.json").read_text())[-1]
    assert record["name"] == "group member share"
    share = SecretScalar(curve("X448"), int(record["expected"]["scalar"]))
    key = import_into(token, share)
    assert key.public.encode().hex() == record["expected"]["share_public_signed"]


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("algorithm", ["X25519", "X448"])
def test_the_sign_of_the_public_point_is_kept(
    bench: SofthsmBench, tmp_path: Path, algorithm: str, odd: bool
) -> None:
    """By the token, which keeps u alone, for another machine; and by the record."""
    share = share_of(algorithm, odd=odd)
    with bench.open() as token:
        key = import_into(token, share, use=Use.AUTHENTICATE)
        generated = token.generate(KeySpec(algorithm, Use.ENCRYPT, "generated"))
        assert (key.public, key.public.is_odd) == (share.public(), odd)
    elsewhere = SofthsmBench(bench.rig, bench.interposer, tmp_path / "another machine")
    for machine in (bench, elsewhere):
        with machine.open() as token:
            found = token.key(key.uri)
            assert (found.public, found.use) == (key.public, key.use)
            S = SecretScalar.random(share.curve).public()
            assert recover_plain(found, S) == share.times(S)
            assert token.key(generated.uri).public == generated.public


def test_a_share_that_signs_with_a_pin_each_time(token: Token) -> None:
    share = share_of("P-256")
    assert isinstance(token, Imports)
    spec = KeySpec("P-256", Use.SIGN, "share", PinPolicy.ALWAYS)
    key = token.import_scalar(spec, share.value, ())
    assert key.public == share.public()
    assert key.custody().pin is PinPolicy.ALWAYS
    exercise(key)


# -- by which way ----------------------------------------------------------------------------------


class Wire:
    """Everything that is sent in templates, and by ``C_UnwrapKey``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[bytes] = []
        pack, wrap = type(MAPPER).pack_attribute, wrapping.wrap

        def packing(mapper: object, attribute: Attribute, value: object) -> bytes:
            self.sent.append(octets := pack(mapper, attribute, value))
            return octets

        def wrapping_(*arguments: object) -> wrapping.Wrapped:
            wrapped = wrap(*arguments)
            self.sent += [wrapped.key, wrapped.share]
            return wrapped

        monkeypatch.setattr(type(MAPPER), "pack_attribute", packing)
        monkeypatch.setattr(wrapping, "wrap", wrapping_)

    def shows(self, share: SecretScalar) -> bool:
        return any(wrapping.value(share) in octets for octets in self.sent)


@pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
@pytest.mark.parametrize("algorithm", NIST)
def test_a_nist_share_goes_wrapped(
    bench: SofthsmBench, token: Token, monkeypatch: pytest.MonkeyPatch, algorithm: str, use: Use
) -> None:
    """One new key pair to wrap to, one new key, the share; in the clear the public half alone."""
    wire, share = Wire(monkeypatch), share_of(algorithm)
    token.capabilities()
    with bench.interposer.counted() as calls:
        key = import_into(token, share, use=use)
    assert WRAPPED in key.custody().notes
    assert key.custody().custody is CustodyClass.IMPORTED
    assert not wire.shows(share)
    assert wire.sent[-1]
    # OAEP by SHA-256, which SoftHSM refuses, and by SHA-1; then the share.
    assert calls.count("C_UnwrapKey") == 3
    assert calls.count("C_CreateObject") == 1
    assert bench.leftovers() == []


@pytest.mark.parametrize("algorithm", ["X25519", "X448"])
def test_another_share_goes_in_the_clear_and_says_so(
    bench: SofthsmBench, token: Token, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """SoftHSM unwraps no such key. It is asked once, and told nothing in vain again."""
    wire, share = Wire(monkeypatch), share_of(algorithm)
    assert IN_THE_CLEAR in import_into(token, share).custody().notes
    assert wire.shows(share)
    with bench.interposer.counted() as calls:
        import_into(token, share_of(algorithm), "another")
    assert not {"C_UnwrapKey", "C_GenerateKeyPair"} & set(calls)
    assert calls.count("C_CreateObject") == 2
    assert bench.leftovers() == []


NEEDED = ("CKM_RSA_PKCS_KEY_PAIR_GEN", "CKM_RSA_PKCS_OAEP", "CKM_AES_KEY_WRAP_PAD")


@pytest.mark.parametrize("missing", [None, *NEEDED])
def test_only_what_the_mechanism_list_shows_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str | None
) -> None:
    listed = {"CKM_EC_KEY_PAIR_GEN", "CKM_ECDH1_DERIVE", *NEEDED} - {missing}
    with Softhsm(mechanisms=sorted(listed)) as rig:
        for bench in bench_on(rig, tmp_path, monkeypatch):
            with bench.open() as token:
                token.generate(KeySpec("P-256", Use.ENCRYPT, "after which we are logged in"))
                token.capabilities()
                with bench.interposer.counted() as calls:
                    key = import_into(token, share_of("P-256"))
                assert (WRAPPED if missing is None else IN_THE_CLEAR) in key.custody().notes
            tried = bool({"C_GenerateKeyPair", "C_UnwrapKey"} & set(calls))
            assert tried == (missing is None)
            assert bench.leftovers() == []
        forget_modules()


def test_a_key_that_unwrapping_makes_extractable_is_not_kept(
    bench: SofthsmBench, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some modules let an unwrapped key leave, whatever they are told. SoftHSM has to be told."""
    unwrap = importing._Made.unwrap

    def leaky(by: importing._Made, wrapped: bytes, template: Template, *rest: object) -> object:
        if template[Attribute.KEY_TYPE] == Kind.EC:
            template = template | {Attribute.SENSITIVE: False, Attribute.EXTRACTABLE: True}
        return unwrap(by, wrapped, template, *rest)

    monkeypatch.setattr(importing._Made, "unwrap", leaky)
    share = share_of("P-256")
    key = import_into(token, share)
    statement = key.custody()
    assert statement.custody is CustodyClass.IMPORTED
    assert IN_THE_CLEAR in statement.notes
    exercise(key)
    assert bench.leftovers() == []


def test_a_short_key_to_wrap_to_is_refused(
    bench: SofthsmBench, token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_BITS", 1024)
    monkeypatch.setattr(wrapping, "wrap", None)
    with pytest.raises(DeviceError, match="1024 bits"):
        import_into(token, share_of("P-256"))
    assert bench.leftovers() == []
    assert seen(token) == {}


# -- tokens of other makes -------------------------------------------------------------------------

DIALECTS = {
    "none": (),
    "opencryptoki": OPENCRYPTOKI,
    "NSS": NSS,
    "strict templates": STRICT_TEMPLATES,
    "raw points, all": ("raw_points_all",),
    "printable names": ("printable_only",),
}


@pytest.mark.parametrize("algorithm", ["P-384", "X25519"])
@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_is_spoken(bench: SofthsmBench, name: str, algorithm: str) -> None:
    bench.interposer.speak(*DIALECTS[name])
    share = share_of(algorithm, odd=True)
    with bench.open() as token:
        key = import_into(token, share)
        exercise(key)
    with bench.open() as token:
        assert token.key(key.uri).public == share.public()
        exercise(token.key(key.uri))
    assert bench.leftovers() == []


@pytest.mark.parametrize("algorithm", ["P-256", "X448"])
def test_a_token_that_makes_no_session_keys_is_asked_with_a_stored_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
) -> None:
    """Cards: they say that they can be taken out. The stored one goes, if not at once."""
    with Softhsm(removable=True) as rig:
        for bench in bench_on(rig, tmp_path, monkeypatch):
            bench.interposer.speak("montgomery", "oids")
            bench.interposer.fail("C_DestroyObject")
            with bench.open() as token:
                key = import_into(token, share_of(algorithm))
                exercise(key)
                assert list(seen(token)) == ["share"]
            assert bench.interposer.fired == 1
            assert bench.leftovers() == []
            assert len(bench._objects()) == 2
        forget_modules()


@pytest.mark.parametrize("algorithm", ["P-256", "X25519"])
@pytest.mark.parametrize("feature", ["no_null_kdf", "silently_sensitive", "own_ids", "extractable"])
def test_what_a_token_will_not_honour_is_refused_and_leaves_nothing(
    bench: SofthsmBench, feature: str, algorithm: str
) -> None:
    bench.interposer.speak(feature)
    with bench.open() as token, bench.interposer.counted() as calls:
        with pytest.raises(UnsupportedError) as caught:
            import_into(token, share_of(algorithm))
        assert "\n" not in str(caught.value)
    stored = {"C_CreateObject", "C_UnwrapKey"} & set(calls)
    assert bool(stored) == (feature in ("own_ids", "extractable"))
    assert bench.leftovers() == []


def test_an_exportable_key_is_made_for_those_who_want_one(bench: SofthsmBench) -> None:
    bench.interposer.speak("extractable")
    share = share_of("P-256")
    with bench.open() as token:
        assert isinstance(token, Imports)
        spec = KeySpec("P-256", Use.ENCRYPT, "share", allow_exportable=True)
        key = token.import_scalar(spec, share.value, ())
        assert key.custody().custody is CustodyClass.EXPORTABLE
        exercise(key)


@pytest.mark.parametrize("algorithm", ["P-256", "X25519"])
def test_a_token_that_takes_no_keys_says_so(
    bench: SofthsmBench, token: Token, algorithm: str
) -> None:
    for function in ("C_CreateObject", "C_UnwrapKey"):
        bench.interposer.always(function, 0xD1)  # CKR_TEMPLATE_INCONSISTENT
    with pytest.raises(UnsupportedError, match=r"takes no .* key from outside"):
        import_into(token, share_of(algorithm))
    bench.interposer.clear()
    assert bench.leftovers() == []


def test_a_token_that_fails_is_not_said_to_take_no_keys(bench: SofthsmBench, token: Token) -> None:
    bench.interposer.always("C_CreateObject", Rv.DEVICE_ERROR)
    with pytest.raises(DeviceError):
        import_into(token, share_of("X25519"))


# -- failures --------------------------------------------------------------------------------------

UNKNOWN_CODE = 0x80000001
FAILURES = {
    "before": (Rv.DEVICE_ERROR, False),
    "after": (Rv.DEVICE_ERROR, True),
    "refused, though done": (UNKNOWN_CODE, True),  # which another way is tried after
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("algorithm", ["P-256", "X25519"])
def test_a_failure_at_any_step_leaves_nothing(
    bench: SofthsmBench,
    token: Token,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: str,
    failure: str,
) -> None:
    """Nothing half made, no label taken; and no share in the clear because of a device error."""
    monkeypatch.setattr(importing, "_BITS", 2048)
    import_into(token, share_of(algorithm), "bystander")
    before, wire = seen(token), Wire(monkeypatch)
    code, after = FAILURES[failure]
    assert isinstance(token, Pkcs11Token)
    dialect = Dialect.of(token._connection.sessions)
    for step in range(400):
        if algorithm == "P-256":
            dialect.not_unwrapped.clear()
        share, done, failed = share_of(algorithm), bench.interposer.fired, None
        with bench.interposer.failing(step, code, after=after):
            try:
                import_into(token, share)
            except MeshHsmError as error:
                failed = error
        if algorithm == "P-256" and code == Rv.DEVICE_ERROR:
            assert not wire.shows(share)
        if bench.interposer.fired == done:
            break
        assert "\n" not in str(failed)
        assert bench.leftovers() == []
        if failed is None:
            exercise(token.key(token.keys()[-1].uri))
            token.delete(token.keys()[-1].uri)
        assert seen(token) == before
    assert step > (30 if algorithm == "P-256" else 12)
    assert failed is None


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_transport_key_that_will_not_go_takes_its_session_with_it(
    bench: SofthsmBench, token: Token, nth: int
) -> None:
    """The others are destroyed, and the share is there."""
    first = import_into(token, share_of("P-256"), "first")
    with bench.interposer.counted() as calls:
        bench.interposer.fail("C_DestroyObject", nth=nth)
        key = import_into(token, share_of("P-256"))
    assert bench.interposer.fired == 1
    assert "C_CloseSession" in calls
    assert WRAPPED in key.custody().notes
    assert bench.leftovers() == []
    exercise(first)
    exercise(key)


@pytest.mark.parametrize("nth", [1, 2])
def test_a_failure_is_told_though_a_transport_key_will_not_go(
    bench: SofthsmBench, token: Token, nth: int
) -> None:
    """What failed first is what the user must know, and what may be tried next depends on it."""
    import_into(token, share_of("P-256"), "first")
    bench.interposer.fail("C_UnwrapKey", Rv.DEVICE_MEMORY)
    bench.interposer.fail("C_DestroyObject", nth=nth)
    with pytest.raises(DeviceError, match="no memory left"):
        import_into(token, share_of("P-256"))
    assert bench.interposer.fired == 2
    assert bench.leftovers() == []
    assert list(seen(token)) == ["first"]
    exercise(import_into(token, share_of("P-256")))


def frames(error: BaseException | None) -> Iterator[tuple[str, str]]:
    while error is not None:
        trace: TracebackType | None = error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            yield frame.f_globals["__name__"], repr(list(frame.f_locals.items()))
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("algorithm", "function"),
    [("P-256", "C_UnwrapKey"), ("P-256", "C_CreateObject"), ("X25519", "C_CreateObject")],
)
@pytest.mark.parametrize("code", [Rv.DEVICE_ERROR, 0xD1])
def test_no_traceback_shows_the_share(
    bench: SofthsmBench, token: Token, algorithm: str, function: str, code: int
) -> None:
    share = share_of(algorithm)
    bench.interposer.always(function, code)
    if (algorithm, code) == ("P-256", 0xD1):
        bench.interposer.always("C_CreateObject", code)
    assert isinstance(token, Imports)
    with pytest.raises(MeshHsmError) as caught:
        token.import_scalar(KeySpec(algorithm, Use.ENCRYPT, "share"), share.value, ())
    needles = [str(share.value), f"{share.value:x}", repr(wrapping.value(share))[2:-1]]
    told = [
        (module, said)
        for module, said in frames(caught.value)
        if module.startswith(("mesh_hsm_pkcs11", "pkcs11")) and module != "mesh_hsm_pkcs11.token"
    ]
    assert any(module == "mesh_hsm_pkcs11.importing" for module, _ in told)
    for module, said in told:
        assert not any(needle in said for needle in needles), module
