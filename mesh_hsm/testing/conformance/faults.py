"""Promise: a failure in the middle leaves nothing half made, and the device usable."""
# ruff: noqa: S101, SIM118  the kit is made of assertions; Token.keys is no dictionary's

from __future__ import annotations

from collections.abc import Callable

import pytest

from mesh_hsm.errors import MeshHsmError
from mesh_hsm.provider import Token, Use
from mesh_hsm.testing.conformance.bench import (
    Bench,
    Kit,
    exercise,
    make,
    make_any,
    seen,
)

_MANY_STEPS = 200


class Faults(Kit):
    """The device or the disk fails at every step in turn."""

    @pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
    def test_generation_is_rolled_back(self, bench: Bench, token: Token, use: Use) -> None:
        """No key, no orphan, and the same label works at the next attempt."""
        exercise(make_any(token, "bystander"))
        before, leftovers = seen(token), list(bench.leftovers())

        def rolled_back() -> None:
            assert seen(token) == before
            with bench.open() as other:
                assert seen(other) == before
            assert list(bench.leftovers()) == leftovers

        _fail_everywhere(bench, lambda: make(token, use, "victim"), rolled_back)
        exercise(next(key for key in token.keys() if key.label == "victim"))

    def test_deletion_is_whole(self, bench: Bench, token: Token) -> None:
        """After a failure the key is there and works, or it is gone; never in between."""
        bystander, victim = make_any(token, "bystander"), make_any(token, "v")
        exercise(victim)

        def whole() -> None:
            with bench.open() as other:
                for key in other.keys():
                    exercise(key)

        def delete() -> None:
            if victim.label in seen(token):
                token.delete(victim.uri)

        _fail_everywhere(bench, delete, whole)
        assert list(seen(token)) == ["bystander"]
        exercise(bystander)

    def test_a_failed_use_harms_nothing(self, bench: Bench, token: Token) -> None:
        """The next one works, in the same instance."""
        key = make_any(token)
        exercise(key)
        leftovers = list(bench.leftovers())

        def unharmed() -> None:
            exercise(key)
            assert list(bench.leftovers()) == leftovers

        _fail_everywhere(bench, lambda: exercise(key), unharmed)


def _fail_everywhere(
    bench: Bench, attempt: Callable[[], object], afterwards: Callable[[], None]
) -> None:
    """Fail at step 0, 1, 2, … until the attempt gets through; look around after each failure."""
    for step in range(_MANY_STEPS):
        failing = bench.failing(step)
        if failing is None:
            pytest.skip("this bench cannot make the device fail")
        try:
            with failing:
                attempt()
        except MeshHsmError as error:
            _one_line(error)
            afterwards()
        else:
            assert step > 0, "the bench made nothing fail"
            return
    pytest.fail(f"still failing after {_MANY_STEPS} steps: does the failure ever end?")


def _one_line(error: MeshHsmError) -> None:
    assert "\n" not in str(error)
