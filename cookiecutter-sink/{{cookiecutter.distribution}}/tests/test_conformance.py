from {{ cookiecutter.package }}.conformance import {{ cookiecutter._case }}


class Test{{ cookiecutter.__class }}({{ cookiecutter._case }}):
    """Every check of the conformance kit is a test."""
