from __future__ import annotations

from decimal import Decimal

import pytest
import weather_agent


@pytest.mark.token_budget(max_cost="0.00005", max_requests=2)
@pytest.mark.parametrize(
    ("city", "input_tokens", "output_tokens", "cost"),
    [
        # gpt-4o-mini: $0.15 and $0.60 a million
        pytest.param("Paris", 86 + 106, 8 + 10, Decimal("0.0000396"), id="Paris"),
        pytest.param("Oslo", 86 + 107, 9 + 12, Decimal("0.00004155"), id="Oslo"),
    ],
)
def test_weather_agent(city, input_tokens, output_tokens, cost, usage):
    assert city in weather_agent.ask(f"How is the weather in {city}?")
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (input_tokens, output_tokens, 2)
    assert usage.cost == cost
