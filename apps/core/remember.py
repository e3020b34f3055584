"""Answers that are kept, so that the same question costs nothing again, in a dict that does not grow without end."""

from typing import Final, TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")

_MOST: Final = 50_000


def remember(memory: dict[Question, Answer], question: Question, answer: Answer, *, most: int = _MOST) -> Answer:
    """The answer, which `memory` has from now on. When it has `most`, it forgets all the others."""
    if len(memory) >= most:
        memory.clear()
    memory[question] = answer
    return answer
