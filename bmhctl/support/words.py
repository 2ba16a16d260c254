"""A base class for a set of words that costs less at start-up than ``enum.StrEnum``.

An enum of ten words takes a tenth of a millisecond when its module is loaded, and the modules of one command have a
dozen. A class derived from this base takes a tenth of that. Its words are strings and single instances, as those of an
enum are; the class can be iterated, called with a word, and indexed with a name. Type checkers see a ``StrEnum``. What
looks for an ``enum.Enum`` itself, as Typer does in annotations, needs one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Words"]

if TYPE_CHECKING:
    from enum import StrEnum as Words
else:

    class _WordsType(type):
        """Makes a word of every string that the body of a class assigns to a public name."""

        def __new__(mcs, name, bases, body):
            members = {key: text for key, text in body.items() if type(text) is str and key[0] != "_"}
            made = super().__new__(mcs, name, bases, body)
            made._words = {}
            for key, text in members.items():
                word = made._words[text] = str.__new__(made, text)
                word.name, word.value = key, text
                setattr(made, key, word)
            return made

        def __call__(cls, text):
            try:
                return cls._words[text]
            except (KeyError, TypeError):
                raise ValueError(f"{text!r} is not a valid {cls.__qualname__}") from None

        def __getitem__(cls, name):
            return cls.__members__[name]

        def __iter__(cls):
            return iter(cls._words.values())

        def __len__(cls):
            return len(cls._words)

        def __contains__(cls, text):
            return text in cls._words

        @property
        def __members__(cls):
            return {word.name: word for word in cls._words.values()}

    class Words(str, metaclass=_WordsType):
        """The base of a set of words: a subclass assigns each word to its name."""

        def __repr__(self):
            return f"<{type(self).__name__}.{self.name}: {self.value!r}>"

        def __str__(self):
            return self.value

        def __reduce_ex__(self, _):
            return type(self), (self.value,)
