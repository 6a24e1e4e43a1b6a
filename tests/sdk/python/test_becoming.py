"""A guest's whole life by Authlib alone: made, renewed, converted, signed in and merged at the token endpoint."""

import httpx
import jwt
import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from conftest import WEB_SECRET

GUEST = "urn:passerby:params:oauth:grant-type:guest"
CLAIM = "urn:passerby:params:oauth:grant-type:claim"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"


def claims(tokens):
    return jwt.decode(tokens["access_token"], options={"verify_signature": False})


@pytest.mark.parametrize("client_id, secret", [("demo-spa", None), ("demo-game", None), ("demo-web", WEB_SECRET)])
def test_from_nobody_to_an_account_and_a_guest_along(server, client_id, secret):
    token_endpoint = httpx.get(f"{server.origin}/.well-known/openid-configuration").json()["token_endpoint"]
    email = f"{client_id}.authlib@example.com"

    def code():
        return httpx.get(f"{server.origin}/dev/mailbox/messages", params={"to": email}).json()[0]["codes"][0]

    method = "client_secret_basic" if secret else "none"
    with OAuth2Client(client_id, secret, token_endpoint_auth_method=method, timeout=10) as app:

        def grant(grant_type, **parameters):
            return dict(app.fetch_token(token_endpoint, grant_type=grant_type, **parameters))

        def refused(error, grant_type, **parameters):
            with pytest.raises(OAuthError) as refusal:
                grant(grant_type, **parameters)
            assert refusal.value.error == error

        made = grant(GUEST, data='{"level":3}')
        assert claims(made)["is_anonymous"] is True
        renewed = dict(app.refresh_token(token_endpoint, made["refresh_token"]))
        assert claims(renewed)["sub"] == claims(made)["sub"]

        # the client shows the token that it fetched last
        answer = app.post(f"{server.origin}/v1/me/identifiers", json={"email": email})
        assert answer.status_code == 202
        proof = {"subject_token": renewed["access_token"], "subject_token_type": ACCESS, "claim": answer.json()["claim"]["id"]}
        refused("authorization_pending", CLAIM, **proof)
        account = grant(CLAIM, code=code(), password="correct horse battery", **proof)
        assert claims(account)["sub"] == claims(made)["sub"] and claims(account)["is_anonymous"] is False
        assert app.get(f"{server.origin}/v1/me").json()["data"] == {"level": 3}
        refused("invalid_grant", "refresh_token", refresh_token=renewed["refresh_token"])
        refused("unsupported_grant_type", "password", username=email, password="correct horse battery")

        begun = httpx.post(
            f"{server.origin}/v1/sign-in",
            json={"client_id": client_id, "method": "code", "email": email},
            auth=(client_id, secret) if secret else None,
        )
        signed_in = grant(CLAIM, claim=begun.json()["claim"]["id"], code=code())
        assert claims(signed_in)["sub"] == claims(made)["sub"]
        guest = grant(GUEST, data='{"hat":"red"}')
        both = {
            "subject_token": signed_in["access_token"], "subject_token_type": ACCESS,
            "actor_token": guest["access_token"], "actor_token_type": ACCESS,
        }
        refused("invalid_request", EXCHANGE, **{**both, "subject_token": guest["access_token"]})
        refused("invalid_request", EXCHANGE, **{**both, "actor_token_type": "urn:ietf:params:oauth:token-type:id_token"})
        merged = grant(EXCHANGE, **both)
        assert merged["issued_token_type"] == ACCESS and claims(merged)["sub"] == claims(made)["sub"]
        assert app.get(f"{server.origin}/v1/me").json()["data"] == {"level": 3, "hat": "red"}
        assert merged["transfer"]["guest_id"] == claims(guest)["sub"]
        refused("invalid_grant", "refresh_token", refresh_token=guest["refresh_token"])
