"""Single users in a page: history, recommendations with the hits marked, targets; with a search."""

from collections.abc import Iterable, Sequence
from html import escape

from offline_eval.report import Example

SCRIPT = """
(function () {
  var box = document.getElementById('find'), only = document.getElementById('only');
  if (!box) return;
  var users = Array.from(document.querySelectorAll('details.user'));
  var told = document.getElementById('found');
  function show() {
    var words = box.value.toLowerCase().split(/\\s+/).filter(Boolean), count = 0;
    users.forEach(function (user) {
      var hits = Number(user.dataset.hits), text = user.textContent.toLowerCase();
      var right = only.value === 'all' || (only.value === 'some') === (hits > 0);
      var shown = right && words.every(function (word) { return text.includes(word); });
      user.hidden = !shown;
      count += shown ? 1 : 0;
    });
    told.textContent = count + ' of ' + users.length + ' users';
  }
  box.addEventListener('input', show);
  only.addEventListener('change', show);
  show();
})();
"""


def examples(found: Sequence[Example]) -> Iterable[str]:
    """The users, folded, under a search field; without a script all are shown."""
    if not found:
        return
    yield '<h2>Single users</h2><div class="search">'
    yield '<input id="find" type="search" placeholder="user, title or word" aria-label="Search">'
    yield '<select id="only" aria-label="Which users"><option value="all">all users</option>'
    yield '<option value="some">with hits</option><option value="none">without hits</option>'
    yield '</select><span class="soft" id="found"></span></div>'
    for one in found:
        yield from _user(one)


def _user(one: Example) -> Iterable[str]:
    hits = sum(one.hits)
    told = f"{one.history_length:,} events, {hits} of {len(one.listed)} recommendations right"
    yield f'<details class="card user" data-hits="{hits}"><summary>{escape(one.user)} '
    yield f'<span class="soft">{told}</span></summary><div class="charts">'
    parts = {
        "History, latest last": [(item, False) for item in one.history],
        "Recommended": list(zip(one.listed, one.hits, strict=True)),
        "Targets": [(item, False) for item in one.targets],
    }
    for name, items in parts.items():
        yield f"<section><h3>{name}</h3><ol>"
        yield from (
            f'<li class="hit">{escape(item)} \u2713</li>' if hit else f"<li>{escape(item)}</li>"
            for item, hit in items
        )
        yield "</ol></section>"
    yield "</div></details>"
