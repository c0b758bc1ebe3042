"""The TPM provider beside bare tpm2-pytss: same simulator, same session protection."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bare_tpm import BareTpm
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA384
from figures import Figure, side_by_side
from pytest_benchmark.fixture import BenchmarkFixture

from mesh_hsm.curves import P384, Point, SecretScalar, XOnly
from mesh_hsm.custody import CustodyClass, CustodyStatement, Hardware, PinPolicy
from mesh_hsm.provider import DeviceKey, KeySpec, Token, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.swtpm import Swtpm
from mesh_hsm.threshold import CompositeKey, ScalarShare
from mesh_hsm.uri import Uri
from mesh_hsm_tpm2 import Tpm2Provider

PIN = b"benchmark-pin"
SECRETS = FixedSecrets({SecretKind.PIN: PIN, SecretKind.NEW_PIN: PIN})


def opened(records: Path, tcti: str) -> Token:
    return Tpm2Provider(records).open(Uri("tpm2", (("tcti", tcti),)), SECRETS)


def foreign() -> Point:
    return SecretScalar.random(P384).public()


def composite(key: DeviceKey) -> CompositeKey:
    y = SecretScalar.random(P384)
    sealed = CustodyStatement(CustodyClass.SEALED, Hardware.SIMULATOR, "swtpm")
    share = ScalarShare(y, Use.ENCRYPT, label="contribution", custody=sealed)
    return CompositeKey(key.public + share.public, Use.ENCRYPT, [key, share])


@pytest.fixture
def token(swtpm: Swtpm, tmp_path: Path) -> Iterator[Token]:
    with opened(tmp_path, swtpm.tcti) as token:
        yield token


@pytest.fixture
def bare(swtpm: Swtpm) -> Iterator[BareTpm]:
    with BareTpm(swtpm.tcti, PIN) as bare:
        yield bare


@pytest.mark.figures("tpm2-agree")
def test_agree(token: Token, bare: BareTpm, benchmark: BenchmarkFixture, figure: Figure) -> None:
    key = token.generate(KeySpec("P-384", Use.ENCRYPT, "bench", pin=PinPolicy.ONCE))
    load = bare.make("ecc384", "decrypt")
    point = foreign()
    x, y = point.x.to_bytes(48), point.y.to_bytes(48)
    ratio = side_by_side(benchmark, lambda: key.agree(point), lambda: bare.zgen(load, x, y), 300)
    figure("tpm2-agree", ratio, "times", 1.10, "tpm2-pytss ESAPI, same session, same swtpm")


@pytest.mark.figures("tpm2-sign")
def test_sign(token: Token, bare: BareTpm, benchmark: BenchmarkFixture, figure: Figure) -> None:
    key = token.generate(KeySpec("P-384", Use.SIGN, "bench", pin=PinPolicy.ONCE))
    load = bare.make("ecc384:ecdsa-sha384", "sign")
    digest = hashlib.sha384(b"benchmark").digest()

    def sign_and_verify() -> None:
        r, s = bare.sign(load, digest)
        signature = utils.encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
        bare.public.verify(signature, digest, ec.ECDSA(utils.Prehashed(SHA384())))

    ratio = side_by_side(benchmark, lambda: key.sign(digest), sign_and_verify, 300)
    figure("tpm2-sign", ratio, "times", 1.10, "tpm2-pytss ESAPI and the same verification")


@pytest.mark.figures("combine")
def test_combining(token: Token, benchmark: BenchmarkFixture, figure: Figure) -> None:
    """Adding the shares' points and choosing the sign, against one protected ZGen."""
    key = token.generate(KeySpec("P-384", Use.ENCRYPT, "bench", pin=PinPolicy.ONCE))
    point, y = foreign(), SecretScalar.random(P384)
    full, half = key.agree(point), y.x_of(point)
    assert isinstance(full, Point)

    def combine() -> list[bytes]:
        fresh = XOnly(half.curve, half.x)  # which takes its square root once more
        return [(full + lift).agreement_octets() for lift in fresh.lifts()]

    calls = []
    for _ in range(100):
        start = time.perf_counter()
        key.agree(point)
        calls.append(time.perf_counter() - start)
    benchmark.pedantic(combine, rounds=200, warmup_rounds=3)
    cost = benchmark.stats.stats.median / statistics.median(calls)
    figure("combine", cost, "of a call", 0.05, "one ECDH_ZGen on swtpm in a protected session")


@pytest.mark.figures("tpm2-commands-pin", "tpm2-commands-pin-pcr", "tpm2-commands-cold")
@pytest.mark.parametrize(
    ("name", "bound", "pcrs", "warm"),
    [
        ("tpm2-commands-pin", 1, (), True),
        ("tpm2-commands-pin-pcr", 3, (7,), True),
        ("tpm2-commands-cold", None, (), False),
    ],
)
def test_commands(
    name: str,
    bound: int | None,
    pcrs: tuple[int, ...],
    warm: bool,
    swtpm: Swtpm,
    tmp_path: Path,
    figure: Figure,
) -> None:
    """Commands of one partial decryption, counted on the wire."""
    spec = KeySpec("P-384", Use.ENCRYPT, "bench", pin=PinPolicy.ONCE, pcrs=pcrs)
    with swtpm.tapped() as tap:
        with opened(tmp_path, swtpm.tap_tcti) as token:
            token.generate(spec)
        tap.clear()
        with opened(tmp_path, swtpm.tap_tcti) as token:
            (key,) = token.keys()
            whole = composite(key)
            if warm:
                list(whole.agreements(foreign()))
                tap.clear()
            list(whole.agreements(foreign()))
            count = len(tap.commands)
    figure(name, count, "commands", bound, "counted between the TCTI and swtpm")
