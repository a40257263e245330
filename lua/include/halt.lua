-- halt(b): it is not being moved any more.
local function halt(b)
  if not b.moving then return end
  redis.call('ZREM', moving, b.key)
  redis.call('HDEL', binding .. b.key, 'to', 'began', 'deadline', 'not_before', 'hook')
  b.moving = nil
end
