"""The description of the API as a page that needs nothing from elsewhere; FastAPI's own loads its scripts from afar."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lumigator_nb.display.html import Html, join, page, stylesheet, table, tag

_REF = "#/components/schemas/"


def described(document: Mapping[str, Any], address: str) -> str:
    """Return the page of an OpenAPI document.

    Args:
        document: as :meth:`fastapi.FastAPI.openapi` returns it.
        address: of the server, without a slash at the end.
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
    return page(
        "Lumigator's REST API",
        Html(f"<style>{stylesheet('api.css')}</style>"),
        tag("h1", "REST API"),
        *_introduction(document["info"]["version"], [*names, "schemas"]),
        *sections,
        tag("section", tag("h2", "schemas"), *shapes, id="schemas"),
    )


def _introduction(version: str, names: list[str]) -> Iterator[Html]:
    yield tag(
        "p", f"Version {version}. For programs: ", tag("a", "openapi.json", href="openapi.json"),
        ". Where tokens are asked for, each request has the header ",
        tag("code", "Authorization: Bearer TOKEN"), "; ", tag("code", "lumigator-nb token create NAME"),
        " makes one. What goes wrong is described by a ", tag("a", "Problem", href="#Problem"), ".",
    )  # fmt: skip
    yield tag("p", join((tag("a", name, href=f"#{name}") for name in names), " · "))


def _route(
    address: str, schemas: Mapping[str, Any], verb: str, path: str, operation: Mapping[str, Any]
) -> Html:  # fmt: skip
    first, _, rest = operation["description"].partition("\n")
    title = tag("summary", tag("code", verb, class_="verb"), " ", tag("code", path), " ", tag("span", _prose(first)))
    body = operation.get("requestBody", {}).get("content", {})
    parameters = [_parameter(each) for each in operation.get("parameters", ())]
    parameters += [("", "body", _type(content["schema"]), "", kind) for kind, content in body.items()]
    asked = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query" and each["required"]]
    query = "?" * bool(asked) + "&".join(f"{name}={{{name}}}" for name in asked)
    command = _command(f"{address}{path}{query}", verb, body, schemas)
    return tag(
        "details",
        title,
        tag("p", _prose(rest)) if rest.strip() else None,
        table(("parameter", "in", "type", "default", ""), parameters) if parameters else None,
        tag("pre", command),
        *_answers(operation["responses"], schemas),
    )


def _parameter(parameter: Mapping[str, Any]) -> tuple[object, ...]:
    name, kind, default, said = _field(parameter["name"], parameter["schema"], bool(parameter.get("required")))
    return name, parameter["in"], kind, default, parameter.get("description") or said


def _field(name: str, schema: Mapping[str, Any], required: bool) -> tuple[object, object, object, object]:
    """Name, type, default and meaning of a value."""
    default = tag("code", json.dumps(schema["default"])) if schema.get("default") is not None else ""
    return tag("code", name, "" if required else "?"), _type(schema), default, _prose(schema.get("description", ""))


def _prose(text: str) -> Html:
    """A text, in which names stand between backticks."""
    parts = text.split("`")
    return join(tag("code", part) if index % 2 else part for index, part in enumerate(parts))


def _command(url: str, verb: str, body: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """The request as curl sends it, with an example of its body."""
    if "multipart/form-data" in body:
        return f"curl -F 'dataset=@letters.csv' '{url}'"
    command = f"curl '{url}'" if verb == "GET" else f"curl -X {verb} '{url}'"
    if "application/json" not in body:
        return command
    example = _example(body["application/json"]["schema"], schemas)
    text = json.dumps(example, indent=2, ensure_ascii=False).replace("'", "'\\''")
    return f"{command} -H 'Content-Type: application/json' -d '{text}'"


def _answers(responses: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[Html]:
    """What is answered; problems in one line, since all look the same."""
    for code, answer in responses.items():
        if int(code) >= 400 and "application/problem+json" in answer.get("content", {}):
            continue
        content = answer.get("content", {})
        kinds = [join([kind, " ", _type(each["schema"])]) for kind, each in content.items()]
        yield tag("p", tag("code", code), " ", answer["description"], ": " if kinds else "", join(kinds, ", "))
        example = _example(content.get("application/json", {}).get("schema", {}), schemas)
        if example is not None:
            yield tag("pre", json.dumps(example, indent=2, ensure_ascii=False))
    problems = [
        join([tag("code", code), " ", answer["description"]]) for code, answer in responses.items() if int(code) >= 400
    ]
    if problems:
        yield tag("p", "Problems: ", join(problems, ", "), class_="lm-sub")


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    if schema.get("type") == "array":
        item = _example(schema["items"], schemas)
        return None if item is None else [item]
    return next(iter(schemas.get(_name(schema), schema).get("examples", ())), None)


def _name(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).removeprefix(_REF)


def _type(schema: Mapping[str, Any]) -> Html:
    """What a value is, in a few letters, with links to what is described below."""
    if name := _name(schema):
        return tag("a", name, href=f"#{name}")
    if several := schema.get("anyOf") or schema.get("oneOf"):
        return join((_type(each) for each in several if each.get("type") != "null"), " or ")
    if schema.get("type") == "array":
        return join(["list of ", _type(schema["items"])])
    if "enum" in schema:
        return join((tag("code", each) for each in schema["enum"]), " or ")
    return tag("code", schema.get("format") or schema.get("type", "any"))


def _schema(name: str, schema: Mapping[str, Any]) -> Html:
    required = schema.get("required", ())
    fields = [_field(field, shape, field in required) for field, shape in schema.get("properties", {}).items()]
    text = schema.get("description", "")
    return tag(
        "details",
        tag("summary", tag("code", name), " ", tag("span", _prose(text.partition("\n")[0]))),
        # The name is inside, so that whoever follows a link finds it unfolded.
        tag("div", table(("field", "type", "default", ""), fields) if fields else _type(schema), id=name),
    )
