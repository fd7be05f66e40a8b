"""What the loopback server is told to answer while the examples are recorded, test by test."""

from __future__ import annotations

from model_server import Answer, ToolCall

ATOMS = "Why don't scientists trust atoms?\n\nBecause they make up everything"
CHICKEN = "\n\nWhy did the chicken cross the road?\n\nTo get to the other side, of course."
TOMATO = "\n\nWhy did the tomato turn red?\n\nBecause it saw the salad dressing!"
BEAR = "\n\nWhat do you call a bear with no teeth?\n\nA gummy bear!"
NOODLE = "\n\nWhat do you call a fake noodle?\n\nAn impasta."
SCARECROW = "\n\nWhy did the scarecrow win an award?\n\nBecause he was outstanding in his field."
BOW_TIE = "\n\nWhat do you call a fish that wears a bow tie?\n\nSo-fish-ticated!"

JOKE = Answer(text=f"\n\n{ATOMS}.")
TWO_JOKES = Answer(text=(f"\n\n{ATOMS}.", CHICKEN))
CHAT_JOKE = Answer(text=f"{ATOMS}!", model="gpt-4o-mini-2024-07-18")


def think(thought: str, action: str, action_input: str) -> Answer:
    """One step of the agent."""
    return Answer(text=f" {thought}\nAction: {action}\nAction Input: {action_input}")


def conclude(final_answer: str) -> Answer:
    """The agent's last step."""
    return Answer(text=f" I now know the final answer.\nFinal Answer: {final_answer}")


THOUGHTS = [
    think(
        "I need to find out who Olivia Wilde's boyfriend is, how old he is today, "
        "and then calculate his age raised to the 0.23 power.",
        "Search",
        '"Olivia Wilde boyfriend"',
    ),
    think(
        "Harry Styles seems to be the right answer. Now I need to find out Harry Styles' current age.",
        "Search",
        '"Harry Styles age"',
    ),
    think("Harry Styles is 29 years old. I need to calculate 29 raised to the 0.23 power.", "Calculator", "29^0.23"),
]
AGENT = [
    *THOUGHTS,
    conclude(
        "Harry Styles is Olivia Wilde's boyfriend and his current age raised to the 0.23 power is 2.169459462491557."
    ),
]
OLDER_AGENT = [
    *THOUGHTS,
    conclude(
        "Harry Styles, Olivia Wilde's boyfriend, is 29 years old and his age raised to the 0.23 power "
        "is 2.169459462491557."
    ),
]

ANSWERS: dict[str, list[Answer]] = {
    # test_jokes.py, test_birds_and_fish.py
    "test_two_jokes_in_one_request": [TWO_JOKES],
    "test_the_same_twice": [TWO_JOKES, Answer(text=(TOMATO, BEAR))],
    "test_two_jokes_of_an_older_model": [Answer(text=(NOODLE, SCARECROW))],
    "test_one_joke": [JOKE],
    "test_one_joke_streamed": [JOKE],
    "test_birds_and_fish": [Answer(text=CHICKEN), Answer(text=BOW_TIE)],
    "test_gpt_4": [Answer(text=f"{ATOMS}!", model="gpt-4-0613")],
    "test_one_call": [CHAT_JOKE],
    "test_the_same_call_twice": [CHAT_JOKE] * 2,
    "test_three_calls_at_once": [CHAT_JOKE] * 3,
    "test_streamed_chat": [CHAT_JOKE],
    "test_agent": AGENT,
    "test_agent_older_run": OLDER_AGENT,
    "test_agent_streamed": AGENT,
    "test_weather_agent[Paris]": [
        Answer(tool_calls=(ToolCall(name="get_weather", arguments={"city": "Paris"}),), model=CHAT_JOKE.model),
        Answer(text="It is 18 degrees and sunny in Paris.", model=CHAT_JOKE.model),
    ],
    "test_weather_agent[Oslo]": [
        Answer(tool_calls=(ToolCall(name="get_weather", arguments={"city": "Oslo"}),), model=CHAT_JOKE.model),
        Answer(text="It is snowing in Oslo, at 4 degrees.", model=CHAT_JOKE.model),
    ],
    "test_chat": [CHAT_JOKE],
    "test_embeddings": [Answer()],
    "test_responses": [CHAT_JOKE],
    "test_responses_streamed": [CHAT_JOKE],
    "test_three_at_once_with_the_async_client": [CHAT_JOKE] * 3,
}
"""The answers to each test's requests, in order; a test that is not here sends none."""
