-- enter(inc, run, seq, given): rule 2. Refuses a call whose sender does not share this store's past ("lost") and one that
-- was applied before ("stale"); else notes seq. Returns now, the window's earliest end and the server's time, or nil and
-- the word to answer.
local function enter(inc, run, seq, given)
  local its_run, epoch, then_, seen, till = unpack(redis.call('HMGET', shard, 'run', 'epoch', 'clock', 'seen', 'until'))
  if its_run ~= run then return nil, 'lost' end
  local last, its_epoch, orphaned = unpack(redis.call('HMGET', proxy .. inc, 'seq', 'epoch', 'orphan'))
  if not last or orphaned or its_epoch ~= epoch then return nil, 'lost' end
  local ahead = seq - last
  if ahead > 1 then return nil, 'lost' end
  if ahead < 1 then return nil, 'stale' end
  redis.call('HSET', proxy .. inc, 'seq', seq)
  local server = clock(given)
  return advance(tonumber(then_), tonumber(seen), server), tonumber(till), server
end
