"""Runs a checked script over a message; gives what it decided, and does nothing itself.

Every run ends: a script has no loops, and what each step may cost is counted. A script that does
what it may not is ended, and the message kept. Source: RFC 5228 s2.10, s3 to s5
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tindra.wire.sieve.actions import FileInto, Note, Outcome, Surroundings, Vacation
from tindra.wire.sieve.dates import find_part, shift
from tindra.wire.sieve.errors import SieveRuntimeError
from tindra.wire.sieve.grammar import Call, Script, decode_codes
from tindra.wire.sieve.letter import Letter
from tindra.wire.sieve.match import Matching, count_steps, match_count, match_value

STEPS_MAX: Final = 200_000
"""Commands, tests, and what comparisons cost: some tenths of a second, whatever is asked for."""
ACTIONS_MAX: Final = 32
"""Mailboxes that one message may be put into."""
REDIRECTS_MAX: Final = 4
"""maxNumberRedirects: of one message. Source: RFC 5228 s10"""
VARIABLES_MAX: Final = 128
"""RFC 5229 s6 asks for so many."""
VARIABLE_CHARS_MAX: Final = 4_000
"""A longer value is cut. Source: RFC 5229 s6"""
FLAGS_MAX: Final = 100
"""As many keywords as an Email may have."""
VACATION_DAYS_DEFAULT: Final = 7
VACATION_DAYS_MAX: Final = 30
"""Fewer answers than once a month are told as often. Source: RFC 5230 s4.1"""
DUPLICATE_SECONDS_DEFAULT: Final = 7 * 86_400
DUPLICATE_SECONDS_MAX: Final = 30 * 86_400
"""Source: RFC 7352 s3.2"""
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*|[0-9]{1,9})\}", re.ASCII)
_ADDRESS = re.compile(r"[^\s\x00-\x1f\x7f<>@,;]{1,64}@[^\s\x00-\x1f\x7f<>@,;]{1,255}")
_CASE_ORDER = ("lower", "upper", "lowerfirst", "upperfirst", "quotewildcard", "length")


def run_script(script: Script, letter: Letter, around: Surroundings) -> Outcome:
    """What the script decides about one message. Cost: bounded by STEPS_MAX.

    Never raises: what goes wrong is told in the outcome, and the message is kept.
    """
    run = _Run(script, letter, around)
    try:
        run.run_block(script.commands)
        run.end()
    except SieveRuntimeError as error:
        return Outcome(is_kept=True, error=str(error))
    return run.outcome


class _Run:
    def __init__(self, script: Script, letter: Letter, around: Surroundings) -> None:
        self.outcome = Outcome()
        self._letter = letter
        self._around = around
        self._has_variables = "variables" in script.required
        self._has_codes = "encoded-character" in script.required
        self._variables: dict[str, str] = {}
        self._captured: list[str] = []
        self._flags: tuple[str, ...] | None = None
        self._is_implicit = True
        self._steps = STEPS_MAX

    def end(self) -> None:
        """The implicit keep. Source: RFC 5228 s2.10.2"""
        if self._is_implicit and not self.outcome.is_kept:
            self._keep(self._flags)

    def _spend(self, steps: int, line: int) -> None:
        self._steps -= steps
        if self._steps < 0:
            raise SieveRuntimeError(line, "this takes too long")

    # -- strings ---------------------------------------------------------------------------------
    def _expand(self, text: str) -> str:
        if self._has_codes and "${" in text:
            text = decode_codes(text)
        if self._has_variables and "${" in text:
            text = _REFERENCE.sub(self._look_up, text)[: 4 * VARIABLE_CHARS_MAX]
        return text

    def _look_up(self, match: re.Match[str]) -> str:
        name = match[1]
        if not name.isdigit():
            return self._variables.get(name.lower(), "")
        number = int(name)
        return self._captured[number] if number < len(self._captured) else ""

    def _all(self, strings: Iterable[str] | None) -> list[str]:
        return [self._expand(text) for text in strings or ()]

    def _tag(self, call: Call, name: str) -> str | None:
        value = call.tags.get(name)
        return None if value is None else self._expand(str(value))

    def _tag_list(self, call: Call, name: str) -> list[str]:
        value = call.tags.get(name)
        return self._all(value) if isinstance(value, tuple) else []

    def _tag_number(self, call: Call, name: str, default: int) -> int:
        value = call.tags.get(name)
        return value if isinstance(value, int) else default

    # -- commands --------------------------------------------------------------------------------
    def run_block(self, commands: Sequence[Call]) -> bool:
        """Commands in a row; False after `stop`."""
        is_chain_open = False
        for call in commands:
            self._spend(1, call.line)
            if call.name in ("if", "elsif", "else"):
                is_chain_open = call.name == "if" or is_chain_open
                if is_chain_open and all(self._test(test) for test in call.tests):
                    is_chain_open = False
                    if not self.run_block(call.block):
                        return False
            elif call.name == "stop":
                return False
            else:
                _COMMANDS[call.name](self, call)
        return True

    def _keep(self, flags: tuple[str, ...] | None) -> None:
        self.outcome.is_kept = True
        if flags is not None:
            self.outcome.keep_flags = flags

    def _choose_flags(self, call: Call) -> tuple[str, ...] | None:
        if "flags" not in call.tags:
            return self._flags
        return _split_flags(self._tag_list(call, "flags"))

    def do_keep(self, call: Call) -> None:
        """Source: RFC 5228 s4.3, RFC 5232 s5"""
        self._keep(self._choose_flags(call))

    def do_discard(self, call: Call) -> None:
        """Source: RFC 5228 s4.4"""
        self._is_implicit = False

    def do_fileinto(self, call: Call) -> None:
        """Source: RFC 5228 s4.1, RFC 3894, RFC 5490, RFC 8579"""
        [name] = self._all(call.strings[0])
        action = FileInto(
            name,
            self._choose_flags(call),
            "create" in call.tags,
            self._tag(call, "specialuse"),
        )
        if action not in self.outcome.files:
            self.outcome.files.append(action)
        if len(self.outcome.files) > ACTIONS_MAX:
            raise SieveRuntimeError(call.line, f"a message goes into {ACTIONS_MAX} mailboxes")
        self._is_implicit = self._is_implicit and "copy" in call.tags

    def do_redirect(self, call: Call) -> None:
        """Source: RFC 5228 s4.2, RFC 3894"""
        [address] = self._all(call.strings[0])
        if not _ADDRESS.fullmatch(address):
            raise SieveRuntimeError(call.line, f"{address[:60]!r} is not an address")
        if address not in self.outcome.redirects:
            self.outcome.redirects.append(address)
        if len(self.outcome.redirects) > REDIRECTS_MAX:
            raise SieveRuntimeError(call.line, f"a message is redirected {REDIRECTS_MAX} times")
        self._is_implicit = self._is_implicit and "copy" in call.tags

    def do_set(self, call: Call) -> None:
        """Source: RFC 5229 s4"""
        [value] = self._all(call.strings[1])
        for name in _CASE_ORDER:
            if name in call.tags:
                value = _MODIFIERS[name](value)
        self._set_variable((call.strings[0] or ("",))[0], value, call.line)

    def _set_variable(self, name: str, value: str, line: int) -> None:
        self._variables[name.lower()] = value[:VARIABLE_CHARS_MAX]
        if len(self._variables) > VARIABLES_MAX:
            raise SieveRuntimeError(line, f"a script has {VARIABLES_MAX} variables")

    def do_flags(self, call: Call) -> None:
        """setflag, addflag, removeflag. Source: RFC 5232 s3"""
        name = call.strings[0][0] if call.strings[0] else None
        given = _split_flags(self._all(call.strings[1]))
        before = self._load_flags(name)
        if call.name == "setflag":
            after = given
        elif call.name == "addflag":
            after = _split_flags([*before, *given])
        else:
            gone = {flag.lower() for flag in given}
            after = tuple(flag for flag in before if flag.lower() not in gone)
        if name is None:
            self._flags = after
        else:
            self._set_variable(name, " ".join(after), call.line)

    def _load_flags(self, name: str | None) -> tuple[str, ...]:
        if name is not None:
            return _split_flags([self._variables.get(name.lower(), "")])
        return self._around.flags if self._flags is None else self._flags

    def do_vacation(self, call: Call) -> None:
        """Source: RFC 5230 s4"""
        if self.outcome.vacation is not None:
            raise SieveRuntimeError(call.line, "a message is answered once")
        [reason] = self._all(call.strings[0])
        subject, sender = self._tag(call, "subject"), self._tag(call, "from")
        days = self._tag_number(call, "days", VACATION_DAYS_DEFAULT)
        # Without a handle, answers that say the same count together. RFC 5230 s4.2
        same = "\0".join((subject or "", sender or "", "mime"[: 4 * ("mime" in call.tags)], reason))
        handle = self._tag(call, "handle")
        self.outcome.vacation = Vacation(
            reason=reason,
            days=max(1, min(days, VACATION_DAYS_MAX)),
            subject=subject,
            sender=sender,
            addresses=tuple(self._tag_list(call, "addresses")),
            is_entity="mime" in call.tags,
            handle=f"same:{same}" if handle is None else f"handle:{handle}",
        )

    # -- tests -----------------------------------------------------------------------------------
    def _test(self, call: Call) -> bool:
        self._spend(1, call.line)
        return _TESTS[call.name](self, call)

    def is_not(self, call: Call) -> bool:
        """Source: RFC 5228 s5.8"""
        return not self._test(call.tests[0])

    def is_allof(self, call: Call) -> bool:
        """Source: RFC 5228 s5.2"""
        return all(self._test(test) for test in call.tests)

    def is_anyof(self, call: Call) -> bool:
        """Source: RFC 5228 s5.3"""
        return any(self._test(test) for test in call.tests)

    def _match(self, call: Call, values: Sequence[str], keys: Sequence[str]) -> bool:
        """Whether any value matches any key. Source: RFC 5228 s2.7"""
        matching = _read_matching(call)
        if matching.kind == "count":
            return match_count(matching, len(values), keys)
        for value in values:
            for key in keys:
                self._spend(count_steps(matching, value, key), call.line)
                found = match_value(matching, value, key)
                if found is not None:
                    if matching.kind == "matches":
                        self._captured = found
                    return True
        return False

    def is_header(self, call: Call) -> bool:
        """Source: RFC 5228 s5.7"""
        names = self._all(call.strings[0])
        values = [value for name in names for value in self._letter.list_values(name)]
        self._spend(len(values), call.line)
        return self._match(call, values, self._all(call.strings[1]))

    def is_address(self, call: Call) -> bool:
        """Source: RFC 5228 s5.1, RFC 5233"""
        names = self._all(call.strings[0])
        addresses = [one for name in names for one in self._letter.list_addresses(name)]
        self._spend(len(addresses), call.line)
        return self._match(call, _take_parts(call, addresses), self._all(call.strings[1]))

    def is_envelope(self, call: Call) -> bool:
        """Source: RFC 5228 s5.4"""
        addresses: list[str] = []
        for name in self._all(call.strings[0]):
            if name.lower() == "from" and self._letter.envelope_from is not None:
                addresses.append(self._letter.envelope_from)
            elif name.lower() == "to":
                addresses += self._letter.envelope_to
        return self._match(call, _take_parts(call, addresses), self._all(call.strings[1]))

    def is_body(self, call: Call) -> bool:
        """Source: RFC 5173"""
        if "raw" in call.tags:
            values = [self._letter.raw_body]
        elif "content" in call.tags:
            values = self._letter.list_contents(self._tag_list(call, "content"))
        else:
            values = self._letter.text
        return self._match(call, values, self._all(call.strings[0]))

    def is_existing(self, call: Call) -> bool:
        """exists. Source: RFC 5228 s5.5"""
        return all(self._letter.has_header(name) for name in self._all(call.strings[0]))

    def is_size(self, call: Call) -> bool:
        """Source: RFC 5228 s5.9"""
        size = self._letter.size
        return size > call.number if "over" in call.tags else size < call.number

    def is_string(self, call: Call) -> bool:
        """Source: RFC 5229 s5"""
        values = self._all(call.strings[0])
        if "count" in call.tags:
            values = [value for value in values if value]
        return self._match(call, values, self._all(call.strings[1]))

    def is_flagged(self, call: Call) -> bool:
        """hasflag. Source: RFC 5232 s4"""
        names = call.strings[0]
        lists = [self._load_flags(None)] if names is None else map(self._load_flags, names)
        flags = [flag for one in lists for flag in one]
        return self._match(call, flags, _split_flags(self._all(call.strings[1])) or [""])

    def is_date(self, call: Call) -> bool:
        """Source: RFC 5260 s4"""
        [name], [part], keys = (self._all(strings) for strings in call.strings)
        moment = self._letter.find_date(name)
        if moment is not None and "originalzone" not in call.tags:
            if not 1 < moment.year < 9999:
                return False
            moment = shift(moment.unix_ms, self._tag(call, "zone") or "+0000")
        value = None if moment is None else find_part(moment, part)
        return self._match(call, [] if value is None else [value], keys)

    def is_current_date(self, call: Call) -> bool:
        """Source: RFC 5260 s5"""
        [part], keys = (self._all(strings) for strings in call.strings)
        value = find_part(shift(self._around.now_ms, self._tag(call, "zone") or "+0000"), part)
        return self._match(call, [] if value is None else [value], keys)

    def is_duplicate(self, call: Call) -> bool:
        """Source: RFC 7352 s3"""
        unique = self._tag(call, "uniqueid")
        if unique is None:
            values = self._letter.list_values(self._tag(call, "header") or "Message-ID")
            unique = values[0] if values else None
        if unique is None:
            return False
        handle, seconds = self._tag(call, "handle") or "", self._tag_number(call, "seconds", 0)
        key = f"{handle}\0{unique}"
        is_known = self._around.is_known(key)
        is_last = "last" in call.tags
        if not is_known or is_last:
            seconds = min(seconds or DUPLICATE_SECONDS_DEFAULT, DUPLICATE_SECONDS_MAX)
            self.outcome.notes.append(Note(key, seconds, is_last))
        if len(self.outcome.notes) > ACTIONS_MAX:
            raise SieveRuntimeError(call.line, f"a message is looked for {ACTIONS_MAX} times")
        return is_known

    def is_mailbox(self, call: Call) -> bool:
        """mailboxexists. Source: RFC 5490 s3.1"""
        return all(n.casefold() in self._around.mailboxes for n in self._all(call.strings[0]))

    def is_special(self, call: Call) -> bool:
        """specialuse_exists. Source: RFC 8579 s3"""
        names = [name.casefold() for name in self._all(call.strings[0])]
        uses = [use.lower() for use in self._all(call.strings[1])]
        found = [self._around.special_uses.get(use) for use in uses]
        return all(name is not None and (not names or name in names) for name in found)


_COMMANDS: dict[str, Callable[[_Run, Call], None]] = {
    "keep": _Run.do_keep,
    "discard": _Run.do_discard,
    "fileinto": _Run.do_fileinto,
    "redirect": _Run.do_redirect,
    "set": _Run.do_set,
    "setflag": _Run.do_flags,
    "addflag": _Run.do_flags,
    "removeflag": _Run.do_flags,
    "vacation": _Run.do_vacation,
}
_TESTS: dict[str, Callable[[_Run, Call], bool]] = {
    "address": _Run.is_address,
    "allof": _Run.is_allof,
    "anyof": _Run.is_anyof,
    "body": _Run.is_body,
    "currentdate": _Run.is_current_date,
    "date": _Run.is_date,
    "duplicate": _Run.is_duplicate,
    "envelope": _Run.is_envelope,
    "exists": _Run.is_existing,
    "false": lambda _, __: False,
    "hasflag": _Run.is_flagged,
    "header": _Run.is_header,
    "mailboxexists": _Run.is_mailbox,
    "not": _Run.is_not,
    "size": _Run.is_size,
    "specialuse_exists": _Run.is_special,
    "string": _Run.is_string,
    "true": lambda _, __: True,
}
_MODIFIERS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "upper": str.upper,
    "lowerfirst": lambda text: text[:1].lower() + text[1:],
    "upperfirst": lambda text: text[:1].upper() + text[1:],
    "quotewildcard": lambda text: re.sub(r"[\\*?]", r"\\\g<0>", text),
    "length": lambda text: str(len(text)),
}
"""Source: RFC 5229 s4.1"""


def _read_matching(call: Call) -> Matching:
    comparator = str(call.tags.get("comparator", "i;ascii-casemap"))
    for kind in ("contains", "matches"):
        if kind in call.tags:
            return Matching(kind, comparator)
    for kind in ("value", "count"):
        if kind in call.tags:
            return Matching(kind, comparator, str(call.tags[kind]).lower())
    return Matching("is", comparator)


def _take_parts(call: Call, addresses: Iterable[str]) -> list[str]:
    """The part of each address that a test asks for. Source: RFC 5228 s2.7.4, RFC 5233 s4"""
    part = next((p for p in ("localpart", "domain", "user", "detail") if p in call.tags), "all")
    if part == "all":
        return list(addresses)
    found = []
    for address in addresses:
        local, at, domain = address.rpartition("@")
        local = local if at else address
        user, plus, detail = local.partition("+")
        if part == "detail" and not plus:
            continue
        found.append({"localpart": local, "domain": domain, "user": user, "detail": detail}[part])
    return found


def _split_flags(texts: Iterable[str]) -> tuple[str, ...]:
    """Flags, each once whatever its case. Source: RFC 5232 s2"""
    flags: dict[str, str] = {}
    for text in texts:
        for flag in text.split():
            flags.setdefault(flag.lower(), flag)
    return tuple(flags.values())[:FLAGS_MAX]
