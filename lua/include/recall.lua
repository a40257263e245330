-- recall(given): what every order begins with. The shard's time and the window's earliest end, or nil if it has no memory.
local function recall(given)
  local run, then_, seen, till = unpack(redis.call('HMGET', shard, 'run', 'clock', 'seen', 'until'))
  if not run then return nil end
  return advance(tonumber(then_), tonumber(seen), clock(given)), tonumber(till)
end
