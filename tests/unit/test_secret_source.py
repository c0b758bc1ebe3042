"""Sources of secrets that ask nobody."""

from __future__ import annotations

import pytest

from mesh_hsm.errors import SecretRequiredError
from mesh_hsm.secret_source import FixedSecrets, NoSecrets, SecretKind, SecretRequest

REQUEST = SecretRequest(SecretKind.PIN, "key a", attempts_remaining=1)


def test_a_source_without_secrets_says_what_to_do() -> None:
    with pytest.raises(SecretRequiredError, match="PIN of key a") as caught:
        NoSecrets().secret(REQUEST)
    assert caught.value.hint
    assert not NoSecrets().consents_to_last_try(REQUEST)


def test_fixed_secrets_answer_what_they_know_and_nothing_else() -> None:
    source = FixedSecrets({SecretKind.PIN: b"1234"})
    assert source.secret(REQUEST) == b"1234"
    with pytest.raises(SecretRequiredError):
        source.secret(SecretRequest(SecretKind.NEW_PIN, "key a"))


@pytest.mark.parametrize("consent", [True, False])
def test_the_last_try_is_spent_only_on_consent(consent: bool) -> None:
    assert FixedSecrets({}, last_try=consent).consents_to_last_try(REQUEST) is consent
    assert not FixedSecrets({}).consents_to_last_try(REQUEST)


def test_no_repr_shows_a_secret() -> None:
    assert "1234" not in repr(FixedSecrets({SecretKind.PIN: b"1234"}))
