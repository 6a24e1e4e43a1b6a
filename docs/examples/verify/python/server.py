"""A small API: GET /cart for guests and members with read:cart, GET /orders for members."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from verify import Epochs, Refused, Verifier

ISSUER, LISTEN = os.environ["ISSUER"], os.environ.get("LISTEN", "127.0.0.1:8090")
KEY = os.environ.get("EPOCHS_KEY")
VERIFIER = Verifier(
    ISSUER, os.environ["AUDIENCE"], os.environ.get("ADDRESS", f"http://{LISTEN}"), Epochs(ISSUER, KEY) if KEY else None
)
ROUTES = {
    "/cart": {"holder": "user", "scopes": ["read:cart"]},
    "/orders": {"holder": "member", "scopes": ["read:cart"]},
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        rule = ROUTES.get(self.path.split("?")[0])
        if rule is None:
            return self.answer(404, None, {})
        try:
            claims = VERIFIER.check("GET", self.path, self.headers.items(), **rule)
        except Refused as e:
            return self.answer(e.status, e.challenge, {"detail": str(e)})
        self.answer(200, None, {"subject": claims["sub"], "guest": claims["is_anonymous"]})

    def answer(self, status, challenge, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if challenge:
            self.send_header("WWW-Authenticate", challenge)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


host, port = LISTEN.split(":")
ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
