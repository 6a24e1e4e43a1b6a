"""Libraries that know nothing but the issuer."""

import httpx
import jwt
import pytest
from authlib.integrations.httpx_client import OAuth2Client
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc import jwt as jose
from joserfc.jwk import KeySet

from conftest import API, WEB_SECRET


@pytest.fixture(scope="module")
def metadata(server):
    found = httpx.get(f"{server.origin}/.well-known/openid-configuration").raise_for_status().json()
    assert found["issuer"] == server.issuer
    return found


def guest(server, **body):
    answer = httpx.post(f"{server.origin}/v1/guests", json={"client_id": "demo-spa", **body})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_pyjwt_verifies(server, metadata):
    keys = jwt.PyJWKClient(metadata["jwks_uri"])
    made = guest(server)
    key = keys.get_signing_key_from_jwt(made["access_token"])
    claims = jwt.decode(
        made["access_token"], key, algorithms=metadata["id_token_signing_alg_values_supported"],
        audience=metadata["issuer"], issuer=metadata["issuer"],
        options={"require": ["exp", "iat", "sub", "aud", "iss", "jti", "client_id"]},
    )
    assert claims["sub"] == made["user"]["id"] and claims["is_anonymous"] is True
    assert jwt.get_unverified_header(made["access_token"])["typ"] == "at+jwt"
    with pytest.raises(jwt.InvalidAudienceError):
        jwt.decode(made["access_token"], key, algorithms=[key.algorithm_name], audience=API)


def test_joserfc_verifies(server, metadata):
    keys = KeySet.import_key_set(httpx.get(metadata["jwks_uri"]).json())
    answer = httpx.post(f"{server.origin}/anonymous/token", data={"client_id": "demo-game", "audience": API, "scope": "read:cart"})
    assert answer.status_code == 200, answer.text
    token = jose.decode(answer.json()["access_token"], keys, algorithms=metadata["id_token_signing_alg_values_supported"])
    jose.JWTClaimsRegistry(
        iss={"essential": True, "value": metadata["issuer"]}, aud={"essential": True, "value": API}
    ).validate(token.claims)
    assert token.claims["scope"] == "read:cart" and token.claims["floating"] is True


def test_metadata_by_rfc_8414(server, metadata):
    other = httpx.get(f"{server.origin}/.well-known/oauth-authorization-server").json()
    assert other == metadata
    told = AuthorizationServerMetadata(other)
    # Authlib's whole check wants an https issuer and an authorization endpoint, which this server has not
    told.validate_grant_types_supported()
    told.validate_scopes_supported()
    told.validate_token_endpoint_auth_methods_supported()
    told.validate_introspection_endpoint_auth_methods_supported()
    told.validate_revocation_endpoint_auth_methods_supported()
    assert "guests_endpoint" in told and "anonymous_token_endpoint" in told


def test_refresh_introspect_revoke(server, metadata):
    made = guest(server)
    with OAuth2Client("demo-spa", token_endpoint_auth_method="none", timeout=10) as spa, OAuth2Client(
        "demo-web", WEB_SECRET, timeout=10
    ) as web:
        tokens = spa.refresh_token(metadata["token_endpoint"], made["refresh_token"])
        assert tokens["refresh_token"] != made["refresh_token"] and tokens["token_type"] == "Bearer"

        def ask(token):
            return web.introspect_token(metadata["introspection_endpoint"], token).json()

        assert ask(tokens["access_token"])["sub"] == made["user"]["id"]
        answer = spa.revoke_token(
            metadata["revocation_endpoint"], token=tokens["refresh_token"], token_type_hint="refresh_token"
        )
        assert answer.status_code == 200 and answer.content == b""
        assert ask(tokens["access_token"]) == {"active": False}
        assert ask(tokens["refresh_token"]) == {"active": False}


def test_client_credentials(metadata):
    for method in ("client_secret_basic", "client_secret_post"):
        with OAuth2Client("demo-web", WEB_SECRET, token_endpoint_auth_method=method, timeout=10) as web:
            tokens = web.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", audience=API)
            claims = jwt.decode(tokens["access_token"], options={"verify_signature": False})
            assert (claims["sub"], claims["aud"]) == ("demo-web", API)
