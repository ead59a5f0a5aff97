#!/usr/bin/env python3
"""validate_schema.py FILE: checks FILE's `schema`, then each of its `documents` against it; prints NAME and the number of problems."""
import json
import sys

import jsonschema

with open(sys.argv[1], encoding="utf-8") as file:
    asked = json.load(file)
jsonschema.Draft7Validator.check_schema(asked["schema"])
validator = jsonschema.Draft7Validator(asked["schema"])
for name, document in asked["documents"].items():
    problems = list(validator.iter_errors(document))
    print(name, "fits" if not problems else "does not fit")
