"""Evidence packets: one ZIP file from which a reviewer elsewhere can recompute a decision.

A packet holds the original file, what was cut out of it, measured and decided, and the settings and versions that this
was done with. `build` gives the same bytes for the same input on the same installation; `verify` trusts nothing in the
file, hashes everything anew, judges the original again and says what agrees, what differs, and within what tolerance.

Hashes show that a packet is still the one that somebody noted the digest of. They do not show who made it: whoever
changes a packet can also compute its hashes anew, which then only the judging of the original can find.
"""

from model.packet._archive import MAX_BYTES, PacketError
from model.packet._build import Paint, build, digest, environment, plain_name, require_repeatable, without_folders
from model.packet._checks import Check, Outcome
from model.packet._sections import SECTIONS, Recompute, deliveries_account, quality_account, what_if_account
from model.packet._verify import Verification, read, verify

__all__ = [
    "MAX_BYTES",
    "SECTIONS",
    "Check",
    "Outcome",
    "PacketError",
    "Paint",
    "Recompute",
    "Verification",
    "build",
    "deliveries_account",
    "digest",
    "environment",
    "plain_name",
    "quality_account",
    "read",
    "require_repeatable",
    "verify",
    "what_if_account",
    "without_folders",
]
