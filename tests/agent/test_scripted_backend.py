"""The scripted backend keeps the contract, so that what is tested with it holds for real ones."""

from contracts.llm_backend import LlmBackendContract, user
from scripted_backend import Script, ScriptedBackend, answer, call, calling

from argentor_asgi.protocol.llm import LlmRequest, ToolSpec

LOOK = ToolSpec("look", "Looks.", {"type": "object", "properties": {}})


def look_once(request: LlmRequest) -> Script:
    if request.tools == [LOOK] and request.messages[-1].role == "user":
        return calling(call("c1", "look", '{"at"', ": 1}"))
    return answer("two ", "pieces")


class TestScriptedBackend(LlmBackendContract):
    def make(self):
        return ScriptedBackend(then=look_once)

    def text_request(self):
        return LlmRequest("", [user("hello")])

    def tool_request(self):
        return LlmRequest("", [user("look")], [LOOK])
