"""Whose signature counts: keys that nobody vouches for, and authors that nobody here knows."""

from __future__ import annotations

import pytest

from tests.cli.conftest import PASSPHRASE, Home, MakeHome, World

SECRET = {"passphrase": PASSPHRASE}


@pytest.fixture
def author(home: Home) -> Home:
    """A machine with a plain key, ``me``, and a letter that it has signed."""
    home.ok("key", "generate", "--token", "soft:", "--use", "sign", "--label", "me", secrets=SECRET)
    (home.folder / "letter").write_bytes(b"signed by a plain key\n")
    home.ok("dare", "encode", "letter", "--sign", "me", "-o", "signed", secrets=SECRET)
    return home


def test_a_key_counts_that_was_named(author: Home) -> None:
    refused = author.run("dare", "verify", "signed")
    assert refused.code == 7
    assert "--signer" in refused.err
    report = author.ok("dare", "verify", "signed", "--signer", "me", "--json").json["report"]
    assert [one["status"] for one in report["signers"]] == ["verified"]
    author.ok("dare", "decode", "signed", "--signer", "me", "-o", "opened")
    assert (author.folder / "opened").read_bytes() == b"signed by a plain key\n"


def test_another_key_does_not_count_for_it(author: Home) -> None:
    other = ("key", "generate", "--token", "soft:", "--use", "sign", "--label", "other")
    author.ok(*other, secrets=SECRET)
    assert author.run("dare", "verify", "signed", "--signer", "other").code == 7


def test_an_unknown_author_is_let_through_only_by_name_and_loudly(author: Home) -> None:
    assert author.run("dare", "decode", "signed", "-o", "opened").code == 7
    assert not (author.folder / "opened").exists()
    done = author.ok("dare", "decode", "signed", "-o", "opened", "--allow-unknown-signer")
    assert "who wrote it was not checked" in done.out
    assert "authenticated: no" in done.out


def test_the_backup_opens_a_signed_file_where_all_else_is_lost(
    world: World, make_home: MakeHome
) -> None:
    (world.folder / "letter").write_bytes(b"for the laptop\n")
    world.laptop.ok(
        *("dare", "encode", "../letter", "-r", "laptop", "--sign", "device"), secrets=SECRET
    )
    elsewhere = make_home("elsewhere")
    opening = ("dare", "decode", world.folder / "letter.dare", "-o", "opened")
    backup = ("--backup", world.folder / "backup.json")
    assert elsewhere.run(*opening, *backup, secrets=SECRET).code == 7
    done = elsewhere.ok(*opening, *backup, "--allow-unknown-signer", secrets=SECRET)
    assert (elsewhere.folder / "opened").read_bytes() == b"for the laptop\n"
    assert "authenticated: yes" in done.out  # the header and content are; the author is not
    assert "key not known" in done.out


def test_a_forged_signature_by_a_known_key_is_never_let_through(author: Home) -> None:
    signed = author.folder / "signed"
    octets = signed.read_bytes()
    at = octets.rindex(b'"signature":"') + len(b'"signature":"')
    signed.write_bytes(
        octets[:at] + (b"B" if octets[at : at + 1] == b"A" else b"A") + octets[at + 1 :]
    )
    opening = ("dare", "decode", "signed", "-o", "opened", "--signer", "me")
    assert author.run(*opening, "--allow-unknown-signer").code == 7
