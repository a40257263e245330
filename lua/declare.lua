-- declare: how many sessions of each key an incarnation holds; decides if two say different homes.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] remember  then for each line: key  backend  generation  count  unproven
-- Includes: keys, clock, enter, alive, gather, add, enlist, save, fetch, bind, prove, count, rest, oust, kick, spill
-- Returns {"ok", {{key, backend, generation}, ...}}: sessions here that must be closed | {"lost"} | {"stale"}
local inc, run, seq, given, remember = unpack(ARGV, 1, 5)
remember = tonumber(remember)

local now, refusal = enter(inc, run, seq, given)
if not now then return { refusal } end
lives[inc] = true
local kicked = redis.call('EXISTS', kicks .. inc) == 1

-- Makes binding and declaration the same. Returns the binding, and whether the declaration stands.
local function agree(b, key, backend, generation, unproven)
  if not b then return bind(nil, key, backend, generation, unproven), true end
  if b.backend == backend then
    if generation > b.generation then bind(b, key, backend, generation, false) end
  else
    local others = b.n - (b.h[inc] or 0)
    if others > 0 and generation <= b.generation then return b, false end
    count(b, inc, 0)
    oust(b, inc)
    bind(b, key, backend, generation, false)
  end
  if not unproven then prove(b) end
  return b, true
end

local refused = {}
gather()
for i = 6, #ARGV, 5 do
  local key, backend, generation = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local sessions, unproven, stands = tonumber(ARGV[i + 3]), ARGV[i + 4] == '1', true
  local b = fetch(key, now, remember)
  if sessions > 0 then b, stands = agree(b, key, backend, generation, unproven) end
  if stands then
    if kicked then redis.call('SREM', kicks .. inc, key) end
    -- Sessions that came and went between two declarations may have been accepted, too.
    if b and b.h[inc] and not unproven then prove(b) end
  else
    redis.call('SADD', kicks .. inc, key)
    kicked = true
    refused[#refused + 1] = key
    sessions = 0
  end
  if b then
    count(b, inc, sessions)
    rest(b, now, remember)
  else
    enlist(inc, key, false)
  end
end
spill()

for i, key in ipairs(refused) do refused[i] = kick(key, now, remember) end
return { 'ok', refused }
