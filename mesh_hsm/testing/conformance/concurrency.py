"""Promise: threads may share a token, and a forked child is refused or served, never confused."""
# ruff: noqa: S101, SIM118  the kit is made of assertions; Token.keys is no dictionary's

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from mesh_hsm.curves import SecretScalar
from mesh_hsm.errors import DeviceError
from mesh_hsm.provider import Token, Use
from mesh_hsm.testing.conformance.bench import (
    Bench,
    Kit,
    digest_for,
    exercise,
    make,
    make_any,
    seen,
)

THREADS = 8
ROUNDS = 6
_PATIENCE = 60  # seconds a forked child may take, so that a deadlock fails and does not hang


class Concurrency(Kit):
    """Threads, instances side by side, and fork."""

    def test_threads_share_a_token(self, token: Token) -> None:
        """Eight threads agree, sign, list and generate at once; every answer is right."""
        agreeing, signing = make(token, Use.ENCRYPT, "agree"), make(token, Use.SIGN, "sign")
        c = agreeing.public.curve

        def work(number: int) -> None:
            for turn in range(ROUNDS):
                peer = SecretScalar.random(c)
                assert agreeing.agree(peer.public()).x == peer.x_of(agreeing.public).x
                signing.sign(digest_for(signing, fill=16 * number + turn))
                assert {"agree", "sign"} <= seen(token).keys()
            exercise(make(token, Use.AUTHENTICATE, f"thread {number}"))

        _together([partial(work, number) for number in range(THREADS)])
        assert len(seen(token)) == 2 + THREADS

    def test_instances_share_a_token(self, bench: Bench, token: Token) -> None:
        """Two instances, each adding and deleting, lose none of each other's keys."""
        make_any(token, "first")

        def work(name: str) -> None:
            with bench.open() as mine:
                for turn in range(3):
                    exercise(make_any(mine, f"{name} {turn}"))
                mine.delete(next(key for key in mine.keys() if key.label == f"{name} 1").uri)

        _together([partial(work, name) for name in ("a", "b")])
        assert list(seen(token)) == ["a 0", "a 2", "b 0", "b 2", "first"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
    @pytest.mark.parametrize("use", [Use.ENCRYPT, Use.SIGN])
    def test_a_forked_child_is_refused_or_served(self, token: Token, use: Use) -> None:
        """``DeviceError``, or a right answer; and the parent goes on undisturbed."""
        key = make(token, use)
        exercise(key)
        outcomes = in_a_child(lambda: exercise(key))
        assert outcomes in ("served", "refused"), outcomes
        exercise(key)


def _together(jobs: list[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(jobs)) as pool:
        for future in [pool.submit(job) for job in jobs]:
            future.result()


def in_a_child(job: Callable[[], object]) -> str:
    """Run a job in a forked child, and tell what became of it.

    ``served``; ``refused`` if it raised ``DeviceError``, ``failed: …`` if anything else; ``hung``.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        outcome = "failed"
        try:
            signal.alarm(_PATIENCE)
            job()
            outcome = "served"
        except DeviceError:
            outcome = "refused"
        except BaseException as error:  # reported to the parent, which fails
            outcome = f"failed: {error!r}"
        finally:
            os.write(writer, outcome.encode())
            os._exit(0)  # not through pytest's own ending
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        outcome = pipe.read().decode()
    os.waitpid(child, 0)
    return outcome or "hung"
