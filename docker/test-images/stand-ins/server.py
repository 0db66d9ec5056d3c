"""What both stand-ins share: JSON over HTTP, basic authentication, and a proper end."""

import base64
import json
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LOCK = threading.RLock()


class Refusal(Exception):
    """An answer that is not a good one."""

    def __init__(self, status, body):
        super().__init__(body)
        self.status = status
        self.body = body


def serve(port, answer, logins=None, is_open=lambda path: False, denied=None, tls=None):
    """`answer(method, parts, query, body)` returns a status and a body, or raises a Refusal. `logins`: passwords by users."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_request(self):
            url = urlsplit(self.path)
            parts = [unquote(part) for part in url.path.strip("/").split("/") if part]
            query = {name: values[-1] for name, values in parse_qs(url.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            text = self.rfile.read(length)
            try:
                self.ensure_allowed(url.path)
                body = json.loads(text) if text else None
                with LOCK:
                    status, body = answer(self.command, parts, query, body)
            except Refusal as refusal:
                status, body = refusal.status, refusal.body
            except ValueError as error:
                status, body = 400, {"error": "bad_request", "reason": str(error)}
            content = (json.dumps(body) + "\n").encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def ensure_allowed(self, path):
            """A wrong login is refused everywhere, also where none is needed."""
            given = self.headers.get("Authorization")
            if logins is None or (given is None and is_open(path)):
                return
            known = ["Basic " + base64.b64encode(":".join(each).encode()).decode() for each in logins.items()]
            if given not in known:
                raise Refusal(401, denied)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_request

        def log_message(self, text, *values):
            pass

    server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"listening on port {port}")
    server.serve_forever()
