"""The console's assets, answered whole: WhiteNoise streams files synchronously, which ASGI answers are not."""

# mypy: disable-error-code="misc"
# whitenoise ships no types: its classes are Any to mypy.

from typing import Any

from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware


class StaticFiles(WhiteNoiseMiddleware):
    """In the place of a stream that Django would read to its end all the same, and warn of. The largest of the files
    that pages load has 1.5 MB."""

    @staticmethod
    def serve(static_file: Any, request: HttpRequest) -> HttpResponse:
        found = static_file.get_response(request.method, request.META)
        answer = HttpResponse(_content(found.file), status=found.status)
        del answer["Content-Type"]  # Django's: WhiteNoise's is among the others
        for name, value in found.headers:
            answer[name] = value
        return answer


def _content(file: Any) -> bytes:
    """Empty where there is nothing to send, as in answer to HEAD."""
    if file is None:
        return b""
    with file:
        content: bytes = file.read()
    return content
