"""How long a function of a running agent takes, cold and warm.

Times are a client's: from before the request is sent until the answer has been read, over a
connection that is held.
"""
import argparse
import http.client
import socket
import statistics
import sys
import time


class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("brood", timeout=30)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def invoke(connection, function, body):
    """Returns how it started, the milliseconds it took, and those that were the handler's own."""
    begin = time.perf_counter()
    connection.request("POST", f"/functions/{function}/invocations", body, {"content-type": "text/plain"})
    response = connection.getresponse()
    answer = response.read()
    took = (time.perf_counter() - begin) * 1000
    if response.status != 200:
        sys.exit(f"figures: {function}: {response.status} {answer.decode(errors='replace')[:500]}")
    stages = dict(pair.split("=") for pair in response.getheader("Brood-Trace", "").split(",") if "=" in pair)
    own = (float(stages.get("returned", 0)) - float(stages.get("called", 0))) / 1000
    return response.getheader("Brood-Start"), took, own


def median_of(connection, function, body, count, want_start):
    took, own = [], []
    for _ in range(count):
        start, milliseconds, handlers = invoke(connection, function, body)
        if start != want_start:
            continue
        took.append(milliseconds)
        own.append(handlers)
        if want_start == "cold":
            time.sleep(0.05)  # for the pool, which refills behind the answer
    if not took:
        sys.exit(f"figures: no invocation of {function} was {want_start}")
    return statistics.median(took), statistics.median(own)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--socket", required=True)
    parser.add_argument("--cold", required=True, help="the function, deployed with reuse = false")
    parser.add_argument("--warm", required=True, help="the function")
    parser.add_argument("--file", required=True, help="the payload")
    parser.add_argument("--cold-count", type=int, default=20)
    parser.add_argument("--warm-count", type=int, default=100)
    options = parser.parse_args()
    with open(options.file, "rb") as file:
        body = file.read()
    connection = Connection(options.socket)
    invoke(connection, options.warm, body)
    for start, function, count in (("cold", options.cold, options.cold_count), ("warm", options.warm, options.warm_count)):
        took, own = median_of(connection, function, body, count, start)
        print(f"  {start}  {took:9.2f} ms, of which the handler counted for {own:.2f} ms")


if __name__ == "__main__":
    main()
