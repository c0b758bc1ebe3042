"""Opened for the records on a Mesh: the witness, and versions of its profile."""

from __future__ import annotations

from datetime import UTC, datetime

from hsm1_fixed import Case, FixedSigner, chance, secret

from mesh_hsm.curves import Point
from mesh_hsm.mesh.profile_master import create_profile_master


def mesh() -> list[Case]:
    """hsm-1 §6.2 and §7."""
    request, connection = b'{"request":1}', b'{"ConnectionDevice":{}}'
    inputs = {"request": request.hex(), "connection": connection.hex()}
    return [Case("witness", "witness", inputs, "over the payload octets"), *_versions()]


def _versions() -> list[Case]:
    master, stranger = FixedSigner("P-384", "master"), FixedSigner("P-384", "another master")
    admins: list[Point] = [FixedSigner("P-384", f"administrator {i}").public for i in range(3)]
    escrow, now = [secret("X448", "escrow").public()], datetime(2026, 11, 23, 12, tzinfo=UTC)
    with chance("versions"):
        one = create_profile_master(master, admins[:1], escrow, now=now)
        two = create_profile_master(master, admins[:2], escrow, now=now, previous=one)
        fork = create_profile_master(master, admins[2:], escrow, now=now, previous=one)
        three = create_profile_master(master, admins, escrow, now=now, previous=two)
        foreign = create_profile_master(stranger, admins[:1], escrow, now=now)
    udf = one.value.udf
    cases = []
    for name, seen, offered, failure in (
        ("the same version", one, one, None),
        ("the next version", one, two, None),
        ("two versions later", one, three, None),
        ("a step back", two, one, "verification"),
        ("two profiles of one version", two, fork, "verification"),
        ("the successor of another profile", fork, three, "verification"),
        ("another Mesh", one, foreign, "verification"),
    ):
        pinned = {"udf": udf, "version": seen.value.version, "digest": seen.digest.hex()}
        inputs = {"pinned": pinned, "offered": offered.text.decode().strip()}
        cases.append(Case(f"ProfileMaster: {name}", "version", inputs, "", failure))
    return cases
