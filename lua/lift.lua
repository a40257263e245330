-- lift: an order: make the version of the table a higher one, if it is still the one that was seen. Everybody is told.
-- ARGV[1] clock  [2] recovery  [3] seen  [4] to
-- Includes: keys, rare_keys, clock, recall, tell
-- Returns {"ok", 1 if it was lifted, or 0} | {"recovering", ms}
-- It names no lines, so it can undo no change of them: whoever changes the table at the same time is either first, and this
-- finds another version than was seen, or second, and finds the same of this.
local given, recovery, seen, to = unpack(ARGV)
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end
local version = tonumber(redis.call('HGET', backends, 'version') or 0)
if version ~= tonumber(seen) or version == 0 or version >= tonumber(to) then return { 'ok', 0 } end
redis.call('HSET', backends, 'version', to)
tell()
return { 'ok', 1 }
