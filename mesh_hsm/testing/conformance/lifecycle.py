"""Promise: keys are found again under their names, deleted for good, and never confused."""
# ruff: noqa: S101, SIM118  the kit is made of assertions; Token.keys is no dictionary's

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from mesh_hsm.errors import ConflictError, DeviceError, FormatError, MeshHsmError, NotFoundError
from mesh_hsm.provider import DeviceKey, Token, Use
from mesh_hsm.testing.conformance.bench import (
    Bench,
    Kit,
    algorithms,
    exercise,
    make,
    make_any,
    seen,
)
from mesh_hsm.uri import Uri

LABELS = {
    "plain": "work",
    "space": "Alice's laptop",
    "unicode": "clé de Zoë ✓",
    "percent": "100%;key=other?x=y",
    "path": "../../escape",
    "slash": "/etc/passwd",
    "dots": "..",
    "dot": ".hidden",
    "option": "-rf",
    "longest": "x" * 64,
    "longest, wide": "鍵" * 64,
}
CALLS: dict[str, Callable[[Token, DeviceKey], object]] = {
    "capabilities": lambda token, key: token.capabilities(),
    "keys": lambda token, key: token.keys(),
    "key": lambda token, key: token.key(key.uri),
    "generate": lambda token, key: make_any(token, "later"),
    "delete": lambda token, key: token.delete(key.uri),
    "use": lambda token, key: exercise(key),
    "custody": lambda token, key: key.custody(),
}


class Lifecycle(Kit):
    """From generation to deletion, across instances."""

    def test_keys_are_found_again(self, bench: Bench, token: Token) -> None:
        """A new provider instance sees the same keys, with the same statements, and uses them."""
        made = [make_any(token, "b"), make_any(token, "a")]
        if algorithms(token, Use.AUTHENTICATE):
            made.append(make(token, Use.AUTHENTICATE, "d"))
        made.append(make(token, Use.SIGN, "c"))
        facts = {key.label: (key.public, key.use, key.uri, key.custody()) for key in made}
        token.close()
        with bench.open() as again:
            assert [key.label for key in again.keys()] == sorted(facts)
            for key in again.keys():
                assert (key.public, key.use, key.uri, key.custody()) == facts[key.label]
                exercise(key)

    def test_keys_survive_a_restart(self, bench: Bench, token: Token) -> None:
        """After the device was off, a new instance goes on as before."""
        label = make_any(token).label
        before = seen(token)
        token.close()
        if not bench.restart():
            pytest.skip("this device has no power to cut")
        with bench.open() as again:
            assert seen(again) == before
            exercise(next(key for key in again.keys() if key.label == label))

    @pytest.mark.parametrize("label", LABELS)
    def test_labels_are_just_names(self, bench: Bench, token: Token, label: str) -> None:
        """Whatever is in a label, the key is found by its URI, alone, and nothing else moves."""
        key = make_any(token, LABELS[label])
        assert key.label == LABELS[label]
        uri = Uri.parse(str(key.uri))
        assert uri == key.uri
        assert uri.scheme == bench.provider().scheme
        with bench.open() as again:
            assert again.key(uri).public == key.public
            exercise(again.key(uri))
            again.delete(uri)
            assert seen(again) == {}

    @pytest.mark.parametrize("label", ["", "x" * 65, "a\nb", "\x1b[31m", "a\0b", "\u202eb"])
    def test_hostile_labels_are_refused(self, token: Token, label: str) -> None:
        """Nothing that a terminal obeys, or a file system forbids."""
        with pytest.raises(FormatError):
            make_any(token, label)
        assert seen(token) == {}

    def test_a_token_opens_by_its_keys_uri(self, bench: Bench, token: Token) -> None:
        """A key's URI is enough to find its token."""
        key = make_any(token)
        with bench.provider().open(key.uri, bench.asked()) as again:
            assert again.info.uri == token.info.uri
            assert again.key(key.uri).public == key.public

    def test_a_label_in_use_is_refused(self, bench: Bench, token: Token) -> None:
        """A key is never overwritten, whatever its use."""
        make_any(token, "taken")
        before, leftovers = seen(token), list(bench.leftovers())
        for use in filter(partial(algorithms, token), Use):
            with pytest.raises(ConflictError):
                make(token, use, "taken")
        with bench.open() as other, pytest.raises(ConflictError):
            make_any(other, "taken")
        assert seen(token) == before
        assert list(bench.leftovers()) == leftovers

    def test_a_deleted_key_is_gone(self, bench: Bench, token: Token) -> None:
        """For this instance, the next, and whoever still holds the object; others stay."""
        gone, stays = make_any(token, "gone"), make_any(token, "stays")
        token.delete(gone.uri)
        with bench.open() as other:
            for holder in (token, other):
                assert list(seen(holder)) == ["stays"]
                with pytest.raises(NotFoundError):
                    holder.key(gone.uri)
                with pytest.raises(NotFoundError):
                    holder.delete(gone.uri)
        with pytest.raises(MeshHsmError):
            exercise(gone)
        exercise(stays)

    def test_a_label_can_be_used_again(self, token: Token) -> None:
        """The new key is another key, and an old object does not speak for it."""
        old = make_any(token, "again")
        token.delete(old.uri)
        new = make_any(token, "again")
        assert new.public != old.public
        assert token.key(old.uri).public == new.public
        with pytest.raises(MeshHsmError):
            exercise(old)

    @pytest.mark.parametrize("name", ["no such key", "no key named", "another scheme"])
    def test_what_is_not_there_is_not_found(self, bench: Bench, token: Token, name: str) -> None:
        """``NotFoundError``, and nothing is changed."""
        key = make_any(token, "present")
        uri = {
            "no such key": bench.absent(key.uri),
            "no key named": bench.uri,
            "another scheme": Uri(f"{key.uri.scheme}-no-more", key.uri.attributes),
        }[name]
        for call in (token.key, token.delete):
            with pytest.raises(NotFoundError):
                call(uri)
        assert list(seen(token)) == ["present"]

    @pytest.mark.parametrize("call", CALLS)
    def test_a_closed_token_answers_nothing(self, token: Token, call: str) -> None:
        """Neither it nor the keys it gave out; closing it twice is harmless."""
        key = make_any(token)
        exercise(key)
        token.close()
        token.close()
        with pytest.raises(DeviceError):
            CALLS[call](token, key)

    def test_nothing_is_left_behind(self, bench: Bench) -> None:
        """Opening, making, using, deleting and closing leaves no session and no object."""
        before = list(bench.leftovers())
        with bench.open() as token:
            key = make_any(token)
            exercise(key)
            token.delete(key.uri)
        assert list(bench.leftovers()) == before
