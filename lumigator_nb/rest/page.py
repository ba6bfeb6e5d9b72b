"""The description of the API as a page that needs nothing from elsewhere; FastAPI's own loads its scripts from afar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lumigator_nb.display.html import Html, join, page, tag

_REF = "#/components/schemas/"


def described(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    routes = [
        (operation["tags"][0], verb.upper(), path, operation)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    sections = [
        tag("section", tag("h2", name), *(_route(*route[1:]) for route in routes if route[0] == name))
        for name in dict.fromkeys(route[0] for route in routes)
    ]
    schemas = [_schema(name, schema) for name, schema in sorted(document["components"]["schemas"].items())]
    links = tag(
        "p", "For programs: ", tag("a", "openapi.json", href="openapi.json"),
        f". Tokens and what differs from Lumigator: docs/rest.md. Version {document['info']['version']}.",
    )  # fmt: skip
    return page(
        "Lumigator's REST API", tag("h1", "REST API"), links, *sections, tag("section", tag("h2", "schemas"), *schemas)
    )


def _route(verb: str, path: str, operation: Mapping[str, Any]) -> Html:
    title = tag("summary", tag("code", f"{verb} {path}"), " ", operation["description"].splitlines()[0])
    facts = [tag("li", each) for each in _facts(operation)]
    return tag("details", title, tag("p", operation["description"]), tag("ul", *facts))


def _facts(operation: Mapping[str, Any]) -> Iterator[Html]:
    for parameter in operation.get("parameters", ()):
        said = [f"in {parameter['in']}", parameter.get("description") or parameter["schema"].get("description")]
        yield join([tag("code", parameter["name"]), " ", ", ".join(filter(None, said))])
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        yield join([f"body, {kind}: ", _type(content["schema"])])
    for code, answer in operation["responses"].items():
        shapes = [_type(content["schema"]) for content in answer.get("content", {}).values()]
        yield join([tag("code", code), " ", answer["description"], ": " if shapes else "", *shapes])


def _type(schema: Mapping[str, Any]) -> Html:
    name = schema.get("$ref", "").removeprefix(_REF)
    return tag("a", name, href=f"#{name}") if name else tag("code", schema.get("type", "any"))


def _schema(name: str, schema: Mapping[str, Any]) -> Html:
    text = json.dumps(schema, indent=2, ensure_ascii=False)
    return tag("details", tag("summary", tag("code", name)), tag("pre", text), id=name)
