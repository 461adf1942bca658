"""Is the explanation any good? How far a map of one face is true to the network that it explains.

Four questions: does taking away what the map calls important move the score more than taking away the rest
(`removal`), does the map stay when the picture is mirrored or saved once more (`assess`), does the evidence lie on the
face at all (`whereabouts`), and on which parts does the verdict hang (`margin`)?
"""

from model.faithfulness._assess import Faithfulness, assess
from model.faithfulness._margin import Margin, margin
from model.faithfulness._removal import LEVELS, Curve, centre_prior, random_map, removal
from model.faithfulness._whereabouts import Whereabouts, whereabouts

__all__ = [
    "LEVELS",
    "Curve",
    "Faithfulness",
    "Margin",
    "Whereabouts",
    "assess",
    "centre_prior",
    "margin",
    "random_map",
    "removal",
    "whereabouts",
]
