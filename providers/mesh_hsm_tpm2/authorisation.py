"""Proving to the TPM that we may use a key: by PIN, by policy, or both.

Open this file for when a PIN is asked for, kept and forgotten. A PIN lives in this process until
the token is closed, where the key's policy is "once"; it is proved by HMAC and never sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from tpm2_pytss import ESAPI, ESYS_TR, TPMA_SESSION, TSS2_Exception

from mesh_hsm.custody import PinPolicy
from mesh_hsm.errors import MeshHsmError, PolicyError, WrongSecretError
from mesh_hsm.secret_source import SecretKind, SecretRequest
from mesh_hsm_tpm2 import lockout, sessions
from mesh_hsm_tpm2.errors import Rc, code
from mesh_hsm_tpm2.records import Record
from mesh_hsm_tpm2.structures import AuthValue
from mesh_hsm_tpm2.tpm import Tpm

T = TypeVar("T")
Command = Callable[[ESAPI, ESYS_TR, ESYS_TR], T]
"""A command that uses a key: given the context, the key's handle and the session."""


class Guarded(Protocol):
    """A key or sealed datum as far as its PIN is concerned."""

    @property
    def label(self) -> str:
        """What people call it."""
        ...

    @property
    def pin(self) -> PinPolicy:
        """When its PIN is asked for."""
        ...

    @property
    def pcrs(self) -> tuple[int, ...]:
        """The PCRs that its policy names."""
        ...

    @property
    def identity(self) -> str:
        """What tells it from every other one."""
        ...


class Authoriser:
    """Asks for PINs and keeps those that were right."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm = tpm
        self._pins: dict[str, AuthValue] = {}

    def forget(self, thing: Guarded | None = None) -> None:
        """Forget one PIN, or all."""
        if thing is None:
            self._pins.clear()
        else:
            self._pins.pop(thing.identity, None)

    def remember(self, thing: Guarded, pin: AuthValue) -> None:
        """Keep a PIN that is right, where its policy allows."""
        if thing.pin is PinPolicy.ONCE:
            self._pins[thing.identity] = pin

    def use(self, record: Record, command: Command[T], protection: TPMA_SESSION, uri: str) -> T:
        """Run a command in a session that satisfies the key's USER role."""
        pin = self.pin(record, uri)
        policy = record.policy

        def authorised(esapi: ESAPI) -> T:
            key = self._tpm.key(esapi, record)
            esapi.tr_set_auth(key, pin.octets)
            try:
                if not policy.digest:
                    return command(esapi, key, self._tpm.session(esapi, protection))
                session = self._tpm.policy_session(esapi, sessions.PLAIN)
                sessions.run_policy(esapi, session, policy)
                sessions.protect(esapi, session, protection)
                return command(esapi, key, session)
            except BaseException:
                self._tpm.end_policy_session(esapi)
                raise
            finally:
                # The auth value outlives the command in ESAPI's memory only where it may.
                esapi.tr_set_auth(key, None)

        return self.tried(record, pin, authorised, uri)

    def administer(
        self,
        record: Record,
        pin: AuthValue,
        command: Command[T],
        protection: TPMA_SESSION,
        uri: str,
    ) -> T:
        """Run a command in the key's ADMIN role: by auth value, since adminWithPolicy is clear."""

        def authorised(esapi: ESAPI) -> T:
            key = self._tpm.key(esapi, record)
            esapi.tr_set_auth(key, pin.octets)
            try:
                return command(esapi, key, self._tpm.session(esapi, protection))
            finally:
                esapi.tr_set_auth(key, None)

        return self.tried(record, pin, authorised, uri)

    def pin(self, thing: Guarded, uri: str | None = None) -> AuthValue:
        """The PIN: remembered, or asked for after the tries that are left were read."""
        if thing.pin is PinPolicy.NONE:
            return AuthValue()
        if thing.identity in self._pins:
            return self._pins[thing.identity]
        state = self._tpm.run(lockout.read)
        try:
            return lockout.ask_pin(state, self._tpm.secrets, thing.label)
        except MeshHsmError as error:
            error.uri = error.uri or uri
            raise

    def new_pin(self, label: str) -> AuthValue:
        """Ask for the PIN that a key is to have."""
        request = SecretRequest(SecretKind.NEW_PIN, label)
        return AuthValue.of_pin(self._tpm.secrets.secret(request))

    def tried(
        self,
        thing: Guarded,
        pin: AuthValue,
        authorised: Callable[[ESAPI], T],
        uri: str | None = None,
    ) -> T:
        """Run commands that need this PIN; keep it if it was right, forget it if it was wrong."""
        try:
            answer = self._tpm.run(authorised, uri)
        except WrongSecretError as error:
            self.forget(thing)
            raise self._refused(error, uri) from error.__cause__
        except MeshHsmError as error:
            raise self._explained(error, thing, uri) from error.__cause__
        self.remember(thing, pin)
        return answer

    def _refused(self, error: WrongSecretError, uri: str | None) -> MeshHsmError:
        state = self._tpm.run(lockout.read)
        left = state.attempts_remaining
        said = "" if left is None else f"; {left} {'try' if left == 1 else 'tries'} left"
        hint = None if left != 0 else f"the next try is in {state.recovery} seconds"
        return WrongSecretError(f"{error}{said}", attempts_remaining=left, hint=hint, uri=uri)

    def _explained(self, error: MeshHsmError, thing: Guarded, uri: str | None) -> MeshHsmError:
        cause = error.__cause__
        if not isinstance(cause, TSS2_Exception):
            return error
        if code(cause) == Rc.LOCKOUT:
            locked = lockout.locked_out(self._tpm.run(lockout.read))
            locked.uri = uri
            return locked
        if code(cause) == Rc.VALUE and thing.pcrs:
            listed = ", ".join(map(str, thing.pcrs))
            return PolicyError(
                f"PCR {listed} no longer has the value that the key {thing.label} was made for",
                hint="firmware, boot loader or their settings have changed since",
                uri=uri,
            )
        return error
