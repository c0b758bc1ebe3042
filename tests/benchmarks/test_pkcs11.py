"""The PKCS #11 provider beside bare python-pkcs11: same SoftHSM, same token, same key."""

from __future__ import annotations

import hashlib
import shutil
import statistics
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import bare_pkcs11
import pytest
from figures import Figure, side_by_side
from interposer import Interposer
from pytest_benchmark.fixture import BenchmarkFixture

from mesh_hsm.curves import SecretScalar, curve, verify_prehashed
from mesh_hsm.custody import PinPolicy
from mesh_hsm.provider import DeviceKey, KeySpec, Token, Use
from mesh_hsm.secret_source import FixedSecrets, SecretKind
from mesh_hsm.testing.softhsm import Softhsm
from mesh_hsm.uri import Uri
from mesh_hsm_pkcs11 import Pkcs11Provider
from mesh_hsm_pkcs11.curve_forms import peer_octets
from mesh_hsm_pkcs11.module import forget_modules

PEER = "python-pkcs11, same key in the same SoftHSM"
THREADED_CALLS = 240  # for all threads together
ROUNDS = 15

Calls = tuple[Callable[[], object], Callable[[], object]]
"""Ours and the peer's."""


def opened(rig: Softhsm, records: Path) -> Token:
    secrets = FixedSecrets({SecretKind.PIN: rig.pin.encode()})
    return Pkcs11Provider(records).open(Uri.parse(rig.uri), secrets)


def make(token: Token, algorithm: str, use: Use, label: str = "bench") -> DeviceKey:
    return token.generate(KeySpec(algorithm, use, label, pin=PinPolicy.ONCE))


@pytest.fixture
def token(softhsm_token: Softhsm, tmp_path: Path) -> Iterator[Token]:
    with opened(softhsm_token, tmp_path) as token:
        yield token


def agreements(rig: Softhsm, token: Token, algorithm: str) -> Calls:
    """One agreement with one point, by us and by the peer."""
    c = curve(algorithm)
    key, point = make(token, algorithm, Use.ENCRYPT), SecretScalar.random(c).public()
    key.agree(point)  # logs in, for the peer as well
    bare = bare_pkcs11.private_key(bare_pkcs11.session(rig), "bench")
    peer = peer_octets(point)
    return lambda: key.agree(point), lambda: bare_pkcs11.agree(bare, peer, c.field_size)


# -- one call after another ----------------------------------------------------------------------


@pytest.mark.figures("pkcs11-agree", "pkcs11-agree-p256", "pkcs11-agree-x448")
@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("pkcs11-agree", "P-384"),
        ("pkcs11-agree-p256", "P-256"),
        ("pkcs11-agree-x448", "X448"),
    ],
)
def test_agree(
    name: str,
    algorithm: str,
    softhsm_token: Softhsm,
    token: Token,
    benchmark: BenchmarkFixture,
    figure: Figure,
) -> None:
    ours, peer = agreements(softhsm_token, token, algorithm)
    figure(name, side_by_side(benchmark, ours, peer, 500), "times", 1.10, PEER)


@pytest.mark.figures("pkcs11-sign", "pkcs11-sign-p256")
@pytest.mark.parametrize(
    ("name", "algorithm", "hashed"),
    [("pkcs11-sign", "P-384", hashlib.sha384), ("pkcs11-sign-p256", "P-256", hashlib.sha256)],
)
def test_sign(
    name: str,
    algorithm: str,
    hashed: Callable[[bytes], hashlib._Hash],
    softhsm_token: Softhsm,
    token: Token,
    benchmark: BenchmarkFixture,
    figure: Figure,
) -> None:
    key, digest = make(token, algorithm, Use.SIGN), hashed(b"benchmark").digest()
    key.sign(digest)  # logs in, for the peer as well
    bare = bare_pkcs11.private_key(bare_pkcs11.session(softhsm_token), "bench")

    def sign_and_verify() -> None:
        assert verify_prehashed(key.public, digest, bare_pkcs11.sign(bare, digest))

    ratio = side_by_side(benchmark, lambda: key.sign(digest), sign_and_verify, 500)
    figure(name, ratio, "times", 1.10, f"{PEER}, and the same verification")


@pytest.mark.figures("pkcs11-calls-agree", "pkcs11-calls-sign")
@pytest.mark.parametrize(
    ("name", "use", "bound"),
    [("pkcs11-calls-agree", Use.ENCRYPT, 3), ("pkcs11-calls-sign", Use.SIGN, 2)],
)
def test_calls(
    name: str,
    use: Use,
    bound: int,
    softhsm_token: Softhsm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    """Calls of the module for one warm agreement or signature, counted before SoftHSM."""
    with Interposer(softhsm_token.module, tmp_path / "interposer") as interposer:
        monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", str(interposer.path))
        with opened(softhsm_token, tmp_path) as token:
            key = make(token, "P-384", use)
            point, digest = key.public.curve.base, bytes(48)

            def once() -> object:
                return key.sign(digest) if use is Use.SIGN else key.agree(point)

            once()
            with interposer.counted() as calls:
                once()
    figure(name, len(calls), "calls", bound, "counted between the binding and SoftHSM")


# -- many threads --------------------------------------------------------------------------------


def seconds(call: Callable[[], object], threads: int) -> float:
    """How long ``threads`` threads take for ``THREADED_CALLS`` calls."""
    start = threading.Barrier(threads + 1)

    def work() -> None:
        start.wait()
        for _ in range(THREADED_CALLS // threads):
            call()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    begun = time.perf_counter()
    for worker in workers:
        worker.join()
    return time.perf_counter() - begun


@pytest.mark.figures("pkcs11-1-thread", "pkcs11-2-threads", "pkcs11-8-threads")
@pytest.mark.parametrize(
    ("name", "threads"),
    [("pkcs11-1-thread", 1), ("pkcs11-2-threads", 2), ("pkcs11-8-threads", 8)],
)
def test_throughput(
    name: str, threads: int, softhsm_token: Softhsm, token: Token, figure: Figure
) -> None:
    """Threads that share one key, against threads that take turns with one session."""
    ours, bare = agreements(softhsm_token, token, "P-384")
    lock = threading.Lock()

    def peer() -> None:
        with lock:
            bare()

    taken = [(seconds(ours, threads), seconds(peer, threads)) for _ in range(ROUNDS)]
    mine, theirs = (statistics.median(times) for times in zip(*taken, strict=True))
    rates = [f"{THREADED_CALLS / time:.0f}/s" for time in (mine, theirs)]
    told = f"python-pkcs11 under one lock: {rates[1]}, we {rates[0]}"
    # Of many threads the machine decides; what it costs one to be ready for them is bounded.
    figure(name, mine / theirs, "times", 1.10 if threads == 1 else None, told)


# -- one key among many objects ------------------------------------------------------------------


def fill(rig: Softhsm, copies: int) -> None:
    """Put copies of the public key called "other" on the token, past SoftHSM, which is slow at it.

    A provider that looked at them would take each for one of its own keys.
    """
    forget_modules()
    (other,) = (file for file in rig.folder.rglob("*.object") if b"other" in file.read_bytes())
    for _ in range(copies):
        copy = other.with_name(f"{uuid.uuid4()}.object")
        shutil.copyfile(other, copy)
        copy.with_suffix(".lock").touch()


@pytest.fixture
def wanted(softhsm_token: Softhsm, tmp_path: Path) -> Uri:
    """The key to be found, on a token with one more."""
    with opened(softhsm_token, tmp_path) as token:
        make(token, "P-384", Use.ENCRYPT, "other")
        return make(token, "P-384", Use.ENCRYPT, "wanted").uri


@pytest.mark.figures("pkcs11-find-1000", "pkcs11-find-10000", "pkcs11-1000", "pkcs11-10000")
@pytest.mark.parametrize(("objects", "rounds"), [(1_000, 40), (10_000, 15)])
def test_finding(
    objects: int,
    rounds: int,
    softhsm_token: Softhsm,
    wanted: Uri,
    tmp_path: Path,
    benchmark: BenchmarkFixture,
    figure: Figure,
) -> None:
    """From a closed token to the first agreement, as a new process has it before it."""
    point = curve("P-384").base
    octets = peer_octets(point)

    def ours() -> None:
        with opened(softhsm_token, tmp_path) as token:
            token.key(wanted).agree(point)

    def peer() -> None:
        with bare_pkcs11.session(softhsm_token, softhsm_token.pin) as session:
            bare_pkcs11.public_key(session, "wanted")
            bare_pkcs11.agree(bare_pkcs11.private_key(session, "wanted"), octets, 48)

    few = statistics.median(timed(ours) for _ in range(rounds))
    fill(softhsm_token, objects)
    ratio = side_by_side(benchmark, ours, peer, rounds)
    told = "python-pkcs11: log in, find both halves by label, agree"
    figure(f"pkcs11-find-{objects}", ratio, "times", 1.25, told)
    many = statistics.median(timed(ours) for _ in range(rounds))
    figure(f"pkcs11-{objects}", many / few, "times", None, "the same on a token with 4 objects")


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@pytest.mark.figures("pkcs11-find-calls")
def test_calls_of_finding(
    softhsm_token: Softhsm,
    wanted: Uri,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    figure: Figure,
) -> None:
    """Calls of the module from a closed token to the first agreement, among 10,000 objects."""
    counts = []
    with Interposer(softhsm_token.module, tmp_path / "interposer") as interposer:
        monkeypatch.setenv("MESH_HSM_PKCS11_MODULE", str(interposer.path))
        for copies in (0, 0, 10_000):  # the first time loads the module
            fill(softhsm_token, copies)
            with interposer.counted() as calls, opened(softhsm_token, tmp_path) as token:
                token.key(wanted).agree(curve("P-384").base)
            counts.append(len(calls))
    _, few, many = counts
    figure("pkcs11-find-calls", many, "calls", few, "the same on a token with 4 objects")
