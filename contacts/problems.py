"""What can be wrong with a value or a file, said without repeating the value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not acceptable: a code for programs, a sentence for people. Neither holds the value."""

    code: str
    sentence: str


class Unacceptable(ValueError):
    """A value that is refused; its message is the sentence, which never holds the value."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence

    @property
    def problem(self) -> Problem:
        """The same as a Problem."""
        return Problem(self.code, self.sentence)
