"""The environment of a gateway whose model is a server of the test, on any of the wires."""

from hosted_models import KEY, PROVIDER_OF


def hosted_env(models: str, wire: str = "openai", **more: str) -> dict[str, str]:
    """Return the settings of a gateway that asks `models` over this wire; `more` by name, as `agent_skills="regex"`."""
    return {
        "ARGENTOR_LLM_PROVIDER": PROVIDER_OF[wire],
        "ARGENTOR_LLM_MODEL": "m-1",
        "ARGENTOR_LLM_API_KEY": KEY,
        "ARGENTOR_LLM_BASE_URL": models,
        "ARGENTOR_LLM_RETRIES": "0",
        **{f"ARGENTOR_{name.upper()}": value for name, value in more.items()},
    }
