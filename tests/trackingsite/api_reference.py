"""The list of addresses in `docs/api.md`, made from the OpenAPI schema.

    python -m tests.trackingsite.api_reference

writes it again; a test fails while it is not current.
"""

from __future__ import annotations

import os
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "api.md"
MARK = "<!-- What follows is made from the schema: python -m tests.trackingsite.api_reference -->"


def page() -> str:
    """The page as it should be: what people wrote up to the mark, then every operation with its query parameters."""
    from drf_spectacular.generators import SchemaGenerator

    schema = SchemaGenerator().get_schema(request=None, public=True)
    rows = ["| | | query |", "|---|---|---|"]
    for path, operations in sorted(schema["paths"].items()):
        for method, operation in operations.items():
            query = " ".join(f"`{parameter['name']}`" for parameter in operation.get("parameters", ()) if parameter["in"] == "query")
            rows.append(f"| `{method.upper()} {path}` | {operation.get('summary', '')} | {query} |")
    return PAGE.read_text().partition(MARK)[0] + MARK + "\n\n" + "\n".join(rows) + "\n"


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    import django

    django.setup()
    PAGE.write_text(page())
