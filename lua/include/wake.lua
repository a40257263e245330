-- wake(b): after the last change of a binding that somebody holds, saves it. It is not idle.
local function wake(b)
  if not b.idle then return save(b) end
  b.idle = nil
  put(b, 'idle', nil)
  save(b)
  redis.call('PERSIST', b.name)
end
