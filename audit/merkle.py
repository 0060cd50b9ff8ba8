"""Merkle trees as in RFC 6962, section 2.1: one root for a block, short proofs for its entries.

Leaves and inner nodes are hashed under different prefixes, so that neither passes for the other.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256

#: The root of a tree without leaves.
EMPTY = sha256(b"").digest()


def leaf(data: bytes) -> bytes:
    """Return the hash of one entry's line."""
    return sha256(b"\x00" + data).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of two neighbours."""
    return sha256(b"\x01" + left + right).digest()


def levels(leaves: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Return all levels of the tree, from the leaves up to the root.

    A node without a neighbour moves up as it is, which gives the very tree of the RFC (split at the largest
    power of two).
    """
    found = [leaves]
    while len(leaves) > 1:
        pairs = iter(leaves)
        above = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs)]  # noqa: B905
        if len(leaves) % 2:
            above.append(leaves[-1])
        found.append(leaves := above)
    return found


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree's root, 32 bytes."""
    return levels(leaves)[-1][0] if leaves else EMPTY


def proof(tree: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """Return the neighbours on the way from a leaf to the root, given the tree's `levels()`."""
    path = []
    for level in tree[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index >>= 1
    return path


def proves(
    leaf_hash: bytes, index: int, size: int, path: Sequence[bytes], root_hash: bytes
) -> bool:
    """Say whether the path leads from leaf `index` of `size` to the root."""
    if not 0 <= index < size:
        return False
    hashed, steps = leaf_hash, iter(path)
    try:
        while size > 1:
            if index ^ 1 < size:
                neighbour = next(steps)
                hashed = node(neighbour, hashed) if index & 1 else node(hashed, neighbour)
            index, size = index >> 1, (size + 1) >> 1
    except StopIteration:
        return False
    return next(steps, None) is None and hmac.compare_digest(hashed, root_hash)
