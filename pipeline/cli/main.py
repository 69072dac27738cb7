"""`greenroom`: the commands. What they need is imported when they run, so that `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

import typer

from pipeline.cli.commands import (
    acceptances,
    audit,
    blueprint,
    cloud,
    env,
    inventory,
    machines,
    mornings,
    placement,
    pools,
    projects,
    providers,
    qos,
    runs,
    schedules,
    simulate,
    snapshots,
    staging,
    this_machine,
)
from pipeline.cli.output import Complaint

app = typer.Typer(
    name="greenroom",
    help="Whole, real, throw-away server environments: deliver, configure, deploy, test, destroy.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: Mapping[str, Sequence[Callable[..., None]]] = {
    "This machine": (this_machine.up, this_machine.down, this_machine.doctor, this_machine.demo),
    "Runs": (runs.run, runs.runs, runs.show, runs.logs, runs.cancel, runs.rerun, mornings.report),
    "Nodes": (runs.release, runs.destroy, runs.environments),
    "Simulation": (simulate.simulate,),
    "Placement": (placement.place, providers.servers, audit.guards, audit.audit),
    "Projects": (projects.triggers,),
    "greenroom.yml": (blueprint.validate, blueprint.schema, blueprint.version),
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(projects.project, name="project", rich_help_panel="Projects")
app.add_typer(machines.machines, name="machines", rich_help_panel="Placement")
app.add_typer(machines.machine, name="machine", rich_help_panel="Placement")
app.add_typer(providers.providers, name="providers", rich_help_panel="Placement")
app.add_typer(cloud.cloud, name="cloud", rich_help_panel="Placement")
app.add_typer(inventory.inventory, name="inventory", rich_help_panel="Placement")
app.add_typer(qos.qos, name="qos", rich_help_panel="Nodes")
app.add_typer(env.env, name="env", rich_help_panel="Nodes")
app.add_typer(pools.pool, name="pool", rich_help_panel="Nodes")
app.add_typer(snapshots.snapshot, name="snapshot", rich_help_panel="Nodes")
app.add_typer(schedules.schedule, name="schedule", rich_help_panel="Runs")
app.add_typer(staging.staging, name="staging", rich_help_panel="Stagings")
app.add_typer(projects.hook, name="hook", rich_help_panel="Projects")
# What stands after RUN belongs to the node's command, options included.
app.command(rich_help_panel="Nodes", context_settings={"allow_interspersed_args": False})(runs.ssh)
machines.machines.command("accept")(acceptances.accept)
machines.machines.command("acceptances")(acceptances.acceptances)
env.env.command("ssh", context_settings={"allow_interspersed_args": False})(env.ssh)
env.env.command("run", context_settings={"allow_interspersed_args": False})(env.run)


def main() -> None:
    """Run a command; a complaint goes to standard error."""
    try:
        app()
    except Complaint as complaint:
        sys.stderr.write(f"greenroom: {complaint}\n")
        sys.exit(complaint.status)


if __name__ == "__main__":
    main()
