"""The system calls that a sealed trainer may not make, as a filter for bubblewrap.

What remains is what training needs. `memfd_create` and `pidfd_getfd` stay allowed: CUDA's initialization takes the
first, and ranks that share GPU memory the second.
"""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARY = "libseccomp.so.2"
# From libseccomp's seccomp.h.
ALLOW = 0x7FFF0000
REFUSE = 0x00050000
END = 0x80000000
"""The process, not only the thread that calls."""
ACTION_OF_OTHERS = 2
"""SCMP_FLTATR_ACT_BADARCH: for system calls by another architecture's numbers."""
MASKED_EQUAL = 7
NEW_NAMESPACES = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
"""CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID and NEWNET (linux/sched.h)."""
INTEGER = 0xFFFFFFFF
"""Of an `int` argument the kernel takes these bits, and a caller may set others."""
FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK. Others, such as AF_VSOCK, know no network namespaces."""
ALL_FAMILIES = range(46)
SOL_SOCKET = 1
SO_LINGER = 13
REFUSED = (
    # other processes
    *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    # parts of the kernel with many faults and no use here
    *("io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "perf_event_open", "userfaultfd"),
    *("keyctl", "add_key", "request_key", "personality"),
    # mounts and namespaces
    *("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "fsopen", "fsconfig", "fsmount", "fspick"),
    *("mount_setattr", "setns", "unshare", "open_by_handle_at", "name_to_handle_at", "fanotify_init"),
    # the machine
    *("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot", "swapon", "swapoff"),
    *("syslog", "acct", "quotactl", "vhangup", "iopl", "ioperm", "nfsservctl", "lookup_dcookie"),
    # memory that belongs to no process
    *("shmget", "msgget", "semget", "mq_open"),
    *("settimeofday", "clock_settime", "clock_adjtime", "adjtimex"),
)


class _Argument(ctypes.Structure):
    _fields_ = [
        ("number", ctypes.c_uint),
        ("comparison", ctypes.c_int),
        ("mask", ctypes.c_uint64),
        ("value", ctypes.c_uint64),
    ]


@contextmanager
def seccomp_filter() -> Iterator[int]:
    """A descriptor of the compiled filter, to be read from its start.

    Raises:
        OSError: There is no libseccomp, or it makes no filter on this machine.
    """
    library = _library()
    rules = library.seccomp_init(ctypes.c_uint32(ALLOW))
    if not rules:
        raise OSError(errno.ENOMEM, f"{LIBRARY} makes no filter")
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        context = ctypes.c_void_p(rules)
        _check(library.seccomp_attr_set(context, ACTION_OF_OTHERS, ctypes.c_uint32(END)), "ending other architectures")
        for name in REFUSED:
            _refuse(library, context, name, errno.EPERM)
        for flag in NEW_NAMESPACES:
            # Flags in any combination: one rule for each.
            _refuse(library, context, "clone", errno.EPERM, _Argument(0, MASKED_EQUAL, flag, flag))
        for family in ALL_FAMILIES:
            if family not in FAMILIES:
                for name in ("socket", "socketpair"):
                    _refuse(library, context, name, errno.EAFNOSUPPORT, _Argument(0, MASKED_EQUAL, INTEGER, family))
        # A socket that lingers, sent to the referee over the connection, would hold it up in closing it.
        lingering = (_Argument(1, MASKED_EQUAL, INTEGER, SOL_SOCKET), _Argument(2, MASKED_EQUAL, INTEGER, SO_LINGER))
        _refuse(library, context, "setsockopt", errno.EPERM, *lingering)
        # Its flags lie in memory, where no filter reads; libc falls back to clone.
        _refuse(library, context, "clone3", errno.ENOSYS)
        _check(library.seccomp_export_bpf(context, descriptor), "exporting the filter")
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        library.seccomp_release(ctypes.c_void_p(rules))
        os.close(descriptor)


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_release.restype = None
    return library


def _refuse(library: ctypes.CDLL, context: ctypes.c_void_p, name: str, error: int, *arguments: _Argument) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == -1:  # not in this library's tables: no kernel of its age has it
        return
    array = (_Argument * max(1, len(arguments)))(*arguments)
    added = library.seccomp_rule_add_array(context, ctypes.c_uint32(REFUSE | error), number, len(arguments), array)
    _check(added, f"refusing {name}")


def _check(result: int, what: str) -> None:
    if result < 0:
        raise OSError(-result, f"{what}: {os.strerror(-result)}")
