-- halt(b): it is not being moved any more.
local function halt(b)
  if not b.moving then return end
  redis.call('ZREM', moving, b.key)
  for _, field in ipairs({ 'to', 'began', 'deadline', 'not_before', 'hook' }) do put(b, field, nil) end
  b.moving = nil
end
