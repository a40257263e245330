-- move: an order: empty a key's home, then open another. A home that is empty is left at once; else nobody joins it any
-- more, its holders are kicked, and settle or a claim goes on.
-- ARGV[1] clock  [2] recovery  [3] recovery_max  [4] key  [5] seen  [6] to  [7] force  [8] hook  [9] timeout
-- ARGV[10] parallel  [11] per_second  [12] remember  [13] kick_delay  [14] slow_start  [15] pool
-- to: see heading. seen is empty for any, parallel if it is one move only; pool is the one of a home that left the table.
-- Includes: keys, rare_keys, clock, recall, window, alive, gather, add, enlist, tell, kick_out, save, expire, unbind
-- Includes: read, fetch, bind, count, hook, attend, oust, row, usable, takes_users, has_room, fields, turn, wide, rank
-- Includes: place, chosen, heading, note_past, halt, cancel, renewed, rehome, move_in, holders
-- Returns {"begun", generation, sessions, {holder, sessions, ...}} | {"done", backend, generation} | {"changed"} | {"busy"}
-- | {"unbound"} | {"no_backend"} | {"later", ms} | {"recovering", ms}
local given, recovery, recovery_max, key, seen, to, force, has_hook, timeout, parallel, per_second, remember, kick_delay,
  slow_start, pool = unpack(ARGV)
recovery, force, has_hook, timeout = tonumber(recovery), force == '1', has_hook == '1', tonumber(timeout)
remember, per_second = tonumber(remember), tonumber(per_second)
kick_delay, slow_start = tonumber(kick_delay), tonumber(slow_start)
local AGAIN = 250 -- ms: how long to wait before one of many moves is tried again
local BURST = 250000 -- microseconds: how far many moves may run ahead of their rate

local now, till = recall(given)
if not now then return { 'recovering', recovery } end
local open_ms = window(now, till, recovery, tonumber(recovery_max))
if open_ms > 0 then return { 'recovering', open_ms } end
local b, marks = fetch(key, now, remember)

local function done() return { 'done', b.backend, b.generation } end

-- A key that is not bound needs no emptying: a first home can only be given to it.
local function bind_first()
  if string.sub(to, 1, 1) ~= '=' then return { 'unbound' } end
  if seen ~= '' then return { 'changed' } end
  local backend = heading(to, nil, nil, now, slow_start)
  if not backend then return { 'no_backend' } end
  b = bind(nil, key, backend, now, false, marks)
  put(b, 'n', 0)
  put(b, 'idle', now)
  save(b)
  expire(key, marks, now, remember)
  return done()
end

-- It is where it should be. A generation of its own says that it has been placed since.
local function leave_there()
  if force and b.moving then cancel(b, now, remember) end
  if to == 'anywhere' then
    b.generation = renewed(b, b.backend, now)
    put(b, 'gen', b.generation)
  end
  return done()
end

-- Milliseconds to wait if there are enough moves already.
local function too_fast()
  if redis.call('ZCARD', moving) >= tonumber(parallel) then return AGAIN end
  if per_second > 0 then
    local paced = math.max(tonumber(redis.call('HGET', shard, 'paced') or 0), now * 1000)
    local ahead = paced - now * 1000 - BURST
    if ahead > 0 then return math.ceil(ahead / 1000) end
    redis.call('HSET', shard, 'paced', paced + math.floor(1e6 / per_second))
  end
end

local function begin()
  local move = { to = to, began = b.generation, deadline = now + timeout, hook = has_hook and 'pending' or nil }
  b.moving, b.generation = move, math.max(b.generation + 1, now)
  for _, field in ipairs({ 'to', 'began', 'deadline', 'hook' }) do put(b, field, move[field]) end
  put(b, 'gen', b.generation)
  if b.idle then
    move.not_before = b.idle + kick_delay
    put(b, 'not_before', move.not_before)
    redis.call('PERSIST', b.name)
  end
  attend(b, now, kick_delay)
  for holder in pairs(b.h) do kick_out(key, holder) end
  return { 'begun', b.generation, b.n, holders(b) }
end

local function go()
  if seen ~= '' and tonumber(seen) ~= b.generation then return { 'changed' } end
  if b.moving and not force then return { 'busy' } end
  -- One of many: who waits for a dead proxy would only be locked out, and who is pinned here would come back at once.
  if parallel ~= '' then
    for holder in pairs(b.h) do
      if not alive(holder) then return { 'busy' } end
    end
    if marks.pin == b.backend then return leave_there() end
  end
  local own = row(redis.call('HGET', backends, 'r:' .. b.backend))
  local target, line = heading(to, b.backend, own and own.pool or pool, now, slow_start)
  if not target or (own and line and line.pool ~= own.pool) then return { 'no_backend' } end
  if target == b.backend and to ~= 'stay' then return leave_there() end
  local ms = parallel ~= '' and too_fast()
  if ms then return { 'later', ms } end
  if force then
    oust(b)
    move_in(b, to, target, now, remember, 'force')
    return done()
  end
  local is_idle = b.idle and b.idle + kick_delay <= now
  if b.n == 0 and not has_hook and (is_idle or to == 'stay') then
    move_in(b, to, target, now, remember)
    return done()
  end
  return begin()
end

if not b then return bind_first() end
local answer = go()
save(b)
return answer
