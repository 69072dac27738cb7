"""What is put on the node for the client to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.configurators.chef.bounds import Budget, Tail
from pipeline.adapters.configurators.chef.cookbooks import cookbook_of
from pipeline.adapters.configurators.chef.layout import Layout
from pipeline.adapters.configurators.chef.package import ChefPackage
from pipeline.adapters.configurators.chef.staging import stage
from pipeline.domain.blueprint import ConfigureSpec
from pipeline.domain.errors import StageFailed
from pipeline.ports.common import LimitExceeded, Limits
from pipeline.ports.configurators import ConvergeRequest
from pipeline.ports.transports import NodeAccess

LAYOUT = Layout("/var/lib/greenroom/chef")


def node(name: str, address: str) -> NodeAccess:
    return NodeAccess(name, name.partition("-")[0], address, 22, "root", "ssh-ed25519 AAAA")


NODES = (node("web-0", "10.0.0.2"), node("web-1", "10.0.0.3"), node("db-0", "10.0.0.9"))


def cookbook(shelf: Path, name: str, directory: str = "") -> Path:
    book = shelf / (directory or name)
    (book / "recipes").mkdir(parents=True)
    (book / "metadata.rb").write_text(f"name '{name}'\n")
    (book / "recipes/default.rb").write_text(f"# {shelf.name}\n")
    return book


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return tmp_path / "source"


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    cookbook(tmp_path / "shipped", "webapp")
    return tmp_path / "shipped"


def staged(source: Path, shipped: Path, run_list: tuple[str, ...] = ("recipe[webapp]",), **attributes: Any) -> Path:
    target = source.parent / "target"
    target.mkdir()
    request = ConvergeRequest(
        "env-1", "shop", NODES[0], NODES, str(source), ConfigureSpec(), run_list, attributes=attributes
    )
    stage(target, LAYOUT, request, str(shipped))
    return target


def test_recipes_learn_where_they_are_and_who_else_is_there(source: Path, shipped: Path) -> None:
    dna = json.loads((staged(source, shipped, shop={"port": 8080}) / "dna.json").read_text())
    assert dna["shop"] == {"port": 8080}
    assert dna["run_list"] == ["role[web]"]
    surroundings = dna["greenroom"]
    assert (surroundings["service"], surroundings["role"], surroundings["node"]) == ("shop", "web", "web-0")
    assert surroundings["environment"] == "env-1"
    assert {"name": "db-0", "role": "db", "address": "10.0.0.9"} in surroundings["nodes"]


def test_attributes_cannot_take_greenrooms_own_place(source: Path, shipped: Path) -> None:
    dna = json.loads((staged(source, shipped, run_list_=1, greenroom="mine") / "dna.json").read_text())
    assert dna["greenroom"]["node"] == "web-0"


def test_the_role_is_a_chef_role(source: Path, shipped: Path) -> None:
    role = json.loads((staged(source, shipped) / "roles/web.json").read_text())
    assert role["run_list"] == ["recipe[webapp]"]


def test_a_role_of_the_repository_keeps_its_meaning(source: Path, shipped: Path) -> None:
    (source / "chef-cookbooks/cookbooks").mkdir(parents=True)
    (source / "chef-cookbooks/roles").mkdir()
    (source / "chef-cookbooks/roles/web.rb").write_text("name 'web'\n")
    target = staged(source, shipped)
    assert not (target / "roles/web.json").exists()
    assert json.loads((target / "dna.json").read_text())["run_list"] == ["recipe[webapp]"]


def test_other_nodes_can_be_found_by_searching(source: Path, shipped: Path) -> None:
    target = staged(source, shipped)
    assert sorted(path.name for path in (target / "nodes").iterdir()) == ["db-0.json", "web-1.json"]
    found = json.loads((target / "nodes/db-0.json").read_text())
    assert found["automatic"]["ipaddress"] == "10.0.0.9"
    assert found["run_list"] == ["role[db]"]
    assert json.loads((target / "node.json").read_text())["name"] == "web-0"


def test_client_rb_names_the_result_file(source: Path, shipped: Path) -> None:
    lines = (staged(source, shipped) / "client.rb").read_text().splitlines()
    assert "node_name 'web-0'" in lines
    assert "data_collector.output_locations({files: ['/var/lib/greenroom/chef/result.jsonl']})" in lines


def test_the_repositorys_cookbook_wins_over_the_shipped(source: Path, shipped: Path) -> None:
    cookbook(source / "chef-cookbooks", "webapp", directory="odd-directory")
    target = staged(source, shipped)
    assert (target / "cookbooks/webapp/recipes/default.rb").read_text() == "# chef-cookbooks\n"


def test_a_run_list_with_an_unknown_cookbook_names_the_known(source: Path, shipped: Path) -> None:
    with pytest.raises(StageFailed, match=r"no cookbook webap in chef-cookbooks .*known: webapp"):
        staged(source, shipped, ("recipe[webap::tls]",))


def test_links_inside_the_repository_are_followed(source: Path, shipped: Path) -> None:
    book = cookbook(source / "chef-cookbooks", "mine")
    (source / "motd").write_text("hello")
    (book / "motd").symlink_to("../../motd")
    assert (staged(source, shipped) / "cookbooks/mine/motd").read_text() == "hello"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/etc/passwd", "leads out"),
        ("../../../outside", "leads out"),
        ("nowhere", "to nothing"),
        (".", "to a directory"),
    ],
)
def test_links_out_of_the_repository_are_refused(source: Path, shipped: Path, target: str, words: str) -> None:
    (source.parent / "outside").write_text("secret")
    (cookbook(source / "chef-cookbooks", "mine") / "link").symlink_to(target)
    with pytest.raises(StageFailed, match=words):
        staged(source, shipped)


def test_a_linked_shelf_outside_is_refused(source: Path, shipped: Path) -> None:
    (source / "chef-cookbooks").symlink_to("/etc")
    with pytest.raises(StageFailed, match="leads out"):
        staged(source, shipped)


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ("recipe[webapp]", "webapp"),
        ("recipe[webapp::tls]", "webapp"),
        ("recipe[webapp::tls@1.2.0]", "webapp"),
        ("webapp", "webapp"),
        ("webapp::tls", "webapp"),
        ("role[web]", None),
    ],
)
def test_run_lists(item: str, name: str | None) -> None:
    assert cookbook_of(item) == name


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("https://example.org/cinc_18.5.0_amd64.deb?token=x", None),
        ("https://example.org/cinc.rpm", "neither a .deb nor a tar"),
        ("/nowhere/cinc.deb", "does not exist"),
    ],
)
def test_packages(location: str, reason: str | None) -> None:
    found = ChefPackage(location).unusable()
    assert found is None if reason is None else found is not None and reason in found


def test_the_budget_is_one_for_all_commands() -> None:
    times = iter([0.0, 10.0, 61.0])
    budget = Budget(Limits(total_s=60, silence_s=30), lambda: next(times))
    assert budget.limits() == Limits(total_s=50, silence_s=30)
    with pytest.raises(LimitExceeded, match="60 s"):
        budget.limits()


def test_the_tail_keeps_the_last_words_and_passes_all_on() -> None:
    seen = bytearray()
    tail = Tail(seen.extend)
    tail(b"a" * 5000)
    tail(b"the end\n")
    assert len(seen) == 5008
    assert tail.text == "a" * 992 + "the end"
