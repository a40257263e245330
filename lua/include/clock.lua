-- clock(given): the server's time in milliseconds. Only tests give one.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- advance(then_, seen, server): the shard's time. The server's clock may have stepped, stood still or be another one's,
-- so what it shows now counts for 0 to 2000 ms more than what was seen at the last heartbeat.
local function advance(then_, seen, server)
  local passed = server - seen
  return then_ + (passed < 0 and 0 or passed > 2000 and 2000 or passed)
end
