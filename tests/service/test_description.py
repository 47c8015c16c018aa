"""The description of the API, held against what it does, by requests that are made up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from makellos.service.app import create_app
from makellos.service.station import Station

# These would go on for ever, or begin work of seconds with each request.
LEFT_OUT = {"/api/events", "/api/recipes/{name}/budget"}


@pytest.mark.needs_torch  # what makes the requests up comes with the whole install
@pytest.mark.filterwarnings("ignore")
def test_no_request_breaks_the_service_or_its_description(
    build: Callable[..., Station], picture: Callable[..., bytes]
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import checks

    station = build(rate=1e6, burst=1_000_000)
    station.store.people.add("boss", "a long password", "administrator", by="test")
    secret = station.store.people.add_token("tests", "administrator", by="test")
    app = create_app(station)
    client = TestClient(app, headers={"Authorization": f"Bearer {secret}"})
    for number in range(3):
        client.post("/api/inspections", files={"files": (f"{number}.png", picture(number))})
    described = client.get("/api/openapi.json").json()
    app.openapi_url = "/api/openapi.json"
    schema = schemathesis.openapi.from_dict(described)
    schema.app = app
    held_to = [
        checks.not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    asked: dict[str, int] = {}

    def ask_all(operation: Any) -> None:
        @settings(
            max_examples=15,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            answer = case.call(headers={"Authorization": f"Bearer {secret}"})
            case.validate_response(answer, checks=held_to)
            asked[operation.label] = asked.get(operation.label, 0) + 1

        ask()

    for found in schema.get_all_operations():
        operation = found.ok()
        if operation.path not in LEFT_OUT:
            ask_all(operation)
    assert len(asked) >= 25
    assert station.store.audit.verify().whole
