"""A server that says hello."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler


class Hello(BaseHTTPRequestHandler):
    """Answers each GET with ``hello``."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_):
        pass
