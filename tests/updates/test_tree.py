from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.updates import PartialSums, ReductionTree, halve

COHORTS = st.one_of(st.integers(1, 40), st.integers(1, 40), st.integers(100, 200))


def brackets(left: str, right: str) -> str:
    return f"({left}+{right})"


def expected(cohort: int) -> str:
    """The brackets as the module describes them: halves down to blocks, in blocks a chain."""

    def total(low: int, high: int) -> str:
        if high - low > 8:
            (a, b), (c, d) = halve((low, high))
            return brackets(total(a, b), total(c, d))
        text = str(low)
        for member in range(low + 1, high):
            text = brackets(text, str(member))
        return text

    return total(0, cohort)


@given(st.integers(0, 100_000))
def test_blocks_cover_the_cohort_in_order_and_are_few(cohort):
    blocks = ReductionTree(cohort).blocks
    assert [start for start, _ in blocks[1:]] == [stop for _, stop in blocks[:-1]]
    assert (blocks[0][0], blocks[-1][1]) == (0, cohort)
    assert len(blocks) <= 8192


@given(COHORTS.flatmap(lambda n: st.permutations(range(n))))
def test_any_order_of_arrival_gives_the_same_brackets(order):
    sums = PartialSums(len(order), brackets)
    for member in order:
        assert not sums.complete()
        sums.put((member, member + 1), str(member))
    assert sums.complete()
    assert sums.total() == expected(len(order))


@settings(max_examples=40)
@given(st.data())
def test_any_share_of_members_and_any_handing_over_give_the_same_brackets(data):
    cohort = data.draw(COHORTS)
    owners = data.draw(st.lists(st.integers(0, 3), min_size=cohort, max_size=cohort))
    commits = data.draw(st.lists(st.booleans(), min_size=cohort, max_size=cohort))
    order = data.draw(st.one_of(st.just(range(cohort)), st.permutations(range(cohort))))
    server = PartialSums(cohort, brackets)
    workers = [PartialSums(cohort, brackets) for _ in range(4)]
    for member in order:
        worker = workers[owners[member]]
        start, acc = worker.take_before(member)
        worker.put((start, member + 1), str(member) if acc is None else brackets(acc, str(member)))
        if commits[member]:
            for span, total in worker.drain():
                server.put(span, total)
    for worker in workers:
        for span, total in worker.drain():
            server.put(span, total)
    assert server.total() == expected(cohort)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_members_without_a_reply_leave_the_others_in_order(present):
    sums = PartialSums(len(present), brackets)
    for member, there in enumerate(present):
        sums.put((member, member + 1), str(member) if there else None)
    total = sums.total()
    kept = [str(member) for member, there in enumerate(present) if there]
    assert (total is None) == (not kept)
    assert total is None or [part.strip("()") for part in total.split("+")] == kept


def test_nobody_sums_to_nothing():
    sums = PartialSums(0, brackets)
    assert sums.complete()
    assert sums.total() is None
