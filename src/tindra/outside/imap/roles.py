"""Which mailbox plays which JMAP role: told by the server, else guessed by name; pure, no I/O.

What the server says (SPECIAL-USE) wins. Only for a role that it gives to no mailbox are names
looked at, and only if exactly one selectable mailbox fits: a wrong guess files mail where its owner
does not look. Names are compared, never changed. Each role goes to one mailbox at most.

Sources: RFC 6154 s2, RFC 8621 s2 (role), RFC 8457 s3.
"""

from __future__ import annotations

from typing import Final

import msgspec

_ROLE_OF_ATTRIBUTE: Final = {
    "\\all": "all",
    "\\archive": "archive",
    "\\drafts": "drafts",
    "\\flagged": "flagged",
    "\\important": "important",
    "\\inbox": "inbox",
    "\\junk": "junk",
    "\\spam": "junk",
    "\\sent": "sent",
    "\\trash": "trash",
}
_NAMES_OF_ROLE: Final[dict[str, frozenset[str]]] = {
    "archive": frozenset(
        {"archive", "archives", "archiv", "archivo", "archivio", "arkiv", "arquivo", "архив"}
        | {"archief", "archiwum", "arkisto", "アーカイブ", "归档", "存档"}
    ),
    "drafts": frozenset(
        {"draft", "drafts", "entwürfe", "entwurf", "brouillons", "borradores", "bozze", "utkast"}
        | {"concepten", "rascunhos", "черновики", "kladder", "luonnokset", "szkice", "koncepty"}
        | {"kopie robocze", "robocze", "piszkozatok", "taslaklar", "下書き", "草稿", "草稿箱"}
        | {"임시보관함", "πρόχειρα", "טיוטות", "مسودات"}
    ),
    "junk": frozenset(
        {"junk", "spam", "junk e-mail", "junk email", "junk mail", "bulk mail", "bulk", "skräp"}
        | {"skräppost", "spamverdacht", "unerwünscht", "courrier indésirable", "indésirables"}
        | {"pourriel", "correo no deseado", "posta indesiderata", "ongewenste e-mail", "roskaposti"}
        | {
            "lixo eletrônico",
            "lixo eletrónico",
            "спам",
            "uønsket e-post",
            "spamy",
            "wiadomości-śmieci",
        }
        | {"迷惑メール", "垃圾邮件", "垃圾郵件", "스팸"}
    ),
    "sent": frozenset(
        {"sent", "sent items", "sent messages", "sent mail", "sent-mail", "gesendet", "skickat"}
        | {"gesendete objekte", "gesendete elemente", "gesendete nachrichten", "envoyés"}
        | {
            "éléments envoyés",
            "messages envoyés",
            "objets envoyés",
            "enviados",
            "elementos enviados",
        }
        | {"posta inviata", "inviati", "inviata", "verzonden", "verzonden items", "itens enviados"}
        | {"отправленные", "sendt", "sendte elementer", "skickade objekt", "lähetetyt", "wysłane"}
        | {"elementy wysłane", "odeslané", "odeslaná pošta", "elküldött", "gönderilmiş öğeler"}
        | {"送信済み", "送信済みメール", "已发送", "已傳送", "已发送邮件", "보낸편지함"}
    ),
    "trash": frozenset(
        {
            "trash",
            "deleted",
            "deleted items",
            "deleted messages",
            "bin",
            "papierkorb",
            "papperskorg",
        }
        | {"gelöschte objekte", "gelöschte elemente", "corbeille", "éléments supprimés", "papelera"}
        | {"elementos eliminados", "cestino", "posta eliminata", "prullenbak", "verwijderde items"}
        | {"lixeira", "lixo", "itens excluídos", "корзина", "удаленные", "удалённые", "papirkurv"}
        | {"slettede elementer", "borttaget", "roskakori", "kosz", "koš", "kuka", "çöp kutusu"}
        | {"ゴミ箱", "已删除", "已删除邮件", "刪除的郵件", "휴지통"}
    ),
}
_ROLE_OF_NAME: Final = {name: role for role, names in _NAMES_OF_ROLE.items() for name in names}


class Candidate(msgspec.Struct, frozen=True):
    """A mailbox as roles see it."""

    name: str
    delimiter: str | None
    attributes: frozenset[str]
    is_selectable: bool


def decide_roles(candidates: list[Candidate]) -> dict[str, str]:
    """{mailbox name: role}, each role at most once. Cost: linear."""
    roles: dict[str, str] = {}
    taken: set[str] = set()
    for candidate in sorted(candidates, key=_level):
        role = _told_role(candidate)
        if role is not None and role not in taken and candidate.is_selectable:
            roles[candidate.name] = role
            taken.add(role)
    guesses: dict[str, list[str]] = {}
    for candidate in candidates:
        guess = _ROLE_OF_NAME.get(_leaf(candidate).lower())
        is_free = guess is not None and guess not in taken and candidate.name not in roles
        if guess is not None and is_free and candidate.is_selectable and _level(candidate) <= 1:
            guesses.setdefault(guess, []).append(candidate.name)
    for role, names in guesses.items():
        if len(names) == 1:
            roles[names[0]] = role
    return roles


def _told_role(candidate: Candidate) -> str | None:
    if candidate.name == "INBOX":
        return "inbox"
    for attribute, role in _ROLE_OF_ATTRIBUTE.items():
        if attribute in candidate.attributes and role != "inbox":
            return role
    return None


def _level(candidate: Candidate) -> int:
    """How deep below the root; what lies directly below INBOX or the like counts as 1."""
    return candidate.name.count(candidate.delimiter) if candidate.delimiter else 0


def _leaf(candidate: Candidate) -> str:
    return (
        candidate.name.rpartition(candidate.delimiter)[2]
        if candidate.delimiter
        else (candidate.name)
    )
