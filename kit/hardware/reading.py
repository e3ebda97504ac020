"""From the tokens of a text to nouns with counts: "16 nodes (8 * V100)" is 16 nodes and 8 V100."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise, zip_longest

from kit.hardware.words import Token, Vocabulary

EXAMPLE = "write as in '8 x V100'"
EXAMPLE_NODES = "write as in '4 nodes x 8 x V100'"


class UnclearError(Exception):
    """Why a text cannot be read."""

    what = "hardware"


class UnknownError(UnclearError):
    """It names nothing of the table."""

    what = "unknown hardware"


@dataclass
class Noun:
    """Something counted."""

    token: Token
    count: Fraction | None
    unit: str = ""


@dataclass(frozen=True)
class Reading:
    """What a text says, before it is made sense of."""

    nouns: tuple[Noun, ...]
    each: bool
    """Whether devices are counted per node."""
    forms: frozenset[str]
    memory_gb: frozenset[float]
    """Of a device, or perhaps of one."""
    own_memory_gb: frozenset[float]
    """Surely of a device: it stands beside its name."""
    cpus: bool
    unknown: tuple[str, ...]
    """Words, and pairs of words, that nothing is known of."""

    def of(self, *kinds: str) -> list[Noun]:
        """The nouns of these kinds."""
        return [noun for noun in self.nouns if noun.token.kind in kinds]


class Reader:
    """A number counts the noun after it, or with "times" between them the noun before it."""

    def __init__(self, words: Vocabulary) -> None:
        self._words = words
        self._nouns: list[Noun] = []
        self._each = False
        self._before: Token | None = None
        self._number: Fraction | None = None
        self._before_number: Token | None = None
        self._factor = False
        """Whether the number is a factor of the noun before it."""
        self._noun: Noun | None = None
        """The noun that a factor would belong to."""
        self._loose: Fraction | None = None
        """A number of this phrase that an unknown word took."""

    def read(self, text: str) -> Reading:
        """What the text says.

        Raises:
            UnclearError: A number counts nothing, or one cannot tell what.
        """
        tokens = list(self._words.tokens(text))
        for token, following in zip_longest(tokens, tokens[1:]):
            self._take(token, following)
            if token.kind not in ("filler", "form"):
                self._before = token
        self._settle()
        own, other = _memory_gb(tokens)
        cpus = any(token.kind == "cpu" or token.key == "core" for token in tokens)
        others = [token.text for token in tokens if token.kind in ("word", "number")]
        return Reading(
            nouns=tuple(self._nouns),
            each=self._each,
            forms=frozenset(token.key for token in tokens if token.kind == "form"),
            memory_gb=own if cpus else own | other,
            own_memory_gb=own,
            cpus=cpus,
            unknown=(*map("".join, pairwise(others)), *others),
        )

    def _take(self, token: Token, following: Token | None) -> None:
        match token.kind:
            case "number":
                self._multiply(token)
            case "times":
                self._times()
            case "unit" if self._number is None and self._stands_after_noun():
                self._nouns[-1].unit = token.key
            case "node" if self._number is None and token.value is None:
                self._node()
            case "device" | "machine" | "unit" | "node":
                self._count(token)
            case "each":
                self._settle()
                self._each = True
            case "memory" if self._factor:
                self._settle()
            case "break":
                self._break(following)
            case "word":
                self._word()
            case "cpu":
                self._forget()

    def _multiply(self, token: Token) -> None:
        if self._number is None:
            self._number, self._before_number = Fraction(1), self._before
        self._number *= token.value if token.value is not None else 1

    def _times(self) -> None:
        noun = self._noun
        if self._factor and self._number is not None and noun is not None and noun.count is None:
            self._settle()
            self._noun = noun
        self._factor = self._factor or self._number is None

    def _count(self, token: Token) -> None:
        """A noun, with the number before it."""
        if self._number is None and self._loose is not None:
            raise UnclearError(f"cannot tell what '{self._loose}' counts; {EXAMPLE}")
        if self._factor and self._noun is not None and {self._noun.token.kind, token.kind} & {"node", "machine"}:
            self._each = True
        noun = Noun(token, token.value if token.kind == "node" and token.value is not None else self._number)
        self._nouns.append(noun)
        self._forget()
        self._noun = noun

    def _node(self) -> None:
        """A node without a number, as in "for each node": nothing, unless it makes devices out to be nodes."""
        if self._stands_after_noun() and self._nouns[-1].token.kind == "device" and self._nouns[-1].count is not None:
            raise UnclearError(f"cannot tell devices from nodes; {EXAMPLE_NODES}")

    def _stands_after_noun(self) -> bool:
        return bool(self._nouns) and self._before is self._nouns[-1].token

    def _word(self) -> None:
        """An unknown word takes the number before it, unless that is a factor of a noun."""
        if self._factor and self._noun is not None:
            self._settle()
        elif self._number is not None:
            self._loose = self._number
        self._forget()

    def _break(self, following: Token | None) -> None:
        """The end of a phrase, unless "times" stands at either side of it."""
        joined = self._before is not None and self._before.kind == "times"
        if joined or (following is not None and following.kind == "times"):
            return
        noun = self._noun
        self._settle()
        self._noun, self._loose = noun, None

    def _settle(self) -> None:
        """A number that no noun follows is a factor of the one before it, or part of a name ("Gold 6148")."""
        if self._number is not None:
            if self._factor and self._noun is not None:
                self._noun.count = self._number * (1 if self._noun.count is None else self._noun.count)
            elif self._before_number is None or self._before_number.kind not in ("word", "cpu"):
                raise UnclearError(f"cannot tell what '{self._number}' counts; {EXAMPLE}")
        self._forget()

    def _forget(self) -> None:
        self._number, self._factor, self._noun = None, False, None


def _memory_gb(tokens: list[Token]) -> tuple[frozenset[float], frozenset[float]]:
    """Sizes in phrases with a device, and in others."""
    own: set[float] = set()
    other: set[float] = set()
    phrase: list[Token] = []
    for token in [*tokens, Token("break", "")]:
        if token.kind != "break":
            phrase.append(token)
            continue
        sizes = {float(size.value) for size in phrase if size.kind == "memory" and size.value is not None}
        (own if any(word.kind == "device" for word in phrase) else other).update(sizes)
        phrase = []
    return frozenset(own), frozenset(other)
