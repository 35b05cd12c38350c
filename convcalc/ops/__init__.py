"""What each operator does: output shape, parameters, arithmetic.  One family a file."""

from convcalc.ops.base import Operator, Param, View, attributes, create, find, operators

__all__ = ["Operator", "Param", "View", "attributes", "create", "find", "operators"]
