"""Every public call with drawn arguments, and what its result must be by definition: all properties by name."""

import calls_approximate
import calls_arrays
import calls_factors
import calls_neighbours
from judging import PROPERTIES

MODULES = (calls_approximate, calls_arrays, calls_factors, calls_neighbours)  # which have filled PROPERTIES
APPROXIMATE = calls_approximate.APPROXIMATE

__all__ = ["APPROXIMATE", "MODULES", "PROPERTIES"]
