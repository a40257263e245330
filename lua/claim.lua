-- claim: give a key its home, binding it if it is unbound, and count one session more.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] key  [6] have  [7] pool  [8] pin  [9] limit  [10] unproven
-- ARGV[11] recovery  [12] recovery_max  [13] user_expire  [14] remember  [15] balance_factor  [16] slow_start  [17] strict
-- Includes: keys, clock, enter, window, alive, gather, add, enlist, save, fetch, bind, prove, count, rest, oust, row, fields, turn, rank, place
-- Returns {"bound", backend, generation} | {"wait", ms, reason} | {"limit"} | {"no_backend"} | {"lost"} | {"stale"}
-- Repeating it counts once: it carries the number of sessions, never a difference. Bound, have + 1 are counted, else have.
local inc, run, seq, given, key, have, pool, pin, limit, unproven, recovery, recovery_max, user_expire, remember, factor,
  slow_start, strict = unpack(ARGV)
have, limit, unproven, strict = tonumber(have), tonumber(limit), unproven == '1', strict == '1'
user_expire, remember, factor, slow_start = tonumber(user_expire), tonumber(remember), tonumber(factor), tonumber(slow_start)
local AGAIN = 250 -- ms: how long to wait for what may be over at any moment

local now, till = enter(inc, run, seq, given)
if not now then return { till } end
lives[inc] = true
local b = fetch(key, now, remember)

local function place_anew(remembered)
  local backend = place(pool, pin, remembered, now, factor, slow_start)
  if backend then return 'place', backend end
  return 'no_backend'
end

-- The home is down or gone. Whoever lives and holds the key is closing it: wait, or two homes would be open at once.
local function leave_the_dead()
  if have > 0 then return 'wait', AGAIN, 'closing' end
  for other in pairs(b.h) do
    if other ~= inc and (strict or alive(other)) then return 'wait', AGAIN, 'closing' end
  end
  return place_anew(nil)
end

-- Nobody holds the key, but it is remembered where it was.
local function come_back(line)
  if pin ~= '' then
    if pin == b.backend then return 'join' end
    return place_anew(nil)
  end
  local fits = line.state == 'up' and line.pool == pool
  if fits and (not b.idle or now < b.idle + user_expire) then return 'join' end
  return place_anew(b.backend)
end

-- The limit again without orphans, whose sessions may long be gone.
local function is_full()
  local sessions = have
  for other, number in pairs(b.h) do
    if other ~= inc and alive(other) then sessions = sessions + number end
  end
  return sessions >= limit
end

local function judge()
  local ms = window(now, till, tonumber(recovery), tonumber(recovery_max))
  if ms > 0 then return 'wait', math.max(ms, AGAIN), 'recovery' end
  local version, text = unpack(redis.call('HMGET', backends, 'version', 'r:' .. (b and b.backend or '')))
  if not version then return 'no_backend' end -- nobody has brought the table yet: take nothing apart for want of it
  if not b then return place_anew(nil) end
  local line = row(text)
  if not line or line.state == 'down' then return leave_the_dead() end
  local sessions = math.max(b.n - (b.h[inc] or 0), 0) + have
  if sessions == 0 then return come_back(line) end
  if limit > 0 and sessions >= limit and is_full() then return 'limit' end
  return 'join'
end

local word, detail, reason = judge()
if have == 0 then redis.call('SREM', kicks .. inc, key) end
if word == 'place' then
  if b then
    count(b, inc, 0)
    oust(b, inc)
  end
  if not b or b.backend ~= detail then
    b = bind(b, key, detail, math.max(b and b.generation + 1 or 0, now), not b and unproven)
  end
  word = 'join'
end
if word == 'join' then
  count(b, inc, have + 1)
  if not unproven then prove(b) end
elseif b then
  count(b, inc, have)
else
  enlist(inc, key, false)
end
if b then rest(b, now, remember) end
if word == 'join' then return { 'bound', b.backend, b.generation } end
return { word, detail, reason }
