"""Writes the seeds of tests/fuzz that have a byte form: make_seeds.py CORPUS.

The others are texts, kept by hand beside them: tests/fuzz/corpus has one folder for each target.
"""
import os
import struct
import sys

HEAD = struct.Struct("=IIQqqqqqqII")
BIND, INVOKE, COMPILE = 1, 2, 3
READY, LOADED, RESULT, COMPILED = 16, 17, 18, 19


def head(kind, flags, count, size):
    return HEAD.pack(kind, flags, 7, 0, 1, 2, 3, 4, 5, count, size)


def frame(kind, flags, *parts):
    body = b"".join(struct.pack("=I", len(part)) + part for part in parts)
    return head(kind, flags, len(parts), len(body)) + body


def control(kind, text):
    return struct.pack("=IIQII64s168s", kind, 1, 9, 0, 0, b"host", text)


LIMITS = struct.pack("=QQII", 128 << 20, 6 << 20, 64, 1)
BOUND = frame(BIND, 0, b"hello", b"handler.main", b"KEY=value\0", b"\xe3\0\1\2", LIMITS)
INVOKED = frame(INVOKE, 1, b"0" * 32, b"application/json", b'{"a": 1}')

DNS_NAME = b"\7example\3com\0"


def dns(first, flags, answers, *records):
    return first + struct.pack(">HHHHHH", 0x1234, flags, 1, answers, 0, 0) + DNS_NAME + b"".join(records)


def dns_record(owner, kind, data):
    return owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data


# How a stream is cut: one less than the bytes of a piece.
BYTES, SOME, MANY = b"\0", b"\x40", b"\xff"

SEEDS = {
    "frames": {
        "ready": BYTES + frame(READY, 0),
        "result": SOME + frame(READY, 0) + frame(LOADED, 0)
        + frame(RESULT, 1, b"application/json", b'{"a":1}'),
        "error": b"\7" + frame(RESULT, 2 | 4, b"ValueError", b"no \xc3\xa9 \x1b[1m", b"trace\n"),
        "compiled": MANY + frame(COMPILED, 0, b"\xe3\0\1\2"),
        "unknown_kind": MANY + frame(77, 0),
        "too_large": MANY + head(RESULT, 0, 2, 0xFFFFFFFF),
        "short_body": MANY + head(COMPILED, 0, 1, 3) + b"abc",
    },
    "controls": {
        "booted": control(16, b"3.11.2"),
        "spawned": control(17, b""),
        "spawn_failed": control(18, b"clone3"),
        "exited": control(19, b"\x1b[31mred \xff"),
        "unended_text": control(19, b"x" * 168),
        "to_the_zygote": control(2, b""),
    },
    "supervisors": {
        "report": struct.pack("=IIiI40I", 0x62726470, 0, 0, 23, *range(40)),
        "failed_step": struct.pack("=IIiI40I", 0x62726470, 6, 28, 5, *range(40)),
        "exited": struct.pack("=IiiIQQQ", 0x62726865, 1, 3, 0, 1, 2, 3),
        "killed": struct.pack("=IiiIQQQ", 0x62726865, 2, 9, 0, 1, 2, 3),
        "no_such_signal": struct.pack("=IiiIQQQ", 0x62726865, 2, 0, 0, 1, 2, 3),
    },
    "binds": {
        "bind": BYTES + BOUND,
        "bind_and_invoke": SOME + BOUND + INVOKED + INVOKED,
        "compile": MANY + frame(COMPILE, 0, b"handler.py"),
        "no_parts": MANY + frame(INVOKE, 0),
        "nine_parts": MANY + frame(INVOKE, 0, *[b"x"] * 9),
        "huge_part": MANY + head(INVOKE, 0, 1, 0xFFFFFFFF) + struct.pack("=I", 0xFFFFFFF0) + b"x",
        "part_over_body": MANY + head(INVOKE, 0, 1, 8) + struct.pack("=I", 9) + b"123456789",
        "bytes_behind": MANY + head(INVOKE, 0, 1, 9) + struct.pack("=I", 1) + b"12345",
    },
    "environments": {
        "two": b"KEY=value\0OTHER=a=b\0",
        "empty_value": b"KEY=\0",
        "unended": b"KEY=value\0OTHER=1",
        "no_equals": b"KEY=value\0OTHER\0",
        "no_key": b"=value\0",
        "only_nul": b"\0\0",
    },
    "connections": {
        "version": SOME + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n",
        "pipelined": MANY + b"GET /version HTTP/1.1\r\nHost: x\r\n\r\nGET /status HTTP/1.1\r\nHost: x\r\n\r\n",
        "invoke": b"\7" + b"POST /functions/echo/invocations HTTP/1.1\r\nHost: x\r\n"
        b"Content-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"a\":1}",
        "invoke_chunked": BYTES + b"POST /functions/echo/invocations HTTP/1.1\r\nHost: x\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n",
        "invoke_hold": MANY + b"POST /functions/hold/invocations HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 2\r\n\r\n{}GET /version HTTP/1.1\r\n",
        "timeout": MANY + b"POST /functions/end-timeout/invocations HTTP/1.1\r\nHost: x\r\n\r\n",
        "deploy": SOME + b"PUT /functions/f HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 101\r\n\r\n{\"code\":\"sha256:" + b"0123456789abcdef" * 4
        + b"\",\"memory\":\"64MiB\" }",
        "upload": SOME + b"POST /code?file=handler.py HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbomb",
        "upload_continue": MANY + b"POST /code HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
        b"Content-Length: 3\r\n\r\nabc",
        "too_large": MANY + b"POST /functions/echo/invocations HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 99999\r\n\r\nabc",
        "logs": MANY + b"GET /functions/logger/logs?tail=2&follow=true HTTP/1.1\r\nHost: x\r\n\r\n",
        "logs_old": MANY + b"GET /functions/logger/logs HTTP/1.0\r\n\r\n",
        "remove": MANY + b"DELETE /functions/echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "two_lengths": MANY + b"POST /functions/echo/invocations HTTP/1.1\r\nHost: x\r\n"
        b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "head_code": MANY + b"HEAD /code/sha256:" + b"0" * 64 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        "no_http": MANY + b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    },
    "dns_messages": {
        "question": dns(b"\0", 0x100, 0, b"\0\1\0\1"),
        "question_options": dns(b"\0", 0x100, 0, b"\0\x1c\0\1", b"\0\0\x29\4\xd0\0\0\0\0\0\0"),
        "answer": dns(b"\1", 0x8180, 1, b"\0\1\0\1", dns_record(b"\xc0\x0c", 1, b"\xcb\0\x71\7")),
        "answer_six": dns(b"\2", 0x8180, 1, b"\0\x1c\0\1", dns_record(b"\xc0\x0c", 28, b"\x20\1" + bytes(14))),
        "alias": dns(b"\1", 0x8180, 2, b"\0\1\0\1", dns_record(b"\xc0\x0c", 5, b"\3www\xc0\x0c"),
                     dns_record(b"\xc0\x29", 1, b"\xcb\0\x71\7")),
        "circle": dns(b"\1", 0x8180, 1, b"\0\1\0\1", dns_record(b"\xc0\x1d", 1, b"\xcb\0\x71\7")),
        "no_such_name": dns(b"\1", 0x8183, 0, b"\0\1\0\1"),
    },
    "verdicts": {
        "accepted": b"\0" + b'{"files":3,"bytes":120}\n',
        "refused": b"\1" + b'{"error":"its path has a \'..\'","entry":"../\\u001bx"}\n',
        "unable": b"\2" + b'{"error":"disk full","entry":""}\n',
        "accepted_but_refused": b"\1" + b'{"files":3,"bytes":120}\n',
        "killed": bytes([127 + 9]),
        "no_such_call": bytes([127 + 31]) + b'{"files":',
    },
}

for folder, seeds in SEEDS.items():
    directory = os.path.join(sys.argv[1], folder)
    os.makedirs(directory, exist_ok=True)
    for name, seed in seeds.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(seed)
