-- table: replace the backend table, if it is still the version that the new one was made from. A row that is new, or has
-- another state than before, counts since this version; a store without a table takes rows as they are given.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] based_on  then for each row: backend  row
-- Includes: keys, rare_keys, clock, enter, tell, row, text, in_force, continue, wide, install, replace
-- Returns {"ok", version} | {"late", version in force, {backend, row, ...}} | {"lost"} | {"stale"}
local inc, run, seq, given, based_on = unpack(ARGV, 1, 5)
local now, refusal = enter(inc, run, seq, given)
if not now then return { refusal } end
return replace(tonumber(based_on), 6, now)
