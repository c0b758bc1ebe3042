"""Runs a program in our place: signals go through to it, its exit code comes back.

Open this file when a COMMAND that mesh-hsm runs does not end, or ends twice.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mesh_hsm.errors import NotFoundError

PASSED_ON = {
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
}
_WAITED_FOR = PASSED_ON | {signal.SIGCHLD}
_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
_STDOUT, _STDERR = 1, 2


@contextmanager
def signals_held() -> Iterator[None]:
    """While this lasts no signal ends us: what is made inside is removed inside, too.

    Signals wait for ``run``, and what comes after it takes effect at the end.
    """
    # Whoever started us may have it ignored, and then children vanish without a signal.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WAITED_FOR)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def run(command: Sequence[str], environment: Mapping[str, str], *, quiet: bool = False) -> int:
    """Run ``command`` to its end and return its exit code; 128 + N if signal N ended it.

    Inside ``signals_held`` only. With ``quiet`` its standard output goes to our standard error.
    Raises ``NotFoundError`` for what cannot be run.
    """
    early = signal.sigpending()
    try:
        pid = os.posix_spawnp(
            command[0],
            list(command),
            environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, _STDERR, _STDOUT)] if quiet else [],
            setsigmask=signal.pthread_sigmask(signal.SIG_BLOCK, ()) - _WAITED_FOR,
            setsigdef=_IGNORED_BY_PYTHON,
        )
    except OSError as error:
        raise NotFoundError(f"{command[0]} cannot be run: {error.strerror}") from error
    while True:
        signalled = signal.sigwaitinfo(_WAITED_FOR)
        if signalled.si_signo == signal.SIGCHLD:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif signalled.si_code <= 0 or signalled.si_signo in early:
            # A key on the terminal (si_code > 0) reaches the program by itself, and pytest, say,
            # takes two Ctrl-C for more than one; unless it came before there was a program.
            early.discard(signal.Signals(signalled.si_signo))
            os.kill(pid, signalled.si_signo)
