"""The list of mutations fits the product as it is; `make mutations` shows that each is found."""

from pathlib import Path

import pytest

from tests.mutations.mutations import MUTATIONS


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_what_is_to_be_broken_stands_in_its_file_once(mutation):
    assert Path(mutation.file).read_text().count(mutation.old) == 1


def test_there_are_ten_at_least_and_both_proofs_have_some():
    assert len({mutation.name for mutation in MUTATIONS}) >= 10
    assert {mutation.proof for mutation in MUTATIONS} == {"interleavings", "chaos"}
