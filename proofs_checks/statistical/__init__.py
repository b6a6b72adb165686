"""Statements about expectations, tested by betting: `eprocess` holds the two tests, the rest applies them."""
