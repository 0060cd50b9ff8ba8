"""Merkle trees: RFC 6962's tree, and proofs that prove one place and no other."""

from hypothesis import given
from hypothesis import strategies as st

from audit import merkle

#: The eight entries and roots of the test vectors published with RFC 6962's reference implementation.
ENTRIES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
ROOTS = {
    0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}

leaves_of = st.lists(st.binary(max_size=4).map(merkle.leaf), min_size=1, max_size=40)


def split_root(leaves: list[bytes]) -> bytes:
    """The RFC's own recursive definition (2.1): split at the largest power of two below the size."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return merkle.node(split_root(leaves[:split]), split_root(leaves[split:]))


def test_the_published_roots_come_out():
    leaves = [merkle.leaf(bytes.fromhex(entry)) for entry in ENTRIES]

    assert {size: merkle.root(leaves[:size]).hex() for size in ROOTS} == ROOTS


@given(leaves_of)
def test_the_root_is_that_of_the_definition(leaves):
    assert merkle.root(leaves) == split_root(leaves)


@given(leaves_of, st.data())
def test_a_proof_proves_its_leaf_at_its_place(leaves, data):
    tree = merkle.levels(leaves)
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle.proof(tree, index)

    assert merkle.proves(leaves[index], index, len(leaves), path, merkle.root(leaves))


@given(leaves_of, st.data())
def test_a_proof_proves_nothing_else(leaves, data):
    root, size = merkle.root(leaves), len(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = merkle.proof(merkle.levels(leaves), index)
    other = data.draw(st.integers(-2, size + 2).filter(lambda place: place != index))

    assert not merkle.proves(merkle.leaf(b"forged"), index, size, path, root)
    assert not merkle.proves(leaves[index], index, size, [*path, root], root)
    assert not merkle.proves(leaves[index], index, size, path, merkle.leaf(b"root"))
    if path:
        assert not merkle.proves(leaves[index], index, size, path[:-1], root)
    if not 0 <= other < size or leaves[other] != leaves[index]:
        moved = merkle.proves(leaves[index], other, size, path, root)
        assert not moved


def test_an_inner_node_does_not_pass_for_a_leaf():
    left, right = merkle.leaf(b"a"), merkle.leaf(b"b")

    assert merkle.leaf(left + right) != merkle.node(left, right)
    assert merkle.root([merkle.node(left, right)]) == merkle.root([left, right])
    assert merkle.root([merkle.leaf(left + right)]) != merkle.root([left, right])
