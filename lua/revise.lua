-- revise: an order: replace the backend table, as table does, but not over a link.
-- ARGV[1] clock  [2] recovery  [3] based_on  then for each row: backend  row
-- Includes: keys, rare_keys, clock, recall, tell, row, text, in_force, continue, wide, install, replace
-- Returns {"ok", version} | {"late", version in force, {backend, row, ...}} | {"recovering", ms}
local given, recovery, based_on = unpack(ARGV, 1, 3)
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end
return replace(tonumber(based_on), 4, now)
