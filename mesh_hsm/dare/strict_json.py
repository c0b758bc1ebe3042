"""JSON and base64url with exactly one reading: open this before octets from outside are parsed.

What two readers could understand differently is refused: a member that stands twice, NaN, lone
surrogates, numbers beyond the range of floats, padding and stray bits in base64url.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from math import isinf
from typing import Any, Final, NoReturn

from mesh_hsm.errors import FormatError

MAX_OCTETS: Final = 1 << 20
MAX_DEPTH: Final = 32


def parse(octets: bytes, limit: int = MAX_OCTETS) -> Any:
    """One JSON value of at most ``limit`` octets, nested at most 32 deep. ``FormatError``."""
    if len(octets) > limit:
        raise FormatError(f"JSON of more than {limit} octets")
    try:
        value = json.loads(
            octets.decode("utf-8"),
            object_pairs_hook=_once,
            parse_float=_finite,
            parse_constant=_nan,
        )
    except (ValueError, RecursionError) as error:
        raise FormatError("truncated, or not JSON") from error
    _check(value, MAX_DEPTH)
    return value


def parse_object(octets: bytes, limit: int = MAX_OCTETS) -> dict[str, Any]:
    """As ``parse``, for a value that must be an object."""
    value = parse(octets, limit)
    if not isinstance(value, dict):
        raise FormatError("not a JSON object")
    return value


def compact(value: Any) -> bytes:
    """UTF-8 without insignificant white space, members in the order given."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def b64url(octets: bytes) -> str:
    """Unpadded base64url."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def un_b64url(text: Any, what: str, size: int | None = None) -> bytes:
    """Octets, ``size`` of them if given, of canonical unpadded base64url. ``FormatError``."""
    if not isinstance(text, str):
        raise FormatError(f"{what} is not text")
    try:
        octets = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError as error:
        raise FormatError(f"{what} is not base64url") from error
    if b64url(octets) != text:  # the decoder skips foreign characters and stray bits
        raise FormatError(f"{what} is not canonical base64url")
    if size is not None and len(octets) != size:
        raise FormatError(f"{what} does not have {size} octets")
    return octets


def require_members(
    value: Any, what: str, required: frozenset[str], optional: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """``value`` as an object with all of ``required`` and nothing beyond ``optional``."""
    if not isinstance(value, dict):
        raise FormatError(f"{what} is not an object")
    if not required <= value.keys() <= required | optional:
        raise FormatError(f"{what} lacks a member or has one too many")
    return value


def _check(value: Any, depth: int) -> None:
    if depth < 0:
        raise FormatError(f"JSON nested more than {MAX_DEPTH} deep")
    if isinstance(value, dict):
        for name, member in value.items():
            _check(name, depth)
            _check(member, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, str) and not _is_text(value):
        raise FormatError("a lone surrogate in JSON text")


def _is_text(value: str) -> bool:
    return value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise FormatError("a member stands twice in a JSON object")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):  # could not be written again
        raise FormatError("a number too large for JSON readers")
    return value


def _nan(name: str) -> NoReturn:
    raise FormatError(f"{name} is not JSON")
