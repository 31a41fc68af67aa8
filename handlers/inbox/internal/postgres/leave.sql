-- Takes a letter out, under the lock, beside the effect: see tidings.letter_leave.
SELECT tidings.letter_leave($1::bigint)
