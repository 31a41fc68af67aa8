-- ?1 parked key, ?2 letter, ?3 cause, ?4 error, ?5 attempts, ?6 due in ms
UPDATE main.tidings_parked_key SET cause = ?3, error = ?4, attempts = ?5, due = ?6 WHERE id = ?1 AND head = ?2
