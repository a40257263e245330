-- note_key: what the names of all notes begin with.
-- KEYS[1] stem
local note = KEYS[1] .. 'note:'
