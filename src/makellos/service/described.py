"""The description of the API as a page: no scripts, nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

__all__ = ["described_page"]

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ info.title }}: API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"></head>
<body><main>
<h1>{{ info.title }}: API</h1>
<p>Version {{ info.version }}. For programs: <a href="/api/openapi.json">openapi.json</a>.</p>
<pre>{{ info.description }}</pre>
{% for path, item in paths.items() %}{% for method, act in item.items() %}
<section><h2><code>{{ method.upper() }} {{ path }}</code></h2>
<p>{{ act.summary }}</p><p>{{ act.description }}</p>
{% if act.parameters %}<table><caption>Parameters</caption>
{% for each in act.parameters %}<tr><td><code>{{ each.name }}</code></td><td>{{ each.in }}</td>
<td>{{ "required" if each.required else "optional" }}</td>
<td><code>{{ each.schema | short }}</code></td></tr>
{% endfor %}</table>{% endif %}
{% if act.requestBody %}{% for kind, body in act.requestBody.content.items() %}
<p>Body, {{ kind }}:</p><pre>{{ body.schema | resolved }}</pre>{% endfor %}{% endif %}
<table><caption>Answers</caption>
{% for status, answer in act.responses.items() %}<tr><td>{{ status }}</td>
<td>{{ answer.description }}</td></tr>
{% endfor %}</table></section>
{% endfor %}{% endfor %}
</main></body></html>
"""


def described_page(description: Mapping[str, Any]) -> str:
    """Return the HTML page of an OpenAPI description."""
    schemas = description.get("components", {}).get("schemas", {})

    def resolved(schema: Mapping[str, Any]) -> str:
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        return json.dumps(schemas.get(name, schema), indent=1)

    page = Environment(autoescape=True)
    page.filters["short"] = lambda schema: json.dumps(schema)[:200]
    page.filters["resolved"] = resolved
    return page.from_string(_PAGE).render(info=description["info"], paths=description["paths"])
