from app.messages.dispatch.marks import stretches


def test_where_nothing_is_there_is_what_comes():
    assert stretches([[], []], 5000) == "{[5000,)}"


def test_rows_that_are_close_are_in_one_stretch():
    assert stretches([[10, 20], [15, 30]], 100) == "{[10,)}"


def test_a_row_that_was_left_behind_is_alone():
    assert stretches([[10], [4000, 4100]], 5000) == "{[10,10],[4000,4100],[5000,)}"


def test_of_many_gaps_the_widest_are_left_out():
    ids = [number * 1000 for number in range(1, 21)] + [60_000]
    told = stretches([ids], 90_000)
    assert told.count("[") == 8
    assert told.endswith("20000],[60000,60000],[90000,)}")


def test_behind_so_many_anything_may_be():
    assert stretches([[5], list(range(1000, 2000))], 90_000) == "{[5,5],[1000,)}"
