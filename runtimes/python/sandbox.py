"""The process of the handler: rehearses, waits, is bound to a function, and calls it.

It starts in a fork of the zygote that is locked down already (spawn.c) and speaks the frames of
isolate/wire.h with the agent over one socket. What happens between a BIND and the first call is on
the path of a cold invocation, so it makes no type, no closure and no import of its own, and
`rehearse` has run every line of it before: the pages it writes to are the process's own by then.
"""

import builtins
import functools
import gc
import importlib
import json
import linecache
import marshal
import os
import random
import re
import socket
import struct
import sys
import time
import traceback
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, CoroutineType, ModuleType

import _brood
from _brood import BIND, COMPILE, COMPILED, FLAG_ERROR, FLAG_INIT, FLAG_JSON, FLAG_MEMORY
from _brood import FLAG_IMPORTS, FLAG_LAYERS, FLAG_SOFT_LIMITS, FLAG_TOO_LARGE, INVOKE, LOADED, READY, RESULT
from _brood import monotonic_ns, receive, send

CODE_DIR = _brood.CODE_DIR

# The environment of every handler, before its function's own.
BASE_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "LANG": "C.UTF-8",
}

_OWN_ENVIRONMENT = b"BROOD_FUNCTION=%s\0BROOD_FUNCTION_VERSION=%d\0BROOD_MEMORY_BYTES=%d\0"

_JSON_TYPE = b"application/json"
_BYTES_TYPE = b"application/octet-stream"
_HEAD = struct.Struct("=IIQqqqqqqII")  # struct brood_frame_head
_LIMITS = struct.Struct("=QQII")  # struct brood_bind_limits
_LENGTH = struct.Struct("=I")

# The agent cuts these again; here they keep a handler's error from costing memory.
_MAX_MESSAGE = 16 << 10
_MAX_TRACE = 64 << 10
_MAX_FRAMES = 100

# NaN and Infinity are no JSON, whatever Python's own default is.
_encode_json = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode
_encode_ascii_json = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


def _refuse_constant(name):
    raise ValueError("%s is not JSON" % name)


_decode_json = json.JSONDecoder(parse_constant=_refuse_constant).decode


class InvalidJSON(ValueError):
    """The payload says that it is JSON and is not."""


class HandlerNotFound(Exception):
    """The handler's module is there, the handler is not."""


class Context:
    """What a handler is told of its invocation."""

    __slots__ = ("id", "function", "function_version", "memory_limit", "content_type",
                 "_deadline_ns")

    @property
    def deadline(self):
        """The Unix time, in seconds, at which the sandbox is killed."""
        return time.time() + (self._deadline_ns - monotonic_ns()) / 1e9

    @property
    def memory_limit_mb(self):
        """The function's memory in MiB."""
        return self.memory_limit >> 20

    def remaining_ms(self):
        """Milliseconds left before the deadline; 0 when it has passed."""
        return max(0, (self._deadline_ns - monotonic_ns()) // 1000000)

    def __repr__(self):
        return "<invocation %s of %s>" % (self.id, self.function)


class Bound:
    """The function of this sandbox, or why it could not be loaded."""

    __slots__ = ("handler", "failure", "function", "version", "memory", "response_limit", "woken",
                 "loaded")


# --- errors ---------------------------------------------------------------------------------------


def describe(error):
    """An exception as the parts of an error frame: type, message, trace."""
    try:
        kind = str(type(error).__name__)
        message = str(error)
    except BaseException:  # a hostile or broken __str__
        kind, message = "Exception", "(an exception that cannot be printed)"
    return (kind[:256].encode("utf-8", "backslashreplace"),
            message[:_MAX_MESSAGE].encode("utf-8", "backslashreplace"),
            trace_of(error))


def trace_of(error):
    """The traceback from the handler's first frame on; at most _MAX_TRACE bytes."""
    try:
        if isinstance(error, MemoryError):
            traceback.clear_frames(error.__traceback__)
        if isinstance(error, (InvalidJSON, HandlerNotFound)):
            return b""
        formatted = traceback.TracebackException(
            type(error), error, user_frames(error.__traceback__), limit=-_MAX_FRAMES)
        trace = "".join(formatted.format()).encode("utf-8", "backslashreplace")
    except BaseException:
        return b""
    if len(trace) <= _MAX_TRACE:
        return trace
    half = _MAX_TRACE // 2 - 8
    return trace[:half] + b"\n  ...\n" + trace[-half:]


def user_frames(trace):
    """The part of a traceback below brood's own frames and the import system's."""
    while trace is not None and is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return trace


def is_machinery(path):
    return path == __file__ or path == importlib.__file__ or path.startswith("<frozen importlib")


# --- loading --------------------------------------------------------------------------------------


def set_environment(block):
    """Adds `block`, KEY=VALUE entries each ended by NUL, to the environment."""
    _brood.put_environment(block)
    known = os.environ._data  # bytes, as os.environ itself keeps them
    for entry in block.split(b"\0"):
        if entry:
            key, _, value = entry.partition(b"=")
            known[key] = value
            if key == b"TZ":
                time.tzset()


# Where a function's modules are looked for: beside its handler, then in its layers.
_CODE_PATHS = (CODE_DIR, CODE_DIR + "/site-packages", CODE_DIR + "/python")
_LAYER_PATHS = (
    "%s/python/lib/python%d.%d/site-packages" % ((_brood.LAYERS_DIR,) + sys.version_info[:2]),
    _brood.LAYERS_DIR + "/python")
_ALL_PATHS = _CODE_PATHS + _LAYER_PATHS


def add_code_to_path(flags):
    # None is looked at before something is imported. What the import system may remember of them
    # is from before the code was there.
    paths = _ALL_PATHS if flags & FLAG_LAYERS else _CODE_PATHS
    sys.path[:0] = paths
    for path in paths:
        sys.path_importer_cache.pop(path, None)


def module_of(name, code):
    """Makes the module `name` from its code object, as an import of its file would."""
    if type(code) is not CodeType:
        raise ImportError("the prepared code of %r is none" % name)
    path = code.co_filename
    loader = SourceFileLoader(name, path)
    spec = ModuleSpec(name, loader, origin=path, is_package=path.endswith("/__init__.py"))
    spec.has_location = True
    parent, _, leaf = name.rpartition(".")
    package = importlib.import_module(parent) if parent else None
    # What importlib.util.module_from_spec sets, without its search for a byte code file's name.
    module = ModuleType(name)
    module.__spec__ = spec
    module.__loader__ = loader
    module.__file__ = path
    module.__package__ = spec.parent
    if spec.submodule_search_locations is not None:
        module.__path__ = spec.submodule_search_locations
        module.__path__.append(os.path.dirname(path))
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    module = sys.modules.get(name, module)  # a module may put something else in its place
    if package is not None:
        setattr(package, leaf, module)
    return module


def load(handler, code):
    """The function that `handler`, "module.function", names."""
    name, _, attribute = handler.rpartition(".")
    if code:
        module = module_of(name, marshal.loads(code))
    else:
        module = importlib.import_module(name)
    function = getattr(module, attribute, None)
    if not callable(function):
        raise HandlerNotFound("module %r has no function %r (the handler is %r)"
                              % (name, attribute, handler))
    return function


def bind(fd, frame):
    """Takes a function. A failure to load is kept, and answers every invocation."""
    _, flags, _, _, woken, (function, handler, environment, code, limits) = frame
    bound = Bound()
    bound.failure = bound.handler = None
    bound.woken = woken
    bound.function = function.decode()
    bound.memory, bound.response_limit, pids, bound.version = _LIMITS.unpack(limits)
    if flags & FLAG_SOFT_LIMITS:
        _brood.set_limits(bound.memory, pids)
    try:
        set_environment(_OWN_ENVIRONMENT % (function, bound.version, bound.memory) + environment)
        add_code_to_path(flags)
        bound.handler = load(handler.decode(), code)
    except BaseException as error:
        bound.failure = failure_of(error, FLAG_INIT)
    bound.loaded = monotonic_ns()
    if bound.failure is None:
        send(fd, LOADED, 0, 0, (), ())
    return bound


# --- calling --------------------------------------------------------------------------------------


def failure_of(error, flags=0):
    """The flags and parts of a RESULT that tells of an exception."""
    if isinstance(error, MemoryError):
        flags |= FLAG_MEMORY
    return flags | FLAG_ERROR, describe(error)


def event_of(payload):
    if not payload:
        return None
    try:
        return _decode_json(str(payload, "utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidJSON("the payload is not JSON: %s" % error) from None


def context_of(bound, frame):
    context = Context()
    parts = frame[5]
    context.id = parts[0].decode()
    context.content_type = parts[1].decode("latin-1")
    context.function = bound.function
    context.function_version = bound.version
    context.memory_limit = bound.memory
    context._deadline_ns = frame[3]
    return context


def run_coroutine(coroutine):
    import asyncio

    return asyncio.run(coroutine)


def call(handler, event, context):
    value = handler(event, context)
    if type(value) is CoroutineType:
        value = run_coroutine(value)
    return value


def encode(value):
    """A handler's value as the flags and parts of a RESULT."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return 0, (_BYTES_TYPE, bytes(value))
    try:
        body = _encode_json(value).encode()
    except UnicodeEncodeError:  # lone surrogates, which JSON can only escape
        body = _encode_ascii_json(value).encode()
    return FLAG_JSON, (_JSON_TYPE, body)


def hold_to_limit(answer, limit):
    size = len(answer[1][1])
    if size <= limit:
        return answer
    text = "the answer is %d bytes long, over the limit of %d bytes" % (size, limit)
    return FLAG_ERROR | FLAG_TOO_LARGE, (b"ResponseTooLarge", text.encode(), b"")


def flush():
    """What the handler printed belongs to this invocation: it leaves before the answer does."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BaseException:  # closed or replaced by the handler
            pass


def invoke(fd, bound, frame):
    _, flags, invocation, _, woken, parts = frame
    loaded = 0
    if bound.woken:  # the first one: it began when the bind was read
        woken, loaded, bound.woken = bound.woken, bound.loaded, 0
    called = returned = 0
    try:
        if bound.failure is not None:
            answer = bound.failure
        else:
            event = event_of(parts[2]) if flags & FLAG_JSON else parts[2]
            context = context_of(bound, frame)
            called = monotonic_ns()
            value = call(bound.handler, event, context)
            returned = monotonic_ns()
            answer = hold_to_limit(encode(value), bound.response_limit)
    except BaseException as error:
        if called and not returned:
            returned = monotonic_ns()
        answer = failure_of(error)
    flush()
    send(fd, RESULT, answer[0], invocation, (woken, loaded, called, returned), answer[1])


# --- compiling ------------------------------------------------------------------------------------

_MOST_FILES = 200  # of a function's own that are looked into for imports


def own_file(name):
    """The file of a module that the function or a layer brings along; None where none does."""
    leaf = name.replace(".", "/")
    for folder in _ALL_PATHS:
        for path in ("%s/%s/__init__.py" % (folder, leaf), "%s/%s.py" % (folder, leaf)):
            if os.path.isfile(path):
                return path
    return None


def is_own(name):
    top = name.partition(".")[0]
    return own_file(top) is not None or any(
        os.path.isdir("%s/%s" % (folder, top)) for folder in _ALL_PATHS)


def imported_names(source, package):
    """What a module says that it imports, wherever it says so; nothing of it is run."""
    import ast

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[:-node.level + 1 or None] if node.level else []
            base = ".".join(above + [node.module] if node.module else above)
            if base:
                yield base
            for alias in node.names:  # perhaps a module, too
                yield "%s.%s" % (base, alias.name) if base else alias.name


def imports_from(path, source):
    """The modules that the function needs and does not bring along."""
    wanted, known, waiting = set(), {path}, [(path, source)]
    while waiting:
        path, source = waiting.pop()
        package = os.path.relpath(os.path.dirname(path), CODE_DIR).replace("/", ".")
        try:
            names = set(imported_names(source, "" if package == "." else package))
        except (SyntaxError, ValueError, RecursionError):
            continue
        for name in names:
            if not is_own(name):
                wanted.add(name)
                continue
            file = own_file(name)
            if file is not None and file not in known and len(known) < _MOST_FILES:
                known.add(file)
                with open(file, "rb") as opened:
                    waiting.append((file, opened.read()))
    return wanted



def compile_file(fd, frame):
    """Compiles a file of the function, which it does not run, for later binds to carry."""
    try:
        path = os.path.join(CODE_DIR, os.fsdecode(frame[5][0]))
        with open(path, "rb") as file:
            source = file.read()
        if frame[1] & FLAG_IMPORTS:
            parts = ("\n".join(sorted(imports_from(path, source))).encode(),)
        else:
            parts = (marshal.dumps(compile(source, path, "exec", dont_inherit=True)),)
        flags = 0
    except BaseException as error:
        flags, parts = failure_of(error)
    flush()
    send(fd, COMPILED, flags, frame[2], (), parts)


# --- the loop -------------------------------------------------------------------------------------


def serve(fd):
    """Answers frames until the agent closes. The exit status: 0, or 2 for one out of place."""
    bound = None
    while True:
        frame = receive(fd)
        if frame is None:
            return 0
        kind = frame[0]
        if kind == INVOKE and bound is not None:
            invoke(fd, bound, frame)
        elif kind == BIND and bound is None:
            bound = bind(fd, frame)
        elif kind == COMPILE and bound is None:
            compile_file(fd, frame)
        else:
            print("brood: frame of kind %d out of place" % kind, file=sys.stderr)
            return 2
        frame = None  # a payload does not outlive its invocation


# --- before the first bind ------------------------------------------------------------------------


def reseed():
    """Makes new what forks of one zygote would otherwise share. (The hash seed they do share.)"""
    modules = sys.modules
    random.seed()
    if "numpy.random" in modules:
        modules["numpy.random"].seed()
    if "ssl" in modules:
        modules["ssl"].RAND_add(os.urandom(32), 32.0)
    if "uuid" in modules:
        modules["uuid"]._node = None
        modules["uuid"]._last_timestamp = None
    if "tempfile" in modules:
        # Its own check is by pid, and the handler's is 2 in every sandbox.
        modules["tempfile"]._name_sequence = None
    if "multiprocessing.process" in modules:
        modules["multiprocessing.process"].current_process().authkey = os.urandom(32)


_REHEARSAL = "handler"  # the likeliest name: its strings are counted references too
_REHEARSAL_SOURCE = """
import collections
import datetime
import json
import math
import os
import re
import sys
import time

WORD = re.compile(r"[a-z]+")


class Fault(Exception):
    pass


def count(text):
    words = collections.Counter(WORD.findall(text.lower()))
    lengths = {}
    for word in text.split():
        lengths[len(word)] = lengths.get(len(word), 0) + 1
    return words, lengths


def main(event, context):
    print("rehearsal", context.id, context.remaining_ms())
    if event.get("fail"):
        raise Fault("rehearsal")
    words, lengths = count(event["text"])
    return {"words": len(words), "top": sorted(words.items())[:3], "lengths": len(lengths),
            "home": os.environ["HOME"], "time": datetime.datetime.now().isoformat()}
"""


def _frame(kind, flags, parts):
    body = b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    return _HEAD.pack(kind, flags, 0, 1 << 62, 0, 0, 0, 0, 0, len(parts), len(body)) + body


@functools.lru_cache(maxsize=2)  # in the zygote: compiling is not on a bind's path
def _rehearsal_frames(failures):
    path = "%s/%s.py" % (CODE_DIR, _REHEARSAL)
    code = marshal.dumps(compile(_REHEARSAL_SOURCE, path, "exec", dont_inherit=True))
    limits = _LIMITS.pack(1 << 27, 1 << 20, 64, 1)
    handler = (_REHEARSAL + ".main").encode()
    event = b'{"text": "' + b"the quick brown fox " * 40 + b'", "list": [1, 2.5, null, true]}'
    frames = (
        _frame(BIND, 0, (b"rehearsal", handler, b"BROOD_REHEARSAL=1\0", code, limits)),
        _frame(INVOKE, FLAG_JSON, (b"0" * 32, _JSON_TYPE, event)),
        _frame(INVOKE, 0, (b"0" * 32, _BYTES_TYPE, b"0" * 2048)),  # no .get: an AttributeError
        _frame(INVOKE, FLAG_JSON, (b"0" * 32, _JSON_TYPE, b'{"fail": true}')),
    )
    return b"".join(frames if failures else frames[:2])


def _caches():
    """Where a rehearsal's names end up. re's are private, and not the same in every Python."""
    found = [sys.path_importer_cache, linecache.cache]
    for name in ("_cache", "_cache2"):
        cache = getattr(re, name, None)
        if isinstance(cache, dict):
            found.append(cache)
    return found


def _point_output_at(out, err):
    os.dup2(out, 1)
    os.dup2(err, 2)


def rehearse(failures=False):
    """Binds and calls a function of brood's own by the very path of a real one, then undoes it. Without
    `failures` it does not raise: that writes to many pages, and nobody waits for an error's first time."""
    ours, agents = socket.socketpair()
    null = os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    saved = (os.dup(1), os.dup(2))
    environment, path = set(os.environ), sys.path[:]
    caches = [(cache, set(cache)) for cache in _caches()]
    try:
        agents.sendall(_rehearsal_frames(failures))
        agents.shutdown(socket.SHUT_WR)
        _point_output_at(null, null)
        return serve(ours.fileno())
    finally:
        flush()
        _point_output_at(*saved)
        for fd in (null, *saved):
            os.close(fd)
        ours.close()
        agents.close()
        sys.modules.pop(_REHEARSAL, None)
        sys.path[:] = path
        for key in set(os.environ) - environment:
            del os.environ[key]
        for cache, known in caches:
            for key in set(cache) - known:
                del cache[key]


def touch():
    """Writes to the pages that any handler will write to, whatever it does: counting a reference to
    an object is a write, and so is taking a block from the allocator."""
    list(vars(builtins).values())
    list(range(-5, 257))
    [chr(code) for code in range(256)]
    [bytes((code,)) for code in range(256)]
    # A block that was freed last is given out first: these stay next in line, one list each size.
    [bytes(size) for size in range(0, 512, 8) for _ in range(4)]


def prepare():
    """Faults in what a bind and a first call will write to."""
    rehearse()
    gc.collect()
    gc.freeze()
    rehearse()  # the first one's memory has been given back, some of it in other places
    touch()


def main(fd, awaited):
    """The life of the handler's process, from its fork on. Returns its exit status."""
    reseed()
    if not awaited:  # else an invocation would wait for all of it, to be spared a part
        prepare()
    _brood.wake_soon()
    send(fd, READY, 0, 0, (), ())
    return serve(fd)
