-- table: replace the backend table, if it is still the version that the new one was made from. A row that is new, or has
-- another state than before, counts since this version; a store without a table takes rows as they are given.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] based_on  then for each row: backend  row
-- Includes: keys, clock, enter, row
-- Returns {"ok", version} | {"late", version in force, {backend, row, ...}} | {"lost"} | {"stale"}
local inc, run, seq, given, based_on = unpack(ARGV, 1, 5)
based_on = tonumber(based_on)
local now, refusal = enter(inc, run, seq, given)
if not now then return { refusal } end

local fields, version, rows, was = redis.call('HGETALL', backends), 0, {}, {}
for i = 1, #fields, 2 do
  if fields[i] == 'version' then
    version = tonumber(fields[i + 1])
  else
    local name = string.sub(fields[i], 3)
    rows[#rows + 1] = name
    rows[#rows + 1] = fields[i + 1]
    was[name] = row(fields[i + 1])
  end
end
if version ~= based_on then return { 'late', version, rows } end

version = math.max(based_on + 1, now)
redis.call('DEL', backends)
redis.call('HSET', backends, 'version', version)
for i = 6, #ARGV, 2 do
  local text, before = ARGV[i + 1], was[ARGV[i]]
  if based_on > 0 then
    local line = row(text)
    local since = before and before.state == line.state and before.since or version
    text = string.format('%d %s %.0f %s', line.weight, line.state, since, line.pool)
  end
  redis.call('HSET', backends, 'r:' .. ARGV[i], text)
end
return { 'ok', version }
