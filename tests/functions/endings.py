"""Ends in every way in which a handler can end; the event says which."""
import ctypes
import mmap
import os
import platform
import signal
import struct
import sys
import time

LIBC = ctypes.CDLL(None, use_errno=True)
REBOOT, OPEN_BY_HANDLE_AT, INIT_MODULE = {
    "x86_64": (169, 304, 175), "aarch64": (142, 265, 105)}[platform.machine()]
CONN = 3
READY, RESULT = 16, 18
JSON = 1


class Fault(Exception):
    """The handler's own."""


def parse_number(text):
    return int(text)  # the line that fails


def raise_chained():
    try:
        parse_number("twelve")
    except ValueError as error:
        raise Fault("no number in the request") from error


def spin():
    while True:
        pass


def leave_a_daemon(seconds):
    """A process that no signal from inside and no session holds: only its namespace does."""
    ready, told = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for number in range(1, signal.NSIG):
                try:
                    signal.signal(number, signal.SIG_IGN)
                except (OSError, ValueError):
                    pass
            os.write(told, b"x")
            while True:
                time.sleep(1)
        os._exit(0)
    os.wait()
    os.read(ready, 1)
    time.sleep(seconds)


def take_memory(mebibytes):
    pieces = []
    for _ in range(mebibytes):
        pieces.append(b"\1" * (1 << 20))
    return len(pieces)


def fork_until_refused():
    for _ in range(10000):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)


def run_machine_code(code):
    memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    return ctypes.CFUNCTYPE(ctypes.c_int)(address)()


def invocation_number():
    """The agent's number for this invocation, from the frame that brood's own code holds."""
    frame = sys._getframe()
    while frame.f_code.co_name != "invoke":
        frame = frame.f_back
    return frame.f_locals["frame"][2]


def frame_of(kind, flags, invocation, parts=(), part_count=None, body_size=None):
    body = b"".join(struct.pack("=I", len(part)) + part for part in parts)
    head = struct.pack("=IIQqqqqqqII", kind, flags, invocation, 0, 0, 0, 0, 0, 0,
                       len(parts) if part_count is None else part_count,
                       len(body) if body_size is None else body_size)
    return head + body


def answer(invocation, value=b'"from below"'):
    return frame_of(RESULT, JSON, invocation, (b"application/json", value))


def write_frame(what):
    number = invocation_number()
    bytes_of = {
        "garbage": b"GET / HTTP/1.1\r\n\r\n" * 32,
        "unknown kind": frame_of(99, 0, number),
        "another's answer": answer(number + 1),
        "too many parts": frame_of(RESULT, JSON, number, part_count=0xffffffff),
        "too large": frame_of(RESULT, JSON, number, part_count=2, body_size=0xffffffff),
        "ready again": frame_of(READY, 0, 0),
        "lying lengths": frame_of(RESULT, JSON, number, part_count=2, body_size=8)
        + struct.pack("=II", 0xfffffff0, 0xfffffff0),
        "an answer": answer(number),
    }[what]
    os.write(CONN, bytes_of)


DEADLY = {
    "reboot": lambda: LIBC.syscall(REBOOT, 0xfee1dead, 672274793, 0x1234567, 0),
    "open_by_handle_at": lambda: LIBC.syscall(OPEN_BY_HANDLE_AT, -100, None, 0),
    "init_module": lambda: LIBC.syscall(INIT_MODULE, None, 0, None),
}


def main(event, context):
    do = event["do"]
    print("about to", do)
    if do == "value":
        return event.get("value")
    if do == "raise":
        raise_chained()
    if do == "exit":
        sys.exit(3)
    if do == "recurse":
        return main(event, context)
    if do == "unserialisable":
        return object()
    if do == "spin":
        spin()
    if do == "sleep":
        time.sleep(event.get("seconds", 600))
    if do == "daemon":
        leave_a_daemon(event.get("seconds", 600))
    if do == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if do == "memory":
        return take_memory(event["mebibytes"])
    if do == "forks":
        fork_until_refused()
    if do == "signal":
        os.kill(os.getpid(), event["signal"])
        time.sleep(600)
    if do == "segfault":
        ctypes.string_at(0)
    if do == "_exit":
        os._exit(event["status"])
    if do == "deadly":
        DEADLY[event["call"]]()
    if do == "deadly in a child":
        if os.fork() == 0:
            DEADLY[event["call"]]()
            os._exit(0)
        time.sleep(600)
    if do == "i386":  # mov eax, 20 (getpid); int 0x80; ret
        run_machine_code(b"\xb8\x14\0\0\0\xcd\x80\xc3")
    if do == "x32":  # mov eax, 0x40000027 (getpid); syscall; ret
        run_machine_code(b"\xb8\x27\0\0\x40\x0f\x05\xc3")
    if do == "large":
        return b"x" * event["bytes"]
    if do == "frame":
        write_frame(event["frame"])
        time.sleep(event.get("seconds", 600))
    if do == "close":
        os.close(CONN)
        time.sleep(event.get("seconds", 600))
    return "ended"
