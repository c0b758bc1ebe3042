"""ProfileMaster, ConnectionRequest and ConnectionDevice: what they may and may not say."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mesh_hsm.curves import ED448, P384, X448
from mesh_hsm.dare.strict_json import compact
from mesh_hsm.errors import FormatError, UnsupportedError, VerificationError
from mesh_hsm.mesh import create_profile_master, open_profile_master
from mesh_hsm.udf import udf_of


def test_versions_are_chained(mesh: Any) -> None:
    first = mesh.profile
    second = mesh.next_version()
    third = mesh.next_version(previous=second)
    assert [one.value.version for one in (first, second, third)] == [1, 2, 3]
    assert second.value.previous_digest == first.digest
    assert third.value.previous_digest == second.digest
    assert {one.value.udf for one in (first, second, third)} == {udf_of(mesh.master.public)}


def test_a_version_follows_one_of_the_same_mesh(mesh: Any, stranger: Any) -> None:
    with pytest.raises(VerificationError, match="another master key"):
        mesh.next_version(previous=stranger.profile)


def test_a_mesh_without_escrow(mesh: Any) -> None:
    profile = mesh.next_version(escrow=[])
    assert open_profile_master(profile.text).value.escrow_encryption == ()


def test_a_master_key_on_ed448(make_signer: Any, mesh: Any) -> None:
    master = make_signer("master", "Ed448")
    now = datetime(2026, 1, 1, tzinfo=UTC)
    profile = create_profile_master(master, [mesh.administrator.public], [], now=now)
    assert open_profile_master(profile.text).value.profile_signature.curve is ED448


def test_what_a_profile_master_may_not_say(mesh: Any) -> None:
    good = mesh.profile.value
    with pytest.raises(FormatError, match="at least one administrator"):
        replace(good, administrator_signature=())
    with pytest.raises(FormatError, match="two roles"):
        replace(good, administrator_signature=(good.profile_signature,))
    with pytest.raises(FormatError, match="two roles"):
        replace(good, escrow_encryption=good.escrow_encryption * 2)
    with pytest.raises(FormatError, match="the one before"):
        replace(good, version=2)
    with pytest.raises(FormatError, match="the one before"):
        replace(good, previous_digest=bytes(64))
    with pytest.raises(UnsupportedError):
        replace(good, administrator_signature=(X448.base,))
    with pytest.raises(UnsupportedError):
        replace(good, escrow_encryption=(ED448.base,))


def test_what_a_request_may_not_say(device: Any) -> None:
    good = device.request.value
    with pytest.raises(FormatError, match="two roles"):
        replace(good, one_time=good.device.value.encryption)
    for nonce in (good.device.value.udf, "NAAA", "NAAA-AAAA", ""):
        with pytest.raises(FormatError):
            replace(good, nonce=nonce)
    other = {**good.custody, "Encryption": {"custody": "excellent"}}
    for custody in (b"{}", b"[]", compact({**good.custody, "Extra": {}}), compact(other)):
        with pytest.raises(FormatError):
            replace(good, custody_octets=custody)


def test_what_a_connection_may_not_say(connected: Any) -> None:
    good = connected.connection.value
    with pytest.raises(FormatError, match="two roles"):
        replace(good, encryption=good.authentication)
    with pytest.raises(FormatError, match="Serial"):
        replace(good, serial=good.subject_udf)
    for end in (good.created, good.created - timedelta(seconds=1)):
        with pytest.raises(FormatError, match="ends before"):
            replace(good, not_on_or_after=end)


def test_what_a_profile_device_may_not_say(device: Any) -> None:
    good = device.request.value.device.value
    with pytest.raises(FormatError, match="two roles"):
        replace(good, signature=good.profile_signature)
    with pytest.raises(UnsupportedError):
        replace(good, profile_signature=X448.base)
    with pytest.raises(UnsupportedError):
        replace(good, encryption=ED448.base)
    with pytest.raises(UnsupportedError, match="cannot be combined") as caught:
        replace(good, signature=ED448.base)
    assert "P-384" in (caught.value.hint or "")
    assert replace(good, encryption=P384.base).encryption == P384.base
