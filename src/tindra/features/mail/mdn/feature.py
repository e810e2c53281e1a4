"""MDN: notifications that a message was read, sent and understood (docs/protocol/mdn.md).

Source: RFC 9007 s1.3
"""

from __future__ import annotations

from tindra.core.datatype import Capability, Feature, Method
from tindra.features.mail.mdn.parse import run_parse
from tindra.features.mail.mdn.send import MDN, run_send

MDN_FEATURE = Feature(
    name="mdn",
    capabilities=(Capability(MDN, is_of_mailbox=True),),
    methods=(Method("MDN/send", MDN, run_send), Method("MDN/parse", MDN, run_parse)),
)
