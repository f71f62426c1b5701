"""Faults in budgets, holds and grants that the oracle of money notices, and faults of that oracle."""

from tests.planted.fault import Fault

_RANDOM = "tests/lab/test_money.py::test_random_histories_are_followed_without_a_difference"
_MANY = "tests/lab/test_money.py::test_many_who_ask_at_once_never_pass_the_limit_together"
_CREDITS = "tests/lab/test_money.py::test_credits_move_what_is_spent_and_what_grants_have_paid"
_NOTICES = "tests/lab/test_money.py::test_the_oracle_notices"

MONEY = (
    Fault(
        "admissions do not wait for each other",
        "metering/budgets/store/locks.py",
        "    take_money(connection, wanted)\n",
        "    take_money(connection, ())\n",
        (_MANY,),
    ),
    Fault(
        "what is held does not count against the limit",
        "metering/budgets/budget.py",
        "EXACT.add(self.spent_usd_cents, self.held_usd_cents))",
        "self.spent_usd_cents)",
        (_MANY, _RANDOM),
    ),
    Fault(
        "a hold that its charge exceeds stays open",
        "metering/budgets/post_to_budgets.py",
        "hold is None or hold.state is not HoldState.OPEN:\n            continue",
        "hold is None or booking.usd_cents > hold.held_usd_cents:\n            continue",
        (_RANDOM,),
    ),
    Fault(
        "a hold that expires gives nothing back",
        "metering/budgets/expire_holds.py",
        "        accounts.give_back(hold)\n",
        "",
        (_RANDOM,),
    ),
    Fault(
        "a sliding hold that is extended holds what it held",
        "metering/budgets/extend_holds.py",
        "            held = EXACT.add(hold.held_usd_cents, more)\n",
        "            held = hold.held_usd_cents\n",
        (_RANDOM,),
    ),
    Fault(
        "what failed open says that it had no hold",
        "metering/budgets/holds.py",
        "return OverrunReason.FAILED_OPEN if booking.failed_open else OverrunReason.NO_HOLD",
        "return OverrunReason.NO_HOLD",
        (_RANDOM,),
    ),
    Fault(
        "credits are not posted to budgets",
        "metering/budgets/post_to_budgets.py",
        "        and booking.filed_at >= each.counted_from\n",
        "        and booking.filed_at >= each.counted_from\n        and booking.usd_cents > 0\n",
        (_CREDITS,),
    ),
    Fault(
        "grants with a high priority number pay first",
        "metering/credits/grant.py",
        "    return (grant.priority, expires",
        "    return (-grant.priority, expires",
        (_RANDOM,),
    ),
    Fault(
        "the oracle looks at no limit",
        "metering/lab/money/holding.py",
        "            if spent + budget.held > limit:",
        "            if spent > limit:",
        (_NOTICES,),
    ),
    Fault(
        "the oracle believes the counters",
        "metering/lab/money/holding.py",
        "            if budget is not None and budget.held != held:",
        "            if budget is not None and budget.held > held:",
        (_NOTICES,),
    ),
    Fault(
        "the oracle follows only what was expected",
        "metering/lab/money/holding.py",
        "        for name in {*found, *expected}",
        "        for name in expected",
        (_NOTICES,),
    ),
)
