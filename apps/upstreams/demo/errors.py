"""The one error that the demo raises."""

from typing import Any


class DemoRequestError(Exception):
    """A request that OpenAI's API refuses too. `status` is the HTTP status of the answer."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.status = status

    def body(self) -> dict[str, Any]:
        """The answer's body, in OpenAI's shape."""
        error = {"message": self.message, "type": "invalid_request_error", "param": self.param, "code": self.code}
        return {"error": error}
