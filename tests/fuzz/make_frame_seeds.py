"""Writes the seeds of frame_fuzz: make_frame_seeds.py DIRECTORY."""
import os
import struct
import sys

HEAD = struct.Struct("=IIQqqqqqqII")
READY, LOADED, RESULT, COMPILED = 16, 17, 18, 19
CONTROL, SUPERVISOR, STREAM = b"\0", b"\1", b"\2"


def frame(kind, flags, *parts):
    body = b"".join(struct.pack("=I", len(part)) + part for part in parts)
    return HEAD.pack(kind, flags, 7, 0, 1, 2, 3, 4, 5, len(parts), len(body)) + body


def control(kind, text):
    return struct.pack("=IIQII64s168s", kind, 1, 9, 0, 0, b"host", text)


SEEDS = {
    "ready": STREAM + b"\0" + frame(READY, 0),
    "result": STREAM + b"\x40" + frame(READY, 0) + frame(LOADED, 0)
    + frame(RESULT, 1, b"application/json", b'{"a":1}'),
    "error": STREAM + b"\7" + frame(RESULT, 2 | 4, b"ValueError", b"no \xc3\xa9 \x1b[1m", b"trace\n"),
    "compiled": STREAM + b"\xff" + frame(COMPILED, 0, b"\xe3\0\1\2"),
    "unknown_kind": STREAM + b"\xff" + frame(77, 0),
    "too_large": STREAM + b"\xff" + HEAD.pack(RESULT, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xFFFFFFFF),
    "short_body": STREAM + b"\xff" + HEAD.pack(COMPILED, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3) + b"abc",
    "booted": CONTROL + control(16, b"3.11.2"),
    "spawn_failed": CONTROL + control(18, b"clone3"),
    "unended_text": CONTROL + control(19, b"x" * 168),
    "report": SUPERVISOR + struct.pack("=IIiI40I", 0x62726470, 0, 0, 23, *range(40)),
    "end": SUPERVISOR + struct.pack("=IiiIQQQ", 0x62726865, 2, 9, 0, 1, 2, 3),
}

for name, seed in SEEDS.items():
    with open(os.path.join(sys.argv[1], name), "wb") as file:
        file.write(seed)
