"""What the operators' commands print: the first start, and where the gateway is reached."""

from collections.abc import Iterator

from django.conf import settings

from apps.console.bootstrap import ADMIN_NAME, KEY_VARIABLE, PASSWORD_VARIABLE, FirstStart


def first_start_lines(done: FirstStart) -> Iterator[str]:
    """What was made, each credential once. Nothing when nothing was."""
    if done.password:
        shown = done.password.secret or f"as given in {PASSWORD_VARIABLE}"
        yield f"  Admin user   {ADMIN_NAME}   password  {shown}"
    if done.key:
        yield f"  API key      {done.key.secret or f'as given in {KEY_VARIABLE}'}"
    if any(made and made.secret for made in (done.password, done.key)):
        yield "  Keep these: they are shown this once and stored only as digests."
    for line in done.upstreams:
        yield f"  LLM server   {line}"
    if done.default_upstream:
        yield f"  Default      {done.default_upstream}"
    for remark in done.remarks:
        yield f"  Note         {remark}"


def serving_lines(port: int, host: str, done: FirstStart | None) -> Iterator[str]:
    """Printed once the server listens."""
    url = reached_at(host, port)
    yield f"Agent Gateway listens on {url}"
    yield f"  Admin   {url}/admin/"
    yield f"  Docs    {url}/docs"
    yield f"  Try it  {first_curl(url, done)}"
    if not (done and done.key):
        yield "          GATEWAY_API_KEY is a key of yours; a new one: .venv/bin/python manage.py issue_key NAME"
    yield "  Stop    Ctrl-C"


def first_curl(url: str, done: FirstStart | None) -> str:
    """A line that works as pasted: with the new key while it may be shown, else with the variable that holds it."""
    variable = f"${KEY_VARIABLE}" if done and done.key else "$GATEWAY_API_KEY"
    key = (done and done.key and done.key.secret) or variable
    return f'curl {url}/v1/models -H "x-api-key: {key}"'


def reached_at(host: str, port: int) -> str:
    """The URL for people: the public one, else this machine's."""
    if settings.GATEWAY_PUBLIC_URL:
        return str(settings.GATEWAY_PUBLIC_URL)
    host = "127.0.0.1" if host in {"0.0.0.0", "", "::"} else host  # noqa: S104
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
