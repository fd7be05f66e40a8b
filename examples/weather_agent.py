"""An agent with a tool, as LangChain builds them today."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

WEATHER = {"Paris": "18 degrees and sunny", "Oslo": "4 degrees and snow"}


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return WEATHER.get(city, "unknown")


def ask(question: str) -> str:
    """Put a question to the agent."""
    agent = create_agent(
        ChatOpenAI(model="gpt-4o-mini"),
        tools=[get_weather],
        system_prompt="You are a weather forecaster. Answer in one sentence.",
    )
    return agent.invoke({"messages": [{"role": "user", "content": question}]})["messages"][-1].text
