"""The host's network, looked for from inside."""
import os
import socket


class Listeners:
    """On the host: an abstract socket, and a port on its loopback for streams and one for datagrams."""

    def __enter__(self):
        self.name = f"brood-hostile-{os.getpid()}"
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind("\0" + self.name)
        self.abstract.listen()
        self.stream = socket.socket()
        self.stream.bind(("127.0.0.1", 0))
        self.stream.listen()
        self.datagram = socket.socket(type=socket.SOCK_DGRAM)
        self.datagram.bind(("127.0.0.1", 0))
        self.datagram.settimeout(0.5)
        return self

    def __exit__(self, *_):
        for one in (self.abstract, self.stream, self.datagram):
            one.close()

    @property
    def port(self):
        return self.stream.getsockname()[1]

    @property
    def datagram_port(self):
        return self.datagram.getsockname()[1]


def reached(arena):
    """What of the host answers a sandbox."""
    with Listeners() as host:
        outcomes = arena.probe("network.connect", {
            "abstract": host.name, "port": host.port, "datagram_port": host.datagram_port,
            "agent": arena.agent.socket})
        try:
            host.datagram.recv(16)
            outcomes["datagram"] = "came"
        except TimeoutError:
            outcomes["datagram"] = "nothing came"
        return outcomes


def listed(arena):
    """What of the host's stands in a sandbox's /proc/net."""
    with Listeners() as host:
        return arena.probe("network.listed", {"abstract": host.name, "port": host.port})
