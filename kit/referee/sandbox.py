"""`isolation=sandbox`: the box that a sealed trainer runs in, by bubblewrap.

Inside there is a read-only system, the Python environment, the trainer's own modules, the submission, and two folders
in memory to write to; no network, no process but its own, nothing of the caller's, and no data before `go`.
"""

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from kit.errors import KitError
from kit.referee.seccomp import seccomp_filter
from kit.track import Limits

BUBBLEWRAP = "bwrap"
TRAINER_MODULES = (
    *("__init__.py", "errors.py", "protocol.py", "track.py", "trainer", "tree.py", "version.py"),
    *("data/__init__.py", "data/augment.py", "data/loaders", "data/pool.py", "data/public.py"),
)
"""Of the kit, all that exists inside: no sources of data, no referee."""
DATA_OF_LIBRARIES = ("sklearn/datasets/data", "matplotlib/mpl-data/fonts", "kit")
"""Packages that carry a track's own data: digits with their labels, and what glyphs are painted with; and the kit."""
PACKAGES = ("lib/python3*/site-packages", "lib/python3*/dist-packages", "local/lib/python3*/dist-packages")
"""Where an environment, or the system's interpreter, keeps them."""
FONTS = ("share/fonts", "share/matplotlib/mpl-data/fonts")
ARCHIVES = ("pkgs", "envs")
"""Of conda: every package once more, and other environments."""
SUBMISSION_DIR = "/submission"
HANDED_OVER_DIR = "/handed_over"
KIT_DIR = "/kit"
SCRATCH_DIR = "/scratch"
HOST_NAME = "kit"
USER = 1000
ETC = {
    "hosts": f"127.0.0.1 localhost {HOST_NAME}\n::1 localhost\n",
    "passwd": f"kit:x:{USER}:{USER}::{SCRATCH_DIR}:/bin/sh\n",
    "group": f"kit:x:{USER}:\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
}
SYSTEM_FOLDERS = ("bin", "sbin", "lib", "lib32", "lib64")
SYSTEM_FILES = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
"""What bubblewrap binds from the host's /dev."""
GPU_NODES = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-caps")
TRIAL_S = 20.0
HAND_OVER = """
import os, socket, sys
with socket.socket(fileno=int(sys.argv[1])) as sock:
    socket.send_fds(sock, [b"d"], [os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECTORY)])
"""


def bubblewrap() -> str:
    """The program.

    Raises:
        KitError: It is not installed.
    """
    program = shutil.which(BUBBLEWRAP)
    if program is None:
        raise KitError("isolation=sandbox needs bubblewrap (bwrap), and it is not installed; see kit doctor")
    return program


def box(
    scratch: Path,
    folders: Mapping[str, Path],
    *,
    limits: Limits,
    environment: Mapping[str, str] | None = None,
    gpu_nodes: Sequence[str] = (),
    seccomp: int | None = None,
) -> list[str]:
    """The command line that a command is appended to. It is to be started with an empty environment.

    Args:
        scratch: An empty folder of the referee's, for files that the box is made of; it has to stay until the end.
        folders: What can be read inside, by the path there.
        limits: Size of what can be written.
        environment: All variables inside.
        gpu_nodes: Device files in /dev.
        seccomp: Descriptor of a filter; it has to be passed on.

    Raises:
        KitError: There is no bubblewrap, or root may not make device files.
    """
    etc, empty = scratch / "etc", scratch / "empty"
    for folder in (etc, empty):
        folder.mkdir()
    for name, content in ETC.items():
        (etc / name).write_text(content)
    command = [
        bubblewrap(),
        *("--unshare-user", "--uid", str(USER), "--gid", str(USER), "--disable-userns"),
        *("--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net", "--unshare-cgroup-try"),
        *("--hostname", HOST_NAME, "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *_system(etc),
        *("--size", str(limits.scratch_bytes), "--tmpfs", SCRATCH_DIR, "--symlink", "scratch", "/tmp"),
        *_python(empty),  # afterwards: it may lie below one of these
        *_kit(),
        *("--proc", "/proc", "--dev", "/dev"),
        *_devices(scratch, gpu_nodes),
        *_process_files(gpu=bool(gpu_nodes)),
        *("--remount-ro", "/dev", "--size", str(limits.scratch_bytes), "--tmpfs", "/dev/shm"),
        *(part for inside, folder in folders.items() for part in ("--ro-bind", str(folder.resolve()), inside)),
        *("--remount-ro", "/", "--chdir", SCRATCH_DIR),
    ]
    for name, value in (environment or {}).items():
        command += ["--setenv", name, value]
    if seccomp is not None:
        command += ["--seccomp", str(seccomp)]
    return [*command, "--"]


def environment(gpus: Sequence[str]) -> dict[str, str]:
    """All variables inside."""
    return {
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": SCRATCH_DIR,
        "TMPDIR": SCRATCH_DIR,
        "USER": "kit",
        "PYTHONPATH": KIT_DIR,
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "CUDA_VISIBLE_DEVICES": ",".join(gpus),
    }


def gpu_nodes(uuids: Sequence[str]) -> list[str]:
    """Device files of these GPUs, and those that all share; none without a GPU."""
    if not uuids:
        return []
    import pynvml

    pynvml.nvmlInit()
    try:
        minors = [pynvml.nvmlDeviceGetMinorNumber(pynvml.nvmlDeviceGetHandleByUUID(uuid)) for uuid in uuids]
    finally:
        pynvml.nvmlShutdown()
    own = (f"nvidia{minor}" for minor in dict.fromkeys(minors))
    return [node for node in (*own, *GPU_NODES) if os.path.exists(f"/dev/{node}")]


def require() -> None:
    """Start a box once.

    Raises:
        KitError: None can be had on this machine.
    """
    with filtered() as seccomp:
        _in_box(["true"], {}, seccomp=seccomp)


def handed_over(folder: Path) -> int:
    """A descriptor of a folder that nothing leads out of: opened in a box of its own, where the folder is a mount.

    When that box has ended, the mount is nobody's but the descriptor's, and its `..` is the folder itself.

    Raises:
        KitError: No box can be had on this machine.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        hand_over = [sys.executable, "-I", "-S", "-c", HAND_OVER, str(theirs.fileno()), HANDED_OVER_DIR]
        _in_box(hand_over, {HANDED_OVER_DIR: folder}, passed_on=[theirs.fileno()])
        ours.settimeout(TRIAL_S)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    os.set_inheritable(descriptors[0], False)
    return descriptors[0]


def _in_box(
    command: Sequence[str], folders: Mapping[str, Path], *, seccomp: int | None = None, passed_on: Sequence[int] = ()
) -> None:
    descriptors = [*passed_on, *([] if seccomp is None else [seccomp])]
    before = {child.pid for child in psutil.Process().children()}
    with tempfile.TemporaryDirectory(prefix="kit-") as scratch:
        line = [*box(Path(scratch), folders, limits=Limits(run_s=TRIAL_S), seccomp=seccomp), *command]
        try:
            subprocess.run(
                line,
                env={},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=descriptors,
                timeout=TRIAL_S,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {error.returncode}"]
            raise KitError(f"isolation=sandbox does not work here: {said[-1]}; see kit doctor") from None
        except subprocess.TimeoutExpired:
            raise KitError(f"isolation=sandbox does not work here: no box within {TRIAL_S:g} s") from None
        finally:
            _wait_for_orphans(before)


def _wait_for_orphans(before: Set[int]) -> None:
    """A box ends a moment after its program, as a child of this process where that takes in orphans."""
    orphans = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if child.pid not in before and child.name() == BUBBLEWRAP:
                orphans.append(child)
    psutil.wait_procs(orphans, timeout=TRIAL_S)


@contextmanager
def filtered() -> Iterator[int]:
    """The filter of system calls.

    Raises:
        KitError: It cannot be made here.
    """
    try:
        with seccomp_filter() as descriptor:
            yield descriptor
    except OSError as error:
        raise KitError(f"isolation=sandbox needs libseccomp: {error}; see kit doctor") from error


def _devices(scratch: Path, gpu_nodes: Iterable[str]) -> Iterator[str]:
    """The GPU's; and where root starts the box, copies of all device files: the box's user would own the host's."""
    names = [*gpu_nodes]
    folder = Path("/dev")
    if os.geteuid() == 0:
        names, folder = [*DEVICES, *names], scratch / "dev"
        try:
            _copy_devices(names, folder)
            (folder / DEVICES[0]).open("rb").close()  # which a mount without devices refuses
        except OSError as error:
            because = f"device files cannot be made in {folder} ({error.strerror})"
            raise KitError(f"isolation=sandbox: for root, {because}; run kit as another user") from None
    for name in names:
        yield from ("--dev-bind", str(folder / name), f"/dev/{name}")


def _copy_devices(names: Iterable[str], folder: Path) -> None:
    for name in names:
        original, copy = Path("/dev") / name, folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if original.is_dir():
            _copy_devices((f"{name}/{inner.name}" for inner in original.iterdir()), folder)
            continue
        os.mknod(copy, stat.S_IFCHR | 0o666, original.stat().st_rdev)
        copy.chmod(0o666)


def _process_files(*, gpu: bool) -> Iterator[str]:
    """/proc without its levers: the kernel's settings, and the memory of every process in the box.

    Where root starts the box, its user owns them.
    """
    if not gpu:
        yield from ("--remount-ro", "/proc")
        return
    # CUDA names its threads there, so only what is no process of the box is made read-only.
    yield from ("--ro-bind", "/sys", "/sys")
    for entry in sorted(os.scandir("/proc"), key=lambda entry: entry.name):
        writable = entry.is_dir(follow_symlinks=False) or entry.stat(follow_symlinks=False).st_mode & 0o222
        if not entry.name.isdigit() and not entry.is_symlink() and writable:
            yield from ("--ro-bind", entry.path, entry.path)


def _system(etc: Path) -> Iterator[str]:
    yield from ("--ro-bind", "/usr", "/usr")
    for name in SYSTEM_FOLDERS:
        path = Path("/") / name
        if path.is_symlink():
            yield from ("--symlink", os.readlink(path), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for file in SYSTEM_FILES:
        yield from ("--ro-bind-try", file, file)
    for name in ETC:
        yield from ("--ro-bind", str(etc / name), f"/etc/{name}")


def _python(empty: Path) -> Iterator[str]:
    """The interpreter and its packages, without the data that packages carry."""
    trees = dict.fromkeys(map(Path, (sys.base_prefix, sys.prefix)))
    for tree in trees:
        if not tree.is_relative_to("/usr"):
            yield from ("--ro-bind", str(tree), str(tree))
    for tree in dict.fromkeys((Path("/usr"), Path("/usr/local"), *trees)):
        within = [f"{packages}/{folder}" for packages in PACKAGES for folder in DATA_OF_LIBRARIES]
        for pattern in (*within, *FONTS, *(ARCHIVES if tree in trees else ())):
            for found in sorted(tree.glob(pattern)):
                if found.is_dir():
                    yield from ("--ro-bind", str(empty), str(found))


def _kit() -> Iterator[str]:
    import kit

    package = Path(kit.__file__).parent
    for module in TRAINER_MODULES:
        yield from ("--ro-bind", str(package / module), f"{KIT_DIR}/kit/{module}")
