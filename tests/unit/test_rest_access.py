"""Who may use the REST API, and from which pages."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from datetime import timedelta

import pytest

pytest.importorskip("fastapi")

from starlette.testclient import TestClient

from lumigator_nb.database.queries import writing
from lumigator_nb.database.records import Token
from lumigator_nb.errors import ConflictError, InvalidInputError, NotFoundError
from lumigator_nb.rest.app import make_app
from lumigator_nb.rest.signed_links import Links
from lumigator_nb.rest.state import Services
from lumigator_nb.services.access import tokens
from lumigator_nb.specs import now

API = "/api/v1"
NOWHERE = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def services(inline_ws):
    return Services(inline_ws, Links(b"k" * 32), open=False)


@pytest.fixture
def client(services):
    with TestClient(make_app(services), base_url="http://localhost") as made:
        yield made


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(token: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()}


# Whoever asks only looks; and files have addresses of their own that let in.
LOOKING, OPEN = ("/estimate",), ("/health", "/health/ready", "/files/{folder}/{filename}")


def routes(client) -> Iterator[tuple[str, str]]:
    for path, verbs in client.app.openapi()["paths"].items():
        for verb in verbs:
            if not path.endswith(OPEN):
                yield verb.upper(), re.sub(r"{\w+}", NOWHERE, path.replace("{name}", "some_key"))


def test_nobody_comes_in_without_a_token(client) -> None:
    found = list(routes(client))
    assert len(found) > 30
    for verb, path in found:
        answer = client.request(verb, path)
        assert answer.status_code == 401, (verb, path)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert client.get(f"{API}/health").status_code == 200


def test_who_may_read_changes_nothing_and_no_secrets(client, inline_ws) -> None:
    read, write = (bearer(inline_ws.tokens.create(scope, scope=scope)) for scope in ("read", "write"))
    for verb, path in routes(client):
        code = client.request(verb, path, headers=read).status_code
        changes = verb != "GET" and not path.endswith(LOOKING)
        assert (code == 403) is (changes or "/secrets" in path), (verb, path, code)
        if "/secrets" in path:
            assert client.request(verb, path, headers=write).status_code == 403, (verb, path)


def test_an_upload_is_refused_before_it_is_read(client) -> None:
    def pieces():
        yield b"--x\r\n"
        raise AssertionError("the body was read")

    headers = {"Content-Type": "multipart/form-data; boundary=x", "Content-Length": "1000000"}
    assert client.post(f"{API}/datasets", content=b"--x\r\n", headers=headers | bearer("lmgt_wrong")).status_code == 401


def test_an_answer_is_not_given_again_to_who_may_not_come_in_any_more(client, inline_ws) -> None:
    headers = bearer(inline_ws.tokens.create("gone", scope="write")) | {"Idempotency-Key": "k"}
    body = {"name": "x", "dataset": NOWHERE}
    assert [client.post(f"{API}/experiments", json=body, headers=headers).status_code for _ in range(2)] == [404, 404]
    inline_ws.tokens.revoke("gone")
    assert client.post(f"{API}/experiments", json=body, headers=headers).status_code == 401


@pytest.mark.parametrize("way", [bearer, basic])
def test_a_token_does_what_its_scope_allows(client, inline_ws, way) -> None:
    read, write, admin = (way(inline_ws.tokens.create(scope, scope=scope)) for scope in ("read", "write", "admin"))
    experiment = {"name": "x", "dataset": NOWHERE}
    assert client.get(f"{API}/jobs", headers=read).status_code == 200
    refused = client.post(f"{API}/experiments", json=experiment, headers=read)
    assert (refused.status_code, refused.json()["hint"]) == (403, "lumigator-nb token create NAME --scope write")
    assert client.post(f"{API}/experiments", json=experiment, headers=write).status_code == 404
    assert client.get(f"{API}/settings/secrets", headers=write).status_code == 403
    assert client.get(f"{API}/settings/secrets", headers=admin).status_code == 200


def test_an_expired_or_revoked_token_is_refused(client, inline_ws) -> None:
    text = inline_ws.tokens.create("short", days=1)
    assert client.get(f"{API}/jobs", headers=bearer(text)).status_code == 200
    with writing(inline_ws.database) as work:
        work.tokens.get("short").expires_at = now() - timedelta(seconds=1)
    expired = client.get(f"{API}/jobs", headers=bearer(text))
    assert (expired.status_code, "has expired" in expired.json()["detail"]) == (401, True)
    inline_ws.tokens.revoke("short")
    assert client.get(f"{API}/jobs", headers=bearer(text)).status_code == 401


def test_guessing_is_slowed_down_and_keeps_nobody_else_out(client, inline_ws) -> None:
    good = bearer(inline_ws.tokens.create("good"))
    codes = [client.get(f"{API}/jobs", headers=bearer(f"lmgt_{n}")).status_code for n in range(102)]
    assert codes == [401] * 100 + [429] * 2
    refused = client.get(f"{API}/jobs", headers=bearer("lmgt_x"))
    assert int(refused.headers["retry-after"]) > 0
    assert client.get(f"{API}/jobs", headers=good).status_code == 200


@pytest.mark.parametrize("header", ["Bearer", "Basic", "Basic !!", "Basic eA==", "Digest x", "Bearer \xff"])
def test_what_is_no_token_is_refused(client, header) -> None:
    assert client.get(f"{API}/jobs", headers={"Authorization": header.encode("latin-1")}).status_code == 401


def test_tokens_are_kept_as_digests(inline_ws) -> None:
    text = inline_ws.tokens.create("mine", scope="write", days=None)
    (row,) = inline_ws.tokens.list()
    assert text.startswith(tokens.PREFIX)
    assert text not in repr(row) + str(row) + row.model_dump_json()
    assert row.expires_at is None
    with pytest.raises(ConflictError, match="mine"):
        inline_ws.tokens.create("mine")
    for wrong in ({"scope": "god"}, {"days": 0}, {"days": -1}, {"days": 1e12}):
        with pytest.raises(InvalidInputError):
            inline_ws.tokens.create("other", **wrong)
    with pytest.raises(NotFoundError):
        inline_ws.tokens.revoke("other")
    assert Token.__tablename__ == "token"


def test_without_tokens_no_page_from_elsewhere_changes_anything(inline_ws) -> None:
    services = Services(inline_ws, Links(b"k" * 32))
    services.knows_host = lambda host: host == "localhost"
    services.admits_origin = lambda origin, host: origin == "http://localhost"
    with TestClient(make_app(services, ["https://ui.example"]), base_url="http://localhost") as client:
        body = {"name": "x", "dataset": NOWHERE}
        for origin, code in ((None, 404), ("http://localhost", 404), ("https://evil.example", 403), ("null", 403)):
            headers = {"Origin": origin} if origin else {}
            assert client.post(f"{API}/experiments", json=body, headers=headers).status_code == code, origin
        assert client.get(f"{API}/jobs", headers={"Host": "evil.example"}).status_code == 403
        allowed = client.get(f"{API}/jobs", headers={"Origin": "https://ui.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://ui.example"
        other = client.get(f"{API}/jobs", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
