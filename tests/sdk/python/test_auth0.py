"""Auth0's SDK for servers: anonymous sessions over TLS."""

import asyncio
import ssl
from urllib.parse import urlsplit

import jwt
import pytest
from auth0_server_python.auth_server.anonymous import AnonymousClient
from auth0_server_python.error import AnonymousSessionCreateError, AnonymousSessionTokenError

from conftest import API, WEB_SECRET


class Store:
    """One slot in memory, as an application's encrypted cookie would be."""

    def __init__(self):
        self.kept = {}

    async def get(self, identifier, options=None):
        return self.kept.get(identifier)

    async def set(self, identifier, state, remove_if_exists=False, options=None):
        self.kept[identifier] = state

    async def delete(self, identifier, options=None):
        self.kept.pop(identifier, None)


@pytest.fixture
def client(tls_server, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tls_server.certificate))

    def make(client_id, client_secret=None):
        return AnonymousClient(urlsplit(tls_server.origin).netloc, client_id, client_secret, anonymous_store=Store())

    return make


def claims(server, token, audience):
    context = ssl.create_default_context(cafile=server.certificate)
    key = jwt.PyJWKClient(f"{server.issuer}.well-known/jwks.json", ssl_context=context).get_signing_key_from_jwt(token)
    return jwt.decode(token, key, algorithms=[key.algorithm_name], audience=audience, issuer=server.issuer)


@pytest.mark.parametrize("client_id, secret", [("demo-spa", None), ("demo-game", None), ("demo-web", WEB_SECRET)])
def test_create_and_continue(client, tls_server, client_id, secret):
    async def run():
        guest = client(client_id, secret)
        made = await guest.create_session(metadata={"cart": {"items": [{"sku": "A1", "qty": 2}]}})
        assert made.sub.startswith("anon@") and made.session_expires_at > made.expires_at
        assert claims(tls_server, made.access_token, tls_server.issuer)["sub"] == made.sub
        more = await guest.get_token(audience=API, scope="read:cart")
        assert (more.sub, more.scope) == (made.sub, "read:cart")
        assert claims(tls_server, more.access_token, API)["sub"] == made.sub
        ticket = await guest.exchange_transfer_token_for_injection(urlsplit(tls_server.origin).netloc)
        assert ticket and ticket.count(".") == 4

    asyncio.run(run())


def test_refusals(client):
    async def run():
        for guest in (client("nobody"), client("demo-web"), client("demo-web", "wrong")):
            with pytest.raises(AnonymousSessionCreateError) as e:
                await guest.create_session()
            assert e.value.code == "invalid_client"
        guest = client("demo-spa")
        made = await guest.create_session()
        with pytest.raises(AnonymousSessionTokenError) as e:
            await guest.get_token(audience="https://nowhere.example")
        assert e.value.code == "invalid_target"
        with pytest.raises(AnonymousSessionTokenError) as e:
            await guest.get_token(audience=API, scope="all")
        assert e.value.code == "invalid_scope"
        # neither cost the guest
        assert (await guest.get_token(audience=API)).sub == made.sub

    asyncio.run(run())


def test_a_broken_session_ends_it(client):
    async def run():
        guest = client("demo-spa")
        await guest.create_session()
        slot = next(iter(guest._anonymous_store.kept.values()))
        slot["session_token"] += "x"
        with pytest.raises(AnonymousSessionTokenError) as e:
            await guest.get_token(audience=API)
        assert e.value.code == "invalid_session_token"
        assert await guest.get_session() is None

    asyncio.run(run())
