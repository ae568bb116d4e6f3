"""Breaks its limits, one at a time; the event says which."""
import os
import resource
import time


def allocate(mebibytes):
    pieces = []
    for _ in range(mebibytes):
        pieces.append(bytearray(os.urandom(1 << 20)))
    return len(pieces)


def write_files(folder, mebibytes):
    piece = os.urandom(1 << 20)
    with open(folder + "/filler", "wb") as file:
        for _ in range(mebibytes):
            file.write(piece)
    return mebibytes


def spin(processes, seconds):
    """Keeps this many processes busy; answers the CPU seconds that they got, all together."""
    end = time.monotonic() + seconds
    begin = time.monotonic()
    for _ in range(processes):
        if os.fork() == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
    for _ in range(processes):
        os.wait()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"cpu": used.ru_utime + used.ru_stime, "wall": time.monotonic() - begin}


def fork_until_refused():
    while True:
        if os.fork() == 0:
            time.sleep(600)


def fork_for_ever():
    """Every process of it forks; being refused stops none of them."""
    while True:
        try:
            os.fork()
        except OSError:
            pass


def main(event, context):
    do = event["do"]
    if do == "allocate":
        return allocate(event["mebibytes"])
    if do == "write":
        return write_files(event["folder"], event["mebibytes"])
    if do == "spin":
        return spin(event["processes"], event["seconds"])
    if do == "fork":
        return fork_until_refused()
    if do == "fork for ever":
        return fork_for_ever()
    return sum(range(1000))
