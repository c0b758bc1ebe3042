"""Whole or not there, under real failures: a full disk, a size limit, no permission, a signal."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mesh_hsm.errors import ConflictError, FormatError, NotFoundError, StorageError
from mesh_hsm.files import atomic_output, ensure_private_dir, read_limited, write_atomic

OLD, NEW = b"the old file", b"the new file"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "state.json"
    path.write_bytes(OLD)
    return path


def unharmed(target: Path) -> bool:
    """Whether the old file is whole and nothing half-written lies beside it."""
    return os.listdir(target.parent) == [target.name] and target.read_bytes() == OLD


@contextmanager
def file_size_limit(octets: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)


NOBODY = 65534
PRELUDE = "import os, signal, sys; from pathlib import Path; from mesh_hsm import errors, files\n"
DROP = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"


def run(code: str, path: Path, *, unprivileged: bool = False) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; unprivileged: without root's right to write anywhere."""
    drop = DROP if unprivileged and os.geteuid() == 0 else ""
    return subprocess.run(
        [sys.executable, "-c", PRELUDE + drop + textwrap.dedent(code), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def theirs() -> Iterator[Path]:
    """An old file in a folder that an unprivileged process reaches and owns."""
    with tempfile.TemporaryDirectory() as name:
        target = Path(name) / "state.json"
        target.write_bytes(OLD)
        if os.geteuid() == 0:
            os.chown(target, NOBODY, NOBODY)
            os.chown(name, NOBODY, NOBODY)
        yield target
        os.chmod(name, 0o700)


class TestAtomicOutput:
    def test_new_file_and_old_one(self, target: Path) -> None:
        write_atomic(target, NEW)
        assert target.read_bytes() == NEW
        fresh = target.with_name("fresh")
        write_atomic(fresh, b"")
        assert fresh.read_bytes() == b""
        assert sorted(os.listdir(target.parent)) == ["fresh", "state.json"]

    @pytest.mark.parametrize("mode", [0o600, 0o644, 0o400])
    @pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
    def test_mode_is_exact(self, target: Path, mode: int, umask: int) -> None:
        target.chmod(0o666)
        previous = os.umask(umask)
        try:
            write_atomic(target, NEW, mode)
        finally:
            os.umask(previous)
        assert mode_of(target) == mode

    def test_owner_only_unless_asked(self, tmp_path: Path) -> None:
        write_atomic(tmp_path / "secret", NEW)
        assert mode_of(tmp_path / "secret") == 0o600

    def test_nobody_else_sees_it_while_it_is_written(self, tmp_path: Path) -> None:
        with atomic_output(tmp_path / "secret") as file:
            file.write(NEW)
            file.flush()
            [temporary] = tmp_path.iterdir()
            assert mode_of(temporary) == 0o600
            assert temporary.name != "secret"

    def test_old_file_is_there_until_the_end(self, target: Path) -> None:
        with atomic_output(target) as file:
            file.write(NEW)
            file.flush()
            assert target.read_bytes() == OLD
        assert target.read_bytes() == NEW

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, MemoryError])
    def test_interrupted_by_an_exception(self, target: Path, error: type[BaseException]) -> None:
        def interrupted() -> None:
            with atomic_output(target) as file:
                file.write(NEW * 100_000)
                raise error

        with pytest.raises(error):
            interrupted()
        assert unharmed(target)

    def test_interrupted_by_a_signal(self, target: Path) -> None:
        code = """
            with files.atomic_output(Path(sys.argv[1])) as file:
                file.write(bytes(1 << 20))
                os.kill(os.getpid(), signal.SIGINT)
            """
        process = run(code, target)
        assert process.returncode == -signal.SIGINT, process.stderr
        assert unharmed(target)

    def test_killed_outright_leaves_the_old_file_whole(self, target: Path) -> None:
        code = """
            with files.atomic_output(Path(sys.argv[1])) as file:
                file.write(bytes(1 << 20))
                os.kill(os.getpid(), signal.SIGKILL)
            """
        process = run(code, target)
        assert process.returncode == -signal.SIGKILL, process.stderr
        assert target.read_bytes() == OLD

    @pytest.mark.parametrize("size", [100, 1 << 20], ids=["at the end", "while writing"])
    def test_file_size_limit(self, target: Path, size: int) -> None:
        with file_size_limit(50), pytest.raises(StorageError) as caught:
            write_atomic(target, bytes(size))
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EFBIG
        assert "ulimit" in str(caught.value.hint)
        assert unharmed(target)

    @pytest.mark.parametrize("size", [70 << 10, 1 << 20])
    def test_full_disk(self, tmp_path: Path, size: int) -> None:
        mount = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", str(tmp_path)],
            capture_output=True,
            check=False,
        )
        if mount.returncode != 0:
            pytest.skip("mounting a small disk needs root")
        try:
            target = tmp_path / "state.json"
            target.write_bytes(OLD)
            with pytest.raises(StorageError, match="No space left") as caught:
                write_atomic(target, bytes(size))
            assert "free some space" in str(caught.value.hint)
            assert unharmed(target)
            write_atomic(target, NEW)
            assert target.read_bytes() == NEW
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)

    def test_read_only_disk(self, tmp_path: Path) -> None:
        options = ["mount", "-t", "tmpfs", "-o", "ro,size=64k", "tmpfs", str(tmp_path)]
        if subprocess.run(options, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a read-only disk needs root")
        try:
            with pytest.raises(StorageError, match="Read-only file system"):
                write_atomic(tmp_path / "state.json", NEW)
            with pytest.raises(StorageError, match="Read-only file system"):
                ensure_private_dir(tmp_path / "private")
        finally:
            subprocess.run(["umount", str(tmp_path)], check=True)

    def test_folder_without_permission(self, theirs: Path) -> None:
        code = """
            try:
                files.write_atomic(Path(sys.argv[1]), b"new")
            except errors.StorageError as error:
                print(error, error.hint, sep="; ")
            """
        theirs.parent.chmod(0o555)
        process = run(code, theirs, unprivileged=True)
        assert "Permission denied; check the permissions" in process.stdout, process.stderr
        assert unharmed(theirs)

    def test_folder_that_may_be_written_and_not_read(self, theirs: Path) -> None:
        code = 'files.write_atomic(Path(sys.argv[1]), b"the new file", 0o644)'
        theirs.parent.chmod(0o333)
        process = run(code, theirs, unprivileged=True)
        theirs.parent.chmod(0o777)
        assert process.returncode == 0, process.stderr
        assert theirs.read_bytes() == NEW

    def test_no_such_folder(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="No such file") as caught:
            write_atomic(tmp_path / "absent" / "file", NEW)
        assert caught.value.hint == "make its folder first"

    def test_targets_that_are_no_regular_files(self, target: Path) -> None:
        folder = target.parent
        link, pipe, sub = folder / "link", folder / "pipe", folder / "sub"
        link.symlink_to(target)
        os.mkfifo(pipe)
        sub.mkdir()
        before = sorted(os.listdir(folder))
        for path in (link, pipe, sub, Path("/dev/null")):
            with pytest.raises(StorageError, match="not a regular file"):
                write_atomic(path, NEW)
        assert sorted(os.listdir(folder)) == before
        assert link.is_symlink()
        assert target.read_bytes() == OLD
        assert Path("/dev/null").is_char_device()

    @pytest.mark.parametrize("code", [errno.EPIPE, errno.EIO, errno.EACCES, errno.ENOSPC])
    def test_what_the_caller_reads_meanwhile_fails_by_itself(self, target: Path, code: int) -> None:
        theirs = OSError(code, "theirs")
        with pytest.raises(OSError, match="theirs") as caught, atomic_output(target):
            raise theirs
        assert caught.value is theirs
        assert unharmed(target)

    def test_a_folder_that_cannot_be_flushed(
        self, target: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fsync

        def failing(descriptor: int) -> None:
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(descriptor)

        monkeypatch.setattr(os, "fsync", failing)
        with pytest.raises(StorageError, match="is written, but may not survive a power loss"):
            write_atomic(target, NEW)
        assert target.read_bytes() == NEW
        assert os.listdir(target.parent) == [target.name]

    def test_long_names_and_relative_paths(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        name = "é" * 127
        write_atomic(Path(name), NEW)
        assert (tmp_path / name).read_bytes() == NEW
        with pytest.raises(StorageError, match="too long"):
            write_atomic(Path(name * 2), NEW)
        assert os.listdir(tmp_path) == [name]


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


class TestExclusive:
    @pytest.fixture(params=["links", "no links"], autouse=True)
    def file_system(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """With hard links, and without, as on most USB sticks."""
        if request.param == "no links":
            without_links(monkeypatch)

    def test_a_new_file(self, tmp_path: Path) -> None:
        previous = os.umask(0)
        try:
            write_atomic(tmp_path / "new", NEW, 0o640, exclusive=True)
        finally:
            os.umask(previous)
        assert os.listdir(tmp_path) == ["new"]
        assert (tmp_path / "new").read_bytes() == NEW
        assert mode_of(tmp_path / "new") == 0o640

    def test_what_is_there_stays(self, target: Path) -> None:
        with pytest.raises(ConflictError, match="is there already"):
            write_atomic(target, NEW, exclusive=True)
        assert unharmed(target)

    def test_what_came_meanwhile_stays(self, target: Path) -> None:
        target.unlink()
        with pytest.raises(ConflictError), atomic_output(target, exclusive=True):
            target.write_bytes(OLD)
        assert unharmed(target)

    def test_a_dangling_link_stays(self, tmp_path: Path) -> None:
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "absent")
        with pytest.raises(ConflictError):
            write_atomic(link, NEW, exclusive=True)
        assert os.listdir(tmp_path) == ["link"]
        assert link.is_symlink()


def test_a_link_that_fails_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StorageError, match="No space left"):
        write_atomic(tmp_path / "new", NEW, exclusive=True)
    assert os.listdir(tmp_path) == []


class TestReadLimited:
    def test_up_to_the_limit(self, target: Path) -> None:
        assert read_limited(target, len(OLD)) == OLD
        assert read_limited(target, 1 << 20) == OLD
        with pytest.raises(FormatError, match="larger than 11"):
            read_limited(target, len(OLD) - 1)

    def test_absent(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="absent is not there"):
            read_limited(tmp_path / "absent", 10)

    def test_no_regular_file(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
            with pytest.raises(FormatError, match="not a regular file"):
                read_limited(path, 10)

    def test_through_a_link(self, target: Path) -> None:
        link = target.with_name("link")
        link.symlink_to(target)
        assert read_limited(link, 100) == OLD

    def test_not_a_folder_on_the_way(self, target: Path) -> None:
        with pytest.raises(StorageError, match="Not a directory"):
            read_limited(target / "below", 10)

    def test_without_permission(self, theirs: Path) -> None:
        code = """
            try:
                files.read_limited(Path(sys.argv[1]), 100)
            except errors.StorageError as error:
                print(error)
            """
        theirs.chmod(0o000)
        process = run(code, theirs, unprivileged=True)
        assert f"cannot read {theirs}: Permission denied" in process.stdout, process.stderr


class TestEnsurePrivateDir:
    def test_made_with_its_parents(self, tmp_path: Path) -> None:
        path = tmp_path / "a" / "b" / "private"
        ensure_private_dir(path)
        assert mode_of(path) == 0o700
        ensure_private_dir(path)
        assert path.is_dir()

    def test_umask_does_not_matter(self, tmp_path: Path) -> None:
        previous = os.umask(0o777)
        try:
            ensure_private_dir(tmp_path / "private")
        finally:
            os.umask(previous)
        assert mode_of(tmp_path / "private") == 0o700

    def test_an_open_one_is_closed(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o777)
        ensure_private_dir(tmp_path)
        assert mode_of(tmp_path) == 0o700

    def test_links_and_files_are_refused(self, target: Path) -> None:
        folder = target.parent / "folder"
        folder.mkdir(mode=0o755)
        link = target.parent / "link"
        link.symlink_to(folder)
        dangling = target.parent / "dangling"
        dangling.symlink_to(target.parent / "nowhere")
        for path in (link, target, dangling):
            with pytest.raises(StorageError, match="symbolic link or not a folder"):
                ensure_private_dir(path)
        assert mode_of(folder) == 0o755
        assert not (target.parent / "nowhere").exists()

    def test_another_owner_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "theirs"
        if os.geteuid() == 0:
            path.mkdir(mode=0o755)
            os.chown(path, 65534, 65534)
        else:
            path = Path("/usr")
        before = mode_of(path)
        with pytest.raises(StorageError, match="another user"):
            ensure_private_dir(path)
        assert mode_of(path) == before

    def test_a_parent_that_is_a_file(self, target: Path) -> None:
        with pytest.raises(StorageError, match="cannot open"):
            ensure_private_dir(target / "below")


@pytest.mark.parametrize("advice", ["taken", "refused", "unknown"])
def test_a_large_file_is_whole_whatever_becomes_of_the_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, advice: str
) -> None:
    asked: list[tuple[int, int]] = []

    def advise(descriptor: int, offset: int, length: int, kind: int) -> None:
        asked.append((offset, length))
        if advice == "refused":  # what no file system here does
            raise OSError(errno.EINVAL, "no advice wanted")

    if advice == "unknown":
        monkeypatch.delattr(os, "posix_fadvise")
    else:
        monkeypatch.setattr(os, "posix_fadvise", advise)
    block = os.urandom(1 << 20)
    with atomic_output(tmp_path / "large") as file:
        for _ in range(70):
            file.write(block)
    assert (tmp_path / "large").read_bytes() == block * 70
    assert [offset for offset, _ in asked] == ([] if advice == "unknown" else [0, 32 << 20])
