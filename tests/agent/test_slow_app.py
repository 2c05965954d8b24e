"""The gated model keeps the contract, so that what is tested with it holds for real ones."""

from contracts.llm_backend import LlmBackendContract, user
from slow_app import Gated

from argentor_asgi.protocol.llm import LlmRequest, ToolSpec

WAIT = ToolSpec("wait", "Waits.", {"type": "object", "properties": {"gate": {"type": "string"}}})


class TestGated(LlmBackendContract):
    def make(self):
        return Gated()

    def text_request(self):
        return LlmRequest("", [user("hello")])

    def tool_request(self):
        return LlmRequest("", [user("skill gate")], [WAIT])
