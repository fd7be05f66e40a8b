from __future__ import annotations

from decimal import Decimal

import birds_and_fish
import pytest


@pytest.mark.token_budget(max_cost="0.000094", max_tokens=50, max_requests=2)
def test_birds_and_fish(usage):
    bird, fish = birds_and_fish.tell_about("birds", "fish")
    assert "chicken" in bird
    assert "fish" in fish
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (12, 38, 50)
    assert usage.requests == 2
    assert usage.cost == Decimal("0.000094")
