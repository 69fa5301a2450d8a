"""``kvmscope episodes``: lists the episodes that a recorder kept around findings."""

from __future__ import annotations

import click

from ..store.requirements import require_pyarrow
from ..terminal.echo import echo_answer, echo_damage
from .options import PLACE, json_option


@click.command("episodes", short_help="List the episodes: what was recorded around findings.")
@click.argument("place", type=PLACE, metavar="DIR")
@click.option("--all", "-a", "shows_all", is_flag=True, help="Every finding of an episode, not only the first ones.")
@json_option
def command(*, place: str, shows_all: bool, as_json: bool) -> None:
    """List the episodes of a recording: when they were, what was found, and which groups counted.

    An episode is a recording of its own, at full rate. Every command reads it with --from, by default at the time that
    shows its findings best; --at selects another.

    \b
    kvmscope episodes /var/lib/kvmscope
    kvmscope doctor --from /var/lib/kvmscope/episodes/0007
    """
    require_pyarrow()
    from ..store.episodes import list_episodes
    from ..view.episodes import EpisodeListView, episode_lines, episode_view

    found = list_episodes(place)
    echo_damage(found.damage)
    view = EpisodeListView(
        episodes=tuple(episode_view(each.number, each.place, each.size_bytes, each.note) for each in found.episodes)
    )
    echo_answer(view, episode_lines(view, shows_all=shows_all), as_json=as_json)
