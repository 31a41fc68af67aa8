-- The columns of a Request, of dead_letter_request r; included in others.
r.id, r.grp, r.kind, r.state, r.asked_at, r.ended_at, r.who, r.reason, r.error, r.filter, r.rate, coalesce(r.letter_id, 0), r.value, r.value IS NULL,
r.selected, r.keys, r.busy, r.keys_done, r.keys_stopped, r.applied, r.failed
