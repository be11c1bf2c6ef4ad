"""Which messages are taken on, for which apps, when, how often, and until when."""

import pytest

from umbel.base import PolicyRefused
from umbel.clientapp import (
    Account,
    AppIdentity,
    PolicyRequest,
    check_app,
    check_budget,
    check_request,
    explain_policy,
)

HASH, KEY = "ab" * 32, "ed25519:" + "A" * 43 + "="
NIGHT = '[opening-hours]\ntime-zone = "UTC"\nopen = ["mon-sun 20:00-06:00"]'
BUDGET = (
    '[arrays]\n[privacy]\ndata-set = "d"\nclip = 1\nnoise-multiplier = 8\n'
    "epsilon = 2.0\ndelta = 1e-6\n"
)


def request(message="m", run="r", kind="train", size=10, at=0.0):
    return PolicyRequest(run, message, kind, size, at)


def rule_of(call, *arguments):
    with pytest.raises(PolicyRefused) as caught:
        call(*arguments)
    return caught.value.message.partition("([")[2].partition("])")[0]


def test_types(policy):
    rules = policy(messages="max-bytes = 10")
    account = Account(rules)
    check_request(rules, request(), account)
    check_request(rules, request(kind="train.default"), account)
    assert rule_of(check_request, rules, request(kind="query.raw"), account) == "messages.types"
    assert rule_of(check_request, rules, request(kind="train.raw"), account) == "messages.types"
    assert rule_of(check_request, rules, request(size=11), account) == "messages.max-bytes"


def test_hours(policy):
    rules = policy(NIGHT)
    check_request(rules, request(at=3600.0), Account(rules))
    assert rule_of(check_request, rules, request(at=12 * 3600.0), Account(rules)) == "opening-hours"


def test_rates(policy):
    rules = policy(messages="per-hour = 2\nper-run = 3")
    account = Account(rules)
    for number, at in enumerate((0.0, 10.0)):
        check_request(rules, request(f"m{number}", at=at), account)
        account.admit("r", f"m{number}", at)
    assert rule_of(check_request, rules, request(at=20.0), account) == "messages.per-hour"
    # One that was taken on and not answered comes again after a crash: it is the same.
    check_request(rules, request("m1", at=20.0), account)
    account.admit("r", "m1", 20.0)
    check_request(rules, request("m2", at=3605.0), account)
    account.admit("r", "m2", 3605.0)
    assert rule_of(check_request, rules, request(at=9999.0), account) == "messages.per-run"
    check_request(rules, request(run="other", at=9999.0), account)


def test_an_answered_message_that_comes_again_counts_again(policy):
    rules = policy(messages="per-run = 1")
    account = Account(rules)
    account.admit("r", "m", 0.0)
    account.close("r", "m", "app", (), 1.0)
    assert rule_of(check_request, rules, request("m"), account) == "messages.per-run"


@pytest.mark.parametrize(
    ("app", "runs"),
    [
        (AppIdentity("free", HASH), True),
        (AppIdentity("pinned", HASH), True),
        (AppIdentity("pinned", "cd" * 32), False),
        (AppIdentity("signed", HASH, KEY), True),
        (AppIdentity("signed", HASH), False),
        (AppIdentity("signed", HASH, KEY.replace("A", "B")), False),
        (AppIdentity("other", HASH, KEY), False),
    ],
)
def test_apps(policy, app, runs):
    rules = policy(
        f'[[apps]]\nname = "free"\n[[apps]]\nname = "pinned"\nbundles = ["{HASH}"]\n'
        f'[[apps]]\nname = "signed"\nsigners = ["{KEY}"]'
    )
    if runs:
        check_app(rules, app)
    else:
        assert rule_of(check_app, rules, app) == "[apps]"
    check_app(policy(), app)


class TestBudget:
    def spend(self, rules, account, app="a"):
        count = 0
        while True:
            try:
                check_budget(rules, app, "train", account)
                entry = account.close("r", f"{app}{count}", app, (4.0,), 0.0)
            except PolicyRefused as error:
                return count, error
            count += 1
            assert account.epsilon() <= 2.0
            assert entry["noise-multipliers"] == [4.0]

    def test_it_is_refused_before_it_is_exceeded(self, policy):
        rules = policy(BUDGET)
        account = Account(rules)
        count, error = self.spend(rules, account)
        assert f"enough for {count} replies" in dict(explain_policy(rules).sentences)["privacy"]
        assert "is spent: ε = 2" in error.message
        assert 1.5 < account.epsilon() <= 2.0
        check_budget(rules, "a", "evaluate", account)  # may do without arrays
        account.check("a", ())

    def test_it_survives_a_restart(self, policy):
        rules = policy(BUDGET)
        account, entries = Account(rules), []
        for number in range(3):
            entries.append(account.admit("r", f"m{number}", 0.0))
            entries.append(account.close("r", f"m{number}", "a", (4.0,), 0.0))
        again = Account(rules)
        for entry in entries:
            again.replay(entry)
        assert again.epsilon() == account.epsilon() > 0
        assert again.of_run("r") == 3

    def test_an_app_has_its_part_and_another_data_set_a_budget_of_its_own(self, policy):
        rules = policy('[[apps]]\nname = "a"\nepsilon = 1.5\n[[apps]]\nname = "b"\n' + BUDGET)
        account = Account(rules)
        entries = [account.close("r", "m", "b", (4.0,), 0.0)]
        count, error = self.spend(rules, account)
        assert "this app's part" in error.message
        more, error = self.spend(rules, account, "b")
        assert "of the data set is spent" in error.message
        assert count > 0
        assert more > 0
        other = Account(policy(BUDGET.replace('"d"', '"e"')))
        other.replay(entries[0])
        assert other.epsilon() == 0

    def test_a_smaller_budget_than_was_spent_refuses_and_does_not_fail(self, policy):
        account = Account(policy(BUDGET.replace("epsilon = 2.0", "epsilon = 0.1")))
        account.replay({
            "event": "closed", "run": "r", "message": "m", "app": "a", "at": 0.0,
            "data-set": "d", "noise-multipliers": [1.0],
        })  # fmt: skip
        assert account.epsilon() > 0.1
        assert rule_of(account.check, "a", (100.0,)) == "privacy.epsilon"
