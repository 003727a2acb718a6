"""The manifests in deploy/: their parts belong together and know the commands; `make deploy-lint` checks them against schemas."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.commands import GUARD
from helpers.scripts import load_script

from image_classification_trash.config.loader import load_settings
from image_classification_trash.config.models import PredictSettings
from image_classification_trash.config.serving import ServeSettings

ROOT = Path(__file__).parents[1]


def manifest(name: str = "kubernetes") -> dict[str, Any]:
    """The objects of a file in deploy/ by their kind."""
    text = (ROOT / f"deploy/{name}.yaml").read_text(encoding="utf-8")
    return {thing["kind"]: thing for thing in yaml.safe_load_all(text)}


def test_the_manifests_parts_belong_together() -> None:
    things = manifest()
    deployment, service = things["Deployment"]["spec"], things["Service"]["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels == service["selector"]
    assert things["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert things["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == "trash-gateway"
    container = deployment["template"]["spec"]["containers"][0]
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]


def test_the_manifest_knows_the_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its port, user, settings and probes are those of the image and the gateway."""
    pod = manifest()["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    image = (ROOT / "deploy/image-gateway.dockerfile").read_text(encoding="utf-8")
    assert f"EXPOSE {container['ports'][0]['containerPort']}\n" in image
    assert f"USER {pod['securityContext']['runAsUser']}:" in image
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    settings = load_settings(ServeSettings, [])
    assert settings.allowed_hosts == ["none.invalid"]
    assert pod["terminationGracePeriodSeconds"] > settings.stop_seconds
    routes = (ROOT / "image_classification_trash/serving/http/gateway.py").read_text(encoding="utf-8")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert f'"{container[probe]["httpGet"]["path"]}"' in routes


def test_keda_takes_over_the_gateways_autoscaler() -> None:
    scaled, autoscaler = manifest("keda")["ScaledObject"], manifest()["HorizontalPodAutoscaler"]
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == autoscaler["spec"]["scaleTargetRef"]
    assert scaled["metadata"]["annotations"]["scaledobject.keda.sh/transfer-hpa-ownership"] == "true"
    assert spec["advanced"]["horizontalPodAutoscalerConfig"]["name"] == autoscaler["metadata"]["name"]
    limits = (spec["minReplicaCount"], spec["maxReplicaCount"])
    assert limits == (autoscaler["spec"]["minReplicas"], autoscaler["spec"]["maxReplicas"])
    metrics = (ROOT / "image_classification_trash/serving/operations/prometheus.py").read_text(
        encoding="utf-8"
    )
    (asked,) = re.findall(r"sum\((\w+)\{", spec["triggers"][0]["metadata"]["query"])
    assert f'"{asked}"' in metrics
    cpu = autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"]
    assert spec["triggers"][1]["metadata"]["value"] == str(cpu)


def variables(container: dict[str, Any]) -> dict[str, str]:
    return {it["name"]: it["value"] for it in container["env"]}


@pytest.mark.parametrize(("status", "pods"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_a_pod_of_the_job_answers_its_part(status: int, pods: int, tmp_path: Path) -> None:
    """Its shell's line is one that the command takes; that some photos are unreadable is no failure of the pod."""
    job = manifest("shards-job")["Job"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    environment = variables(container)
    assert job["completionMode"] == "Indexed"
    assert environment["JOB_COMPLETIONS"] == str(job["completions"])
    assert environment["PYTHON_CPU_COUNT"] == container["resources"]["requests"]["cpu"]
    assert job["podFailurePolicy"]["rules"][1]["onExitCodes"]["containerName"] == container["name"]
    program = tmp_path / "trash-classifier"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/words"\nexit {status}\n')
    program.chmod(0o755)
    line = [*container["command"], *container["args"]]
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    done = subprocess.run(line, env={**environment, "PATH": path}, timeout=GUARD, check=False)
    assert done.returncode == pods
    words = (tmp_path / "words").read_text().splitlines()
    settings = load_settings(PredictSettings, words[1:])
    assert (words[0], settings.engine) == ("predict", "indexed")
    assert (settings.shards, settings.parquet) == (environment["SHARDS"], environment["ANSWERS"])


def test_the_ray_job_has_an_actor_for_each_cpu_of_its_workers() -> None:
    job = manifest("ray-job")["RayJob"]["spec"]
    words = shlex.split(job["entrypoint"])
    settings = load_settings(PredictSettings, words[2:])
    assert (words[:2], settings.engine) == (["trash-classifier", "predict"], "ray")
    cluster = job["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (workers,) = cluster["workerGroupSpecs"]
    assert settings.actors == workers["replicas"] * int(workers["rayStartParams"]["num-cpus"])
    (container,) = workers["template"]["spec"]["containers"]
    assert container["resources"]["requests"]["cpu"] == workers["rayStartParams"]["num-cpus"]
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    assert f"\nray=={cluster['rayVersion']}" in lock


def test_the_pods_of_custom_resources_are_found_for_the_check() -> None:
    module = load_script("pod_templates")
    names = [t["spec"]["containers"][0]["name"] for t in module.templates(manifest("ray-job")["RayJob"])]
    assert names == ["ray-head", "ray-worker"]
