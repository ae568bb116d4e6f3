"""The zygote of a Python runtime: boots once, and forks sandboxes when the agent says so.

Started by the agent inside a sandbox of its own as
    python3 -I -B /run/brood/zygote.py [--preload MODULE]...
with its control socket as fd 3, /dev/null as fd 0 and a log pipe as fd 1 and 2. It never sees a
byte of a tenant's. The messages are struct brood_control (isolate/wire.h).
"""

import collections.abc
import errno
import gc
import importlib
import importlib.util
import os
import select
import sys
import types

CONTROL_FD = 3

# What handlers commonly import. A module costs every sandbox page tables and the zygote memory, so
# what is large and rare (xml, multiprocessing, sqlite3) is left to a runtime's own --preload.
STANDARD_MODULES = (
    "abc argparse array ast base64 binascii bisect calendar cmath codecs collections "
    "collections.abc concurrent.futures contextlib contextvars copy csv ctypes dataclasses datetime "
    "decimal difflib encodings.ascii encodings.idna encodings.latin_1 encodings.utf_8 enum errno "
    "fnmatch fractions functools gc glob gzip hashlib heapq hmac html http http.client importlib "
    "importlib.util inspect io ipaddress itertools json keyword linecache locale logging marshal "
    "math mimetypes numbers operator os pathlib pickle platform pprint queue random re secrets "
    "select selectors shlex shutil signal socket ssl stat statistics string struct subprocess sys "
    "tempfile textwrap threading time tokenize traceback types typing unicodedata urllib.error "
    "urllib.parse urllib.request uuid warnings weakref zipfile zlib zoneinfo asyncio"
).split()

# A library that starts threads when it is imported would make a zygote that cannot fork.
SINGLE_THREADED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS",
                   "NUMEXPR_NUM_THREADS")


def load_brood(directory):
    """Loads `_brood` and sandbox.py, under names that no handler's own module has."""
    sys.path.insert(0, directory)
    import _brood

    sys.path.pop(0)
    path = os.path.join(directory, "sandbox.py")
    spec = importlib.util.spec_from_file_location("_brood_sandbox", path)
    sandbox = importlib.util.module_from_spec(spec)
    sys.modules["_brood_sandbox"] = sandbox
    spec.loader.exec_module(sandbox)
    return _brood, sandbox


def preload(extra):
    for name in STANDARD_MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # an image may come with less of the standard library
    os.environ.update((name, "1") for name in SINGLE_THREADED)
    for name in extra:
        importlib.import_module(name)  # asked for: not to have it is an error
    for name in SINGLE_THREADED:
        del os.environ[name]


def preload_list(arguments):
    names = iter(arguments)
    wanted = []
    for argument in names:
        if argument != "--preload":
            raise SystemExit("zygote.py: unknown argument %r" % argument)
        wanted.append(next(names))
    return wanted


def clean_state(sandbox):
    """What a handler finds that is the interpreter's: environment, streams, __main__, argv."""
    os.environ.clear()
    os.environ.update(sandbox.BASE_ENVIRONMENT)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.argv[:] = [""]
    os.chdir("/")


def remember_type_checks():
    """An abstract class asks every class below it, once for each type that is held against it, and
    writes to all of them: here once, instead of in every sandbox (Counter, Mapping, Sequence)."""
    values = (None, True, 0, 0.0, 0j, "", b"", bytearray(), memoryview(b""), (), [], {}, set(),
              frozenset(), range(0), iter(()), iter([]), {}.keys(), {}.values(), {}.items(),
              (_ for _ in ()), len, remember_type_checks, collections.Counter(),
              collections.OrderedDict(), collections.defaultdict(), collections.deque(),
              types.SimpleNamespace())
    for name in collections.abc.__all__:
        for value in values:
            isinstance(value, getattr(collections.abc, name))


def warm_up(sandbox):
    """CPython specialises code that runs often; better once here than in every sandbox."""
    sandbox.reseed()  # OpenSSL's first use of its generator sets up far more than later ones
    for _ in range(12):
        sandbox.rehearse(failures=True)
    sandbox.rehearse()  # its frames are made here
    remember_type_checks()
    gc.collect()
    gc.freeze()


class Zygote:
    def __init__(self, brood, sandbox):
        self.brood = brood
        self.sandbox = sandbox
        self.children = {}  # pid of a sandbox's pid 1 -> the agent's number for it

    def send(self, kind, value=0, number=0, text="", fds=()):
        self.brood.send_control(CONTROL_FD, kind, value, number, text, fds)

    def spawn(self, flags, number, uid_first, uid_count, hostname, fds):
        """Makes one sandbox. In its handler's process this does not return."""
        threads = len(os.listdir("/proc/self/task"))
        if threads != 1:
            self.send(self.brood.SPAWN_FAILED, errno.EBUSY, number,
                      "the zygote has %d threads, and a fork of it would be broken: a preloaded "
                      "module started them" % threads)
            return
        try:
            pid, pidfd = self.brood.spawn(uid_first, uid_count, hostname, fds)
        except OSError as error:
            self.send(self.brood.SPAWN_FAILED, error.errno, number, error.strerror)
            return
        except ValueError as error:
            self.send(self.brood.SPAWN_FAILED, errno.EINVAL, number, str(error))
            return
        if pid == 0:
            self.children.clear()
            self.be_sandbox(flags & self.brood.AWAITED)
        self.children[pid] = number
        self.send(self.brood.SPAWNED, 0, number, "", (pidfd,))
        os.close(pidfd)

    def be_sandbox(self, awaited):
        status = 1
        try:
            status = self.sandbox.main(self.brood.CONN_FD, awaited)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            # No atexit, no waiting for threads: the agent is done with this sandbox.
            self.sandbox.flush()
            os._exit(status)

    def reap(self):
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.send(self.brood.EXITED, status, self.children.pop(pid, 0))

    def handle(self, message):
        """Carries out one message of the agent's; False when it was the last."""
        kind, flags, number, uid_first, uid_count, hostname, fds = message
        try:
            if kind == self.brood.SPAWN:
                self.spawn(flags, number, uid_first, uid_count, hostname, fds)
            elif kind == self.brood.CONFIGURE:
                self.brood.configure(*fds)
            elif kind == self.brood.STOP:
                return False
            else:
                raise ValueError("control message of unknown kind %d" % kind)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def run(self):
        events = self.brood.child_events()
        poll = select.poll()
        poll.register(CONTROL_FD, select.POLLIN)
        poll.register(events, select.POLLIN)
        self.send(self.brood.BOOTED, self.brood.WIRE_VERSION, 0, sys.version.split()[0])
        while True:
            for fd, _ in poll.poll():
                if fd == events:
                    os.read(events, 128)  # one signal may stand for several children
                    self.reap()
                    continue
                message = self.brood.receive_control(CONTROL_FD)
                if message is None or not self.handle(message):
                    return


def main():
    extra = preload_list(sys.argv[1:])
    brood, sandbox = load_brood(os.path.dirname(os.path.abspath(__file__)))
    preload(extra)
    clean_state(sandbox)
    warm_up(sandbox)
    Zygote(brood, sandbox).run()


if __name__ == "__main__":
    main()
