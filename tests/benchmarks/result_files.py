"""What every benchmark leaves."""

import json
import re


def check_result(folder, name):
    content = json.loads((folder / f"{name}.json").read_text())
    assert {"cpu", "cores", "gpu", "instructions"} <= content["hardware"].keys()
    assert {"torch", "numpy", "webdataset"} <= content["versions"].keys()
    assert content["commit"] and content["date"] and content["command"]
    for file in (f"{name}.json", f"{name}.md"):
        assert not re.search(r'["\s=]/[a-z]+/', (folder / file).read_text())
    assert all(one["rates"] or one["absent"] for one in content["candidates"])
    return content
