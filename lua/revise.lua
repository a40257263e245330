-- revise: an order: replace the backend table, as table does, but not over a link.
-- ARGV[1] clock  [2] recovery  [3] recovery_max  [4] based_on  then for each row: backend  row
-- Includes: keys, rare_keys, clock, recall, window, tell, row, text, in_force, continue, wide, install, replace
-- Returns {"ok", version} | {"late", version in force, {backend, row, ...}} | {"recovering", ms}
-- Not while a recovery window is open: a proxy that has yet to give back the table of before the loss would undo it.
local given, recovery, recovery_max, based_on = unpack(ARGV, 1, 4)
recovery = tonumber(recovery)
local now, till = recall(given)
if not now then return { 'recovering', recovery } end
local open_ms = window(now, till, recovery, tonumber(recovery_max))
if open_ms > 0 then return { 'recovering', open_ms } end
return replace(tonumber(based_on), 5, now)
