"""The REST side as an OpenAPI 3.1 document."""

from pathlib import Path

from handlers.base import BaseHandler

DOCUMENT = Path(__file__).with_name("openapi.json")


class DocumentHandler(BaseHandler):
    """`GET /api/v1/openapi.json`: public; Tornado adds the ETag."""

    route = "/api/v1/openapi.json"

    def initialize(self, document: bytes) -> None:
        self._document = document

    def get(self) -> None:
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.set_header("Cache-Control", "public, no-cache")
        self.write(self._document)
