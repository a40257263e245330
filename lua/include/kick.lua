-- kick(key, now, remember): what is said to somebody whose sessions of key must end: key, its home and generation ("" and
-- 0 if it has none).
local function kick(key, now, remember)
  local backend, generation, n, idle, to = unpack(redis.call('HMGET', binding .. key, 'be', 'gen', 'n', 'idle', 'to'))
  local forgotten = idle and not to and tonumber(n or 0) == 0 and idle + remember <= now
  if not backend or forgotten then return { key, '', 0 } end
  return { key, backend, tonumber(generation) }
end
