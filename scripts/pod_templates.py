"""Print the pod templates inside custom resources, each as an object of its own that Kubernetes' schemas know.

python scripts/pod_templates.py deploy/ray-job.yaml | kubernetes-validate --strict /dev/stdin
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml


def templates(part: Any) -> Iterator[dict[str, Any]]:
    """Yield every `template` with containers, at any depth."""
    if isinstance(part, dict):
        template = part.get("template")
        if isinstance(template, dict) and "containers" in template.get("spec", {}):
            yield template
    for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from templates(below)


def main() -> None:
    """Print the templates in the files that are named."""
    for file in sys.argv[1:]:
        for thing in yaml.safe_load_all(Path(file).read_text(encoding="utf-8")):
            for number, template in enumerate(templates(thing)):
                metadata = {"name": f"{thing['metadata']['name']}-{number}"}
                pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": template}
                print("---", yaml.safe_dump(pod), sep="\n")


if __name__ == "__main__":
    main()
