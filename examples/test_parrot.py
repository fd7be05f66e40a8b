from __future__ import annotations

from decimal import Decimal

import pytest
from parrot import Parrot


@pytest.mark.token_budget(max_cost="0.000030", max_tokens=10)
def test_parrot(usage):
    assert Parrot().invoke("Pretty Polly wants a cracker").text == "Pretty Polly wants a cracker"
    assert (usage.input_tokens, usage.output_tokens, usage.requests) == (5, 5, 1)
    assert [call.source for call in usage.calls] == ["callback"]  # no HTTP: the model itself said so
    assert usage.cost == Decimal("0.000030")  # prices.toml: 5 at $1 and 5 at $5 a million
