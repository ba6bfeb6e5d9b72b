"""The documentation page of the API. It loads nothing from other sites, unlike FastAPI's own (a CDN)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lumigator_nb.display.html import Html, join, page, stylesheet, table, tag

_REF = "#/components/schemas/"


def described(document: Mapping[str, Any], address: str) -> str:
    """Return the documentation page of an OpenAPI document.

    Args:
        document: the document, as :meth:`fastapi.FastAPI.openapi` returns it.
        address: URL of the server, without a slash at the end.
    """
    routes = [
        (operation["tags"][0], verb.upper(), path, operation)
        for path, verbs in document["paths"].items()
        for verb, operation in verbs.items()
    ]
    names = list(dict.fromkeys(route[0] for route in routes))
    schemas = document["components"]["schemas"]
    sections = [
        tag("section", tag("h2", name), *(_route(address, schemas, *route[1:]) for route in routes if route[0] == name),
            id=name)
        for name in names
    ]  # fmt: skip
    shapes = [_schema(name, schema) for name, schema in sorted(schemas.items())]
    introduction = tag(
        "p", f"Version {document['info']['version']}. For programs: ", tag("a", "openapi.json", href="openapi.json"),
        ". If the server requires tokens, send the header ",
        tag("code", "Authorization: Bearer TOKEN"), " with each request; ",
        tag("code", "lumigator-nb token create NAME"),
        " creates a token. Errors are described by a ", tag("a", "Problem", href="#Problem"), ".",
    )  # fmt: skip
    return page(
        "Lumigator's REST API",
        Html(f"<style>{stylesheet('api.css')}</style>"),
        tag("h1", "REST API"),
        introduction,
        tag("p", join((tag("a", name, href=f"#{name}") for name in [*names, "schemas"]), " · ")),
        *sections,
        tag("section", tag("h2", "schemas"), *shapes, id="schemas"),
    )


def _route(
    address: str, schemas: Mapping[str, Any], verb: str, path: str, operation: Mapping[str, Any]
) -> Html:  # fmt: skip
    first, _, rest = operation["description"].partition("\n")
    title = tag("summary", tag("code", verb, class_="verb"), " ", tag("code", path), " ", tag("span", _prose(first)))
    body = operation.get("requestBody", {}).get("content", {})
    rows: list[tuple[object, ...]] = []
    required_queries = []
    for parameter in operation.get("parameters", ()):
        name, kind, default, meaning = _field(parameter["name"], parameter["schema"], bool(parameter.get("required")))
        rows.append((name, parameter["in"], kind, default, parameter.get("description") or meaning))
        if parameter["in"] == "query" and parameter["required"]:
            required_queries.append("{0}={{{0}}}".format(parameter["name"]))
    rows += [("", "body", _type(content["schema"]), "", kind) for kind, content in body.items()]
    query = "?" + "&".join(required_queries) if required_queries else ""
    command = _command(f"{address}{path}{query}", verb, body, schemas)
    return tag(
        "details",
        title,
        tag("p", _prose(rest)) if rest.strip() else None,
        table(("parameter", "in", "type", "default", ""), rows) if rows else None,
        tag("pre", command),
        *_answers(operation["responses"], schemas),
    )


def _field(name: str, schema: Mapping[str, Any], required: bool) -> tuple[object, object, object, object]:
    """Return name, type, default and description of a field."""
    default = tag("code", json.dumps(schema["default"])) if schema.get("default") is not None else ""
    return tag("code", name, "" if required else "?"), _type(schema), default, _prose(schema.get("description", ""))


def _prose(text: str) -> Html:
    """Return a text as HTML, with names in backticks as code."""
    parts = text.split("`")
    return join(tag("code", part) if index % 2 else part for index, part in enumerate(parts))


def _command(url: str, verb: str, body: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Return a curl command that sends the request, with an example of its body."""
    if "multipart/form-data" in body:
        return f"curl -F 'dataset=@letters.csv' '{url}'"
    command = f"curl '{url}'" if verb == "GET" else f"curl -X {verb} '{url}'"
    if "application/json" not in body:
        return command
    example = _example(body["application/json"]["schema"], schemas)
    text = json.dumps(example, indent=2, ensure_ascii=False).replace("'", "'\\''")
    return f"{command} -H 'Content-Type: application/json' -d '{text}'"


def _answers(responses: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Html]:
    """Yield the responses of a route. Errors share one line, since all have the same format."""
    for code, response in responses.items():
        if int(code) >= 400 and "application/problem+json" in response.get("content", {}):
            continue
        content = response.get("content", {})
        kinds = [join([kind, " ", _type(media["schema"])]) for kind, media in content.items()]
        yield tag("p", tag("code", code), " ", response["description"], ": " if kinds else "", join(kinds, ", "))
        example = _example(content.get("application/json", {}).get("schema", {}), schemas)
        if example is not None:
            yield tag("pre", json.dumps(example, indent=2, ensure_ascii=False))
    problems = [
        join([tag("code", code), " ", response["description"]])
        for code, response in responses.items()
        if int(code) >= 400
    ]
    if problems:
        yield tag("p", "Errors: ", join(problems, ", "), class_="lm-sub")


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    if schema.get("type") == "array":
        item = _example(schema["items"], schemas)
        return None if item is None else [item]
    return next(iter(schemas.get(_name(schema), schema).get("examples", ())), None)


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).removeprefix(_REF)


def _type(schema: Mapping[str, Any]) -> Html:
    """Return a short name of a type; a schema's name is a link to its description."""
    if name := _name(schema):
        return tag("a", name, href=f"#{name}")
    if alternatives := schema.get("anyOf") or schema.get("oneOf"):
        return join((_type(option) for option in alternatives if option.get("type") != "null"), " or ")
    if schema.get("type") == "array":
        return join(["list of ", _type(schema["items"])])
    if "enum" in schema:
        return join((tag("code", value) for value in schema["enum"]), " or ")
    return tag("code", schema.get("format") or schema.get("type", "any"))


def _schema(name: str, schema: Mapping[str, Any]) -> Html:
    required = schema.get("required", ())
    fields = [_field(field, shape, field in required) for field, shape in schema.get("properties", {}).items()]
    text = schema.get("description", "")
    return tag(
        "details",
        tag("summary", tag("code", name), " ", tag("span", _prose(text.partition("\n")[0]))),
        # The id is inside the element that unfolds, so that browsers unfold it when a link leads to it.
        tag("div", table(("field", "type", "default", ""), fields) if fields else _type(schema), id=name),
    )
