-- hello: a link has connected. Registers the incarnation, renews its lease, revives it if it is an orphan, and says whether
-- it has to re-assert. Opens a recovery window if the shard has no memory or remembers another run of the server.
-- ARGV[1] inc  [2] run  [3] seq  [4] clock  [5] acked  [6] errand  [7] name  [8] version
-- ARGV[9] lease  [10] orphan_grace  [11] recovery  [12] recovery_max
-- Includes: keys, rare_keys, clock, window, gather, add, wide
-- Returns {"ok", run, table version, 1 to assert or 0, ms until the window may close, other leases} | {"stale"}
-- Only tests give a run and a clock. What was answered may be lost, so who was told to assert is told again until a
-- heartbeat says that it has (owes).
local inc, run, seq, given, acked, taken, name, version, lease, orphan_grace, recovery, recovery_max = unpack(ARGV)
seq, acked, lease, orphan_grace = tonumber(seq), tonumber(acked), tonumber(lease), tonumber(orphan_grace)
recovery, recovery_max = tonumber(recovery), tonumber(recovery_max)

local last, its_epoch, owes = unpack(redis.call('HMGET', proxy .. inc, 'seq', 'epoch', 'owes'))
if last and seq <= tonumber(last) then return { 'stale' } end
if given == '' then run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') end

local old_run, epoch, then_, seen, till = unpack(redis.call('HMGET', shard, 'run', 'epoch', 'clock', 'seen', 'until'))
local server = clock(given)
local now = server
if old_run then now = advance(tonumber(then_), tonumber(seen), server) end
epoch, till = tonumber(epoch or 0), tonumber(till or 0)

if old_run ~= run then
  epoch, till = epoch + 1, now + recovery
  redis.call('DEL', asserting)
  -- The last renewal of anybody, also of who became an orphan since, may be among the writes that were lost.
  for _, other in ipairs(redis.call('ZRANGE', leases, 0, -1)) do redis.call('ZADD', leases, now + lease, other) end
  for _, other in ipairs(redis.call('ZRANGE', orphans, 0, -1)) do
    redis.call('ZADD', orphans, now + lease + orphan_grace, other)
  end
end
redis.call('HSET', shard, 'run', run, 'epoch', epoch, 'clock', now, 'seen', server, 'until', till)

local assert_ = not last or tonumber(its_epoch) ~= epoch or tonumber(last) < acked or owes
redis.call('HSET', proxy .. inc, 'seq', seq, 'epoch', epoch, 'name', name, 'version', version, 'errand', taken)
for _, hash in ipairs({ proxy .. inc, load, users }) do wide(hash) end
if not last then redis.call('HSET', proxy .. inc, 'started', now) end
if assert_ then redis.call('HSET', proxy .. inc, 'owes', 1) end

if redis.call('ZREM', orphans, inc) == 1 then
  local fields = redis.call('HGETALL', proxy .. inc)
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'l:' then add(load, string.sub(fields[i], 3), tonumber(fields[i + 1])) end
  end
end
redis.call('ZADD', leases, now + lease, inc)
redis.call('HDEL', proxy .. inc, 'orphan')
if assert_ and window(now, till, recovery, recovery_max) > 0 then redis.call('SADD', asserting, inc) end

local peers = redis.call('ZCOUNT', leases, string.format('(%.0f', now), '+inf') - 1
local table_version = tonumber(redis.call('HGET', backends, 'version') or 0)
return { 'ok', run, table_version, assert_ and 1 or 0, window(now, till, recovery, recovery_max), peers }
