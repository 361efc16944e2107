"""`invoke check --explain E005`: what each code of the catalogue means, in plain sentences."""

from scripts.pictures.explanations.errors import ERRORS
from scripts.pictures.explanations.repaired import REPAIRED
from scripts.pictures.explanations.warnings import WARNINGS

EXPLANATIONS = {**ERRORS, **WARNINGS, **REPAIRED}
