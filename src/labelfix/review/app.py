"""The routes of the review page: JSON about samples, pictures, and the page itself."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.resources import files
from threading import Lock
from typing import Any, cast, get_args

import numpy as np
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from labelfix.config import MIN_PROBABILITY
from labelfix.data.decisions import Decision, DecisionAction
from labelfix.errors import LabelfixError, UnreadableSample
from labelfix.exports.export import ExportFormat
from labelfix.modalities.base import REVIEW_SIZES, Marker, Renderer
from labelfix.review.finish import Exporter, ExportRequest, finish_of, write_page_again
from labelfix.review.groups import Which, offered_classes
from labelfix.review.queue import RANDOM_SAMPLE, QueueFilter
from labelfix.review.retraining import Retraining
from labelfix.review.samples import ShownSample
from labelfix.review.security import App, Guard, Keys
from labelfix.review.session import Done, Session, Wanted
from labelfix.types import MISSING
from labelfix.utils.reading import is_unicode

LONGEST_PAGE = 200
"""Samples in one answer."""

CLASSES_OFFERED = 9
"""Classes that a set of copies may all have: as many as there are digits."""

LONGEST_NAME = 100
"""Characters in the name of a reviewer."""

NO_EXPORT = (
    "a page that a network can reach writes no files but decisions: whoever has its link could "
    "write anywhere on this machine"
)

_STATIC = {
    "review.js": ("labelfix.review", "static/review.js", "text/javascript"),
    "finish.js": ("labelfix.review", "static/finish.js", "text/javascript"),
    "retrain.js": ("labelfix.review", "static/retrain.js", "text/javascript"),
    "grid.js": ("labelfix.review", "static/grid.js", "text/javascript"),
    "classes.js": ("labelfix.review", "static/classes.js", "text/javascript"),
    "groups.js": ("labelfix.review", "static/groups.js", "text/javascript"),
    "review.css": ("labelfix.review", "static/review.css", "text/css"),
    "icon.svg": ("labelfix.review", "static/icon.svg", "image/svg+xml"),
    "theme.css": ("labelfix.report.html", "theme.css", "text/css"),
}
_STATES = {"undecided": False, "decided": True, "all": None}


def build_app(session: Session, renderer: Renderer, keys: Keys, retraining: Retraining) -> App:
    """Return the app of a review, guarded.

    Args:
        session: The review.
        renderer: Who shows the samples of the run.
        keys: What a request has to know.
        retraining: Trains again on the decisions.
    """
    routes = _Routes(session, renderer, keys, retraining)
    app = Starlette(
        routes=[
            Route("/", routes.page),
            Route("/static/{name}", _static),
            Route("/api/start", routes.start),
            Route("/api/queue", routes.queue),
            Route("/api/sample/{row}", routes.sample),
            Route("/api/pairs", routes.pairs),
            Route("/api/groups", routes.groups),
            Route("/api/progress", routes.progress),
            Route("/api/estimate", routes.estimate),
            Route("/api/decide", routes.decide, methods=["POST"]),
            Route("/api/undo", routes.undo, methods=["POST"]),
            Route("/api/finish", routes.finish),
            Route("/api/export", routes.export, methods=["POST"]),
            Route("/api/retrain", routes.retrain, methods=["GET", "POST"]),
            Route("/picture/{row}/{size}", routes.picture),
            Route("/api/words/{row}", routes.words),
        ],
        exception_handlers={
            HTTPException: _http_fault,
            LabelfixError: _fault,
        },
    )
    return Guard(app, keys)


class _Routes:
    """The answers to requests."""

    def __init__(
        self, session: Session, renderer: Renderer, keys: Keys, retraining: Retraining
    ) -> None:
        self._retraining = retraining
        self._session = session
        self._renderer = renderer
        self._keys = keys
        self._marking = Lock()
        self._exporter = Exporter(session)

    def page(self, request: Request) -> Response:
        text = files("labelfix.review").joinpath("static/index.html").read_text(encoding="utf-8")
        return Response(text, media_type="text/html; charset=utf-8")

    def start(self, request: Request) -> Response:
        """Say what the page needs once; only a page of this server can read it."""
        session = self._session
        return _json({
            "token": self._keys.token,
            "run": str(session.run),
            "reviewer": session.reviewer,
            "is_shared": self._keys.place.is_shared,
            "classes": list(session.view.class_names),
            "splits": list(session.view.split_names),
            "kinds": session.kinds,
            "has_pictures": self._renderer.open is not None and not self._renderer.is_text,
            "has_texts": self._renderer.open is not None and self._renderer.is_text,
            "has_words": self._renderer.marker is not None,
            "why_nothing_shown": self._renderer.exclusion_reason,
            "has_neighbors": session.neighbors is not None,
            "groups": _count_groups(session),
            "version": session.fingerprint[:16],
            "samples": len(session.view),
        })  # fmt: skip

    def queue(self, request: Request) -> Response:
        queue_filter, asked = _queue_filter(request, self._session), request.query_params
        limit = min(_number(asked.get("limit", "20")), LONGEST_PAGE)
        after = _number(asked.get("after", "-1"), least=-1)
        found = self._session.find(queue_filter, after=after, limit=limit, tab=_tab(request))
        items = self._items(found.row.tolist())
        if queue_filter.kind == RANDOM_SAMPLE:
            items = [self._blinded(item) for item in items]
        places = zip(items, found.place.tolist(), found.is_check.tolist(), strict=True)
        return _json({
            "items": [
                {**item, "place": place, "is_check": is_check} for item, place, is_check in places
            ],
            "total": found.total,
            "decided": found.decided,
            "more": found.more,
            "elsewhere": found.elsewhere,
        })  # fmt: skip

    def sample(self, request: Request) -> Response:
        row = _row_of_path(request)
        if row >= len(self._session.view):
            raise HTTPException(404, "the report has no such row")
        neighbors = self._session.neighbors
        near = [] if neighbors is None else neighbors.of(row)
        item, *others = self._items([row, *(other for other, _ in near)])
        return _json({
            **item,
            "neighbors": [
                {**other, "similarity": round(value, 4)}
                for other, (_, value) in zip(others, near, strict=True)
            ],
        })  # fmt: skip

    def pairs(self, request: Request) -> Response:
        found = self._session.pairs()
        return _json({
            "pairs": [
                {"given": given, "suggested": suggested, "count": count}
                for given, suggested, count in found
            ]
        })  # fmt: skip

    def groups(self, request: Request) -> Response:
        """Return sets of copies: some of them in their order, or the one that holds a row."""
        session, asked = self._session, request.query_params
        if "row" in asked:
            place = session.groups.of_row(_number(asked["row"], below=len(session.view)))
            return _json({"groups": [] if place is None else [self._group(place)]})
        which = asked.get("which", "all")
        if which not in get_args(Which):
            raise HTTPException(400, "there is no such kind of sets")
        found = session.find_groups(
            cast("Which", which),
            _queue_filter(request, session),
            after=_number(asked.get("after", "-1"), least=-1),
            limit=min(_number(asked.get("limit", "5")), LONGEST_PAGE),
            most_members=LONGEST_PAGE,
            tab=_tab(request),
        )
        return _json({
            "groups": [self._group(place) for place in found.places],
            "total": found.total,
            "decided": found.decided,
            "more": found.more,
            "elsewhere": found.elsewhere,
        })  # fmt: skip

    def progress(self, request: Request) -> Response:
        tab = _tab(request)
        if tab is not None:
            self._session.hold(tab)
        return _json(asdict(self._session.counts()))

    def estimate(self, request: Request) -> Response:
        return _json(asdict(self._session.estimate()))

    async def decide(self, request: Request) -> Response:
        body = await _body(request)
        wanted = [_wanted(values, self._session) for values in _list(body, "decisions")]
        as_batch = body.get("batch", False)
        if not isinstance(as_batch, bool):
            raise HTTPException(400, "batch is not true or false")
        reviewer = self._reviewer(body)
        done = await run_in_threadpool(
            self._session.decide, wanted, as_batch=as_batch, reviewer=reviewer
        )
        return await run_in_threadpool(self._done, done)

    async def undo(self, request: Request) -> Response:
        body = await _body(request)
        seen = None
        if body.get("decisions") is not None:
            seen = [
                (_row(values, self._session), _text(values, "decided_at"))
                for values in _list(body, "decisions")
            ]
        done = await run_in_threadpool(
            self._session.undo, seen, reviewer=self._reviewer(body), only_own=self._is_shared
        )
        return await run_in_threadpool(self._done, done)

    def finish(self, request: Request) -> Response:
        """Say what became of the labels, and what an export would write."""
        asked = request.query_params
        least = _probability(_parsed(asked.get("min_probability", str(MIN_PROBABILITY))))
        drop = asked.get("drop") == "true"
        found = finish_of(self._session, min_probability=least, drop=drop)
        return _json({**found.to_json(), **asdict(self._session.counts())})

    async def export(self, request: Request) -> Response:
        """Write the data set; a fault comes as its message and its hint."""
        asked = _export_request(await _body(request))
        if self._is_shared:
            return _json({"error": NO_EXPORT, "hint": "run the command on this page there"}, 403)
        try:
            result = await run_in_threadpool(self._exporter.write, asked)
        except LabelfixError as error:
            return _json({"error": str(error), "hint": error.hint}, 409)
        response = _json(result.to_json())
        response.background = BackgroundTask(write_page_again, self._session, self._renderer)
        return response

    def retrain(self, request: Request) -> Response:
        """Say how far the training on the decisions is; a POST begins it."""
        if request.method == "POST":
            try:
                self._retraining.start()
            except LabelfixError as error:
                return _json({"error": str(error), "hint": error.hint}, 409)
        return _json(self._retraining.state().to_json())

    def picture(self, request: Request) -> Response:
        row, size = _row_of_path(request), request.path_params["size"]
        show = self._renderer.open
        if show is None or size not in REVIEW_SIZES or row >= len(self._session.view):
            raise HTTPException(404, "there is no such picture")
        try:
            shown = show(row, size)
        except UnreadableSample as error:
            noun = self._session.view.wording.noun
            raise HTTPException(404, f"the {noun} cannot be shown: {error}") from error
        kept = {"cache-control": "private, max-age=86400"}
        return Response(shown.data, media_type=shown.media_type, headers=kept)

    def words(self, request: Request) -> Response:
        """Return a text in parts, with the words that speak for its label or another class."""
        view, asked = self._session.view, request.query_params
        row = _row_of_path(request)
        other = _number(asked.get("other", ""), below=len(view.class_names))
        marker = self._marker
        if marker is None or row >= len(view):
            raise HTTPException(404, "there is no such text")
        given = int(view.given[row])
        if given == MISSING:
            raise HTTPException(404, "the text has no label")
        try:
            parts = marker.parts(row, given, other)
        except UnreadableSample as error:
            raise HTTPException(404, f"the text cannot be shown: {error}") from error
        return _json({"parts": [[part.text, part.speaks_for] for part in parts]})

    @property
    def _is_shared(self) -> bool:
        return self._keys.place.is_shared

    def _reviewer(self, body: dict[str, Any]) -> str | None:
        """Return who asks for a change; of several people each has to have a name."""
        name = _reviewer(body)
        if self._is_shared and name is None and self._session.reviewer is None:
            raise HTTPException(400, 'type your name first, at "Your name"')
        return name

    @property
    def _marker(self) -> Marker | None:
        """Return who marks words, by labels that were not flagged; words are counted once."""
        with self._marking:
            return self._counted_words

    @cached_property
    def _counted_words(self) -> Marker | None:
        view, make = self._session.view, self._renderer.marker
        return (
            None
            if make is None
            else make(np.where(view.is_flagged, MISSING, view.given).astype(np.int64))
        )

    def _done(self, done: Done) -> Response:
        return _json({
            "changed": self._after_decisions(done.changed[:LONGEST_PAGE]),
            "changed_count": len(done.changed),
            "conflicts": self._after_decisions(done.conflicts[:LONGEST_PAGE]),
            "conflict_count": len(done.conflicts),
            "progress": asdict(self._session.counts()),
        })  # fmt: skip

    def _group(self, place: int) -> dict[str, Any]:
        session, groups = self._session, self._session.groups
        members = groups.members(place)
        shown = session.samples.of(members.tolist())
        offered = offered_classes(session.view.given[members], shown)
        copies = session.view.exact_set[members].tolist()
        return {
            "place": place,
            "is_identical": bool(groups.is_identical[place]),
            "is_contradicting": bool(groups.is_contradicting[place]),
            "is_leaking": bool(groups.is_leaking[place]),
            "classes": [[code, round(share, 6)] for code, share in offered[:CLASSES_OFFERED]],
            "members": [
                {**item, "exact_set": None if copy == MISSING else copy}
                for item, copy in zip(self._items(members.tolist()), copies, strict=True)
            ],
        }

    def _items(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        samples = self._session.samples.of(rows)  # together: they may have to be read
        return [self._item(row, sample) for row, sample in zip(rows, samples, strict=True)]

    def _item(self, row: int, sample: ShownSample) -> dict[str, Any]:
        view = self._session.view
        split = view.split_name[row]
        return {
            "row": row,
            "sample_id": sample.name,
            "given": int(view.given[row]),
            "predicted": int(view.predicted[row]),
            "suggested": int(view.suggested[row]),
            "is_flagged": bool(view.is_flagged[row]),
            "probability": _or_none(view.error_probability[row]),
            "suggested_probability": _or_none(view.suggested_probability[row]),
            "split": None if split == MISSING else view.split_names[split],
            "issues": [kind for kind in view.kinds if view.issue(kind)[row]],
            "reason": _other_reasons(sample.reason),
            "top": [[code, round(share, 6)] for code, share in sample.top],
            "decision": _decision_json(self._session.decision(row)),
        }

    def _after_decisions(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        return [
            self._blinded(item) if self._session.is_undisclosed(row) else item
            for row, item in zip(rows, self._items(rows), strict=True)
        ]

    def _blinded(self, item: dict[str, Any]) -> dict[str, Any]:
        """Return a sample without what the model says of it, so that nobody is led by that.

        Where labels are hidden, the page shows neither the given label nor the name of the sample,
        which may hold it; the classes to choose from stand in place of those that the model offers.
        """
        is_hidden = self._session.hides_labels
        classes = range(len(self._session.view.class_names)) if is_hidden else range(0)
        return {
            **item,
            "is_blind": True,
            "is_hidden": is_hidden,
            "predicted": MISSING,
            "suggested": MISSING,
            "is_flagged": False,
            "probability": None,
            "suggested_probability": None,
            "issues": [],
            "reason": None,
            "top": [[code, None] for code in classes] if len(classes) <= CLASSES_OFFERED else [],
        }


def _other_reasons(reason: str | None) -> str | None:
    """Return what a reason says besides which class the sample looks like.

    The page shows the classes, and one probability; those in this sentence are of the network
    alone.
    """
    if reason is None or not reason.startswith("looks like "):
        return reason
    return reason.partition(" %); ")[2] or None


def _decision_json(decision: Decision | None) -> dict[str, Any] | None:
    if decision is None:
        return None
    return {
        "action": decision.action,
        "label": decision.label,
        "decided_at": decision.decided_at,
        "decided_by": decision.decided_by,
        "batch": decision.batch,
        "as_copy": decision.as_copy,
    }


def _count_groups(session: Session) -> dict[str, int]:
    """Return how many sets of copies there are of each kind."""
    return {which: int(session.groups.which(which).sum()) for which in get_args(Which)}


def _queue_filter(request: Request, session: Session) -> QueueFilter:
    asked = request.query_params
    kind, state = asked.get("kind", "label"), asked.get("state", "undecided")
    if kind not in session.kinds or state not in _STATES:
        raise HTTPException(400, "the report has no such kind of issue, or that is no state")
    classes, splits = len(session.view.class_names), len(session.view.split_names)
    pair = None
    if "given" in asked and "suggested" in asked:
        pair = (_number(asked["given"], below=classes), _number(asked["suggested"], below=classes))
    return QueueFilter(
        kind=kind,
        of_class=_number(asked["class"], below=classes) if "class" in asked else None,
        pair=pair,
        split=_number(asked["split"], below=splits) if "split" in asked else None,
        is_decided=_STATES[state],
        with_checks=asked.get("checks") != "false",
    )


def _wanted(values: Any, session: Session) -> Wanted:
    action, label, seen = (values.get(key) for key in ("action", "label", "seen"))
    if not isinstance(action, str) or action not in {"keep", "relabel", "unsure", "drop"}:
        raise HTTPException(400, "action is not keep, relabel, unsure or drop")
    if seen is not None:
        seen = _text(values, "seen")
    classes = session.view.class_names
    if action == "relabel" and not (type(label) is int and 0 <= label < len(classes)):
        raise HTTPException(400, "choose a class by its number")
    chosen = classes[label] if action == "relabel" else None
    as_copy = values.get("as_copy", False)
    if not isinstance(as_copy, bool) or (as_copy and action != "drop"):
        raise HTTPException(400, "as_copy is not true or false, or there is nothing to drop")
    return Wanted(_row(values, session), cast("DecisionAction", action), chosen, seen, as_copy)


def _tab(request: Request) -> str | None:
    """Return the name that a tab gave itself, no longer than a name needs to be."""
    tab = request.query_params.get("tab")
    return None if tab is None else tab[:LONGEST_NAME]


def _reviewer(body: dict[str, Any]) -> str | None:
    if body.get("reviewer") is None:
        return None
    name = _text(body, "reviewer").strip()
    if len(name) > LONGEST_NAME or not is_unicode(name):
        raise HTTPException(400, "the name of the reviewer is too long, or no text")
    return name or None


def _export_request(body: dict[str, Any]) -> ExportRequest:
    chosen, flags = _text(body, "format"), [body.get(key, False) for key in ("drop", "overwrite")]
    if chosen not in get_args(ExportFormat):
        raise HTTPException(400, "there is no such format")
    if not all(isinstance(flag, bool) for flag in flags):
        raise HTTPException(400, "drop or overwrite is not true or false")
    return ExportRequest(
        to=_text(body, "to"),
        format=cast("ExportFormat", chosen),
        min_probability=_probability(body.get("min_probability", MIN_PROBABILITY)),
        drop=flags[0],
        overwrite=flags[1],
    )


def _probability(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise HTTPException(400, "min_probability is no number from 0 to 1")
    return float(value)


def _parsed(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise HTTPException(400, "min_probability is no number from 0 to 1") from error


def _text(values: Any, key: str) -> str:
    text = values.get(key)
    if not isinstance(text, str):
        raise HTTPException(400, f"{key} is no text")
    return text


def _row(values: Any, session: Session) -> int:
    """Return the row of a sample; its name has to fit, so that no old page decides on another."""
    row = values.get("row")
    if not (type(row) is int and 0 <= row < len(session.view)):
        raise HTTPException(400, "the report has no such row")
    if _text(values, "sample_id") != session.samples.name(row):
        raise HTTPException(409, "the page shows another report: load it again")
    return row


def _row_of_path(request: Request) -> int:
    """Return the row that an address names; a name of 10,000 digits is no number for Python."""
    text = request.path_params["row"]
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise HTTPException(404, "the report has no such row")
    return int(text)


async def _body(request: Request) -> dict[str, Any]:
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise HTTPException(400, "the body is no JSON") from error
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is no JSON object")
    return body


def _list(body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    values = body.get(key)
    if not (isinstance(values, list) and all(isinstance(value, dict) for value in values)):
        raise HTTPException(400, f"{key} is no list of objects")
    return values


def _number(text: str, *, least: int = 0, below: int = 1 << 62) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise HTTPException(400, "a number is not one")
    value = sign * int(digits)
    if not least <= value < below:
        raise HTTPException(400, "a number is out of range")
    return value


def _or_none(value: np.floating[Any]) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def _static(request: Request) -> Response:
    found = _STATIC.get(request.path_params["name"])
    if found is None:
        raise HTTPException(404, "there is no such file")
    package, name, media_type = found
    return Response(files(package).joinpath(name).read_bytes(), media_type=media_type)


def _json(values: Any, status: int = 200) -> Response:
    """Return an answer in ASCII: a path or a name need not be Unicode."""
    text = json.dumps(values, allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def _http_fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _fault(request: Request, error: Exception) -> Response:
    """Say what went wrong with the log: the page tells the person, and nothing was kept."""
    hint = getattr(error, "hint", None)
    return _json({"error": f"{error}" + (f"; {hint}" if hint else "")}, 500)
