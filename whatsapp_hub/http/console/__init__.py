"""The operator's pages at ``/console``, behind ``ADMIN_TOKEN``.

Every page is one frame (``static/console.html``) that a script of its own fills (``static/pages/NAME.js``, with
``show(page)``). Scripts ask for JSON at ``/console/api/...``: handlers wrapped in ``doors.for_operators_scripts``.

- An error is ``{"error": "a sentence for the operator"}``, raised as ``doors.NotWanted`` or ``StoreUnavailable``.
- A list is ``{"items": [...], "more": ...}``: ``more`` is what to ask for next, or null.
- Times are texts in UTC, ``2027-01-31T18:00:00Z``; durations are numbers of seconds, named ``..._s``.
- What changes something is a POST with a JSON object (``doors.read_object``), and answers what has become of it.
- Every read of the database has a time limit, and a bound on what it returns.
"""
