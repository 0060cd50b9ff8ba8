#!/usr/bin/env python3
"""Verify an export of hipaamail's audit log, offline: `python verifier.py export.zip [--key HEX]`.

This one file stands alone: it needs Python 3.11 and the package `cryptography`, and nothing of hipaamail. Take
it from the published source, not from whoever hands you the export. `--key` is the installation's public
key as you know it from elsewhere; without it the file is only shown to agree with itself.

It leaves with 0 if all is well, 1 if anything is wrong, 2 if it could not look.
"""

import argparse
import hashlib
import json
import re
import sys
import zipfile
import zlib
from collections.abc import Iterator
from itertools import groupby

try:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
except ImportError:
    sys.stderr.write("This needs the package cryptography: python -m pip install cryptography\n")
    sys.exit(2)

MEMBERS = {"manifest.json", "manifest.sig", "blocks.jsonl", "entries.jsonl", "facts.jsonl"}
LONGEST_LINE = 1_000_000
#: `{"block":5,"position":3,"proof":[…],"entry":<the entry's own line>}`
ENTRY = re.compile(rb'\{"block":(\d+),"position":(\d+),"proof":(\[[^]]*\]),"entry":(\{.*\})\}\n')
SHOWN = 20


class Wrong(Exception):
    """Something does not fit; the message says what."""


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def signed(key: str, signature: str, data: bytes) -> bool:
    """Say whether the Ed25519 signature (RFC 8032) fits the data."""
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(bytes.fromhex(signature), data)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def root_by(leaf: bytes, index: int, size: int, proof: list[str]) -> bytes:
    """Return the Merkle root (RFC 6962, 2.1.1) that a leaf and its proof lead to."""
    if not 0 <= index < size:
        raise Wrong("its place is not in the block")
    steps = [bytes.fromhex(step) for step in proof]
    hashed = leaf
    while size > 1:
        if index ^ 1 < size:
            if not steps:
                raise Wrong("its proof is too short")
            other = steps.pop(0)
            pair = other + hashed if index & 1 else hashed + other
            hashed = sha256(b"\x01" + pair)
        index, size = index >> 1, (size + 1) >> 1
    if steps:
        raise Wrong("its proof is too long")
    return hashed


class Export:
    """An export under verification; `wrong` gathers what does not fit."""

    def __init__(self, archive: zipfile.ZipFile, key: str | None) -> None:
        self.archive, self.key = archive, key
        self.wrong: list[str] = []
        #: Block number → (root, entries in it).
        self.blocks: dict[int, tuple[bytes, int]] = {}
        #: (Entry id, model) → what the entry says of its rows.
        self.claims: dict[tuple[int, str], dict] = {}
        self.counts = {"blocks": 0, "entries": 0, "facts": 0}
        names = archive.namelist()
        if len(names) != len(set(names)) or set(names) != MEMBERS:
            raise Wrong("The files in the archive are not those of an export.")
        content = archive.read("manifest.json")
        self.manifest = json.loads(content)
        self.seal = json.loads(archive.read("manifest.sig"))
        if self.manifest.get("format") != "hipaamail.export.1":
            raise Wrong("The export has a format that this verifier does not know.")
        if not signed(self.seal["public_key"], self.seal["signature"], content):
            raise Wrong("The manifest's signature does not fit.")
        if key and self.seal["public_key"] != key:
            raise Wrong("The manifest is signed with another key than the one you gave.")
        self.keys = set(self.manifest["public_keys"])

    def check(self) -> None:
        """Go through all files."""
        self.check_blocks()
        self.check_entries()
        self.check_facts()
        for name, count in self.counts.items():
            if count != self.manifest[name]:
                self.wrong.append(f"{self.manifest[name]} {name} were promised, {count} are there.")

    def lines(self, name: str) -> Iterator[bytes]:
        """Yield a file's lines; note it as wrong when its hash is not the manifest's."""
        hashed = hashlib.sha256()
        with self.archive.open(name) as file:
            while line := file.readline(LONGEST_LINE):
                hashed.update(line)
                yield line
        if hashed.hexdigest() != self.manifest["files"].get(name):
            self.wrong.append(f"{name} is not the file that was signed.")

    def check_blocks(self) -> None:
        """Check the signature of each block, and in an export of everything the chain."""
        number = chained = None
        for line in self.lines("blocks.jsonl"):
            held = json.loads(line)
            block = held["block"]
            header = json.dumps(block, sort_keys=True, separators=(",", ":")).encode()
            if block["public_key"] not in self.keys:
                self.wrong.append(f"Block {block['number']} is signed with an unknown key.")
            elif not signed(block["public_key"], held["signature"], header):
                self.wrong.append(f"The signature of block {block['number']} does not fit.")
            if number is not None and block["number"] <= number:
                self.wrong.append(f"Block {block['number']} is out of order.")
            follows = number is None or (block["number"], block["previous"]) == (
                number + 1,
                chained,
            )
            if self.manifest["whole"] and not follows:
                self.wrong.append(f"Block {block['number']} does not continue block {number}.")
            number = block["number"]
            chained = sha256(header + bytes.fromhex(held["signature"])).hex()
            self.blocks[number] = (bytes.fromhex(block["root"]), block["count"])
            self.counts["blocks"] += 1

    def check_entries(self) -> None:
        """Check that each entry is in its block, and in an export of everything that none is left out."""
        place = (-1, -1)
        missing = {number: count for number, (_, count) in self.blocks.items()}
        for number, line in enumerate(self.lines("entries.jsonl"), 1):
            self.counts["entries"] += 1
            try:
                here = self.check_entry(line)
            except Wrong as error:
                self.wrong.append(f"Entry in line {number}: {error}.")
                continue
            except (ValueError, KeyError, TypeError, AttributeError):
                self.wrong.append(f"Entry in line {number}: it cannot be read.")
                continue
            if here <= place:
                self.wrong.append(f"Entry in line {number}: out of order, or twice.")
            place = here
            missing[here[0]] -= 1
        if self.manifest["whole"]:
            for block, count in missing.items():
                if count:
                    self.wrong.append(f"Block {block} lacks {count} of its entries.")

    def check_entry(self, line: bytes) -> tuple[int, int]:
        """Check one entry; return its block and its place there."""
        parts = ENTRY.fullmatch(line)
        if parts is None:
            raise Wrong("it cannot be read")
        block, position = int(parts[1]), int(parts[2])
        if block not in self.blocks:
            raise Wrong(f"its block {block} is not in the export")
        root, size = self.blocks[block]
        if root_by(sha256(b"\x00" + parts[4]), position, size, json.loads(parts[3])) != root:
            raise Wrong("it is not what was sealed")
        entry = json.loads(parts[4])
        if entry["format"] != "hipaamail.entry.1":
            raise Wrong("its format is unknown")
        if not self.manifest["whole"]:
            if entry["organization"] != self.manifest["organization"]:
                raise Wrong("it belongs to another organization")
            if not self.manifest["since"] <= entry["at"] < self.manifest["until"]:
                raise Wrong("it lies outside the period")
        for label, claim in entry["facts"].items():
            self.claims[entry["id"], label] = claim
        return block, position

    def check_facts(self) -> None:
        """Check that the hashes of rows are the lists that the entries were sealed with."""
        facts = map(json.loads, self.lines("facts.jsonl"))
        for (entry, label), group in groupby(
            facts, key=lambda fact: (fact["entry"], fact["label"])
        ):
            rows = [(fact["row"], fact["sha256"]) for fact in group]
            self.counts["facts"] += len(rows)
            joined = b"".join(bytes.fromhex(row.replace("-", "") + digest) for row, digest in rows)
            claim = {"count": len(rows), "sha256": sha256(joined).hex()}
            if self.claims.pop((entry, label), None) != claim:
                self.wrong.append(
                    f"The rows of {label} in entry {entry} are not those it was sealed with."
                )
        for entry, label in self.claims:
            self.wrong.append(f"The rows of {label} in entry {entry} are missing.")


def main(arguments: list[str] | None = None) -> int:
    """Verify the export named on the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", help="the zip file")
    parser.add_argument("--key", help="the installation's public key, 64 hexadecimal digits")
    given = parser.parse_args(arguments)
    say = sys.stdout.write
    try:
        with zipfile.ZipFile(given.export) as archive:
            export = Export(archive, given.key.lower() if given.key else None)
            export.check()
    except OSError as error:
        say(f"The file cannot be opened: {error.strerror or error}.\n")
        return 2
    except Wrong as error:
        say(f"WRONG: {error}\n")
        return 1
    except (
        zipfile.BadZipFile,
        zlib.error,
        ValueError,
        KeyError,
        TypeError,
        EOFError,
        RuntimeError,
    ):
        say("WRONG: The file is damaged, or not an export.\n")
        return 1
    for line in export.wrong[:SHOWN]:
        say(f"WRONG: {line}\n")
    if len(export.wrong) > SHOWN:
        say(f"WRONG: and {len(export.wrong) - SHOWN} more.\n")
    manifest = export.manifest
    say(
        f"{export.counts['entries']} entries in {export.counts['blocks']} blocks, {export.counts['facts']} "
        f"rows vouched for, {manifest['since']} to {manifest['until']}, "
        f"{'all organizations' if manifest['whole'] else 'organization ' + manifest['organization']}.\n"
    )
    say(f"Signed with the key {export.seal['public_key']}.\n")
    if export.wrong:
        return 1
    if not given.key:
        say("Compare this key with the one that you know from elsewhere, or give it with --key.\n")
    say("All of it is as it was sealed.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
