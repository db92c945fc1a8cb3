"""A small HTTP client for Godwit's JSON APIs over unix sockets."""
import http.client
import json
import socket


class Problem(Exception):
    """An answer of 4xx or 5xx: the RFC 9457 problem it carried."""

    def __init__(self, status, body, headers):
        self.status, self.body, self.headers = status, body, headers
        self.type = str(body.get("type", "")).rsplit(":", 1)[-1] if isinstance(body, dict) else ""
        super().__init__(f"{status} {json.dumps(body)}")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Api:
    def __init__(self, socket_path, token):
        self._path, self._token = socket_path, token

    def call(self, method, target, body=None, headers=None, timeout=30):
        status, answer, _ = self.raw(method, target, body, headers, timeout)
        return answer

    def raw(self, method, target, body=None, headers=None, timeout=30):
        connection = _Connection(self._path, timeout)
        try:
            sent = {"Authorization": "Bearer " + self._token, **(headers or {})}
            payload = None
            if body is not None:
                payload = json.dumps(body)
                sent["Content-Type"] = "application/json"
            connection.request(method, target, payload, sent)
            response = connection.getresponse()
            text = response.read().decode()
            answer = json.loads(text) if text.strip() else {}
            got = {name.lower(): value for name, value in response.getheaders()}
            if response.status >= 400:
                raise Problem(response.status, answer, got)
            return response.status, answer, got
        finally:
            connection.close()

    def get(self, target, **options):
        return self.call("GET", target, **options)

    def put(self, target, body, **options):
        return self.call("PUT", target, body, **options)

    def post(self, target, body=None, **options):
        return self.call("POST", target, body, **options)

    def delete(self, target, **options):
        return self.call("DELETE", target, **options)

    def events(self, target, timeout=600):
        """Server-sent events as (event, data), until the server ends the stream."""
        connection = _Connection(self._path, timeout)
        try:
            connection.request("GET", target, headers={"Authorization": "Bearer " + self._token,
                                                       "Accept": "text/event-stream"})
            response = connection.getresponse()
            if response.status != 200:
                raise Problem(response.status, json.loads(response.read() or b"{}"), {})
            event, data = "", []
            for line in iter(response.readline, b""):
                line = line.decode().rstrip("\r\n")
                if line.startswith("event:"):
                    event = line[6:].strip()
                elif line.startswith("data:"):
                    data.append(line[5:].strip())
                elif not line and data:
                    yield event, json.loads("\n".join(data))
                    event, data = "", []
        finally:
            connection.close()
