"""A language model of a megabyte, written on the spot: llama.cpp takes it for a Llama, and it has one thing to say.

Every weight between the embedding and the output is zero, so that the next token depends on the last one alone: a
prompt that ends with * is answered " on and on and on ..." without end, any other one " It rains in Paris." Its tokens
are the 256 bytes and the few words that it says, so that a prompt has as many tokens as bytes.
"""

from itertools import pairwise
from pathlib import Path

import gguf
import numpy as np

NAME = "tiny"
SENTENCE = "It rains in Paris."
SENTENCE_TOKENS = 6  # with the end
_SENTENCE = ["▁It", "▁rains", "▁in", "▁Paris", ".", "</s>"]
_ENDLESS = ["<0x2A>", "▁on", "▁and", "▁on"]  # from the byte of *
_SPECIAL = ["<unk>", "<s>", "</s>"]
_TOKENS = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *_SENTENCE[:-1], "▁on", "▁and"]
_ID = {token: id for id, token in enumerate(_TOKENS)}
_HEADS = 18
_HEAD = 16
_WIDTH = _HEADS * _HEAD  # at least one dimension for each token
_FEED = 32
_SURE = 2.0  # by RMS norm a token's own dimension is sqrt(width): this much more likely is certain at any temperature
_CONTEXT = 131_072
_CHAT = "{% for message in messages %}{{ message.role }}: {{ message.content }}{% endfor %}"


def write_model(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer)
    for name, tensor in _tensors().items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_name(NAME)
    writer.add_context_length(_CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_HEAD)
    writer.add_vocab_size(len(_TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(_TOKENS)
    writer.add_token_scores([0.0] * len(_TOKENS))
    writer.add_token_types([_type(token) for token in _TOKENS])
    writer.add_bos_token_id(_ID["<s>"])
    writer.add_eos_token_id(_ID["</s>"])
    writer.add_unk_token_id(_ID["<unk>"])
    writer.add_chat_template(_CHAT)


def _type(token: str) -> gguf.TokenType:
    if token == "<unk>":
        return gguf.TokenType.UNKNOWN
    if token in _SPECIAL:
        return gguf.TokenType.CONTROL
    return gguf.TokenType.BYTE if token.startswith("<0x") else gguf.TokenType.NORMAL


def _tensors() -> dict[str, np.ndarray]:
    block, ones, square = "blk.0.", np.ones(_WIDTH, np.float32), _zeros(_WIDTH, _WIDTH)
    return {
        "token_embd.weight": np.eye(len(_TOKENS), _WIDTH, dtype=np.float32),
        "output_norm.weight": ones,
        "output.weight": _output(),
        f"{block}attn_norm.weight": ones,
        f"{block}attn_q.weight": square,
        f"{block}attn_k.weight": _zeros(_HEAD, _WIDTH),
        f"{block}attn_v.weight": _zeros(_HEAD, _WIDTH),
        f"{block}attn_output.weight": square,
        f"{block}ffn_norm.weight": ones,
        f"{block}ffn_gate.weight": _zeros(_FEED, _WIDTH),
        f"{block}ffn_up.weight": _zeros(_FEED, _WIDTH),
        f"{block}ffn_down.weight": _zeros(_WIDTH, _FEED),
    }


def _output() -> np.ndarray:
    """A row for each token that may come next, a column for each that was last."""
    output = _zeros(len(_TOKENS), _WIDTH)
    output[_ID[_SENTENCE[0]], :] = _SURE
    for last, following in [*pairwise(_SENTENCE), *pairwise(_ENDLESS)]:
        output[:, _ID[last]] = 0
        output[_ID[following], _ID[last]] = _SURE
    return output


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)
