-- claim: give a key its home, binding it if it is unbound, and count one session more.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] key  [6] have  [7] pool  [8] pin  [9] limit  [10] unproven  [11] hint
-- ARGV[12] recovery  [13] recovery_max  [14] user_expire  [15] remember  [16] balance_factor  [17] slow_start  [18] strict
-- ARGV[19] kick_delay
-- Returns {"bound", backend, generation} | {"wait", ms, reason} | {"limit"} | {"full"} | {"no_backend"} | {"lost"}
-- | {"stale"}
-- Repeating it counts once: it carries the number of sessions, never a difference. Bound, have + 1 are counted, else have.
-- Three parts, each with what only it and those behind it need: keys that join a home as it stands, which are nearly all
-- and are answered here at once; keys without a home; all else.
-- Includes: keys, clock, enter, window, alive, gather, add, enlist, save, read, prove, count, wake
local inc, run, seq, given, key, have, pool, pin, limit, unproven, hint, recovery, recovery_max, user_expire, remember,
  factor, slow_start, strict, kick_delay = unpack(ARGV)

local now, till = enter(inc, run, seq, given)
if not now then return { till } end
lives[inc] = true
have, limit, unproven = tonumber(have), tonumber(limit), unproven == '1'
user_expire, remember = tonumber(user_expire), tonumber(remember)
local open_ms = window(now, till, tonumber(recovery), tonumber(recovery_max))
local b, marks = read(key)
pin = marks.pin or pin
if have == 0 then redis.call('SREM', kicks .. inc, key) end

local function join()
  count(b, inc, have + 1)
  if not unproven then prove(b) end
  wake(b)
  return { 'bound', b.backend, b.generation }
end

-- Whether the key has a home and there is nothing about either that would have to be judged; see judge.
local function simply_joins()
  if not b or b.moving or marks.hold or marks.lock or open_ms > 0 then return false end
  local home = redis.call('HGET', backends, 'r:' .. b.backend)
  local length, from = string.match(home or '', '^%d+ up %d+ 0 0 none %d+ %d (%d+) ()')
  if not length then return false end -- it is not up, fails, has max_sessions or a job, or is gone
  local mine = b.h[inc] or 0
  if b.n > mine or have > 0 then return b.n > 0 and (limit == 0 or b.n - mine + have < limit) end
  if pin ~= '' or string.sub(home, from, from + length - 1) ~= pool then return false end
  return not b.idle or (now < b.idle + user_expire and now < b.idle + remember)
end

if simply_joins() then return join() end

-- Includes: rare_keys, expire, unbind, fetch, row, usable, takes_users, has_room, fields, turn, wide, rank, place, chosen
-- Includes: bind
local AGAIN = 250 -- ms: how long to wait for what may be over at any moment
slow_start, kick_delay = tonumber(slow_start), tonumber(kick_delay)
b, marks = in_time(b, marks, key, now, remember)

local function place_anew(remembered, fair)
  local backend = place(pool, pin, remembered, nil, now, fair or tonumber(factor), slow_start)
  if backend then return 'place', backend end
  return 'no_backend'
end

-- What keeps every claim of the key waiting.
local function not_yet()
  if open_ms > 0 then return 'wait', math.max(open_ms, AGAIN), 'recovery' end
  if marks.hold or marks.lock then return 'wait', AGAIN, 'hold' end
  -- Nobody has brought the table yet: take nothing apart for want of it.
  if redis.call('HEXISTS', backends, 'version') == 0 then return 'no_backend' end
end

local word, detail, reason = not_yet()
if not b then
  if not word then word, detail = place_anew(hint ~= '' and hint or nil) end
  if word == 'place' then
    if pin == '' then chosen(detail) end
    b = bind(nil, key, detail, now, unproven, marks)
    return join()
  end
  enlist(inc, key, false)
  return { word, detail, reason }
end

-- Includes: tell, kick_out, hook, attend, rest, oust, heading, note_past, halt, cancel, renewed, rehome, move_in, finish
-- Includes: due

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
    if other ~= inc and (strict == '1' or alive(other)) then return 'wait', AGAIN, 'closing' end
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

-- Ends a move whose old home is empty but for what inc held: it says now that it holds nothing.
local function go_on_moving()
  if have > 0 or b.n ~= (b.h[inc] or 0) then return end
  count(b, inc, 0)
  rest(b, now, remember, kick_delay)
  if due(b, now) then finish(b, pool, now, remember, slow_start) end
end

local home_line -- what the table says of the home, if it may have users

local function judge()
  if b.moving then return 'wait', AGAIN, 'moving' end
  home_line = row(redis.call('HGET', backends, 'r:' .. b.backend))
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
  count(b, inc, 0)
  oust(b, inc)
  if b.backend ~= backend or (home_line and is_flushed(home_line)) then
    rehome(b, backend, now, remember, not home_line and 'dead' or pin ~= '' and 'pin' or 'placed')
  end
end

if not word then
  if b.moving then go_on_moving() end
  word, detail, reason = judge()
end
if word == 'place' then
  open(detail)
  word = 'join'
end
if word == 'join' then return join() end
count(b, inc, have)
rest(b, now, remember, kick_delay)
return { word, detail, reason }
