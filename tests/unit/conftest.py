"""What the suites of the REST API share: its application, over a workspace that computes in this process."""

from __future__ import annotations

import pytest


@pytest.fixture
def services(inline_ws):
    from lumigator_nb.rest.signed_links import Links
    from lumigator_nb.rest.state import Services

    made = Services(inline_ws, Links(b"k" * 32))
    made.submit_soon = inline_ws.workflows.submit_waiting
    yield made
    made.races.close()


@pytest.fixture
def client(services):
    from starlette.testclient import TestClient

    from lumigator_nb.rest.app import make_app

    with TestClient(make_app(services), base_url="http://localhost") as made:
        yield made
