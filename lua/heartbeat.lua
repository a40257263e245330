-- heartbeat: renew the lease, advance the clock, vote; hear of kicks, a newer table, chores, moves and errands.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] asserted  [6] table_version  [7] failing  [8] left  [9] pinned
-- ARGV[10] errand  [11] lease  [12] recovery  [13] recovery_max  [14] remember  [15] max_down
-- failing is a JSON list of names, or empty where nobody votes; left and pinned are kept as they are.
-- Includes: keys, rare_keys, clock, enter, window, kick, tell, row, text, in_force, votes, verdicts, vote, errand
-- Returns {"ok", table version, ms until a recovery window may close, {{key, backend, generation}, ...} to close,
-- {incarnation, ...} to reap, {backend, row, ...} or nil if the table is not newer, {key, ...} to settle,
-- {number, errand, ...}} | {"lost"} | {"stale"}
-- Kicks are repeated until the key is declared or claimed anew: a proxy that missed one hears of it a second later.
local inc, run, seq, given, asserted, table_version, failing, left, pinned, taken, lease, recovery, recovery_max,
  remember, max_down = unpack(ARGV)
local MOST_KICKS, MOST_CHORES, MOST_MOVES, MOST_ERRANDS = 500, 10, 100, 10

local now, till, server = enter(inc, run, seq, given)
if not now then return { till } end
redis.call('HSET', shard, 'clock', now, 'seen', server)
redis.call('ZADD', leases, now + tonumber(lease), inc)
redis.call('HSET', proxy .. inc, 'left', left, 'pinned', pinned, 'errand', taken)
if asserted == '1' then
  redis.call('SREM', asserting, inc)
  redis.call('HDEL', proxy .. inc, 'owes')
end
if failing ~= '' then vote(inc, failing, now, tonumber(max_down)) end

local version, rows = tonumber(redis.call('HGET', backends, 'version') or 0), false
if version > tonumber(table_version) then
  rows = {}
  local fields = redis.call('HGETALL', backends)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'r:' then
      rows[#rows + 1] = string.sub(fields[i], 3)
      rows[#rows + 1] = fields[i + 1]
    end
  end
end

local to_close = {}
for i, key in ipairs(redis.call('SRANDMEMBER', kicks .. inc, MOST_KICKS)) do
  to_close[i] = kick(key, now, tonumber(remember))
end

-- Leases that are over, then orphans that are due.
local chores = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, MOST_CHORES)
for _, due in ipairs(redis.call('ZRANGEBYSCORE', orphans, '-inf', now, 'LIMIT', 0, MOST_CHORES - #chores)) do
  chores[#chores + 1] = due
end
local moves = redis.call('ZRANGEBYSCORE', moving, '-inf', now, 'LIMIT', 0, MOST_MOVES)

local new = {}
for _, member in ipairs(redis.call('ZRANGEBYSCORE', errands, '(' .. taken, '+inf')) do
  local number, its_end, what = errand(member)
  if its_end > now and #new < 2 * MOST_ERRANDS then
    new[#new + 1] = number
    new[#new + 1] = what
  end
end
return { 'ok', version, window(now, till, tonumber(recovery), tonumber(recovery_max)), to_close, chores, rows, moves, new }
