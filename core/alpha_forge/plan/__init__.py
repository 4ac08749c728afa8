"""Document + registry → EventFlowDAG: routing, order, columns, look-backs, warm-up. See `compiler`."""
