from agent.bucket import Buckets


def taken(buckets, key, *times):
    return [buckets.take(key, at) for at in times]


def test_a_burst_then_so_many_a_second():
    buckets = Buckets(rate=2.0, burst=3.0)
    assert taken(buckets, "a", *[0.0] * 5) == [True, True, True, False, False]
    assert taken(buckets, "a", 0.4, 0.5, 0.6) == [False, True, False]
    assert sum(taken(buckets, "a", *(1.0 + i / 100 for i in range(1000)))) == 20


def test_who_was_quiet_for_long_has_one_burst_and_no_more():
    buckets = Buckets(rate=2.0, burst=3.0)
    assert sum(taken(buckets, "a", *[1e6] * 10)) == 3
    assert sum(taken(buckets, "a", *[2e6] * 10)) == 3


def test_nobody_pays_for_another_and_a_forgotten_one_begins_anew():
    buckets = Buckets(rate=1.0, burst=1.0)
    assert taken(buckets, "a", 0.0, 0.0) == [True, False] and buckets.take("b", 0.0)
    buckets.forget("a"), buckets.forget("nobody")
    assert buckets.take("a", 0.0)


def test_a_flood_of_keys_costs_no_memory_and_the_oldest_goes():
    buckets = Buckets(rate=0.0, burst=1.0, keys=3)
    assert all(buckets.take(f"k{i}", 0.0) for i in range(1000)) and len(buckets._levels) == 3
    assert not buckets.take("k999", 0.0) and buckets.take("k0", 0.0)
