"""Ids for requests and answers: unique, not secret, and without the system call that every uuid4() costs."""

from random import Random, SystemRandom

_random = Random(SystemRandom().getrandbits(256))  # noqa: S311  # seeded anew in every process; nobody trusts these ids


def new_id(prefix: str) -> str:
    """`prefix` and 32 hexadecimal digits."""
    return f"{prefix}{_random.getrandbits(128):032x}"
