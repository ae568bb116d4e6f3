"""leave-chroot.py COMMAND…: runs a command with the same files, but not in a chroot.

The kernel makes no user namespace for a process whose root is not the root of its mount namespace.
So this makes a mount namespace whose root is what the chroot shows. Needs root and /proc.
"""
import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_SLAVE = 4096, 16384, 1 << 19
MNT_DETACH = 2
SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

libc = ctypes.CDLL(None, use_errno=True)


def call(name, *arguments):
    if getattr(libc, name)(*arguments) != 0:
        error = ctypes.get_errno()
        sys.exit(f"leave-chroot: {name}: {os.strerror(error)}")


def leave():
    call("unshare", CLONE_NEWNS)
    root = os.open("/", os.O_DIRECTORY)
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    # To enter a mount namespace is to stand in its root, also where it is one's own.
    call("setns", own, CLONE_NEWNS)
    # Else pivot_root refuses, or is seen outside.
    call("mount", None, b"/", None, MS_REC | MS_SLAVE, None)
    os.chdir(root)
    call("mount", b".", b".", None, MS_BIND | MS_REC, None)
    os.chdir(os.getcwd())  # onto the mount that has just been made
    call("syscall", SYS_PIVOT_ROOT[os.uname().machine], b".", b".")
    call("umount2", b".", MNT_DETACH)
    os.close(own)
    os.close(root)


def main():
    directory = os.getcwd()
    leave()
    os.chdir(directory)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
