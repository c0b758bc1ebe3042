"""Promise: an optional protocol that a token has, it keeps."""
# ruff: noqa: S101  the kit is made of assertions

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from mesh_hsm import threshold
from mesh_hsm.curves import SecretScalar, curve
from mesh_hsm.custody import CustodyClass, PinPolicy
from mesh_hsm.errors import (
    AccessError,
    ConflictError,
    DeviceError,
    FormatError,
    UnsupportedError,
)
from mesh_hsm.provider import Attests, DeviceKey, Imports, KeySpec, Seals, Token, Use
from mesh_hsm.testing.conformance.bench import (
    Asked,
    Bench,
    Kit,
    every_algorithm,
    exercise,
    make_any,
    refused,
    seen,
)
from mesh_hsm.testing.conformance.capabilities import token_offers

SEALED_AT_MOST = 128


class Powers(Kit):
    """Imports, Seals and Attests. ChangesPin is checked with the PINs."""

    @pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
    @pytest.mark.parametrize("algorithm", every_algorithm())
    def test_imports(self, bench: Bench, token: Token, algorithm: str, use: Use) -> None:
        """An imported scalar multiplies as the scalar does; the statement says who knew it."""
        importer = _imports(token)
        spec = KeySpec(algorithm, use, "imported")
        try:
            scalar = SecretScalar.random(curve(algorithm))
        except UnsupportedError:  # EdDSA keys are not scalars
            with refused(bench, token):
                importer.import_scalar(spec, 5, ("dealer",))
            return
        if Imports in bench.lacks or not token_offers(token, algorithm, use):
            for consent in (False, True):
                with refused(bench, token):
                    importer.import_scalar(
                        replace(spec, allow_exportable=consent), scalar.value, ("dealer",)
                    )
            return
        key = _imported(bench, token, spec, scalar, ("dealer", "administrator"))
        assert key.public == scalar.public()
        exercise(key)
        if use is Use.ENCRYPT:
            peer = SecretScalar.random(key.public.curve)
            assert key.agree(peer.public()).x == scalar.x_of(peer.public()).x
        statement = key.custody()
        assert statement.known_by == ("dealer", "administrator")
        assert statement.custody is not CustodyClass.GENERATED
        with bench.open() as other:
            assert other.key(key.uri).custody() == statement
            exercise(other.key(key.uri))

    def test_imports_refuse_what_is_no_scalar(self, token: Token) -> None:
        """Zero, n and beyond; and a label in use. Nothing else is wrong: there is consent."""
        importer = _imports(token)
        key = make_any(token, "taken")
        algorithm, n = key.public.curve.name, key.public.curve.order
        spec = KeySpec(algorithm, key.use, "bad", allow_exportable=True)
        for scalar in (0, -1, n, n + 1, 1 << 600):
            with pytest.raises(FormatError):
                importer.import_scalar(spec, scalar, ())
        with pytest.raises(ConflictError):
            importer.import_scalar(replace(spec, label="taken"), 7, ())
        assert seen(token) == {"taken": key.public.encode()}

    @pytest.mark.parametrize("size", [0, 1, 32, SEALED_AT_MOST])
    def test_sealed_secrets_come_back(self, bench: Bench, token: Token, size: int) -> None:
        """Through this instance and the next; the blob does not show the secret."""
        sealer = _seals(bench, token)
        secret = os.urandom(size)
        blob = sealer.seal("seed", secret)
        assert sealer.unseal(blob) == secret
        assert size < 32 or secret not in blob
        assert blob != sealer.seal("seed", secret)
        with bench.open() as other:
            assert _seals(bench, other).unseal(blob) == secret

    def test_sealed_secrets_are_whole_or_refused(self, bench: Bench, token: Token) -> None:
        """A bit changed, an octet cut or added: no secret comes out."""
        sealer = _seals(bench, token)
        secret = os.urandom(32)
        blob = sealer.seal("seed", secret)
        last = bytes([blob[-1] ^ 1])
        for bad in (b"", blob[:-1], blob[:-1] + last, blob + b"\0", blob[: len(blob) // 2]):
            with pytest.raises((FormatError, DeviceError)):
                sealer.unseal(bad)
        assert sealer.unseal(blob) == secret

    def test_too_much_is_not_sealed(self, bench: Bench, token: Token) -> None:
        """What some device cannot seal, none does."""
        with pytest.raises(FormatError):
            _seals(bench, token).seal("seed", bytes(SEALED_AT_MOST + 1))

    def test_a_sealed_pin_is_honoured_or_refused(self, bench: Bench, token: Token) -> None:
        """A PIN policy for a sealed secret is never silently dropped."""
        sealer = _seals(bench, token)
        try:
            blob = sealer.seal("seed", b"secret", PinPolicy.ONCE)
        except UnsupportedError:
            return
        with bench.open(Asked({})) as other, pytest.raises(AccessError):
            _seals(bench, other).unseal(blob)
        with bench.open() as other:
            assert _seals(bench, other).unseal(blob) == b"secret"

    def test_evidence_is_fresh(self, token: Token) -> None:
        """Evidence answers the verifier's challenge, and is about this very key."""
        if not isinstance(token, Attests):
            pytest.skip("this device attests nothing")
        key = make_any(token)
        with pytest.raises(FormatError):
            token.attest(key.uri, bytes(32))
        asked = (threshold.Verifier("verifier.example").challenge.octets for _ in range(2))
        first, second = (token.attest(key.uri, challenge) for challenge in asked)
        assert first
        assert first != second


def _imports(token: Token) -> Imports:
    if not isinstance(token, Imports):
        pytest.skip("this device imports no keys")
    return token


def _imported(
    bench: Bench, token: Token, spec: KeySpec, scalar: SecretScalar, known_by: tuple[str, ...]
) -> DeviceKey:
    """A scalar on the token; with consent if the token refuses without, as it must where it does
    not vouch that the key stays.
    """
    importer, before = _imports(token), list(bench.leftovers())
    try:
        key, consent = importer.import_scalar(spec, scalar.value, known_by), False
    except UnsupportedError:
        assert seen(token) == {}
        assert list(bench.leftovers()) == before
        spec = replace(spec, allow_exportable=True)
        key, consent = importer.import_scalar(spec, scalar.value, known_by), True
    claim = token.capability(spec.algorithm, spec.use)
    assert replace(claim, custody=key.custody().custody).needs_consent is consent
    return key


def _seals(bench: Bench, token: Token) -> Seals:
    if not isinstance(token, Seals):
        pytest.skip("this device seals nothing")
    if Seals in bench.lacks:
        with refused(bench, token):
            token.seal("seed", b"secret")
        pytest.skip("this device seals nothing, and says so")
    return token
