class NotDelivered(Exception):
    """The message says why, for operators; `status` is that of an HTTP answer, if there was one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
