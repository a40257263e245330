-- guard_key: what the names of all that guards logins begin with.
-- KEYS[1] stem
local guard = KEYS[1] .. 'guard:'
