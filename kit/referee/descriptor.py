"""The descriptor of the public folder that travels with `go`.

A plain directory descriptor leads out of its folder by `..`. One of a read-only mount that hangs nowhere does not: its
`..` is the folder itself, and nothing in it can be changed. Where the kernel allows it (Linux 5.12, CAP_SYS_ADMIN), the
folder is cloned into such a mount; elsewhere a box makes one, for a sealed run.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.referee.sandbox import handed_over

# Numbers and flags from the kernel's headers (asm-generic/unistd.h, linux/mount.h); the same on every architecture.
SYS_OPEN_TREE = 428
SYS_MOUNT_SETATTR = 442
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8


class _MountAttributes(ctypes.Structure):
    _fields_ = [
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    ]


@contextmanager
def public_folder(folder: Path, *, sealed: bool) -> Iterator[tuple[int, bool]]:
    """A descriptor of `folder`, and whether it is a read-only mount of its own: of a sealed run it always is.

    Raises:
        KitError: For a sealed run, no such mount can be had.
    """
    try:
        descriptor, mounted = _detached_mount(folder), True
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.EACCES):
            raise
        if sealed:
            descriptor, mounted = handed_over(folder), True
        else:
            descriptor, mounted = os.open(folder, os.O_RDONLY | os.O_DIRECTORY), False
    try:
        yield descriptor, mounted
    finally:
        os.close(descriptor)


def _detached_mount(folder: Path) -> int:
    mount = _call(SYS_OPEN_TREE, AT_FDCWD, os.fsencode(folder), OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    try:
        flags = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC
        attributes = _MountAttributes(attr_set=flags)
        size = ctypes.sizeof(attributes)
        _call(SYS_MOUNT_SETATTR, mount, b"", AT_EMPTY_PATH, ctypes.byref(attributes), size)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=mount)
    finally:
        os.close(mount)


def _call(number: int, *arguments: object) -> int:
    library = ctypes.CDLL(None, use_errno=True)
    result = int(library.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
