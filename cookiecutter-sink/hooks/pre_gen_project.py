"""Refuses names that would not make a working pack, before anything is written."""

import keyword
import re
import sys

NAME = {{ cookiecutter.name | tojson }}
DISTRIBUTION = {{ cookiecutter.distribution | tojson }}
PACKAGE = {{ cookiecutter.package | tojson }}
TEXTS = {"description": {{ cookiecutter.description | tojson }}, "author": {{ cookiecutter.author | tojson }}}

faults = []
if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", NAME) or len(NAME) > 30 or keyword.iskeyword(NAME):
    faults.append(f"name {NAME!r}: at most 30 small letters, digits and single _, beginning with a letter, for example 'my_sink'")
if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", DISTRIBUTION) or DISTRIBUTION == "alpha-forge":
    faults.append(f"distribution {DISTRIBUTION!r}: small letters, digits and single -, for example 'acme-sinks'")
if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", PACKAGE) or keyword.iskeyword(PACKAGE):
    faults.append(f"package {PACKAGE!r}: small letters, digits and single _, for example 'acme_sinks'")
if PACKAGE in {"alpha_forge", "alpha_forge_sdk", "alpha_forge_plugins", "tests"} or PACKAGE in sys.stdlib_module_names:
    faults.append(f"package {PACKAGE!r}: another package has this name already")
for key, text in TEXTS.items():
    if not text.strip() or len(text) > 100 or not text.isprintable() or set(text) & set('"\\'):
        faults.append(f"{key} {text!r}: one line of 1 to 100 characters, without \" and \\")
if faults:
    sys.exit("\n".join(faults))
