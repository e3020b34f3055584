"""Ids for requests and answers: unique, not secret, and without the system call that every uuid4() costs."""

from random import Random, SystemRandom
from time import time_ns

_random = Random(SystemRandom().getrandbits(256))  # noqa: S311  # seeded anew in every process; nobody trusts these ids


def new_id(prefix: str) -> str:
    """`prefix` and 32 hexadecimal digits."""
    return prefix + _random.getrandbits(128).to_bytes(16).hex()


def new_ordered_id(prefix: str) -> str:
    """The same for what becomes a row and is looked up by it: the first 12 digits are the time in milliseconds, as
    UUIDv7 has it (RFC 9562), so that an index grows at its end. Random ones would each dirty a page of their own, which
    of a large table is the greater part of what a row costs."""
    return prefix + (time_ns() // 1_000_000 << 80 | _random.getrandbits(80)).to_bytes(16).hex()
