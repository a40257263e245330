-- unbind(b, now, remember): the key has no home any more. Its marks stay.
local function unbind(b, now, remember)
  if b.moving then redis.call('ZREM', moving, b.key) end
  if not next(b.marks) then
    redis.call('DEL', binding .. b.key)
    return
  end
  redis.call('HDEL', binding .. b.key, 'be', 'gen', 'n', 'idle', 'unproven', 'to', 'began', 'deadline', 'not_before', 'hook')
  expire(b.key, b.marks, now, remember)
end
