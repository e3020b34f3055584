"""The floor of the comparison: one empty async Django view behind the gateway's own request handler, nothing else."""

import gc
import socket

import uvicorn
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=[],
    GATEWAY_MAX_BODY_BYTES=16 * 1024 * 1024,
    LOOP_MIDDLEWARE=[],
)

import django  # noqa: E402

django.setup(set_prefix=False)

from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

from apps.core.loop_handler import LoopHandler  # noqa: E402


async def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse(b"")


urlpatterns = [path("v1/models", empty)]


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    # As apps/console/serving.py has it.
    config = uvicorn.Config(
        LoopHandler(),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
    )
    gc.collect()
    gc.freeze()  # as the gateway's worker does
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
