from __future__ import annotations

import decimal
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_tokenbudget import price_table
from pytest_tokenbudget.errors import UnmeasuredUsageError, UnpricedModelError
from pytest_tokenbudget.price_file import load_price_file
from pytest_tokenbudget.price_flat import flat_rates
from pytest_tokenbudget.price_rates import Rate, Rates, charge
from pytest_tokenbudget.pricing import PriceBook
from pytest_tokenbudget.record import ModelTokens
from pytest_tokenbudget.usage import ModelCall, Usage

MILLION = 1_000_000
BOOK = PriceBook(price_date=date(2026, 11, 3))


def used(input_tokens: int = 0, output_tokens: int = 0, **parts: int) -> Usage:
    return Usage(input_tokens=input_tokens, output_tokens=output_tokens, **parts)


def call(model: str, usage: Usage | None, provider: str = "openai", **fields) -> ModelCall:
    return ModelCall(model=model, provider=provider, usage=usage, **fields)


def price(model: str, usage: Usage | None = None, provider: str = "openai", **fields) -> Decimal:
    """The price of a million tokens in and out, unless another usage is given."""
    return BOOK.price(call(model, usage or used(MILLION, MILLION), provider, **fields))


def overriding(tmp_path, toml: str) -> PriceBook:
    path = tmp_path / "prices.toml"
    path.write_text(toml, encoding="utf-8")
    return PriceBook(load_price_file(path), date(2026, 11, 3))


# USD per million tokens, in and out, as the providers list them.
@pytest.mark.parametrize(
    ("model", "usages", "usd"),
    [
        ("gpt-3.5-turbo-instruct", [(4, 33)], "0.000072"),  # 1.50 / 2.00
        ("gpt-3.5-turbo-instruct", [(4, 33), (4, 31)], "0.000140"),
        ("gpt-3.5-turbo-instruct", [(4, 14)], "0.000034"),
        ("gpt-3.5-turbo-instruct", [(6, 20), (6, 18)], "0.000094"),
        ("text-davinci-002", [(4, 38)], "0.00084"),  # 20 / 20
        ("gpt-4", [(11, 13)], "0.00111"),  # 30 / 60
        ("text-davinci-003", [(2053, 152)], "0.0441"),  # 20 / 20
        ("text-davinci-003", [(1350, 156)], "0.03012"),
    ],
)
def test_recorded_calls_cost_what_was_billed(model, usages, usd):
    assert sum(price(model, used(*each)) for each in usages) == Decimal(usd)


@pytest.mark.parametrize(
    ("provider", "model", "usd_in", "usd_out"),
    [
        ("openai", "gpt-4o-mini-2024-07-18", "0.15", "0.60"),
        ("openai", "gpt-4o", "2.50", "10"),
        ("openai", "gpt-4o-2024-05-13", "5", "15"),
        ("openai", "GPT-4.1", "2", "8"),
        ("openai", "gpt-3.5-turbo-0125", "0.50", "1.50"),
        ("openai", "o3-mini", "1.10", "4.40"),
        ("openai", "openai/gpt-4o", "2.50", "10"),
        ("", "openai/gpt-4o", "2.50", "10"),
        ("", "gpt-4o", "2.50", "10"),
        ("openai", "gpt-5.2-20251211", "1.75", "14"),
        ("openai", "gpt-5-nano-2025-08-07", "0.05", "0.40"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:org::id", "0.30", "1.20"),
        ("openai", "ft:gpt-3.5-turbo-0125:org:suffix:id", "3", "6"),
        ("openai", "ft:gpt-4.1-2025-04-14:org::id", "3", "12"),
        ("openai", "ft:gpt-4.1-mini-2025-04-14:org::id:ckpt-step-7", "0.80", "3.20"),
        ("openai", "ft:gpt-4.1-nano:org::id", "0.20", "0.80"),
        ("openai", "ft:o4-mini-2025-04-16:org::id", "4", "16"),
        ("openai", "code-davinci-002", "20", "20"),
        ("azure", "gpt-4o-2024-08-06", "2.50", "10"),
        ("azure", "gpt-35-turbo", "0.50", "1.50"),
        ("azure", "o4-mini-deep-research", "2", "8"),
        ("anthropic", "claude-3-5-haiku-latest", "0.80", "4"),
        ("anthropic", "claude-haiku-4-5-20251001", "1", "5"),
        ("anthropic", "claude-opus-4-1-20250805", "15", "75"),
        ("anthropic", "claude-2.1", "8", "24"),
        ("google", "models/gemini-2.0-flash", "0.10", "0.40"),
        ("vertex", "publishers/anthropic/models/claude-haiku-4-5@20251001", "1", "5"),
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "0.25", "1.25"),
        ("aws", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "3", "15"),
        ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.30", "16.50"),
        ("aws", "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-micro-v1:0", "0.035", "0.14"),
        ("cohere", "c4ai-aya-expanse-32b", "0.50", "1.50"),
        ("openrouter", "openai/gpt-4o-mini-2024-07-18", "0.15", "0.60"),
    ],
)
def test_published_prices(provider, model, usd_in, usd_out):
    few = used(1000, 1000)  # below every long-prompt tier
    assert price(model, few, provider) == (Decimal(usd_in) + Decimal(usd_out)) / 1000
    assert price(model, used(1000), provider) == Decimal(usd_in) / 1000
    assert price(model, used(0, 1000), provider) == Decimal(usd_out) / 1000


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "my-model"),
        ("openai", "gpt-4-my-own"),
        ("openai", "gpt-4o-mini-unknown-suffix"),
        ("openai", "gpt-3.5-turbo-instruct-tuned"),
        ("openai", "gpt-5-nano-mine"),
        ("openai", "gpt-4o-2099-01-01"),
        ("openai", "ft:gpt-5:org::id"),
        ("openai", "ft:gpt-3.5-turbo-instruct:org::id"),
        ("openai", "ft:gpt-4.1-2026-01-01:org::id"),
        ("openai", "anthropic/claude-haiku-4-5"),
        ("openai", "gpt-4o-audio-previewer"),
        ("deepseek", "deepseek-r1-distill-qwen-32b"),
        ("google", "gemini-1.5-flash-8b"),
        ("google", "tunedModels/gemini-2.0-flash"),
        ("aws", "arn:aws:bedrock:us-east-1:1:custom-model/amazon.titan-text-lite-v1:0:4k/abc"),
        ("anthropic", "claude-3-haiku-20240307-tuned"),
        ("anthropic", "my-claude-v2"),
        ("anthropic", "claude-3-haiku-2"),
        ("anthropic", "claude-3-haiku-v2-large"),
        ("aws", "my-org.claude-3-haiku-20240307-v1:0"),
        ("azure", "code-davinci-002"),
        ("openai-compatible", "gpt-4o-mini"),
        ("llm.example.com", "gpt-4o-mini"),
        ("ollama", "llama3"),
        ("", "mistral:7b"),
        ("", "llama3"),
        ("", ""),
        ("openai", ""),
    ],
)
def test_a_likeness_is_no_price(provider, model):
    with pytest.raises(UnpricedModelError) as caught:
        price(model, provider=provider)
    assert caught.value.models == (model,)
    assert "\n" not in str(caught.value)
    assert "token_prices" in str(caught.value)


@pytest.mark.parametrize("model", ["whisper-1", "tts-1"])
def test_a_model_that_is_not_sold_by_the_token_is_unpriced(model):
    with pytest.raises(UnpricedModelError, match="input tokens"):
        price(model)


def test_a_direction_without_a_rate_is_unpriced_and_never_zero():
    assert price("text-embedding-3-small", used(MILLION)) == Decimal("0.02")
    with pytest.raises(UnpricedModelError, match="output tokens"):
        price("text-embedding-3-small", used(MILLION, 1))


def test_a_model_listed_as_free_costs_nothing_and_one_listed_without_rates_is_unpriced():
    assert price("phi-4-reasoning:free", provider="azure") == 0
    with pytest.raises(UnpricedModelError):
        price("gpt-4o", provider="github-copilot")


def test_cached_input_is_charged_at_its_own_rate_and_taken_off_the_rest():
    # gpt-4o-mini: 0.15 in, 0.075 cached, 0.60 out. 596 x 0.15 + 512 x 0.075 + 96 x 0.60 = 185.4 USD per million.
    assert price("gpt-4o-mini", used(1108, 96, cached_input_tokens=512)) == Decimal("0.0001854")
    # gpt-4 has no rate for it: it costs what all input costs.
    assert price("gpt-4", used(1000, cached_input_tokens=400)) == Decimal("0.03")


def test_anthropic_cache_writes_of_five_minutes_and_an_hour():
    # Haiku 4.5: 1.00 in, 0.10 read, 1.25 written, 2.00 written for an hour, 5.00 out.
    usage = used(10_000, 100, cached_input_tokens=4000, cache_write_tokens=3000, cache_write_1h_tokens=1000)
    expected = Decimal(3000 * 1 + 4000 * 10 // 100) + 2000 * Decimal("1.25") + 1000 * 2 + 100 * 5
    assert price("claude-haiku-4-5-20251001", usage, "anthropic") == expected / MILLION


def test_an_hour_without_a_rate_is_unpriced():
    with pytest.raises(UnpricedModelError, match="an hour"):
        price("claude-3-5-haiku", used(10, cache_write_tokens=5, cache_write_1h_tokens=5), "vertex")


def test_audio_is_charged_at_its_own_rates():
    # gpt-4o-audio-preview: text 2.50 / 10, audio 40 / 80; its first snapshot 100 / 200; the mini 0.15 / 0.60, 10 / 20.
    usage = used(1000, 500, input_audio_tokens=600, output_audio_tokens=400)
    assert price("gpt-4o-audio-preview", usage) == Decimal(400 * 25 // 10 + 600 * 40 + 100 * 10 + 400 * 80) / MILLION
    first = Decimal(400 * 25 // 10 + 600 * 100 + 100 * 10 + 400 * 200) / MILLION
    assert price("gpt-4o-audio-preview-2024-10-01", usage) == first
    mini = Decimal(60 + 600 * 10 + 60 + 400 * 20) / MILLION
    assert price("gpt-4o-mini-audio-preview", usage) == mini
    assert price("gpt-4o-mini-audio-preview", usage, "azure") == mini
    assert price("gpt-4o-mini-audio-preview", usage, "") == mini
    # gpt-realtime: text 4 / 16, cached 0.40, audio 32 / 64, cached audio 0.40.
    usage = used(1000, 0, input_audio_tokens=600, cached_input_tokens=500, cached_input_audio_tokens=200)
    expected = (100 * 4 + 300 * Decimal("0.4") + 400 * 32 + 200 * Decimal("0.4")) / MILLION
    assert price("gpt-realtime", usage) == expected


def test_images_are_charged_at_their_own_rate():
    # gpt-image-1: text 5, images in 10, out 40.
    assert (
        price("gpt-image-1", used(300, 1000, input_image_tokens=200))
        == Decimal(100 * 5 + 200 * 10 + 1000 * 40) / MILLION
    )
    with pytest.raises(UnpricedModelError, match="images"):
        price("gpt-image-1", used(300, 1000, input_image_tokens=200, cached_input_tokens=100))


def test_a_long_prompt_is_dearer_as_a_whole():
    # Claude Sonnet 4.5: 3 / 15 up to 200,000 prompt tokens, 6 / 22.50 above.
    model = "claude-sonnet-4-5-20250929"
    assert price(model, used(200_000, 1000), "anthropic") == Decimal("0.615")
    assert price(model, used(200_001, 1000), "anthropic") == (200_001 * 6 + Decimal(22500)) / MILLION
    # Two prompts of 150,000 are no prompt of 300,000.
    both = Usage(requests=2, input_tokens=300_000)
    assert BOOK.price_usage(both, model=model, provider="anthropic") == Decimal("0.9")


def test_prices_hold_at_the_full_rate_of_the_day():
    # DeepSeek: 0.27 / 1.10 in the day, half of it at night.
    assert price("deepseek-chat", provider="deepseek") == Decimal("1.37")


def test_prices_are_those_of_the_fixed_day():
    # o3 fell from 10 / 40 to 2 / 8 on 2025-06-10.
    o3 = call("o3", used(MILLION, MILLION))
    assert PriceBook(price_date=date(2025, 6, 9)).price(o3) == 50
    assert PriceBook(price_date=date(2025, 6, 10)).price(o3) == 10


def test_a_tier_that_has_no_price_yet_on_that_day_is_unpriced():
    # The table knows flex rates from 2026-10-12 on.
    flex = call("gpt-5", used(MILLION, MILLION), service_tier="flex")
    assert PriceBook(price_date=date(2026, 10, 12)).price(flex) == Decimal("5.625")
    with pytest.raises(UnpricedModelError):
        PriceBook(price_date=date(2026, 10, 11)).price(flex)


@pytest.mark.parametrize("tier", [None, "", "default", "Standard", "auto", "on_demand"])
def test_the_standard_tier_has_many_names(tier):
    assert price("gpt-5", service_tier=tier) == Decimal("11.25")


@pytest.mark.parametrize(
    ("provider", "model", "tier", "usd"),
    [
        ("openai", "gpt-5", "flex", "5.625"),  # half of 1.25 / 10
        ("openai", "gpt-5", "batch", "5.625"),
        ("openai", "gpt-5", "priority", "22.50"),  # 2.50 / 20
        ("openai", "o4-mini", "priority", "10"),  # 2 / 8
        ("anthropic", "claude-haiku-4-5", "batch", "3"),  # half of 1 / 5
    ],
)
def test_other_tiers_have_their_own_prices(provider, model, tier, usd):
    assert price(model, provider=provider, service_tier=tier) == Decimal(usd)


@pytest.mark.parametrize(
    ("provider", "model", "tier"),
    [
        ("openai", "gpt-4o", "flex"),
        ("openai", "gpt-4", "priority"),
        ("openai", "gpt-5", "scale"),
        ("openai", "ft:gpt-4.1-mini:org::id", "batch"),
        ("azure", "gpt-5", "priority"),
        ("anthropic", "claude-haiku-4-5", "priority"),
    ],
)
def test_a_tier_without_a_price_is_never_the_standard_one(provider, model, tier):
    with pytest.raises(UnpricedModelError, match=tier):
        price(model, provider=provider, service_tier=tier)


def test_the_users_own_price_wins(tmp_path):
    book = overriding(
        tmp_path,
        """
        [models."gpt-4o"]
        input = 1
        output = 2
        [models."gpt-4o@priority"]
        input = 5
        output = 6
        [models."my-org/tuned"]
        input = 3.00
        cached_input = 0.30
        output = 15.00
        """,
    )
    whole = used(MILLION, MILLION)
    assert book.price(call("gpt-4o", whole)) == 3
    assert book.price(call("GPT-4o", whole, "anywhere")) == 3
    assert book.price(call("gpt-4o", whole, service_tier="priority")) == 11
    assert book.price(call("gpt-4o-mini", whole)) == Decimal("0.75")
    assert book.price(replace(call("gpt-4o-mini", whole), request_model="gpt-4o")) == 3
    tuned = used(MILLION, MILLION, cached_input_tokens=400_000)
    assert book.price(call("my-org/tuned", tuned, "")) == Decimal("1.8") + Decimal("0.12") + 15
    with pytest.raises(UnpricedModelError, match='"gpt-4o@flex"'):
        book.price(call("gpt-4o", whole, service_tier="flex"))


def test_aliases_lead_to_a_provider_and_a_model(tmp_path):
    book = overriding(
        tmp_path,
        """
        [models.house]
        input = 1
        output = 1
        [aliases]
        "my-azure-deployment" = "azure:gpt-4o"
        again = "my-azure-deployment"
        plain = "gpt-4o-mini"
        home = "azure:house"
        nowhere = "openai:no-such-model"
        """,
    )
    whole = used(MILLION, MILLION)
    for name in ("my-azure-deployment", "MY-AZURE-DEPLOYMENT", "again"):
        assert book.price(call(name, whole, "openai-compatible")) == Decimal("12.5")
    assert book.price(call("plain", whole, "azure")) == Decimal("0.75")
    assert book.price(call("home", whole, "")) == 2
    assert book.price(replace(call("", whole, "azure"), request_model="my-azure-deployment")) == Decimal("12.5")
    with pytest.raises(UnpricedModelError, match="no-such-model"):
        book.price(call("nowhere", whole))


def test_bedrock_bills_the_model_that_was_asked_for():
    answered = call("claude-sonnet-4-5-20250929", used(1000, 1000), "aws")
    asked = "global.anthropic.claude-sonnet-4-5-20250929-v1:0"
    assert BOOK.price(replace(answered, request_model=asked)) == Decimal("0.018")
    assert BOOK.price(replace(answered, request_model="us" + asked.removeprefix("global"))) == Decimal("0.0198")


def test_a_deployments_name_is_no_model():
    # Azure's URL names a deployment: the answer's model is billed, and nothing else is looked at.
    with pytest.raises(UnpricedModelError):
        BOOK.price(replace(call("my-model", used(1, 1), "azure"), request_model="gpt-4o"))


def test_unmeasured_usage_has_no_price():
    with pytest.raises(UnmeasuredUsageError, match="cut off"):
        BOOK.price(call("gpt-4o", None, reason="cut off"))
    assert BOOK.cost(call("gpt-4o", None)) is None
    assert BOOK.priced(call("gpt-4o", None, reason="cut off")).reason == "cut off"


@pytest.mark.parametrize(
    "impossible",
    [
        used(10, cached_input_tokens=11),
        used(10, cached_input_tokens=6, cache_write_tokens=5),
        used(10, cache_write_tokens=4, cache_write_1h_tokens=5),
        used(10, cached_input_tokens=3, input_audio_tokens=4, cached_input_audio_tokens=5),
        used(10, 10, output_audio_tokens=11),
    ],
)
def test_parts_that_exceed_the_whole_are_refused(impossible):
    with pytest.raises(UnmeasuredUsageError, match="exceed"):
        price("gpt-realtime", impossible)


def test_a_priced_call_carries_its_cost_or_the_reason():
    priced = BOOK.priced(call("gpt-4", used(11, 13), request_id="r1"))
    assert (priced.cost, priced.reason, priced.request_id) == (Decimal("0.00111"), None, "r1")
    unpriced = BOOK.priced(call("my-model", used(11, 13), cost=Decimal(1)))
    assert unpriced.cost is None
    assert unpriced.reason == "no price for 'my-model' of the provider 'openai'"
    assert BOOK.cost(call("my-model", used(11, 13))) is None


def test_money_is_exact_whatever_the_threads_context_is():
    huge = used(10**9 + 1, 10**9 + 1)
    with decimal.localcontext(prec=3):
        cost = price("gpt-4o-mini", huge)
    assert cost == Decimal("750.00000075")
    assert format(cost, "f") == "750.00000075"
    assert str(price("gpt-4o", used(0, 10 * MILLION))) == "100"


@pytest.mark.parametrize("input_tokens", [900, 250_000])
def test_wherever_both_know_a_price_it_is_the_tables_own(input_tokens):
    # genai-prices' own arithmetic is the other opinion; the usage has tokens that some lists price apart.
    import genai_prices
    from genai_prices.data import providers

    moment = datetime(2026, 11, 3, 8, tzinfo=UTC)
    theirs = genai_prices.Usage(
        input_tokens=input_tokens, cache_read_tokens=400, cache_write_tokens=300, output_tokens=700
    )
    ours = used(input_tokens, 700, cached_input_tokens=400, cache_write_tokens=300)
    compared = 0
    for provider in providers:
        for model in provider.models:
            cost = BOOK.cost(call(model.id, ours, provider.id))
            if cost is not None:
                expected = genai_prices.calc_price(
                    theirs, model.id, provider_id=provider.id, genai_request_timestamp=moment
                ).total_price
                assert cost == expected, (provider.id, model.id)
                compared += 1
    assert compared > 500


def test_the_description_names_table_day_and_file(tmp_path):
    from importlib.metadata import version

    assert BOOK.describe() == {
        "source": "genai-prices",
        "version": version("genai-prices"),
        "date": "2026-11-03",
        "overrides": [],
    }
    own = overriding(tmp_path, '[aliases]\na = "b"\n')
    (said,) = own.describe()["overrides"]
    assert re.fullmatch(r"prices\.toml \([0-9a-f]{8}\)", said)


OWN = '[models."m"]\ninput = 3\noutput = 15.00\n[models."n"]\ninput = 1\noutput = 1\n[aliases]\na = "m"\n'


@pytest.mark.parametrize(
    ("toml", "same"),
    [
        (OWN, True),
        (OWN.replace("\n", "\r\n"), True),
        (OWN.replace("input = 3\noutput = 15.00", "# new\noutput = 15\ninput = 3.0"), True),
        (OWN.replace("input = 3", "input = 300"), False),
        (OWN.replace("input = 3", "input = 3.000000000000000001"), False),
        (OWN.replace("input = 3", "cached_input = 3\ninput = 3"), False),
        (OWN.replace('"m"]', '"M2"]'), False),
        (OWN.replace('a = "m"', 'a = "n"'), False),
        (OWN.replace('a = "m"', 'b = "m"'), False),
    ],
)
def test_a_file_is_named_by_what_it_says_and_not_by_where_it_lies(tmp_path, toml, same):
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    said = overriding(here, OWN).describe()["overrides"]
    (there / "prices.toml").write_bytes(toml.encode())
    other = PriceBook(load_price_file(there / "prices.toml")).describe()["overrides"]
    assert (said == other) is same


def test_the_default_day_is_one_on_which_the_table_was_checked():
    from genai_prices.data import providers

    day = date.fromisoformat(PriceBook().describe()["date"])
    remarks = [each.price_comments or "" for provider in providers for each in (provider, *provider.models)]
    assert any(day.isoformat() in remark for remark in remarks) or not any("verified on" in each for each in remarks)
    assert date(2025, 1, 1) < day <= date.today()  # noqa: DTZ011 - a table can't have been checked tomorrow


def test_the_newest_check_is_read_from_the_tables_remarks(monkeypatch):
    def table(*remarks, starts=()):
        prices = [SimpleNamespace(constraint=SimpleNamespace(start_date=day)) for day in starts]
        models = [SimpleNamespace(price_comments=each, prices=prices) for each in remarks]
        monkeypatch.setattr(price_table, "_providers", lambda: [SimpleNamespace(price_comments=None, models=models)])
        return price_table.newest_check.__wrapped__()

    announced = [date(2026, 3, 1), date(2027, 1, 1)]
    assert table(
        "Rates verified on 2026-10-12 at https://example.com. Introductory until 2026-12-31.",
        "gone (checked 2026-07-17 and 2026-10-27); rises on 2027-01-01",
        "$2 verified live via the API on 2026-06-30",
        "Launched 2026-11-30.",
        starts=announced,
    ) == date(2026, 10, 27)
    assert table("Launched 2026-11-30.", None, starts=[date(2025, 6, 10), date(2026, 3, 1)]) == date(2026, 3, 1)


def test_a_price_per_request_is_charged_for_each():
    rates = Rates(input=Rate(usd_per_million_tokens=Decimal(1)), usd_per_request=Decimal("0.005"))
    assert charge(used(1000), rates) == Decimal("0.006")
    assert charge(Usage(requests=3, input_tokens=1000), rates) == Decimal("0.016")


def test_a_book_costs_nothing_until_a_price_is_asked_for():
    code = (
        "import sys, datetime\n"
        "from pytest_tokenbudget.pricing import PriceBook\n"
        "book = PriceBook(price_date=datetime.date(2026, 11, 3))\n"
        "book.describe()\n"
        "sys.exit('genai_prices' in sys.modules or 'pydantic' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


counts = st.integers(min_value=0, max_value=10**9)


@st.composite
def usages(draw):
    whole, output = draw(counts), draw(counts)
    cached = draw(st.integers(0, whole))
    return used(whole, output, cached_input_tokens=cached)


@settings(max_examples=60, deadline=None)
@given(usages(), usages())
def test_without_tiers_a_sum_costs_the_sum(one, other):
    together = BOOK.price_usage(one + other, model="gpt-4o-mini", provider="openai")
    apart = [BOOK.price_usage(each, model="gpt-4o-mini", provider="openai") for each in (one, other)]
    with decimal.localcontext(prec=60):
        assert together == sum(apart)


@settings(max_examples=60, deadline=None)
@given(usages())
def test_caching_never_costs_more(spent):
    without = used(spent.input_tokens, spent.output_tokens)
    assert price("gpt-4o-mini", spent) <= price("gpt-4o-mini", without)


rates = st.decimals(min_value=0, max_value=1000, places=4).map(lambda amount: Rate(usd_per_million_tokens=amount))


@settings(max_examples=60, deadline=None)
@given(st.tuples(rates, rates, rates), st.tuples(*[st.integers(0, 10**6)] * 3))
def test_every_token_is_charged_once_at_its_rate(listed, tokens):
    (full, cached_rate, output_rate), (fresh, cached, output) = listed, tokens
    cost = charge(
        used(fresh + cached, output, cached_input_tokens=cached),
        Rates(input=full, cached_input=cached_rate, output=output_rate),
    )
    terms = ((fresh, full), (cached, cached_rate), (output, output_rate))
    assert cost * MILLION == sum(count * rate.usd_per_million_tokens for count, rate in terms)


def as_usage(tokens: ModelTokens) -> Usage:
    return Usage(
        requests=tokens.requests,
        input_tokens=tokens.input,
        cached_input_tokens=tokens.cached,
        cache_write_tokens=tokens.cache_write,
        output_tokens=tokens.output,
    )


def the_careful_way(tokens: ModelTokens, provider: str, model: str) -> Decimal | None:
    try:
        return BOOK.price_usage(as_usage(tokens), model=model, provider=provider)
    except (UnpricedModelError, UnmeasuredUsageError):
        return None


def same(one: Decimal | None, other: Decimal | None) -> bool:
    """Equal, and written the same."""
    return str(one) == str(other)


LISTED = [(provider.id, model.id) for provider in price_table._providers() for model in provider.models]
SUMS = [
    ModelTokens(),
    ModelTokens(requests=1, input=200, cached=100, output=20),
    ModelTokens(requests=3, input=1001, cached=7, cache_write=10, output=333),
    ModelTokens(requests=1, input=2_000_001, cached=1_000_001, cache_write=999_999, output=70_003),
    ModelTokens(requests=2, input=10**15, output=10**15),
    ModelTokens(requests=1, input=5),
    ModelTokens(requests=1, output=5),
    ModelTokens(requests=1, input=5, cached=6),
]


def test_a_sum_costs_with_every_model_of_the_table_what_the_careful_way_says():
    assert len(LISTED) > 500
    for provider, model in LISTED:
        for tokens in SUMS:
            quick = BOOK.price_sum(tokens, model=model, provider=provider)
            assert same(quick, the_careful_way(tokens, provider, model)), (provider, model, tokens)
    flat = [known for models in BOOK._flat.values() for known in models.values() if known is not None]
    assert len(flat) > len(LISTED) / 2


model_tokens = st.builds(ModelTokens, **dict.fromkeys(ModelTokens._fields, st.integers(0, 10**15)))


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([*LISTED, ("openai", "nobodys-model"), ("", "gpt-4o-mini"), ("azure", "gpt-4o")]), model_tokens
)
def test_any_sum_costs_what_the_careful_way_says(listed, tokens):
    quick = BOOK.price_sum(tokens, provider=listed[0], model=listed[1])
    assert same(quick, the_careful_way(tokens, *listed))


usd = st.decimals(min_value=0, max_value=10**6) | st.sampled_from([Decimal(f"0.{'1' * 150}"), Decimal("1E+5")])
any_rate = st.none() | st.builds(
    Rate, usd_per_million_tokens=usd, tiers=st.lists(st.tuples(counts, usd), max_size=1).map(tuple)
)
any_rates = st.builds(
    Rates,
    **dict.fromkeys(("input", "cached_input", "cache_write", "output", "input_audio", "reasoning"), any_rate),
    usd_per_request=st.none() | usd,
    free=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(any_rates, model_tokens)
def test_rates_are_flat_only_where_that_changes_nothing(listed, tokens):
    flat = flat_rates(listed)
    if flat is not None and (cost := flat.charge(tokens)) is not None:
        assert same(cost, charge(as_usage(tokens), listed))
