"""A real LLM server that nobody here wrote, as a process: llama.cpp's, from the wheel xllamacpp (`make llm`)."""

from pathlib import Path

from tests.harness.llama_model import NAME
from tests.harness.polling import SOON, eventually
from tests.harness.processes import clean_environment
from tests.harness.upstreams import LLMServer


class LlamaServer(LLMServer):
    """`context` is in tokens, which are bytes here."""

    announcement = "listens at "

    def __init__(self, model: Path, *, port: int = 0, context: int = 16_384) -> None:
        script = str(Path(__file__).with_name("llama_process.py"))
        super().__init__([script, str(model), NAME, str(port), str(context)], clean_environment())

    def active(self) -> int:
        """How many answers are under way."""
        return sum(slot["is_processing"] for slot in self.read("/slots"))

    def wait_until_busy(self, *, within: float = SOON) -> None:
        eventually(lambda: self.active() > 0, True, within=within)
