"""Checks Passerby's access tokens in an API in Python, with PyJWT.

    verifier = Verifier("https://id.example.com", "https://api.example.com", address="https://api.example.com")
    claims = verifier.check("GET", "/cart", headers, holder="member", scopes=["write:cart"])  # raises Refused
"""

import hashlib
import json
import logging
import threading
import time
from base64 import urlsafe_b64encode
from datetime import datetime
from urllib.error import HTTPError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

import jwt

ALGORITHMS = ["ES256", "EdDSA", "RS256"]
LEEWAY = 10  # seconds by which the clocks of issuer and API may differ
PROOF_AGE = 60  # seconds that a DPoP proof may be old, and the clock of a device ahead
PROOFS = 100_000  # proofs remembered; more at a time are refused
CHALLENGE = 'DPoP algs="' + " ".join(ALGORITHMS) + '"'


class Refused(Exception):
    """Why a request is refused: the status, and the challenge for `WWW-Authenticate` where one is due."""

    def __init__(self, status, challenge, message):
        super().__init__(message)
        self.status, self.challenge = status, challenge


def _get(url, headers=None):
    with urlopen(Request(url, headers={"Accept": "application/json", **(headers or {})}), timeout=5) as answer:
        return json.load(answer)


class Verifier:
    """Of one issuer's tokens for one API. `issuer` as it writes itself, a trailing slash counts; `address`: where clients
    reach this API, which DPoP proofs must name."""

    def __init__(self, issuer, audience, address, epochs=None):
        metadata = _get(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if metadata["issuer"] != issuer:
            raise ValueError(f"the metadata is of another issuer: {metadata['issuer']}")
        self.issuer, self.audience, self.address, self.epochs = issuer, audience, address, epochs
        # fetched again after five minutes, and when a token names a key that is not held, at most every five seconds
        self.keys = jwt.PyJWKClient(metadata["jwks_uri"], lifespan=300, cooldown_duration=5, timeout=5)
        self.used, self.lock = {}, threading.Lock()

    def check(self, method, path, headers, holder="user", scopes=()):
        """The claims of a good token. `headers`: pairs of name and value, each as often as it came; `holder`: `user`,
        `guest` or `member`."""
        shown = [value for name, value in headers if name.lower() == "authorization"]
        scheme, _, token = (shown[0] if shown else "").partition(" ")
        scheme = {"bearer": "Bearer", "dpop": "DPoP"}.get(scheme.lower())
        if scheme is None:
            raise Refused(401, f"Bearer, {CHALLENGE}", "an access token is needed")
        if len(shown) != 1:
            raise Refused(400, 'Bearer error="invalid_request"', "there must be one Authorization header")
        invalid = f'{scheme} error="invalid_token"'
        claims = self._read(token, invalid)

        # a token that is bound to a key is good with that key's proof only, and no other token passes for one
        if "cnf" in claims or scheme == "DPoP":
            bound = claims["cnf"].get("jkt") if isinstance(claims.get("cnf"), dict) else None
            if not isinstance(bound, str):
                raise Refused(401, invalid, "the token is not bound to a key")
            if scheme != "DPoP":
                raise Refused(401, 'DPoP error="invalid_token"', "the token is bound to a key")
            proofs = [value for name, value in headers if name.lower() == "dpop"]
            try:
                self._check_proof(method, path, proofs, token, bound)
            except (jwt.PyJWTError, AttributeError, KeyError, TypeError, ValueError) as e:
                raise Refused(401, f'DPoP error="invalid_dpop_proof", {CHALLENGE[5:]}', f"the DPoP proof: {e}") from e
        if self.epochs and self.epochs.is_dead(claims):
            raise Refused(401, invalid, "the token was revoked")

        # without the mark it is neither a guest's nor a member's
        mark = claims.get("is_anonymous")
        held = {True: "guest", False: "member"}[mark] if isinstance(mark, bool) else None
        if held is None or holder not in ("user", held):
            raise Refused(403, f'{scheme} error="insufficient_scope"', f"this is for a {holder}")
        scope = claims.get("scope")
        if not set(scopes) <= set(scope.split(" ") if isinstance(scope, str) else []):
            raise Refused(403, f'{scheme} error="insufficient_scope"', "a scope is missing")
        return claims

    def _read(self, token, invalid):
        try:
            # PyJWT takes other types and fetches keys for them too
            if jwt.get_unverified_header(token).get("typ") != "at+jwt":
                raise Refused(401, invalid, "the token is no access token")
            key = self.keys.get_signing_key_from_jwt(token)
            if key.algorithm_name not in ALGORITHMS:
                raise Refused(401, invalid, "the algorithm is not accepted")
            return jwt.decode(
                token,
                key,
                algorithms=[key.algorithm_name],  # the key's, whatever the header says
                issuer=self.issuer,
                audience=self.audience,
                leeway=LEEWAY,
                options={"require": ["iss", "sub", "aud", "exp", "iat", "jti", "client_id"]},
            )
        except jwt.PyJWKClientConnectionError as e:  # an issuer that is away is no fault of the token
            raise Refused(503, None, "the keys cannot be had") from e
        except jwt.PyJWTError as e:
            raise Refused(401, invalid, str(e)) from e

    def _check_proof(self, method, path, proofs, token, thumbprint):
        """RFC 9449 section 4.3. Raises what PyJWT raises, or ValueError."""

        def must(good, message):
            if not good:
                raise ValueError(message)

        must(len(proofs) == 1, "there must be one")
        header = jwt.get_unverified_header(proofs[0])
        must(header.get("typ") == "dpop+jwt", "it is of another type")
        must(header["alg"] in ALGORITHMS, "its algorithm is not accepted")
        must(not {"d", "k"} & header["jwk"].keys(), "its key is not public")
        must(_thumbprint(header["jwk"]) == thumbprint, "it is of another key")
        proof = jwt.decode(
            proofs[0],
            jwt.PyJWK(header["jwk"], algorithm=header["alg"]),
            algorithms=[header["alg"]],
            options={"require": ["jti", "htm", "htu", "iat", "ath"], "verify_aud": False, "verify_iat": False},
        )
        must(proof["htm"] == method, "it is for another method")
        must(_without_query(proof["htu"]) == _without_query(self.address + path), "it is for another address")
        must(proof["ath"] == _sha256(token.encode()), "it is for another token")
        now = time.time()
        must(isinstance(proof["iat"], int) and abs(now - proof["iat"]) <= PROOF_AGE, "it is too old, or of the future")
        must(isinstance(proof["jti"], str) and 0 < len(proof["jti"]) <= 256, "it has no usable jti")
        # each is remembered for as long as it could be used; a dict keeps their order
        with self.lock:
            while self.used and (first := next(iter(self.used))) and self.used[first] < now:
                del self.used[first]
            used = (thumbprint, proof["jti"])
            must(used not in self.used, "it was used before")
            if len(self.used) >= PROOFS:
                raise Refused(503, None, "too many proofs at a time")
            self.used[used] = now + 2 * PROOF_AGE + 1


def _sha256(data):
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _thumbprint(jwk):
    """RFC 7638."""
    names = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    return _sha256(json.dumps({name: jwk[name] for name in names}, separators=(",", ":")).encode())


def _without_query(text):
    url = urlsplit(text)
    default = {"https": 443, "http": 80}[url.scheme]
    if url.username is not None or url.password is not None:
        raise ValueError("it names a user")
    return url.scheme, url.hostname, url.port or default, url.path or "/"


class Epochs:
    """Follows the issuer's epoch feed: whose older tokens are dead. `interval`: seconds from one poll to the next."""

    def __init__(self, issuer, api_key, interval=2):
        self.url, self.api_key, self.interval = issuer.rstrip("/") + "/v1/epochs", api_key, interval
        self.cursor, self.raised = None, {}
        self._round()
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        while True:
            time.sleep(self.interval)
            self._round()

    def _round(self):
        try:
            self._poll()
        except Exception as e:  # while the feed is away, tokens live as long as without it: to their `exp`
            if isinstance(e, HTTPError) and e.code == 400:
                self.cursor = None  # one that is not known any more: from the beginning
            logging.warning("epochs: %s", e)

    def _poll(self):
        more = True
        while more:
            since = f"?since={quote(self.cursor, safe='')}" if self.cursor else ""
            page = _get(self.url + since, {"Authorization": f"Bearer {self.api_key}"})
            # entries come out of order, and more than once; what is older than any token can be is forgotten
            raised = {user: held for user, held in self.raised.items() if held[1] > time.time() - 86_520}
            for entry in page["epochs"]:
                held = raised.get(entry["user_id"], (0, 0))[0]
                at = datetime.fromisoformat(entry["at"].replace("Z", "+00:00")).timestamp()
                raised[entry["user_id"]] = (max(entry["epoch"], held), at)
            more = page.get("more") and page["cursor"] != self.cursor  # a page that was cut
            self.raised, self.cursor = raised, page["cursor"]

    def is_dead(self, claims):
        """Whether the token was issued under an epoch that has ended."""
        if "sid" not in claims:
            return False  # a client's own token: its sub is no user's
        sub = claims["sub"]
        users = {sub, sub.removeprefix("anon@"), sub.removeprefix("anon|")}
        return any(claims.get("epoch", 0) < self.raised.get(user, (0, 0))[0] for user in users)
