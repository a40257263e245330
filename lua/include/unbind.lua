-- unbind(b, now, remember): the key has no home any more. Its marks stay.
local function unbind(b, now, remember)
  if b.moving then redis.call('ZREM', moving, b.key) end
  if not next(b.marks) then
    gone, puts = nil, 0
    redis.call('DEL', b.name)
    return
  end
  save(b)
  redis.call('HDEL', b.name, 'be', 'gen', 'n', 'idle', 'unproven')
  redis.call('HDEL', b.name, 'to', 'began', 'deadline', 'not_before', 'hook')
  expire(b.key, b.marks, now, remember)
end
