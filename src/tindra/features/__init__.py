"""What users see. ALL is the order in which features are joined, and so the order of reactions."""

from __future__ import annotations

from tindra.core.datatype import Feature
from tindra.features.blob.feature import BLOB_FEATURE
from tindra.features.change_log import CHANGE_LOG_FEATURE
from tindra.features.connect import CONNECT_FEATURE
from tindra.features.mail.feature import MAIL_FEATURE
from tindra.features.mail.mdn.feature import MDN_FEATURE
from tindra.features.mail.safe_html import VIEW_FEATURE
from tindra.features.mail.sharing.feature import SHARE_FEATURE
from tindra.features.push_subscription import PUSH_SUBSCRIPTION_FEATURE
from tindra.features.quota import QUOTA_FEATURE
from tindra.features.sharing.feature import SHARING_FEATURE
from tindra.features.sieve import SIEVE_FEATURE
from tindra.features.snooze import SNOOZE_FEATURE

ALL: tuple[Feature, ...] = (
    MAIL_FEATURE,
    SHARE_FEATURE,
    CONNECT_FEATURE,
    VIEW_FEATURE,
    SNOOZE_FEATURE,
    SHARING_FEATURE,
    SIEVE_FEATURE,
    CHANGE_LOG_FEATURE,
    BLOB_FEATURE,
    QUOTA_FEATURE,
    MDN_FEATURE,
    PUSH_SUBSCRIPTION_FEATURE,
)
