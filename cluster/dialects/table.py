"""Which route speaks which language. One row per route; whoever serves them adds the rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cluster.dialects import anthropic, ollama, openai, responses
from cluster.dialects.answer import Head, Refusal, Writer
from cluster.dialects.asked import Asked


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a route's requests are read, its answers written, and its errors told."""

    read: Callable[[dict[str, Any]], Asked]
    writer: Callable[[Asked, Head], Writer]
    error: Callable[[Refusal], dict[str, Any]]
    moved: Callable[[dict[str, Any], datetime], tuple[str, dict[str, Any]] | None] | None = (
        None  # the answer to a request that asks nothing
    )


DIALECTS: Mapping[str, Dialect] = {
    "/v1/chat/completions": Dialect(openai.read_chat, openai.ChatWriter, openai.error_body),
    "/v1/completions": Dialect(openai.read_completion, openai.CompletionWriter, openai.error_body),
    "/v1/embeddings": Dialect(openai.read_embeddings, openai.EmbeddingsWriter, openai.error_body),
    "/v1/responses": Dialect(responses.read_response, responses.ResponseWriter, openai.error_body),
    "/v1/messages": Dialect(anthropic.read_messages, anthropic.MessageWriter, anthropic.error_body),
    "/api/chat": Dialect(ollama.read_chat, ollama.ChatWriter, ollama.error_body, ollama.moved_chat),
    "/api/generate": Dialect(ollama.read_generate, ollama.GenerateWriter, ollama.error_body, ollama.moved_generate),
    "/api/embed": Dialect(ollama.read_embed, ollama.EmbedWriter, ollama.error_body, ollama.moved_embed),
    "/api/embeddings": Dialect(ollama.read_embeddings, ollama.OneEmbeddingWriter, ollama.error_body, ollama.moved_embeddings),
}
