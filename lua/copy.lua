-- copy: an order: give a shard other than the first a copy of the table; ignored unless it is newer. It is as it is given,
-- but for the times, which are of this shard's clock.
-- ARGV[1] clock  [2] recovery  [3] version  then for each row: backend  row
-- Includes: keys, rare_keys, clock, recall, tell, row, text, in_force, continue, wide, install
-- Returns {"ok"} | {"recovering", ms}
local given, recovery, version = unpack(ARGV, 1, 3)
version = tonumber(version)
local now = recall(given)
if not now then return { 'recovering', tonumber(recovery) } end
local present, was = in_force()
if version > present then
  install(version, 4, present > 0 and function(name, line) continue(line, was[name], now) end)
end
return { 'ok' }
