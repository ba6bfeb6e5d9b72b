"""What the package borrows from others beyond their public interface: each loan is listed, and a change is noticed.

The table is in docs/architecture.md, under "Borrowed time". A test here that fails after an upgrade says where to look.
"""

from __future__ import annotations

import inspect
import json
import re
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What gives a loan away, by the row of the table that it belongs to.
SIGNS = {
    "Ray": (r"ray\._private",),
    "any-llm": (
        r"_convert_completion_params",
        r"\._acompletion\b",
        r"\._init_client\b",
        r"\._verify_and_set_api_key\b",
    ),
    "Bokeh": (r"per_app_patterns", r"\._tornado\b", r"server\._http\b"),
    "s3fs": (r"\._call_s3\b",),
    "Python's imports": (r"sys\.modules\[", r"sys\.meta_path"),
}


def table() -> dict[str, tuple[list[str], str]]:
    """The rows of the table: by the lender, the files and the test that each names."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Borrowed time")[2]
    rows = [line.split("|")[1:-1] for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")]
    return {row[0].strip(): (re.findall(r"`([\w/]+\.py)`", row[1]), row[3]) for row in rows[2:]}


def test_every_loan_is_in_the_table_and_every_row_is_a_loan() -> None:
    found = {
        lender: sorted(
            path.relative_to(ROOT / "lumigator_nb").as_posix()
            for path in (ROOT / "lumigator_nb").rglob("*.py")
            if re.search("|".join(signs), path.read_text(encoding="utf-8"))
        )
        for lender, signs in SIGNS.items()
    }
    assert found == {lender: sorted(files) for lender, (files, _) in table().items()}


@pytest.mark.parametrize("lender", SIGNS)
def test_the_test_that_notices_is_there(lender) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", table()[lender][1])
    assert named
    for file, function in named:
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8"), (file, function)


def test_any_llm_converts_parameters_as_requests_need_them() -> None:
    pytest.importorskip("any_llm")
    from any_llm.providers.openai.base import BaseOpenAIProvider
    from any_llm.types.completion import CompletionParams

    changed = f"any-llm {version('any-llm-sdk')} has changed what ApiModel._body relies on"
    convert = getattr(BaseOpenAIProvider, "_convert_completion_params", None)
    assert convert, f"{changed}: there is no _convert_completion_params"
    kinds = [(name, each.kind) for name, each in inspect.signature(convert).parameters.items()]
    expected = [("params", inspect.Parameter.POSITIONAL_OR_KEYWORD), ("kwargs", inspect.Parameter.VAR_KEYWORD)]
    assert kinds == expected, f"{changed}: its signature is {inspect.signature(convert)}"
    fields = {"temperature": 0.5, "top_p": 0.9, "seed": 1, "max_tokens": 8, "reasoning_effort": "low"}
    params = CompletionParams(model_id="m", messages=[{"role": "user"}], **fields)
    converted = convert(params, top_k=3)
    assert isinstance(converted, dict), f"{changed}: it gives {type(converted)}"
    wanted = {**fields, "top_k": 3, "max_completion_tokens": fields["max_tokens"]}
    del wanted["max_tokens"]
    assert converted == wanted, f"{changed}: fields of the request are others"
    json.dumps(converted)


def test_any_llm_has_the_methods_by_which_plain_providers_are_told() -> None:
    pytest.importorskip("any_llm")
    from any_llm import AnyLLM
    from any_llm.providers.openai.base import BaseOpenAIProvider

    changed = f"any-llm {version('any-llm-sdk')} has changed what api_settings relies on"
    for owner, name in (
        (BaseOpenAIProvider, "_acompletion"),
        (BaseOpenAIProvider, "_init_client"),
        (AnyLLM, "_verify_and_set_api_key"),
    ):
        assert callable(getattr(owner, name, None)), f"{changed}: {owner.__name__} has no {name}"


def test_ray_joins_the_file_that_sets_workers_up_to_a_folder_of_its_own() -> None:
    changed = f"Ray {version('ray')} has changed what cluster/quick_start relies on"
    spec = find_spec("ray")  # not imported, which takes seconds
    assert spec
    assert spec.origin
    private = Path(spec.origin).parent / "_private"
    assert (private / "workers" / "setup_worker.py").is_file(), changed
    source = (private / "node.py").read_text(encoding="utf-8")
    assert re.search(r"setup_worker_path=os\.path\.join\([^=]*ray_constants\.SETUP_WORKER_FILENAME,\s*\)", source), (
        changed
    )


def test_s3fs_sends_every_request_through_one_method() -> None:
    s3fs = pytest.importorskip("s3fs")
    changed = f"s3fs {version('s3fs')} has changed what PatientS3 relies on"
    call = getattr(s3fs.S3FileSystem, "_call_s3", None)
    assert inspect.iscoroutinefunction(call), f"{changed}: _call_s3 is no coroutine"
    names = list(inspect.signature(call).parameters)
    assert names[:2] == ["self", "method"], f"{changed}: its arguments are {names}"
    assert isinstance(s3fs.S3FileSystem.retries, int), f"{changed}: retries is no number"


def test_bokeh_makes_servers_from_the_list_of_handlers() -> None:
    bokeh_server = pytest.importorskip("bokeh.server.server")
    from bokeh.server import tornado, urls

    changed = f"Bokeh {version('bokeh')} has changed what serving/http relies on"
    assert tornado.per_app_patterns is urls.per_app_patterns, changed
    assert all(len(each) == 2 and isinstance(each[0], str) for each in urls.per_app_patterns), changed
    assert "self._http = http_server" in inspect.getsource(bokeh_server.BaseServer.__init__), changed
