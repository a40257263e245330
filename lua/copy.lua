-- copy: an order: give a shard other than the first a copy of the table; ignored unless it is newer. It is as it is given,
-- but for the times, which are of this shard's clock.
-- ARGV[1] clock  [2] recovery  [3] version  then for each row: backend  row
-- Includes: keys, rare_keys, clock, recall, tell, row, text, in_force, continue, wide, install
-- Returns {"ok"} | {"recovering", ms}
-- What is given has the first shard's times, and the clocks of two shards have nothing in common: each follows its own
-- server, and either may be hours ahead. Who has a copy already keeps its own times of what has not changed. Who has none
-- has just lost its memory or is new; what its own times were, nobody knows.
-- - A job begins now. A flush moves keys whose generation is lower than its beginning. Whoever is placed from now on has a
--   generation of now or above, so every key is flushed at most once more and the flush comes to an end; were the beginning
--   ahead of this shard's clock, keys would be moved again and again until the clock has reached it. And the keys that had a
--   home before now have lower generations, so none is left out because the first shard's clock is behind. (Unless this
--   shard's own clock went back as it lost its memory: keys that are declared anew with generations ahead of it are left
--   out, as of every flush until it has caught up.) That some had been flushed before the loss is forgotten.
-- - A state that began counts as it is given if that is past, else from now. slow_start is all that asks. Ahead of the clock,
--   a weight would stay at its least until the clock has come there; so it ramps up within slow_start from now, or sooner.
local given, recovery, version = unpack(ARGV, 1, 3)
version = tonumber(version)
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end

local function begin_no_later_than(line)
  line.since = math.min(line.since, now)
  if line.job ~= 'none' then line.job_since = now end
end

local present, was = in_force()
if version > present then
  install(version, was, 4, function(name, line)
    if present == 0 then return begin_no_later_than(line) end
    continue(line, was[name], now)
  end)
end
return { 'ok' }
