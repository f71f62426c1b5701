"""Compares what the service says with what the oracle says, and waits for it to come true."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

from tests.scenarios.clients import Client
from tests.scenarios.oracle import Bill, Key, decimal_string, instant

READ_THREADS = 3
MISMATCHES_SHOWN = 12


def differences(expected: Bill, got: dict | None) -> list[str]:
    """What the answer of `GET /v1/streams/...` says otherwise than the oracle, field by field."""
    if got is None:
        return ["it does not exist"]
    wanted = {
        "state": expected.state,
        "provider": expected.provider,
        "model": expected.model,
        "api_key_id": expected.api_key_id,
        "usage": expected.usage,
        "usage_source": expected.usage_source,
        "cost_usd_cents": expected.cost,
        "input_unknown": expected.input_unknown,
    }
    found = [
        f"{name}: {value!r} expected, got {got[name]!r}" for name, value in wanted.items() if got[name] != value
    ]
    if expected.state == "finalized" or expected.outcome != "abandoned":  # a sweep shows once it is billed
        found += [f"outcome: {expected.outcome!r} expected, got {got['outcome']!r}"] * (
            expected.outcome != got["outcome"]
        )
        found += _time_difference("ended_at", expected, got)
    found += _time_difference("started_at", expected, got)
    return found + _charge_differences(expected, got)


def _time_difference(name: str, expected: Bill, got: dict) -> list[str]:
    moment = instant(got[name]) if got[name] else None
    wanted = getattr(expected, name)
    return [f"{name}: {wanted} expected, got {moment}"] if moment != wanted else []


def _charge_differences(expected: Bill, got: dict) -> list[str]:
    """A bill that was never adjusted shows the oracle's lines; any bill adds up, line by line and as a whole."""
    if expected.cents is None:
        return []
    charge = got["charge"]
    if charge is None:
        return ["final, and without a charge"]
    found = []
    if got["accrued_usd_cents"] is not None:
        found.append(f"final, and accrued_usd_cents is {got['accrued_usd_cents']!r}")
    if charge["period"] != f"{expected.ended_at:%Y-%m}" and not got["adjustments"]:
        found.append(f"period: {expected.ended_at:%Y-%m} expected, got {charge['period']}")
    booked = Fraction(charge["cost_usd_cents"]) + sum(Fraction(each["usd_cents"]) for each in got["adjustments"])
    if booked != expected.cents:
        found.append(f"charge and adjustments add up to {decimal_string(booked)}, not {expected.cost}")
    for bill in (charge, *got["adjustments"]):
        found += [f"a line that a pencil disputes: {line}" for line in bill["lines"] if not _adds_up(line)]
    newest = (got["adjustments"] or [charge])[-1]["lines"]
    wanted = sorted((line.kind, line.quantity, line.usd_per_million) for line in expected.lines)
    shown = sorted((line["kind"], line["quantity"], Fraction(line["usd_per_million"])) for line in newest)
    if wanted != shown:
        found.append(f"lines: {wanted} expected, got {shown}")
    return found


def _adds_up(line: dict) -> bool:
    return Fraction(line["usd_cents"]) == line["quantity"] * Fraction(line["usd_per_million"]) / 10_000


def settle(client: Client, expected: Mapping[Key, Bill], *, within: float) -> dict[Key, dict]:
    """Wait until every stream is as expected, and give all answers.

    Raises:
        AssertionError: some never were; their differences are shown.
    """
    deadline = time.monotonic() + within
    answers: dict[Key, dict] = {}
    waiting = dict(expected)
    wrong: dict[Key, list[str]] = {}
    with ThreadPoolExecutor(READ_THREADS) as pool:
        while waiting:
            for key, got in zip(waiting, pool.map(lambda key: client.stream(*key), waiting), strict=True):
                answers[key] = got
                wrong[key] = differences(expected[key], got)
            waiting = {key: each for key, each in waiting.items() if wrong[key]}
            if not waiting or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    assert not waiting, report({key: wrong[key] for key in waiting})
    return answers


def report(wrong: Mapping[Key, Iterable[str]]) -> str:
    """Which fields are wrong how often, and the first few streams in full."""
    fields = Counter(text.partition(":")[0] for texts in wrong.values() for text in texts)
    shown = [f"{key}:\n    " + "\n    ".join(texts) for key, texts in list(wrong.items())[:MISMATCHES_SHOWN]]
    return f"{len(wrong)} streams differ from the oracle: {dict(fields)}\n" + "\n".join(shown)
