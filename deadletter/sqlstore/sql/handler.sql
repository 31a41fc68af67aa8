-- A handler's ID. $1 group, $2 name, $3 epoch
SELECT id FROM tidings.handler WHERE grp = $1::text AND name = $2::text AND epoch = $3::integer
