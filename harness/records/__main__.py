"""Print the JSON schema of the record."""

import json

from harness.records import RunRecord

print(json.dumps(RunRecord.model_json_schema(by_alias=True), indent=1))
