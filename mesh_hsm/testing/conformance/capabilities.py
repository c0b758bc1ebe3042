"""Promise: what a token says it can do, it does, and everything else it refuses beforehand."""
# ruff: noqa: S101  the kit is made of assertions; Token.keys is no dictionary's

from __future__ import annotations

from dataclasses import replace

import pytest

from mesh_hsm.curves import Point
from mesh_hsm.custody import TouchPolicy
from mesh_hsm.errors import UnsupportedError
from mesh_hsm.provider import Capability, KeySpec, Primitive, Token, Use
from mesh_hsm.testing.conformance.bench import (
    Asked,
    Bench,
    Kit,
    every_algorithm,
    exercise,
    refused,
    seen,
)


class Capabilities(Kit):
    """Capabilities and custody, read back from the device."""

    @pytest.mark.parametrize("use", Use)
    @pytest.mark.parametrize("algorithm", every_algorithm())
    def test_claims_are_true(self, bench: Bench, token: Token, algorithm: str, use: Use) -> None:
        """Each claimed algorithm and use gives a working key; each other one is refused.

        So is a key that could leave the device, unless it was asked for by name.
        """
        claimed = _claims(token, algorithm, use)
        spec = KeySpec(algorithm, use, "claim")
        if not claimed:
            before = list(bench.leftovers())
            try:
                key = token.generate(spec)
            except UnsupportedError:
                assert seen(token) == {}
                assert list(bench.leftovers()) == before
                return
            # Some devices tell only whoever has logged in, as generation does.
            claimed = _claims(token, algorithm, use)
            assert claimed, "it made a key that it does not claim"
            assert not claimed[0].needs_consent, "it made a key that needs consent without it"
        elif claimed[0].needs_consent:
            with refused(bench, token):
                token.generate(spec)
            key = token.generate(replace(spec, allow_exportable=True))
        else:
            key = token.generate(spec)
        assert (key.public.curve.name, key.use, key.label) == (algorithm, use, "claim")
        key.public.check_foreign()
        statement = key.custody()
        assert statement.custody in {capability.custody for capability in claimed}
        assert (statement.custody, statement.hardware) == (bench.custody, bench.hardware)
        assert statement.known_by == ()
        assert statement.to_json()["custody"] == bench.custody
        exercise(key)
        if use is not Use.SIGN:
            answer = key.agree(key.public)
            kind = Primitive.AGREE_POINT if isinstance(answer, Point) else Primitive.AGREE_X
            assert kind in {capability.primitive for capability in claimed}

    def test_unknown_algorithms_are_refused(self, token: Token) -> None:
        """A name that is no curve is refused like a curve that the device lacks."""
        with pytest.raises(UnsupportedError):
            token.generate(KeySpec("P-257", Use.SIGN, "unknown"))
        assert seen(token) == {}

    def test_asking_needs_no_secret(self, bench: Bench) -> None:
        """Finding tokens, their capabilities and their keys logs in nowhere."""
        secrets = Asked({})
        provider = bench.provider()
        assert provider.scheme == bench.uri.scheme
        info = [found for found in provider.tokens() if found.uri == bench.uri]
        assert len(info) == 1
        assert info[0].hardware is bench.hardware
        with provider.open(bench.uri, secrets) as token:
            assert token.info.uri == bench.uri
            assert token.capabilities()
            assert list(token.keys()) == []
        assert secrets.requests == []

    def test_capabilities_do_not_change(self, bench: Bench, token: Token) -> None:
        """Another instance is told the same."""
        with bench.open() as other:
            assert other.capabilities() == token.capabilities()

    @pytest.mark.parametrize(
        "unusual",
        [{"pcrs": (7,)}, {"persistent": True}, {"touch": TouchPolicy.ALWAYS}, {"slot": "9c"}],
        ids=["pcrs", "persistent", "touch", "slot"],
    )
    def test_options_are_honoured_or_refused(
        self, bench: Bench, token: Token, unusual: dict[str, object]
    ) -> None:
        """An option is never silently dropped: the statement shows it, or nothing is made."""
        algorithm = next(iter(sorted({c.algorithm for c in token.capabilities()})))
        use = next(use for use in Use if token_offers(token, algorithm, use))
        consent = token.capability(algorithm, use).needs_consent
        plain = KeySpec(algorithm, use, "unusual", allow_exportable=consent)
        spec = replace(plain, **unusual)  # type: ignore[arg-type]  # one field
        try:
            key = token.generate(spec)
        except UnsupportedError:
            assert seen(token) == {}
            return
        statement = key.custody()
        assert (statement.pcrs, statement.touch) == (spec.pcrs, spec.touch)
        assert spec.slot in (None, key.uri.get("slot"))
        exercise(key)


def token_offers(token: Token, algorithm: str, use: Use) -> bool:
    """Whether the token claims this algorithm for this use."""
    return bool(_claims(token, algorithm, use))


def _claims(token: Token, algorithm: str, use: Use) -> list[Capability]:
    return [
        capability
        for capability in token.capabilities()
        if capability.algorithm == algorithm and capability.primitive in use.primitives
    ]
