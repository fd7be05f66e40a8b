from __future__ import annotations

from decimal import Decimal

import pytest
import react_agent
import search_results

# This kind of agent is the older one, and LangChain says so.
pytestmark = pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")

QUESTION = "Who is Olivia Wilde's boyfriend? What is his current age raised to the 0.23 power?"


@pytest.mark.token_budget(max_cost="0.0441", max_requests=4)
def test_agent(usage):
    assert "2.169459462491557" in react_agent.ask(QUESTION, search_results.NEWER)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (2_053, 152, 2_205)
    assert usage.requests == 4
    assert usage.cost == Decimal("0.0441")


@pytest.mark.token_budget(max_cost="0.03012", max_requests=4)
def test_agent_older_run(usage):
    assert "2.169459462491557" in react_agent.ask(QUESTION, search_results.OLDER)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (1_350, 156, 1_506)
    assert usage.requests == 4
    assert usage.cost == Decimal("0.03012")


@pytest.mark.token_budget(max_cost="0.04422", max_requests=4)
def test_agent_streamed(usage):
    assert "2.169459462491557" in react_agent.ask_streaming(QUESTION, search_results.NEWER)
    # a space after each "Thought:" makes the prompts of this spelling six tokens longer
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (2_059, 152, 2_211)
    assert usage.requests == usage.estimated_requests == 4  # such streams say nothing of their usage
    assert usage.cost == Decimal("0.04422")
