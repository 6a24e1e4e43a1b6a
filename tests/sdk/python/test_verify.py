"""The examples of docs/verify.md, each a small API of its own, with tokens of an issuer whose keys are here and of the real
server; and examples/cart with the latter. `VERIFY_GO` and `CART_BIN` name the built ones."""

import base64
import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from conftest import API, ROOT_KEY, WEB_SECRET

EXAMPLES = Path(__file__).parents[3] / "docs/examples/verify"


class Key:
    """A private key that signs anything."""

    def __init__(self, alg, kid="k"):
        self.alg, self.kid = alg, kid
        self.private = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
        }[alg]()
        public = jwt.get_algorithm_by_name(alg).to_jwk(self.private.public_key(), as_dict=True)
        self.public = {name: public[name] for name in sorted(public) if name in ("crv", "kty", "x", "y", "n", "e")}

    def jwk(self):
        return {**self.public, "kid": self.kid, "use": "sig", "alg": self.alg}

    def sign(self, claims, **header):
        shown = f"{b64({'alg': self.alg, 'kid': self.kid, 'typ': 'at+jwt', **header})}.{b64(claims)}"
        return f"{shown}.{b64(jwt.get_algorithm_by_name(self.alg).sign(shown.encode(), self.private))}"

    def thumbprint(self):
        return sha256(json.dumps(self.public, separators=(",", ":")))

    def proof(self, method, url, token=None, nonce=None, drop=None, header=None, **change):
        self.made = getattr(self, "made", 0) + 1
        claims = {"jti": f"{time.time()}-{self.made}", "htm": method, "htu": url, "iat": int(time.time())}
        claims |= {"ath": sha256(token)} if token else {}
        claims |= {"nonce": nonce} if nonce else {}
        claims |= change
        claims.pop(drop, None)
        return self.sign(claims, **{"typ": "dpop+jwt", "jwk": self.public, **(header or {})})


def sha256(text):
    return b64(hashlib.sha256(text.encode()).digest())


def b64(data):
    return base64.urlsafe_b64encode(data if isinstance(data, bytes) else json.dumps(data).encode()).rstrip(b"=").decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def issuer():
    """An issuer with a key of each algorithm and a feed."""
    told = SimpleNamespace(keys=[Key(alg, alg) for alg in ("ES256", "EdDSA", "RS256")], epochs=[], fetches=0)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = self.path.split("?")[0]
            if path == "/.well-known/openid-configuration":
                body = {"issuer": told.url, "jwks_uri": told.url + "/keys"}
            elif path == "/keys":
                told.fetches += 1
                body = {"keys": [key.jwk() for key in told.keys]}
            elif path == "/v1/epochs" and self.headers["authorization"] == "Bearer feed-key":
                # in two pages, the second with what is new
                first = "since" not in self.path
                body = {"epochs": [], "cursor": "1", "more": True} if first else {"epochs": told.epochs, "cursor": "2"}
            else:
                return self.send_error(404)
            body = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield told
    server.shutdown()


COMMANDS = {
    "node": lambda: (["node", "server.js"], EXAMPLES / "node"),
    "python": lambda: ([sys.executable, "server.py"], EXAMPLES / "python"),
    "go": lambda: ([os.environ["VERIFY_GO"]], EXAMPLES / "go"),
    "cart": lambda: ([Path(os.environ["CART_BIN"]).resolve()], EXAMPLES),
}
LANGUAGES = ["node", "python", "go"]


def running(language, issuer, epochs_key, log, prefix=""):
    port = free_port()
    command, folder = COMMANDS[language]()
    told = {"ISSUER": issuer, "AUDIENCE": API, "LISTEN": f"127.0.0.1:{port}", "EPOCHS_KEY": epochs_key, "EPOCH_KEY": epochs_key}
    environment = {**os.environ, **{prefix + name: value for name, value in told.items()}}
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out)
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while True:
            try:
                httpx.get(url)
                break
            except httpx.TransportError:
                assert process.poll() is None and time.monotonic() < until, log.read_text()
                time.sleep(0.05)
        yield SimpleNamespace(url=url, language=language, log=log)
    finally:
        process.terminate()
        process.wait(30)
    assert "Traceback" not in log.read_text() and "panic" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module", params=LANGUAGES)
def api(request, issuer, tmp_path_factory):
    """Behind the issuer whose keys are here."""
    yield from running(request.param, issuer.url, "feed-key", tmp_path_factory.mktemp("api") / "log")


@pytest.fixture(scope="module", params=LANGUAGES)
def real_api(request, server, tmp_path_factory):
    """Behind the real server."""
    yield from running(request.param, server.issuer, ROOT_KEY, tmp_path_factory.mktemp("api") / "log")


@pytest.fixture(scope="module")
def cart(server, tmp_path_factory):
    """examples/cart behind the real server."""
    yield from running("cart", server.issuer, ROOT_KEY, tmp_path_factory.mktemp("cart") / "log", "CART_")


def claims(issuer, **change):
    now = int(time.time())
    claims = {
        "iss": issuer.url, "sub": "ada", "aud": API, "iat": now, "exp": now + 900, "jti": "1", "client_id": "shop",
        "scope": "read:cart", "sid": "s", "is_anonymous": True, "epoch": 0,
    }
    claims |= change
    return {name: value for name, value in claims.items() if value is not None}


def ask(api, token, path="/cart", scheme="Bearer", proof=None):
    headers = {"authorization": f"{scheme} {token}"} | ({"dpop": proof} if proof else {})
    return httpx.get(api.url + path, headers=headers)


def error(answer):
    told = answer.headers.get("www-authenticate", "")
    return answer.status_code, told.split('error="')[1].split('"')[0] if 'error="' in told else None


INVALID = (401, "invalid_token")
LACKING = (403, "insufficient_scope")


def test_good_tokens(api, issuer):
    for key in issuer.keys:
        answer = ask(api, key.sign(claims(issuer)))
        assert (answer.status_code, answer.json()) == (200, {"subject": "ada", "guest": True}), (api.language, answer.text)
        assert ask(api, key.sign(claims(issuer)), "/cart?page=2", "bearer").status_code == 200


def test_line_11_guest_member_or_neither(api, issuer):
    sign = issuer.keys[0].sign
    assert error(ask(api, sign(claims(issuer)), "/orders")) == LACKING
    for path in ("/cart", "/orders"):
        answer = ask(api, sign(claims(issuer, is_anonymous=False)), path)
        assert (answer.status_code, answer.json()["guest"]) == (200, False)
    for mark in (None, "false", 0, [], {}):
        for path in ("/cart", "/orders"):
            assert ask(api, sign(claims(issuer, is_anonymous=mark)), path).status_code in (401, 403), mark
    for scope in (None, "", "read:carts", "xread:cart read:cartx", ["read:cart"]):
        assert ask(api, sign(claims(issuer, scope=scope))).status_code in (401, 403), scope


def test_line_10_claims(api, issuer):
    now = int(time.time())
    for change in (
        {"iss": issuer.url + "/"}, {"iss": "https://other.example.com"}, {"iss": None},
        {"aud": API + "/"}, {"aud": issuer.url}, {"aud": []}, {"aud": None},
        {"exp": now - 30}, {"exp": None}, {"iat": now + 600}, {"iat": None}, {"nbf": now + 600},
        {"sub": None}, {"jti": None}, {"client_id": None},
    ):
        assert error(ask(api, issuer.keys[0].sign(claims(issuer, **change)))) == INVALID, change
    assert ask(api, issuer.keys[0].sign(claims(issuer, aud=["x", API]))).status_code == 200


def test_line_08_forged(api, issuer):
    good, key = claims(issuer), issuer.keys[0]
    thief = Key("ES256", "ES256")
    genuine = key.sign(good)
    head, body, signature = genuine.split(".")
    forged = [
        thief.sign(good),
        thief.sign(good, jwk=thief.public),
        thief.sign(good, jku="https://thief.example/keys"),
        key.sign(good, kid="nobody"),
        key.sign(good, typ="JWT"),
        key.sign(good, typ="application/at+jwt"),
        key.sign(good, typ="dpop+jwt"),
        Key("EdDSA", "ES256").sign(good),
        f"{b64({'alg': 'none', 'kid': 'ES256', 'typ': 'at+jwt'})}.{body}.",
        f"{head}.{b64({**good, 'sub': 'bob'})}.{signature}",
        f"{head}.{body}.{b64(bytes(64))}",
        f"{head}.{body}", "x", "..", genuine + "x",
    ]
    for secret in (json.dumps(key.jwk()), json.dumps(key.public)):
        shown = f"{b64({'alg': 'HS256', 'kid': 'ES256', 'typ': 'at+jwt'})}.{body}"
        forged.append(f"{shown}.{b64(hmac.digest(secret.encode(), shown.encode(), 'sha256'))}")
    for token in forged:
        assert error(ask(api, token)) == INVALID, token
    assert ask(api, genuine).status_code == 200


def test_how_it_is_shown(api, issuer):
    token = issuer.keys[0].sign(claims(issuer))
    for headers in ({}, {"authorization": "Basic abc"}, {"authorization": token}):
        answer = httpx.get(api.url + "/cart", headers=headers)
        assert error(answer) == (401, None) and "DPoP" in answer.headers["www-authenticate"]
    twice = [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")]
    assert httpx.get(api.url + "/cart", headers=twice).status_code == 400


def test_line_17_bound_to_a_key(api, issuer):
    url = api.url + "/cart"
    for device in (Key("ES256"), Key("EdDSA"), Key("RS256")):
        token = issuer.keys[0].sign(claims(issuer, cnf={"jkt": device.thumbprint()}))

        def show(proof, token=token, path="/cart", scheme="DPoP"):
            return error(ask(api, token, path, scheme, proof))

        def wrong(proof, **more):
            assert show(proof, **more) == (401, "invalid_dpop_proof"), (api.language, proof)

        assert show(device.proof("GET", url, token)) == (200, None)
        assert show(device.proof("GET", url + "?x=1#y", token), path="/cart?z=2") == (200, None)
        once = device.proof("GET", url, token)
        assert show(once) == (200, None)
        wrong(once)
        assert show(once, scheme="Bearer") == INVALID
        plain = issuer.keys[0].sign(claims(issuer))
        assert show(device.proof("GET", url, plain), token=plain) == INVALID

        thief, now = Key(device.alg), int(time.time())
        wrong(None)
        wrong("x")
        wrong(thief.proof("GET", url, token))
        wrong(thief.proof("GET", url, token, header={"jwk": device.public}))
        wrong(device.proof("POST", url, token))
        wrong(device.proof("GET", api.url + "/orders", token))
        wrong(device.proof("GET", "https://other.example.com/cart", token))
        wrong(device.proof("GET", url, plain))
        wrong(device.proof("GET", url, token, iat=now - 90))
        wrong(device.proof("GET", url, token, iat=now + 90))
        for claim in ("jti", "htm", "htu", "iat", "ath"):
            wrong(device.proof("GET", url, token, drop=claim))
            wrong(device.proof("GET", url, token, **{claim: []}))
        wrong(device.proof("GET", url, token, jti=""))
        for header in ({"typ": "JWT"}, {"typ": "application/dpop+jwt"}, {"jwk": {}}, {"jwk": "x"}, {"jwk": {"kty": "oct", "k": "AA"}}):
            wrong(device.proof("GET", url, token, header=header))
        two = [("authorization", f"DPoP {token}"), *(("dpop", device.proof("GET", url, token)) for _ in range(2))]
        assert error(httpx.get(url, headers=two)) == (401, "invalid_dpop_proof")
    for cnf in ({}, {"x5t#S256": "AA"}, {"jkt": 1}):
        assert error(ask(api, issuer.keys[0].sign(claims(issuer, cnf=cnf)))) == INVALID


def test_line_13_a_new_key_is_found_and_strangers_do_not_make_it_fetch(api, issuer):
    before = issuer.fetches
    for i in range(20):
        assert error(ask(api, Key("ES256", f"stranger-{i}").sign(claims(issuer)))) == INVALID
    assert issuer.fetches <= before + 2
    fresh = Key("ES256", f"fresh-{api.language}")
    issuer.keys.append(fresh)
    until = time.monotonic() + 60
    while ask(api, fresh.sign(claims(issuer))).status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.25)


def test_line_19_an_older_epoch(api, issuer):
    user = f"eve-{api.language}"
    old, new = (issuer.keys[0].sign(claims(issuer, sub=f"anon@{user}", epoch=epoch)) for epoch in (1, 2))
    assert ask(api, old).status_code == 200
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    issuer.epochs.extend([{"user_id": user, "epoch": 2, "at": at}, {"user_id": user, "epoch": 1, "at": at}])
    until = time.monotonic() + 60
    while ask(api, old).status_code == 200:
        assert time.monotonic() < until
        time.sleep(0.25)
    assert error(ask(api, old)) == INVALID
    assert ask(api, new).status_code == 200


def guest(server, **more):
    answer = httpx.post(f"{server.origin}/v1/guests", json={"client_id": "demo-spa", "audience": API, "scope": "read:cart", **more})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_the_real_servers_guests(real_api, server):
    made = guest(server)
    answer = ask(real_api, made["access_token"])
    assert (answer.status_code, answer.json()) == (200, {"subject": made["user"]["id"], "guest": True})
    assert error(ask(real_api, made["access_token"], "/orders")) == LACKING
    assert error(ask(real_api, guest(server, audience=None, scope=None)["access_token"])) == INVALID, "for the issuer"
    assert error(ask(real_api, made["refresh_token"])) == INVALID
    floating = httpx.post(f"{server.origin}/anonymous/token", data={"client_id": "demo-game", "audience": API, "scope": "read:cart"})
    assert ask(real_api, floating.json()["access_token"]).status_code == 200
    form = {"grant_type": "client_credentials", "audience": API}
    machine = httpx.post(f"{server.origin}/oauth2/token", data=form, auth=("demo-web", WEB_SECRET)).json()
    assert error(ask(real_api, machine["access_token"])) == LACKING, "nobody's but a client's"


def bound_guest(server, device, scope="read:cart"):
    url = f"{server.origin}/v1/guests"
    body = {"client_id": "demo-spa", "audience": API, "scope": scope, "bind_tokens": True}
    answer = httpx.post(url, json=body, headers={"dpop": device.proof("POST", url)})
    assert answer.status_code == 400 and answer.json()["code"] == "use_dpop_nonce", answer.text
    answer = httpx.post(url, json=body, headers={"dpop": device.proof("POST", url, nonce=answer.headers["dpop-nonce"])})
    assert answer.status_code == 201 and answer.json()["token_type"] == "DPoP", answer.text
    return answer.json()["access_token"]


def test_the_real_servers_bound_tokens(real_api, server):
    device = Key("ES256")
    token = bound_guest(server, device)
    assert error(ask(real_api, token)) == INVALID
    proof = device.proof("GET", real_api.url + "/cart", token)
    assert ask(real_api, token, scheme="DPoP", proof=proof).status_code == 200
    assert error(ask(real_api, token, scheme="DPoP", proof=proof)) == (401, "invalid_dpop_proof")


def dies_by_revoke_all(api, server, made):
    assert ask(api, made["access_token"]).status_code == 200
    path = f"{server.origin}/v1/users/{made['user']['id']}/revoke-all"
    answer = httpx.post(path, headers={"authorization": f"Bearer {ROOT_KEY}"})
    assert answer.status_code == 200, answer.text
    until = time.monotonic() + 60
    while ask(api, made["access_token"]).status_code == 200:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert error(ask(api, made["access_token"])) == INVALID


def test_line_23_the_real_servers_revoke_all(real_api, server):
    dies_by_revoke_all(real_api, server, guest(server))


def test_the_cart(cart, server):
    made = guest(server, scope="read:cart write:cart")
    items, tea = cart.url + "/cart/items", {"sku": "tea", "quantity": 2}
    answer = httpx.post(items, json=tea, headers={"authorization": f"Bearer {made['access_token']}"})
    assert (answer.status_code, answer.json()) == (201, {"holder": "guest", "items": [tea]})
    device = Key("EdDSA")
    token = bound_guest(server, device, "read:cart write:cart")
    for status in (201, 401):
        proof = device.proof("POST", items, token)
        scheme = "DPoP" if status == 201 else "Bearer"
        answer = httpx.post(items, json=tea, headers={"authorization": f"{scheme} {token}", "dpop": proof})
        assert answer.status_code == status, answer.text
    assert ask(cart, guest(server)["access_token"]).json()["items"] == [], "a cart of one's own"
    dies_by_revoke_all(cart, server, made)
