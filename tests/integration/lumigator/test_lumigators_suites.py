"""Lumigator's own tests of its SDK and its backend, with only the address changed.

``LUMIGATOR_REPO=… pytest tests/integration/lumigator``
"""

from __future__ import annotations

from pathlib import Path

import pytest
from suites import Suite, outcomes

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BACKEND = "lumigator/backend"
SDK, OVER_HTTP = ("at_address",), ("at_address", "backend_over_http")
COLUMNS = "a dataset without a column of examples is refused with 403"
CATALOGUE = "`/models` suggests 14 models"
SUITES = {
    "SDK, integration": Suite("lumigator/sdk", ("tests/integration",), SDK, {}),
    "SDK, e2e": Suite("lumigator/sdk", ("tests/e2e",), SDK, {}),
    "backend, integration": Suite(BACKEND, ("backend/tests/integration",), OVER_HTTP, {}),
    "backend, e2e": Suite(
        BACKEND, ("backend/tests/e2e",), OVER_HTTP, {"test_timedout_experiment": "a job whose time is up is `stopped`"}
    ),
    "backend, routes": Suite(
        BACKEND,
        tuple(f"backend/tests/unit/api/routes/test_{name}.py" for name in ("main", "health", "datasets", "models")),
        OVER_HTTP,
        {
            "test_experiment_format_validation[missing_examples_dataset-403]": COLUMNS,
            "test_experiment_format_validation[extra_column_dataset-403]": COLUMNS,
            "test_get_suggested_models_single_task_ok": CATALOGUE,
            "test_get_suggested_models_multiple_tasks_ok": CATALOGUE,
            "test_get_suggested_models_no_task_specified": CATALOGUE,
            "test_get_suggested_models_invalid_task": "an unknown task of `/models` with 400",
        },
        left_out=("backend/tests/unit/api/routes/test_datasets.py::test_dataset_delete_error",),
    ),
}


@pytest.mark.parametrize("name", SUITES)
def test_lumigators_own_tests_pass_but_for_what_differs_on_purpose(name, checkout, programs, serve, tmp_path) -> None:
    suite = SUITES[name]
    with serve() as server:
        found = outcomes(suite, checkout, programs / "python", server.host, tmp_path / "report.xml")
    failures = {test: said for test, said in found.items() if said}
    unexpected = {test: said for test, said in failures.items() if test not in suite.differences}
    assert not unexpected, "\n\n".join(f"{test}: {said}" for test, said in unexpected.items())
    assert set(failures) == set(suite.differences), "these pass now"
    rows = differences()
    assert [reason for reason in suite.differences.values() if not any(reason in row for row in rows)] == []


def differences() -> list[str]:
    """The rows of docs/rest.md that say where our server differs."""
    page = (Path(__file__).parents[3] / "docs" / "rest.md").read_text(encoding="utf-8")
    section = page.partition("## Where it differs from Lumigator")[2]
    return [line for line in section.splitlines() if line.startswith("| ")]
