"""Promise: no secret in a log, a ``repr``, a message, or the variables that a traceback shows."""
# ruff: noqa: S101  the kit is made of assertions; Token.keys is no dictionary's

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator

import pytest

from mesh_hsm.errors import MeshHsmError
from mesh_hsm.provider import Imports, KeySpec, Provider, Token, Use
from mesh_hsm.secret_source import SecretKind
from mesh_hsm.testing.conformance.bench import (
    Bench,
    Kit,
    algorithms,
    exercise,
    make,
    make_any,
)


class Hygiene(Kit):
    """Secrets are looked for wherever a support request or a crash report would carry them."""

    def test_secrets_stay_out_of_logs_and_reprs(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Everything is done once with logging at DEBUG, and every object is printed."""
        caplog.set_level(logging.DEBUG)
        provider = bench.provider()
        secrets = bench.asked()
        pin = bench.counted_pin
        needles = [*bench.answers.values()]
        said: list[object] = [provider, *provider.tokens()]
        with provider.open(bench.uri, secrets) as token:
            made = [make_any(token, "a"), make(token, Use.SIGN, "b")]
            if pin:
                made.append(make(token, Use.ENCRYPT, "c", pin=pin.policy))
            offered = algorithms(token, Use.ENCRYPT)
            if isinstance(token, Imports) and Imports not in bench.lacks and offered:
                scalar = int.from_bytes(b"a share of a key", "big")
                spec = KeySpec(offered[0], Use.ENCRYPT, "d", allow_exportable=True)
                made.append(token.import_scalar(spec, scalar, ("dealer",)))
                needles += [b"a share of a key", str(scalar).encode(), b"%x" % scalar]
            for key in made:
                exercise(key)
                said += [key, key.custody(), key.custody().to_json(), key.uri]
            said += [token, token.info, token.capabilities(), *secrets.requests]
            said += [value for thing in (token, *made) for value in _attributes(thing)]
        text = "\n".join([f"{thing!r}\n{thing!s}" for thing in said] + [caplog.text])
        _find_none(text, needles)

    def test_secrets_stay_out_of_errors(
        self, bench: Bench, token: Token, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A wrong secret appears in no message, attribute or local variable of its traceback."""
        caplog.set_level(logging.DEBUG)
        pin = bench.counted_pin
        kind = SecretKind.PIN if pin else bench.asks
        if kind is None:
            pytest.skip("this device has no secrets at all")
        make_any(token, pin=pin.policy) if pin else make_any(token)
        token.close()
        provider = bench.provider()
        with provider.open(bench.uri, bench.asked(wrong={kind})) as again:
            (key,) = again.keys()
            with pytest.raises(MeshHsmError) as caught:
                exercise(key)
        said = list(_told(caught.value, _packages(provider)))
        _find_none("\n".join([*said, caplog.text]), [bench.wrong_secret, *bench.answers.values()])
        assert caught.value.exit_code != 0
        assert "\n" not in str(caught.value)


def _attributes(thing: object) -> list[object]:
    slots = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    return [getattr(thing, name, None) for name in (*slots, *getattr(thing, "__dict__", ()))]


def _packages(provider: Provider) -> tuple[str, ...]:
    return "mesh_hsm", type(provider).__module__.partition(".")[0]


def _told(error: BaseException | None, packages: tuple[str, ...]) -> Iterator[str]:
    """All that a crash report shows of an error: chain, messages, attributes, local variables."""
    while error is not None:
        yield f"{error!r} {error} {vars(error)}"
        trace = error.__traceback__
        while trace is not None:
            module = trace.tb_frame.f_globals.get("__name__", "")
            if module.partition(".")[0] in packages and ".testing." not in module:
                yield f"{module} {list(trace.tb_frame.f_locals.items())}"
            trace = trace.tb_next
        error = error.__cause__ or error.__context__


def _find_none(text: str, secrets: list[bytes]) -> None:
    """No form of a secret stands in the text. The message does not repeat it either."""
    for number, secret in enumerate(secrets):
        forms = {
            "plain": secret.decode("latin-1"),
            "hexadecimal": secret.hex(),
            "base64": base64.b64encode(secret).decode("ascii").rstrip("="),
        }
        for form, needle in forms.items():
            at = text.find(needle)
            context = text[max(0, at - 120) : at] if at >= 0 else ""
            assert at < 0, f"secret {number} appears in {form} form after: {context}"
