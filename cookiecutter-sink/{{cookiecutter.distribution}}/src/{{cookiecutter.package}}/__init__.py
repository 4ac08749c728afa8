"""{{ cookiecutter.description }}

Strings only: listing plugins imports this module, and should stay cheap.
"""

from __future__ import annotations

from alpha_forge_sdk import hookimpl


@hookimpl
def {{ cookiecutter._hook }}() -> dict[str, str]:
    return {
        "{{ cookiecutter.name }}": f"{__name__}.{{ cookiecutter._module }}:{{ cookiecutter.__class }}",
    }


@hookimpl
def alpha_forge_conformance() -> dict[str, str]:
    return {
        "{{ cookiecutter._plugin }}.{{ cookiecutter.name }}": f"{__name__}.conformance:{{ cookiecutter._case }}",
    }
