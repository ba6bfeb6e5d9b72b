"""The model server as a judge: what is planted is what a client sees, over real HTTP."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter

import aiohttp
import pytest

from lumigator_testing import Behaviour, ModelServer
from lumigator_testing.judging import Judge, verdict

openai = pytest.importorskip("openai")

pytestmark = pytest.mark.integration

PAIRS = 1000
SHORT, LONG = "Short answer", "A long answer, and the more so as it goes on and on to well above sixty characters"


@pytest.fixture
def server(running):
    yield running
    running.configure(judge=None, reasoning=False)
    running.reset()


def pair(first: str, second: str) -> str:
    return f"Which is better?\n<answer_1>\n{first}\n</answer_1>\n\n<answer_2>\n{second}\n</answer_2>\nReply with JSON."


def single(answer: str, source: str = "A case.") -> str:
    return f"<source>\n{source}\n</source>\n<answer>\n{answer}\n</answer>\nReply with JSON."


def chat(*texts: str) -> list[dict[str, str]]:
    """Turns of the user and the assistant in turn, behind a system prompt."""
    roles = ["user" if n % 2 == 0 else "assistant" for n in range(len(texts))]
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    return [{"role": "system", "content": "You judge."}, *said]


def ask_all(server, chats) -> list[str]:
    """The answers, in order, asked 16 at a time."""

    async def work() -> list[str]:
        places = asyncio.Semaphore(16)
        async with aiohttp.ClientSession() as session:

            async def ask(messages) -> str:
                body = {"model": "judge", "messages": messages}
                async with places, session.post(f"{server.base_url}/chat/completions", json=body) as response:
                    return (await response.json())["choices"][0]["message"]["content"]

            return await asyncio.gather(*map(ask, chats))

    return asyncio.run(work())


def both_orders(server, pairs: int = PAIRS) -> tuple[list[int | None], list[int | None]]:
    """Preferences for pairs of a long answer and a short one: the long one first, then the short one first."""
    texts = [(f"{LONG} {n}", f"{SHORT} {n}") for n in range(pairs)]
    asked = [chat(pair(*answers)) for answers in texts] + [chat(pair(*answers[::-1])) for answers in texts]
    found = [preference(answer) for answer in ask_all(server, asked)]
    return found[:pairs], found[pairs:]


def preference(answer: str) -> int | None:
    try:
        return json.loads(answer).get("preference")
    except ValueError:
        return None


def is_share(found: int, of: int, share: float) -> bool:
    """Whether a count is within four standard errors of the share that is planted."""
    return abs(found / of - share) <= 4 * math.sqrt(share * (1 - share) / of)


@pytest.mark.parametrize(
    "planted",
    [Judge(position=0.3, length=0.4, tie=0.2), Judge(position=0.5, length=0.5, malformed=0.2)],
    ids=["read", "malformed"],
)
def test_planted_shares_of_pairs_are_met(server, planted) -> None:
    server.configure(judge=planted)
    long_first, short_first = both_orders(server)
    p, length, read = planted.position, planted.length, 1 - planted.malformed
    tie = (1 - p) * (1 - length) * planted.tie
    merit = (1 - p) * (1 - length) * (1 - planted.tie) / 2
    for found, first in ((long_first, p + (1 - p) * length + merit), (short_first, p + merit)):
        seen = Counter(found)
        expected = {1: first, 2: 1 - first - tie, 0: tie}
        for given, share in expected.items():
            assert is_share(seen[given], PAIRS, share * read), (given, seen)
        assert is_share(seen[None], PAIRS, planted.malformed), seen


def test_the_place_is_drawn_anew_for_the_other_order(server) -> None:
    # Ties for all that the place does not decide, as else quality would hide whether both orders share one draw.
    server.configure(judge=Judge(position=0.3, tie=1.0))
    seen = Counter(zip(*both_orders(server), strict=True))
    for given, share in {(1, 1): 0.3**2, (1, 0): 0.3 * 0.7, (0, 1): 0.3 * 0.7, (0, 0): 0.7**2}.items():
        assert is_share(seen[given], PAIRS, share), seen


@pytest.mark.parametrize("planted", [Judge(), Judge(tie=0.3), Judge(length=1.0)], ids=["fair", "ties", "length"])
def test_without_a_preferred_place_the_order_does_not_matter(server, planted) -> None:
    server.configure(judge=planted)
    long_first, short_first = both_orders(server, 150)
    assert [{1: 2, 2: 1, 0: 0}[found] for found in long_first] == short_first
    assert (set(long_first) == {1}) == (planted.length == 1)


def test_an_answer_is_as_good_as_itself(server) -> None:
    server.configure(judge=Judge(length=1.0))
    same = [chat(pair(f"{SHORT} {n}", f"{SHORT} {n}")) for n in range(50)]
    assert {preference(answer) for answer in ask_all(server, same)} == {0}


@pytest.mark.parametrize("length", [0.0, 0.4])
def test_planted_shares_of_scores_are_met(server, length) -> None:
    server.configure(judge=Judge(length=length))
    for text, pushed in ((LONG, 5), (SHORT, 1)):
        scores = [
            json.loads(each)["score"] for each in ask_all(server, [chat(single(f"{text} {n}")) for n in range(PAIRS)])
        ]
        seen = Counter(scores)
        for score in range(1, 6):
            assert is_share(seen[score], PAIRS, (1 - length) / 5 + (length if score == pushed else 0)), (text, seen)


def test_a_fair_score_depends_on_nothing_but_the_answer(server) -> None:
    server.configure(judge=Judge())
    texts = [f"{SHORT} {n}" for n in range(100)]
    one, other = (ask_all(server, [chat(single(text, source)) for text in texts]) for source in ("A case.", "Another."))
    assert one == other


def test_the_same_question_gets_the_same_answer_from_any_server(server) -> None:
    planted = Judge(position=0.3, length=0.4, malformed=0.2, tie=0.2)
    server.configure(judge=planted)
    chats = [chat(pair(f"{LONG} {n}", f"{SHORT} {n}")) for n in range(200)] + [
        chat(single(f"{SHORT} {n}")) for n in range(200)
    ]
    found = ask_all(server, chats)
    assert ask_all(server, chats) == found
    assert [verdict(planted, [(turn["role"], turn["content"]) for turn in messages]) for messages in chats] == found


@pytest.mark.parametrize(
    ("planted", "form", "differ"),
    [
        (Judge(noise=0.6), pair, 1 / 2),
        (Judge(noise=0.6, position=0.5, tie=1.0), pair, 1 / 2),
        (Judge(noise=0.6), single, 4 / 5),
        (Judge(noise=0.6, malformed=1.0), single, 2 / 3),
    ],
    ids=["quality", "place", "score", "malformed"],
)
def test_noise_judges_anew(server, planted, form, differ) -> None:
    server.configure(judge=planted)
    chats = [chat(form(f"{LONG} {n}", f"{SHORT} {n}")) for n in range(PAIRS // 2)]
    changed = sum(one != other for one, other in zip(ask_all(server, chats), ask_all(server, chats), strict=True))
    assert is_share(changed, len(chats), planted.noise * differ)


def test_malformed_answers_come_in_three_kinds_and_hold_no_verdict(server) -> None:
    server.configure(judge=Judge(malformed=0.3))
    found = Counter(ask_all(server, [chat(single(f"{SHORT} {n}")) for n in range(2 * PAIRS)]))
    unread = {answer: times for answer, times in found.items() if "score" not in answer}
    assert is_share(sum(unread.values()), 2 * PAIRS, 0.3)
    assert len(unread) == 3
    assert all(is_share(times, sum(unread.values()), 1 / 3) for times in unread.values())
    assert not any(letter.isdigit() for answer in unread for letter in answer)
    empty = {answer for answer in unread if answer == "{}"}
    cut_off = {answer for answer in unread.keys() - empty if answer.startswith("{")}
    assert (len(empty), len(cut_off)) == (1, 1)
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(cut_off.pop())


@pytest.mark.parametrize(
    "form", [lambda n: single(f"{SHORT} {n}"), lambda n: pair(f"{LONG} {n}", f"{SHORT} {n}")], ids=["score", "pair"]
)
def test_a_retry_without_tags_has_a_new_chance_and_the_same_judgement(server, form) -> None:
    questions = [form(n) for n in range(PAIRS // 4)]
    server.configure(judge=Judge())
    fair = ask_all(server, [chat(question) for question in questions])
    server.configure(judge=Judge(malformed=0.5))
    first = ask_all(server, [chat(question) for question in questions])
    unread = [n for n in range(PAIRS // 4) if first[n] != fair[n]]
    retried = ask_all(server, [chat(questions[n], first[n], "Nothing but JSON, please.") for n in unread])
    read = sum(answer == fair[n] for n, answer in zip(unread, retried, strict=True))
    assert is_share(read, len(unread), 0.5)


def test_the_latest_turn_with_tags_is_judged(server) -> None:
    server.configure(judge=Judge())
    earlier, later = single("An example."), single("The real one.")
    alone, shown, after_pair = ask_all(
        server, [chat(later), chat(earlier, "{}", later), chat(pair("a", "b"), "{}", later)]
    )
    assert alone == shown == after_pair


@pytest.mark.parametrize(
    "more", [{}, {"top_logprobs": 0}, {"top_logprobs": 1}, {"top_logprobs": 2}, {"top_logprobs": 5}]
)
def test_the_probabilities_of_digits_are_planted(client, server, more) -> None:
    server.configure(judge=Judge())
    seen = set()
    for n in range(25):
        answer = client.chat.completions.create(
            model="judge", messages=chat(single(f"{SHORT} {n}")), logprobs=True, **more
        )
        text, tokens = answer.choices[0].message.content, answer.choices[0].logprobs.content
        score = json.loads(text)["score"]
        seen.add(score)
        assert "".join(token.token for token in tokens) == text
        (digit,) = [token for token in tokens if token.token.isdigit()]
        likely = [(str(score), 0.7), (str(score + 1 if score < 5 else 4), 0.3)][: more.get("top_logprobs", 0)]
        assert [each.token for each in digit.top_logprobs] == [token for token, _ in likely]
        assert [math.exp(each.logprob) for each in digit.top_logprobs] == pytest.approx([share for _, share in likely])
        assert math.exp(digit.logprob) == pytest.approx(0.7)
        assert all(token.logprob == 0 for token in tokens if token is not digit)
        assert all(len(token.top_logprobs) <= 1 for token in tokens if token is not digit)
    assert seen == {1, 2, 3, 4, 5}


def test_who_asks_for_no_probabilities_gets_none(client, server) -> None:
    server.configure(judge=Judge())
    assert client.chat.completions.create(model="judge", messages=chat(single(SHORT))).choices[0].logprobs is None
    server.configure(judge=None)
    answer = client.chat.completions.create(model="lead-1", messages=chat("One. Two."), logprobs=True)
    assert (answer.choices[0].message.content, answer.choices[0].logprobs) == ("One.", None)


def test_a_stream_brings_the_same_verdict(client, server) -> None:
    server.configure(judge=Judge())
    asked = {"model": "judge", "messages": chat(single(SHORT)), "logprobs": True}
    text = client.chat.completions.create(**asked).choices[0].message.content
    chunks = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text


def test_other_protocols_bring_the_same_verdict_and_no_probabilities(server) -> None:
    import httpx

    server.configure(judge=Judge())
    turns = chat(single(SHORT))[1:]
    expected = verdict(Judge(), [("user", single(SHORT))])
    body = {"model": "judge", "messages": turns, "max_tokens": 100, "logprobs": True, "top_logprobs": 2}
    with httpx.Client(trust_env=False, headers={"User-Agent": "mistral-client"}) as client:
        (choice,) = client.post(f"{server.base_url}/chat/completions", json=body).json()["choices"]
        told = client.post(f"{server.url}/v1/messages", json=body).json()
    assert (choice["message"]["content"], choice["logprobs"]) == (expected, None)
    assert told["content"] == [{"type": "text", "text": expected}]
    assert "logprobs" not in json.dumps(told)


def test_a_judge_travels_to_the_server_and_back() -> None:
    planted = Judge(position=1.0)
    with ModelServer(judge=planted) as server:
        assert (
            ask_all(server, [chat(pair(f"{SHORT} {n}", f"{LONG} {n}")) for n in range(20)])
            == ['{"reason": "So it is.", "preference": 1}'] * 20
        )
    assert Behaviour(judge={"position": 1.0}) == Behaviour(judge=planted)
    with pytest.raises(TypeError, match="mood"):
        Behaviour(judge={"mood": 1.0})
