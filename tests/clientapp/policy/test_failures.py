import pytest

from umbel.clientapp import told_failure
from umbel.records import ErrorCode

SECRET = "MrsSmith"


@pytest.mark.parametrize("kind", ["ValueError", "KeyboardInterrupt", "ProtocolError"])
def test_known_kinds_are_told(policy, kind):
    code, told, reason = told_failure(policy(), 2, kind, SECRET)
    assert (code, told) == (2, kind)
    assert SECRET not in reason
    assert "dpo@clinic" in reason


@pytest.mark.parametrize("kind", [SECRET, "", "print", "ValueError "])
def test_kinds_of_the_apps_making_are_not(policy, kind):
    assert told_failure(policy(), 2, kind, SECRET)[1] == "Exception"


def test_codes_of_the_apps_making_are_not(policy):
    assert told_failure(policy(), 1950, "ValueError", "")[0] == 2
    crash = int(ErrorCode.CLIENT_APP_CRASHED)
    assert told_failure(policy(), crash, "SIGKILL", "")[:2] == (crash, "Exception")


def test_as_the_policy_says(policy):
    failure = (2, "ValueError", SECRET)
    assert told_failure(policy('[errors]\ntell = "text"'), *failure) == failure
    nothing = told_failure(policy('[errors]\ntell = "nothing"'), *failure)
    assert nothing[:2] == (0, "Exception")
    assert SECRET not in nothing[2]
