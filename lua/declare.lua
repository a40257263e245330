-- declare: how many sessions of each key an incarnation holds; decides if two say different homes.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] remember  [6] kick_delay
-- ARGV[7] then for each line: key  backend  generation  count  unproven
-- Includes: keys, rare_keys, clock, enter, alive, gather, add, enlist, tell, kick_out, save, expire, unbind, read, fetch
-- Includes: bind, prove, count, hook, attend, wake, rest, oust, note_past, halt, kick, spill
-- Returns {"ok", {{key, backend, generation}, ...}}: sessions here that must be closed | {"lost"} | {"stale"}
local inc, run, seq, given, remember, kick_delay = unpack(ARGV, 1, 6)
remember, kick_delay = tonumber(remember), tonumber(kick_delay)

local now, refusal = enter(inc, run, seq, given)
if not now then return { refusal } end
lives[inc] = true
local kicked = redis.call('EXISTS', kicks .. inc) == 1

-- The key has left the home of these sessions: by force, or while inc was an orphan. They are closing, and nobody waits.
local function was_told_to_leave(b)
  return kicked and redis.call('SISMEMBER', kicks .. inc, b.key) == 1
end

-- Makes binding and declaration the same. Returns the binding, and whether the declaration stands.
local function agree(b, marks, key, backend, generation, unproven)
  if not b then return bind(nil, key, backend, generation, unproven, marks), true end
  if b.backend == backend then
    if generation > b.generation then bind(b, key, backend, generation, false) end
  else
    local others = b.n - (b.h[inc] or 0)
    if others > 0 then redis.call('HINCRBY', shard, 'splits', 1) end
    if generation <= b.generation and (others > 0 or was_told_to_leave(b)) then return b, false end
    count(b, inc, 0)
    oust(b, inc)
    generation = math.max(generation, b.generation + 1)
    note_past(b, generation, 'declared', remember)
    halt(b)
    bind(b, key, backend, generation, false)
  end
  if not unproven then prove(b) end
  return b, true
end

local refused = {}
gather()
for i = 7, #ARGV, 5 do
  local key, backend, generation = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local sessions, unproven, stands = tonumber(ARGV[i + 3]), ARGV[i + 4] == '1', true
  local b, marks = fetch(key, now, remember)
  if sessions > 0 then b, stands = agree(b, marks, key, backend, generation, unproven) end
  -- The key is being moved, and these sessions are from before.
  local leaves = sessions > 0 and b.moving and generation < b.generation
  if stands then
    if kicked then redis.call('SREM', kicks .. inc, key) end
    -- Sessions that came and went between two declarations may have been accepted, too.
    if b and b.h[inc] and not unproven then prove(b) end
  else
    sessions = 0
  end
  if b then
    count(b, inc, sessions)
    rest(b, now, remember, kick_delay)
  else
    enlist(inc, key, false)
  end
  if leaves or not stands then
    redis.call('SADD', kicks .. inc, key)
    kicked = true
    refused[#refused + 1] = key
  end
end
spill()

for i, key in ipairs(refused) do refused[i] = kick(key, now, remember) end
return { 'ok', refused }
