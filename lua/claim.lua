-- claim: give a key its home, binding it if it is unbound, and count one session more.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] key  [6] have  [7] pool  [8] pin  [9] limit  [10] unproven  [11] hint
-- ARGV[12] recovery  [13] recovery_max  [14] user_expire  [15] remember  [16] balance_factor  [17] slow_start  [18] strict
-- ARGV[19] kick_delay
-- Includes: keys, clock, enter, window, alive, gather, add, enlist, tell, kick_out, save, expire, unbind, fetch, bind
-- Includes: prove, count, hook, attend, rest, oust, row, usable, takes_users, has_room, fields, turn, rank, place
-- Includes: chosen, heading, note_past, halt, cancel, rehome, move_in, finish, due
-- Returns {"bound", backend, generation} | {"wait", ms, reason} | {"limit"} | {"full"} | {"no_backend"} | {"lost"}
-- | {"stale"}
-- Repeating it counts once: it carries the number of sessions, never a difference. Bound, have + 1 are counted, else have.
local inc, run, seq, given, key, have, pool, pin, limit, unproven, hint, recovery, recovery_max, user_expire, remember,
  factor, slow_start, strict, kick_delay = unpack(ARGV)
have, limit, unproven, strict = tonumber(have), tonumber(limit), unproven == '1', strict == '1'
user_expire, remember, factor = tonumber(user_expire), tonumber(remember), tonumber(factor)
slow_start, kick_delay = tonumber(slow_start), tonumber(kick_delay)
local AGAIN = 250 -- ms: how long to wait for what may be over at any moment

local now, till = enter(inc, run, seq, given)
if not now then return { till } end
lives[inc] = true
local b, marks = fetch(key, now, remember)
pin = marks.pin or pin

local function place_anew(remembered, fair)
  local backend = place(pool, pin, remembered, nil, now, fair or factor, slow_start)
  if backend then return 'place', backend end
  return 'no_backend'
end

-- Joins the home, if it has room beside what inc says that it has there.
local function enter_home(line)
  if line.most == 0 then return 'join' end
  local others = math.max((redis.call('HGET', load, b.backend) or 0) - (b.h[inc] or 0), 0)
  return others + have >= line.most and 'full' or 'join'
end

-- The home is down or gone. Whoever lives and holds the key is closing it: wait, or two homes would be open at once.
local function leave_the_dead()
  if have > 0 then return 'wait', AGAIN, 'closing' end
  for other in pairs(b.h) do
    if other ~= inc and (strict or alive(other)) then return 'wait', AGAIN, 'closing' end
  end
  return place_anew(nil)
end

-- The home is being flushed, and it was given before that began.
local function is_flushed(line)
  return line.job == 'flush' and not line.paused and b.generation < line.job_since
end

-- Nobody holds the key, but it is remembered where it was.
local function come_back(line)
  if pin ~= '' then
    if pin == b.backend then return enter_home(line) end
    return place_anew(nil)
  end
  if is_flushed(line) then return place_anew(nil) end
  if line.job == 'rebalance' and not line.paused then return place_anew(b.backend, 1) end
  local fits = line.state == 'up' and line.pool == pool
  if fits and (not b.idle or now < b.idle + user_expire) then return enter_home(line) end
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

local home, home_text = b and b.backend or '', nil -- what the table says of it, read with the version in one call

-- What keeps every claim of the key waiting.
local function not_yet()
  local ms = window(now, till, tonumber(recovery), tonumber(recovery_max))
  if ms > 0 then return 'wait', math.max(ms, AGAIN), 'recovery' end
  if marks.hold or marks.lock then return 'wait', AGAIN, 'hold' end
  -- Nobody has brought the table yet: take nothing apart for want of it.
  local version
  version, home_text = unpack(redis.call('HMGET', backends, 'version', 'r:' .. home))
  if not version then return 'no_backend' end
end

-- Ends a move whose old home is empty but for what inc held: it says now that it holds nothing.
local function go_on_moving()
  if have > 0 or b.n ~= (b.h[inc] or 0) then return end
  count(b, inc, 0)
  rest(b, now, remember, kick_delay)
  if due(b, now) then finish(b, pool, now, remember, slow_start) end
end

local home_line -- what the table says of the home, if it may have users

local function judge()
  if not b then return place_anew(hint ~= '' and hint or nil) end
  if b.moving then return 'wait', AGAIN, 'moving' end
  -- A move that has just come to its end leads to another.
  if b.backend ~= home then home_text = redis.call('HGET', backends, 'r:' .. b.backend) end
  home_line = row(home_text)
  if not usable(home_line) then
    home_line = nil
    return leave_the_dead()
  end
  local sessions = math.max(b.n - (b.h[inc] or 0), 0) + have
  if sessions == 0 then return come_back(home_line) end
  if limit > 0 and sessions >= limit and is_full() then return 'limit' end
  return enter_home(home_line)
end

-- A home that the key had not, or that nobody is sure of any more: orphans lose the key.
local function open(backend)
  if pin == '' then chosen(backend) end
  if not b then
    b = bind(nil, key, backend, now, unproven, marks)
    return
  end
  count(b, inc, 0)
  oust(b, inc)
  if b.backend ~= backend or (home_line and is_flushed(home_line)) then
    rehome(b, backend, now, remember, not home_line and 'dead' or pin ~= '' and 'pin' or 'placed')
  end
end

local word, detail, reason = not_yet()
if not word then
  if b and b.moving then go_on_moving() end
  word, detail, reason = judge()
end
if have == 0 then redis.call('SREM', kicks .. inc, key) end
if word == 'place' then
  open(detail)
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
if b then rest(b, now, remember, kick_delay) end
if word == 'join' then return { 'bound', b.backend, b.generation } end
return { word, detail, reason }
