"""`deploy/kubernetes`: valid by the schemas of Kubernetes, true to what Compose runs."""

import warnings
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from app.core.task_names import QueueName
from app.local import commands
from app.local.environment import _KNOWN

FILE = Path(__file__).parents[2] / "deploy" / "kubernetes" / "smsfleet.yaml"
ITEMS: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["items"]


def of_kind(*kinds: str) -> dict[str, dict[str, Any]]:
    return {item["metadata"]["name"]: item for item in ITEMS if item["kind"] in kinds}


def container(name: str) -> dict[str, Any]:
    [found] = of_kind("Deployment", "Job")[name]["spec"]["template"]["spec"]["containers"]
    return found


def test_every_object_is_valid() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        for item in ITEMS:
            for version in ("1.30", "1.36"):
                kubernetes_validate.validate(item, version, strict=True)


def test_they_run_the_commands_of_up() -> None:
    def of(command: tuple[str, ...]) -> list[str]:
        return ["python", *command[1:]]

    assert container("smsfleet-migrate")["command"] == of(commands.MIGRATE)
    assert container("smsfleet-api")["command"] == of(commands.api("--host", "0.0.0.0", "--port", "8000"))
    assert container("smsfleet-beat")["command"] == of(commands.BEAT)
    for queue in QueueName:
        worker = container(f"smsfleet-worker-{queue}")
        assert worker["command"] == of(commands.worker(queue, f"{queue}-1"))
        assert f'heartbeat {queue} "{queue}-1@' in worker["livenessProbe"]["exec"]["command"][2]


def test_whatever_selects_pods_finds_some() -> None:
    pods = {name: item["spec"]["template"]["metadata"]["labels"] for name, item in of_kind("Deployment", "Job").items()}
    for name, item in of_kind("Deployment").items():
        selected = item["spec"]["selector"]["matchLabels"]
        assert [pod for pod, labels in pods.items() if selected.items() <= labels.items()] == [name]
    wanted = [of_kind("Service")["smsfleet"]["spec"]["selector"]]
    wanted += [item["spec"]["selector"]["matchLabels"] for item in of_kind("PodDisruptionBudget").values()]
    assert all(selector == pods["smsfleet-api"] for selector in wanted)
    for item in of_kind("HorizontalPodAutoscaler").values():
        assert item["spec"]["scaleTargetRef"]["name"] in pods


def test_none_is_root_or_writes_its_own_files() -> None:
    for name, item in of_kind("Deployment", "Job").items():
        assert item["spec"]["template"]["spec"]["securityContext"]["runAsNonRoot"], name
        assert container(name)["securityContext"]["readOnlyRootFilesystem"], name
        assert container(name)["resources"]["limits"]["memory"], name
        mounted = {mount["name"] for mount in container(name)["volumeMounts"]}
        assert mounted == {volume["name"] for volume in item["spec"]["template"]["spec"]["volumes"]}, name


def test_settings_are_known() -> None:
    assert of_kind("ConfigMap")["smsfleet"]["data"].keys() <= _KNOWN
