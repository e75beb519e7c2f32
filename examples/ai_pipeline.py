"""A content pipeline with a language model: plan, draft sections at once, review, revise until it is good enough.

The model is a local stand-in that answers like one: slowly, differently each time, and sometimes not at all. Each answer
is recorded: a crash, a deploy or a retry never pays for the same tokens twice.

python examples/ai_pipeline.py
"""

from __future__ import annotations

import asyncio
import hashlib
import time

from pydantic import BaseModel

from dramaturg import RetryableError, current_step, run, step, workflow

FAILED_ONCE: set[str] = set()


class Review(BaseModel):
    """What the critic says; pydantic models are arguments and results as they are."""

    score: int
    remarks: list[str]


class Article(BaseModel):
    """What comes out."""

    title: str
    sections: list[str]
    rounds: int
    tokens: int


class Answer(BaseModel):
    """A model's answer and what it cost."""

    text: str
    tokens: int


class OverloadedError(Exception):
    """The model has no room right now."""


def complete(prompt: str, *, key: str) -> Answer:
    """The stand-in for an API call. A real one passes the key on, so that a repeat is not billed."""
    time.sleep(0.02)
    if "history" in prompt and key not in FAILED_ONCE:
        FAILED_ONCE.add(key)
        raise OverloadedError("429: the model is overloaded")
    words = hashlib.sha256(prompt.encode()).hexdigest()
    return Answer(text=f"{prompt} [{words[:6]}]", tokens=len(prompt))


# Model calls belong on a queue of their own: one fleet with the keys and the rate limits, see `dramaturg worker -Q`.
@step(retries=5, timeout="2m")
def ask_model(prompt: str) -> Answer:
    """Ask, and come again when the model says so."""
    context = current_step()
    assert context is not None
    try:
        return complete(prompt, key=context.idempotency_key)
    except OverloadedError as error:
        print(f"  the model is overloaded, attempt {context.attempt}: {prompt}")
        raise RetryableError(str(error), retry_after="50ms") from error


@step
def review(sections: list[str], round_: int) -> Review:
    """Judge a draft; here each round is better than the one before."""
    remarks = [] if round_ > 1 else [f"section {number} is dry" for number, _ in enumerate(sections, start=1)]
    return Review(score=50 + 25 * round_, remarks=remarks)


@workflow
async def write_article(topic: str, good_enough: int = 100) -> Article:
    """Plan, draft, review, revise. The loop is plain Python; how often it turns is decided by recorded answers."""
    title = await ask_model(f"a title about {topic}")
    parts = ["history", "practice", "outlook"]
    drafts = await asyncio.gather(*(ask_model(f"{part} of {topic}") for part in parts))
    tokens = title.tokens + sum(draft.tokens for draft in drafts)
    sections = [draft.text for draft in drafts]
    round_ = 0
    for round_ in range(1, 5):
        verdict = await review(sections, round_)
        print(f"  round {round_}: {verdict.score} points, {len(verdict.remarks)} remarks")
        if verdict.score >= good_enough:
            break
        revised = await asyncio.gather(*(ask_model(f"better: {section}") for section in sections))
        sections = [each.text for each in revised]
        tokens += sum(each.tokens for each in revised)
    return Article(title=title.text, sections=sections, rounds=round_, tokens=tokens)


def main() -> None:
    """Write one article in this process."""
    article = run(write_article, "theatre")
    print(article.title.partition(" [")[0])
    print(f"{len(article.sections)} sections after {article.rounds} rounds, {article.tokens} tokens paid for once")


if __name__ == "__main__":
    main()
