"""The agent of LangChain's first tutorials: it thinks, acts, looks at what came back, and thinks again."""

# Annotations are not deferred here: LangChain writes the tools' signatures into the prompt.

import ast
import operator
from collections.abc import Callable, Mapping

from langchain_classic.agents import AgentExecutor, AgentType, create_react_agent, initialize_agent
from langchain_core.prompts import PromptTemplate
from langchain_core.tools import Tool
from langchain_openai import OpenAI

MODEL = "text-davinci-003"
REACT_PROMPT = PromptTemplate.from_template("""\
Answer the following questions as best you can. You have access to the following tools:

{tools}

Use the following format:

Question: the input question you must answer
Thought: you should always think about what to do
Action: the action to take, should be one of [{tool_names}]
Action Input: the input to the action
Observation: the result of the action
... (this Thought/Action/Action Input/Observation can repeat N times)
Thought: I now know the final answer
Final Answer: the final answer to the original input question

Begin!

Question: {input}
Thought:{agent_scratchpad}""")

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def calculate(question: str) -> str:
    """Work out an expression such as ``29^0.23``."""

    def value(node: ast.expr) -> float:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
            return node.value
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            return _OPERATORS[type(node.op)](value(node.left), value(node.right))
        raise ValueError(f"not a sum I can do: {question}")

    return f"Answer: {value(ast.parse(question.strip().replace('^', '**'), mode='eval').body)}"


def make_tools(pages: Mapping[str, str]) -> list[Tool]:
    """A search over a few pages that are at hand, and a calculator."""

    def search(query: str) -> str:
        return pages.get(query.strip(), "No good search result found")

    return [
        Tool(
            name="Search",
            func=search,
            description="A search engine. Useful for when you need to answer questions about current events. "
            "Input should be a search query.",
        ),
        Tool(
            name="Calculator",
            func=calculate,
            description="Useful for when you need to answer questions about math.",
        ),
    ]


def ask(question: str, pages: Mapping[str, str]) -> str:
    """Put a question to the agent; it waits for each answer of the model."""
    llm = OpenAI(model=MODEL, temperature=0)
    agent = initialize_agent(make_tools(pages), llm, agent=AgentType.ZERO_SHOT_REACT_DESCRIPTION)
    return agent.invoke({"input": question})["output"]


def ask_streaming(question: str, pages: Mapping[str, str]) -> str:
    """The same in the newer spelling, which streams every answer of the model."""
    llm = OpenAI(model=MODEL, temperature=0)
    tools = make_tools(pages)
    agent = AgentExecutor(agent=create_react_agent(llm, tools, REACT_PROMPT), tools=tools)
    return agent.invoke({"input": question})["output"]
