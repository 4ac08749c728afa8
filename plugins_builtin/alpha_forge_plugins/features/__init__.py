"""Technical features. Each names the definition that it follows; all run on the SDK's compiled kernels."""
