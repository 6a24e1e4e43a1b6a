"""Starts the real binary on a free port with an empty database, over http or https."""

import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

HERE = Path(__file__).parent
API = "https://api.example.com"
WEB_SECRET = "demo-web-secret-0123456789abcdef"
ROOT_KEY = "acceptance-root-key-0123456789abcdef0123456789"


def _free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _certificate(folder):
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )
    return key, cert


def _serve(folder, tls):
    port = _free_port()
    origin = f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}"
    issuer = origin + "/" if tls else origin  # Auth0's issuers end with a slash
    base = Path(os.environ.get("PASSERBY_CONFIG", HERE.parent / "passerby.toml")).read_text()
    verify, top, cert = True, "", None
    if tls:
        key, cert = _certificate(folder)
        top = f"tls = {{ certificate = '{cert}', key = '{key}' }}\n"
        verify = ssl.create_default_context(cafile=cert)
    config = folder / "passerby.toml"
    config.write_text(top + base)
    log = folder / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(Path(os.environ["PASSERBY_BIN"]).resolve()), "serve", "--config", config, "--listen", f"127.0.0.1:{port}",
             "--issuer", issuer, "--database", f"sqlite:{folder / 'p.db'}"],
            cwd=folder, stdout=out, stderr=out,
        )
    try:
        until = time.monotonic() + 30
        while True:
            try:
                if httpx.get(f"{origin}/health/ready", verify=verify).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert process.poll() is None and time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield SimpleNamespace(origin=origin, issuer=issuer, certificate=cert)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Over http."""
    yield from _serve(tmp_path_factory.mktemp("http"), tls=False)


@pytest.fixture(scope="session")
def tls_server(tmp_path_factory):
    """Over https."""
    yield from _serve(tmp_path_factory.mktemp("https"), tls=True)
