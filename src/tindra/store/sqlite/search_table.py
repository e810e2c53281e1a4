"""Where in the search file the Emails of one account are: a range of rows of a shared index.

Pure numbers and names. An index of its own for each account would be simpler, but the schema of a
database is read anew by every connection whenever a table is added: with 1,000 accounts that stood
still for 0.1 s (measured), with 3,000 for 1 s. So ACCOUNTS_PER_TABLE accounts share one, each in a
range of row numbers that starts at a multiple of 2**54, far above every doc_id.

Invariant: rows of two accounts never mix, because every statement binds its range.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ACCOUNTS_PER_TABLE: Final = 256
"""Few tables for many accounts, and postings of one word not much longer than one account's."""
_DOC_BITS: Final = 54
"""Above every doc_id (2**53); 256 ranges of it fit a signed 64-bit row number."""


class SearchRange(NamedTuple):
    """The rows of one account: [first, end) of a table, row = first + doc_id."""

    table_number: int
    first: int
    end: int

    @property
    def table(self) -> str:
        """The name of the table."""
        return f"fts_{self.table_number}"


def locate_account(number: int) -> SearchRange:
    """The range of the account that got this number in the registry of the search file."""
    first = (number % ACCOUNTS_PER_TABLE) << _DOC_BITS
    return SearchRange(number // ACCOUNTS_PER_TABLE, first, first + (1 << _DOC_BITS))
