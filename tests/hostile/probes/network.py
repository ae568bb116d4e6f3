"""The network, as far as there is one."""
import socket

from attempts import attempt


def connect(abstract, port, datagram_port, agent):
    def to(family, address, kind=socket.SOCK_STREAM):
        with socket.socket(family, kind) as peer:
            peer.settimeout(2)
            peer.connect(address)
            if kind == socket.SOCK_DGRAM:
                peer.send(b"x")
    attempt(to, socket.AF_INET, ("127.0.0.1", datagram_port), socket.SOCK_DGRAM)
    return {
        "abstract socket": attempt(to, socket.AF_UNIX, "\0" + abstract),
        "port": attempt(to, socket.AF_INET, ("127.0.0.1", port)),
        "agent's socket": attempt(to, socket.AF_UNIX, agent),
        "169.254.169.254": attempt(to, socket.AF_INET, ("169.254.169.254", 80)),
        "outside": attempt(to, socket.AF_INET, ("192.0.2.1", 80)),
        "over IPv6": attempt(to, socket.AF_INET6, ("2001:db8::1", 80)),
    }


def listed(abstract, port):
    """Whether names, ports and interfaces that only the host has are in /proc/net."""
    def text(name):
        with open("/proc/net/" + name) as file:
            return file.read()
    interfaces = [line.split(":")[0].strip() for line in text("dev").splitlines()[2:]]
    return {
        "abstract socket": "there" if abstract in text("unix") else "absent",
        "port": "there" if ":%04X " % port in text("tcp") else "absent",
        "interfaces": "absent" if interfaces == ["lo"] else "there",
        "routes": "absent" if len(text("route").splitlines()) <= 1 else "there",
    }
