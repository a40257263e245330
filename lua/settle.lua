-- settle: an order: go on with a move, or hear how far it is. Once the old home is empty, who asks is told to run the hook,
-- if there is one, and says later how it went; then the new home is opened. At the deadline the move is given up.
-- ARGV[1] clock  [2] recovery  [3] recovery_max  [4] key  [5] incarnation  [6] hook  [7] remember  [8] slow_start
-- ARGV[9] hook_lease  [10] pool
-- hook is the verdict: 1, 0 or empty; pool is the one of a home that left the table.
-- Includes: keys, rare_keys, clock, recall, window, gather, save, expire, unbind, read, fetch, hook, row, usable
-- Includes: takes_users, has_room, fields, turn, wide, rank, place, chosen, heading, note_past, halt, cancel
-- Includes: renewed, rehome, move_in, finish, due
-- Returns {"still", backend or "", generation} | {"waiting", ms left, holders} | {"run", from, to, 1 if again or 0}
-- | {"done", from, backend, generation} | {"cancelled", why, holders} | {"recovering", ms}
-- Holders: {incarnation, sessions, ms until freed or -1 if it is no orphan, ...}
local given, recovery, recovery_max, key, inc, verdict, remember, slow_start, hook_lease, pool = unpack(ARGV)
recovery, remember = tonumber(recovery), tonumber(remember)
slow_start, hook_lease = tonumber(slow_start), tonumber(hook_lease)

local now, till = recall(given)
if not now then return { 'recovering', recovery } end
local open_ms = window(now, till, recovery, tonumber(recovery_max))
if open_ms > 0 then return { 'recovering', open_ms } end
local b = fetch(key, now, remember)
if not b or not b.moving then
  redis.call('ZREM', moving, key)
  return { 'still', b and b.backend or '', b and b.generation or 0 }
end
local move = b.moving

local function who_holds()
  local list = {}
  for holder, sessions in pairs(b.h) do
    local freed = redis.call('ZSCORE', orphans, holder)
    list[#list + 1] = holder
    list[#list + 1] = sessions
    list[#list + 1] = freed and math.max(freed - now, 0) or -1
  end
  return list
end

local function give_up(why)
  local list = who_holds()
  cancel(b, now, remember)
  return { 'cancelled', why, list }
end

local function waiting() return { 'waiting', math.max(move.deadline - now, 0), who_holds() } end

local function run_hook(again)
  local its_end = now + hook_lease
  put(b, 'hook', string.format('%.0f ', its_end) .. inc)
  redis.call('ZADD', moving, its_end, key)
  return { 'run', b.backend, move.to, again }
end

local function go_on()
  -- The verdict counts of whoever was told to run the hook, unless somebody else was told since.
  local hook_till, told = hook(move)
  if verdict == '0' and told == inc then return give_up('hook') end
  if verdict == '1' and told == inc then
    move.hook, hook_till = nil, nil
    put(b, 'hook', nil)
    if move.not_before and move.not_before > now then
      move.not_before = now -- the hook has done what the delay is for
      put(b, 'not_before', now)
    end
  end

  local over = now >= move.deadline
  if b.n > 0 then
    if over then return give_up('deadline') end
    return waiting()
  end
  if not move.hook then
    if not due(b, now) then return waiting() end
    local own, from = row(redis.call('HGET', backends, 'r:' .. b.backend)), b.backend
    if finish(b, own and own.pool or pool, now, remember, slow_start) then
      return { 'done', from, b.backend, b.generation }
    end
    return { 'cancelled', 'no_backend', {} }
  end
  if hook_till and hook_till > now then return waiting() end
  if over then return give_up('deadline') end
  return run_hook(hook_till and 1 or 0)
end

local answer = go_on()
save(b)
return answer
