"""What the demo provider can be told to do wrong, as data; the servers read it at every step.

One mutable record, shared by all connections and changeable while they run. Every switch stands
for something that a real server did to a real client. Off is the default everywhere: a provider
without faults follows the standards. Nothing is implemented here.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

LoginRefusal = Literal["", "credentials", "throttled", "disabled"]
Poison = Literal["", "cut", "garbage", "endless", "refused"]
POISON_WORDS: Final = b"poison"


class Faults(msgspec.Struct):
    """The switches. Command names are in capitals, `UID ` in front where it belongs."""

    # --- capabilities that are not offered (and whose commands are then unknown) ----------------
    no_condstore: bool = False
    """Old servers know no mod-sequences: flags must be polled in windows."""
    no_qresync: bool = False
    """CONDSTORE alone does not list what was expunged: the whole folder must be compared."""
    no_move: bool = False
    """Then a move is COPY, flag, and UID EXPUNGE of exactly these."""
    no_uidplus: bool = False
    """No COPYUID, no APPENDUID, no UID EXPUNGE: a bare EXPUNGE deletes what others have marked."""
    no_special_use: bool = False
    """Roles must be guessed from names, and only where one single candidate fits."""
    no_idle: bool = False
    """Then only polling notices new mail."""
    no_esearch: bool = False
    """A plain SEARCH answer names each UID: long lines."""
    no_list_status: bool = False
    """One STATUS command for each folder."""
    no_literal_plus: bool = False
    """Every literal waits for its go-ahead."""
    no_quota: bool = False
    """Many servers count nothing, or do not tell."""
    no_enable: bool = False
    """A server without ENABLE cannot be told to use QRESYNC."""

    # --- connections ----------------------------------------------------------------------------
    bye_at_once: bool = False
    """BYE instead of a greeting: overloaded, or "too many connections"."""
    connections_max: int | None = None
    """Large providers allow some fifteen connections and share them between all clients."""
    drop_in_literal_at: int | None = None
    """Cut the connection after so many octets of a message body: half a mail must not be stored."""
    drops_left: int | None = None
    """How often connections are cut before that stops by itself; None: for ever."""
    drop_before: frozenset[str] = frozenset()
    """Hang up when this command comes, with nothing done."""
    drop_after: frozenset[str] = frozenset()
    """Do it, then hang up before saying so: the outcome is uncertain and must be reconciled."""
    drop_idle: bool = False
    """Some servers hang up on IDLE at random. That is no error and no reason for a long pause."""
    stall_on: frozenset[str] = frozenset()
    """Take the command and never answer: only a deadline of the client helps."""
    refuse: frozenset[str] = frozenset()
    """Answer NO to these commands."""
    command_chars_max: int | None = None
    """Some servers hang up on long UID sets."""

    # --- logins ---------------------------------------------------------------------------------
    refuse_login: LoginRefusal = ""
    """Wrong credentials ask for the user; "[UNAVAILABLE]" only asks for patience. Mixing them up
    locks people out, or hammers a throttling server."""
    no_auth: bool = False
    """Only the LOGIN command, no AUTHENTICATE."""

    # --- folders --------------------------------------------------------------------------------
    empty_list: bool = False
    """LIST says OK and names nothing: no reason to forget every folder."""
    hide_inbox: bool = False
    """INBOX can be missing from LIST."""
    phantom_folders: frozenset[str] = frozenset()
    """Listed, but SELECT and STATUS refuse them."""
    forget_uidnext: bool = False
    """No UIDNEXT in SELECT nor STATUS: nothing false may be stored instead."""
    zero_uidvalidity: bool = False
    """UIDVALIDITY 0: a bad value must not erase anything."""
    exists_text: str = ""
    """Told in SELECT instead of the number of messages: `-5`, `many`."""
    uidnext_off: int = 0
    """Added to UIDNEXT as told: it can go below what was given out before."""
    renumber_on_select: bool = False
    """Some servers change UIDVALIDITY each time: resyncing must end somewhere."""
    status_count_off: int = 0
    """Added to MESSAGES in STATUS: an answer that lies."""
    garbled_status: bool = False
    """A STATUS answer that cannot be parsed means "unknown", never "unchanged"."""
    modseq_off: int = 0
    """Added to HIGHESTMODSEQ as reported: it can go down while UIDVALIDITY stays."""

    # --- messages -------------------------------------------------------------------------------
    malformed_vanished: bool = False
    """A large provider offers QRESYNC and garbles VANISHED: its mail seemed deleted for years."""
    huge_line_octets: int | None = None
    """An untagged line of this length before each FETCH answer. Lines over 1 MB happen."""
    fetch_without_flags: bool = False
    """FLAGS asked for and not given: that is "unknown", not "no flags"."""
    fetch_without_modseq: bool = False
    """One server leaves MODSEQ out of the answer to CHANGEDSINCE unless asked by name."""
    fetch_without_date: bool = False
    """INTERNALDATE asked for and not given."""
    one_digit_day: bool = False
    """`"7-Jul-2026"` where the grammar wants two characters."""
    unsolicited_fetch: bool = False
    """A FETCH answer about a message that nobody asked for, without a UID."""
    unfetchable_newest: bool = False
    """The newest message is announced and cannot be fetched yet."""
    poison: Poison = ""
    """What a message that holds POISON_WORDS does to whoever fetches it: the connection is cut,
    what follows is no IMAP, more octets are announced than there can be, or the answer is NO. Some
    mailboxes hold one such message for years."""
    fetch_shuffled: bool = False
    """Answers need not come in the order of the set."""
    simple_search_only: bool = False
    """Some SEARCH dialects know no parentheses."""
    deaf_idle: bool = False
    """IDLE is accepted and stays silent: a slow poll must stand behind it."""

    # --- SMTP -----------------------------------------------------------------------------------
    refuse_recipients: frozenset[str] = frozenset()
    """550 for these addresses, in small letters; `*` stands for all."""
    greylist_recipients: int = 0
    """So many RCPT commands get 451 first: a reason to try later, not to give up."""
    lose_final_250: bool = False
    """The mail is taken, then the connection dies: sending again would send twice."""
    drop_in_data_at: int | None = None
    """Hang up after so many octets of DATA: nothing was taken."""
    smtp_busy: bool = False
    """421 instead of a greeting."""
    smtp_refuse_login: bool = False
    """535: the password is wrong."""
    files_sent_copy: bool = False
    """Large providers file sent mail by themselves: appending a copy as well makes two. Theirs has
    a field more."""
    files_sent_after_ms: int = 0
    """And not before their 250, but so much later."""
    message_bytes_max: int | None = None
    """SIZE as announced; a larger mail gets 552 for good."""

    def take_drop(self) -> bool:
        """Whether the connection is to be cut now; counts `drops_left` down."""
        if self.drops_left is None:
            return True
        if self.drops_left <= 0:
            return False
        self.drops_left -= 1
        return True

    def heal(self) -> None:
        """Switch every fault off, in place."""
        healthy = Faults()
        for name in self.__struct_fields__:
            setattr(self, name, getattr(healthy, name))
