"""HTTP over the agent's socket."""
import http.client
import json
import socket


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def ending(self):
        """How the invocation ended; of a refused request its code."""
        return self.headers.get("brood-ending") or self.error().get("code", "")

    def json(self):
        return json.loads(self.body)

    def error(self):
        try:
            return self.json()["error"]
        except (ValueError, KeyError, TypeError):
            return {}


class Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("brood", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    def __init__(self, path, timeout):
        self.path = path
        self.timeout = timeout

    def ask(self, method, target, body=None, headers=()):
        """One request on a connection of its own. Raises OSError where there is no answer."""
        connection = Connection(self.path, self.timeout)
        try:
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        except http.client.HTTPException as error:
            raise OSError(f"{method} {target}: {error!r}") from error
        finally:
            connection.close()

    def get(self, target):
        answer = self.ask("GET", target)
        if answer.status != 200:
            raise OSError(f"GET {target}: {answer.status} {answer.body[:200]!r}")
        return answer.json()

    def exchange(self, data, timeout=None, shut=False):
        """Bytes as they are, and what comes back until the agent closes or the time is up."""
        with self.open(timeout) as peer:
            try:
                peer.sendall(data)
                if shut:
                    peer.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                pass  # refused before all of it was sent
            return read_all(peer)

    def open(self, timeout=None):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(self.timeout if timeout is None else timeout)
        peer.connect(self.path)
        return peer


def read_all(peer):
    pieces = []
    try:
        while piece := peer.recv(65536):
            pieces.append(piece)
    except (TimeoutError, ConnectionResetError):
        pass
    return b"".join(pieces)


def status_of(data):
    """The status of a raw answer; 0 where there is none."""
    words = data.split(b"\r\n", 1)[0].split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
