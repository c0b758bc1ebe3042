"""Opened to see the classes of failure that the test data name."""

FAILURES = ("format", "point", "verification", "decryption", "unsupported")


class Refused(Exception):  # noqa: N818 - as in "this input is refused"
    """What this implementation does not accept; `failure` is one of the classes below."""

    def __init__(self, failure: str, why: str) -> None:
        if failure not in FAILURES:
            raise AssertionError(failure)
        super().__init__(f"{failure}: {why}")
        self.failure = failure


def malformed(why: str) -> Refused:
    """Octets that do not have the form the rules ask for."""
    return Refused("format", why)


def bad_point(why: str) -> Refused:
    """A point off the curve, off the subgroup, neutral, or not canonical."""
    return Refused("point", why)


def unverified(why: str) -> Refused:
    """A well-formed signature, proof, tag or answer that does not verify."""
    return Refused("verification", why)


def unopened(why: str) -> Refused:
    """No key at hand opens it, or what is inside has been altered."""
    return Refused("decryption", why)


def unsupported(why: str) -> Refused:
    """A key or factor that the rules do not use in this way."""
    return Refused("unsupported", why)
